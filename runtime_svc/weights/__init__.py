"""Weights as they lie on disk: which files there are, what is in them, and what of it a model asks for."""
