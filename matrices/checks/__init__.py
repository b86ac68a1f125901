"""What the checker compares, one file a topic; `matrices.checks.check` puts them together."""
