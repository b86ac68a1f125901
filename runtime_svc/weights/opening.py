"""A model by its path, whichever way its weights come."""

from __future__ import annotations

from pathlib import Path

from runtime_svc.errors import no_model, unreadable
from runtime_svc.weights.checkpoint import Checkpoint
from runtime_svc.weights.hugging_face import open_directory


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint of a Hugging Face directory or of a GGUF file.

    Raises `TreniError` naming the file, and the setting or tensor in it, that is missing, damaged or not known.
    """
    try:
        if path.is_file():
            from runtime_svc.weights.gguf_model import open_gguf  # its library is imported by who needs it

            return open_gguf(path)
        if not path.is_dir():
            raise no_model(path)
        return open_directory(path)
    except OSError as error:
        raise unreadable(path, error) from None
