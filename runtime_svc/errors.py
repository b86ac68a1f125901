"""The errors of this package that more than one module raises."""

from __future__ import annotations

from pathlib import Path

from treni.errors import Code, TreniError, unforeseen


def missing(directory: Path, what: str) -> TreniError:
    """A checkpoint directory lacks a file."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        "checkpoint_missing",
        expected=f"{what} in {directory}",
        got="no such file",
        todo="give a complete Hugging Face directory, or a GGUF file",
    )


def no_model(path: Path) -> TreniError:
    """The path that was given for a model is neither a directory nor a file."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        "checkpoint_missing",
        expected=f"a Hugging Face directory or a GGUF file at {path}",
        got="neither there" if path.exists() else "nothing there",
        todo="give the path of one; `treni-route models` lists those at hand",
    )


def unreadable(path: Path, error: OSError) -> TreniError:
    """A checkpoint, or a part of it, cannot be read."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        "checkpoint_missing",
        expected=f"to read the model {str(path)[:200]}",
        got=error.strerror or type(error).__name__,
        todo="check the path, and who may read it",
    )


def damaged(file: Path, what: str, *, expected: str, got: str) -> TreniError:
    """A checkpoint file is there, but `what` in it cannot be right."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        "checkpoint_damaged",
        expected=f"{what} of {file} to be {expected}",
        got=got,
        todo="fetch or write the file again",
    )


def pointer(file: Path) -> TreniError:
    """A checkpoint was cloned without the contents of its large files."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        "checkpoint_missing",
        expected=f"the content of {file}",
        got="a Git LFS pointer to it",
        todo=f"run `git lfs pull` in {file.parent}, or download the file itself",
    )


def unsupported(
    file: Path, *, expected: str, got: str, todo: str = "use a dense Llama, Qwen2.5 or Qwen3 checkpoint"
) -> TreniError:
    """A checkpoint asks for something this engine does not do."""
    return TreniError(
        Code.FAILED_PRECONDITION,
        "checkpoint_unsupported",
        expected=f"{expected} ({file})",
        got=got,
        todo=todo,
    )


def logits_not_finite() -> TreniError:
    """No token is drawn from NaN or infinity."""
    return TreniError(
        Code.INTERNAL,
        "logits_not_finite",
        expected="finite logits",
        got="NaN or infinity",
        todo="check the weights; if numpy can run it, its keys or values are too large for a GPU's halves",
    )


def cancelled() -> TreniError:
    """The caller has gone, and the work was stopped at the next token."""
    return TreniError(
        Code.CANCELLED,
        "cancelled",
        expected="the caller to stay until the answer",
        got="a cancellation",
        todo="send the request again if the answer is still wanted",
    )


def unexpected(error: Exception) -> TreniError:
    """Something failed that nobody foresaw, or memory was too little; the engine goes on without the request."""
    if isinstance(error, MemoryError):
        return unforeseen(error, "the request in the engine")
    return TreniError(
        Code.INTERNAL,
        "engine_failed",
        expected="the engine to answer",
        got=f"{type(error).__name__}: {error}",
        todo="report it with the request; the engine goes on",
    )
