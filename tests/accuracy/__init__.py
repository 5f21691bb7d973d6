"""Measures of accuracy against the simulator's truth, used by the tests and by ``make accuracy``."""
