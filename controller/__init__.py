"""The agent loop, its policy, and the external routing arm."""
