"""What the checker compares, one file a topic; `matrices.check` puts them together."""
