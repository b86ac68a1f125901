"""Where things lie that tests read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""

GOLDENS = Path(__file__).parent / "goldens"
"""What transformers gave, and the scripts that asked it."""
