"""What a user writes, read once and validated: profiles, suites and sweeps."""
