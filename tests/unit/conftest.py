"""Properties are checked without a clock: on a loaded machine a first example takes longer than hypothesis allows."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
