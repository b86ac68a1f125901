"""The tensors of a checkpoint, handed out by name and shape, and none left over that nobody asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime_svc.errors import damaged, missing, unsupported
from runtime_svc.safetensor import Tensor


class Source:
    """The tensors at `path`, by name. It counts what it hands out."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self._path = path
        self._tensors = tensors
        self._taken: set[str] = set()
        self._precisions: set[str] = set()
        self.parameters = 0

    @property
    def stored_dtype(self) -> str:
        """How the tensors handed out are stored, such as "bfloat16"; several joined by "+"."""
        return "+".join(sorted(self._precisions))

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """The tensor widened to float32. Raises as `find` does, or when a value is not finite."""
        return self.find(name, shape).widened()

    def find(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The stored tensor. Raises `TreniError` when it is missing or of another shape."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise missing(self._path, f"the tensor {name}")
        if tensor.shape != shape:
            raise damaged(tensor.file, tensor.name, expected=f"of shape {shape}", got=f"{tensor.shape}")
        self._taken.add(name)
        self.parameters += math.prod(shape)
        if not tensor.precision:
            raise damaged(tensor.file, tensor.name, expected="floating-point numbers", got=tensor.dtype)
        self._precisions.add(tensor.precision)
        return tensor

    def refuse_others(self, asked_by: str, harmless: Callable[[str], bool]) -> None:
        """Raises `TreniError` naming a tensor that was not handed out, unless it is known to be `harmless`.

        A tensor that nobody asks for is part of a model that is not the one about to be computed: a bias, an adapter,
        a layer more than the config says.
        """
        others = [name for name in self._tensors if name not in self._taken and not harmless(name)]
        if others:
            first = self._tensors[others[0]]
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            raise unsupported(
                first.file,
                expected=f"no tensor but those that {asked_by} asks for",
                got=f"{first.name}{more}",
                todo="use the config that belongs to the weights; merge adapters into them first",
            )
