"""Statistics from samples to a claim, without clock or I/O: estimates, intervals, verdicts and the gates."""
