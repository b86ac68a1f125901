"""A model behind somebody else's OpenAI-compatible HTTP endpoint, as a port of the loop."""
