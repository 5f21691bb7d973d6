"""Frozen data types, messages and identities: no files, no arrays, no cluster."""
