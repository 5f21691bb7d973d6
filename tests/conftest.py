"""Settings of all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine draws slowly; time says nothing about correctness here.
settings.register_profile("apero", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("apero")
