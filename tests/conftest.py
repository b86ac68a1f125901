"""What holds for every test."""

from hypothesis import HealthCheck, settings

# An example that takes long is a busy machine's, and no finding.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")
