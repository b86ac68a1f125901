"""From samples to a claim, without clock or I/O: estimates, their intervals, verdicts and the gates of a claim."""
