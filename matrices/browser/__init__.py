"""Campaigns in a browser: a local page that lists them, follows those that run, and never writes to any."""
