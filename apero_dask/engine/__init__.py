"""Execution of a plan: one driver that decides, backends that run, workers that reduce."""
