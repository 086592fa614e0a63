"""The arguments of a call of a compiled function, and what of them decides which program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.func.tree import flatten, unflatten


class Arguments:
    """The arguments of a call.

    Attributes:
        arrays: of the tensors among them.
        tensors: the same as tensors.
        connected: the tensors with a history, through which gradients flow on to what made them.
        key: what else a program depends on: the nest, values of what is no tensor, shapes, strides, dtypes,
            which of the arrays are the same, and which tensors require gradients.
    """

    __slots__ = ("_twins", "args", "arrays", "connected", "key", "kwargs", "tensors")

    def __init__(self, args: tuple, kwargs: dict[str, Any]):
        self.args, self.kwargs = args, kwargs
        leaves, tree = flatten((args, kwargs)) if kwargs or not _all_tensors(args) else (args, None)
        arrays: list[Any] = []
        self.tensors: list[Tensor] = []
        self.connected: list[Tensor] = []
        self._twins: list[Tensor] = []
        statics: list[Any] = []
        first: dict[int, int] = {}
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                array = leaf.array
                if leaf.requires_grad:
                    if leaf.is_leaf:
                        statics.append(id(array))  # gradients stay with it: it is this tensor, and no other
                        continue
                    number = _position(self.connected, leaf)
                    statics.append(("connected", len(self.connected) if number is None else number))
                    if number is None:
                        self.connected.append(leaf)
            elif isinstance(leaf, np.ndarray):
                array = leaf
            else:
                statics.append(_checked_static(leaf))
                continue
            known = first.setdefault(id(array), len(arrays))
            if known < len(arrays):
                statics.append(("same as", known))
            else:
                statics.append((array.shape, array.strides, array.dtype))
                arrays.append(array)
                self.tensors.append(leaf if isinstance(leaf, Tensor) else Tensor(array))
        self.arrays = arrays
        self.key = (tree, tuple(statics))

    def for_recording(self) -> tuple[tuple, dict[str, Any]]:
        """The arguments that the function gets: leaves in the place of tensors with a history."""
        if not self.connected:
            return self.args, self.kwargs
        self._twins = [tensor.detach().requires_grad_() for tensor in self.connected]
        leaves, tree = flatten((self.args, self.kwargs))
        return unflatten(
            [
                leaf if (number := _position(self.connected, leaf)) is None else self._twins[number]
                for leaf in leaves
            ],
            tree,
        )

    def twin_number(self, tensor: Tensor) -> int | None:
        """Which connected tensor it stands for, if any."""
        return _position(self._twins, tensor)


def _position(tensors: Sequence[Tensor], wanted: Any) -> int | None:
    """Where ``wanted`` itself stands."""
    return next((k for k, tensor in enumerate(tensors) if tensor is wanted), None)


def _all_tensors(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Tensor) for value in values)


def _checked_static(value: Any) -> Any:
    """A value that is no tensor, as a part of a key; 1, 1.0 and True differ.

    Raises:
        TypeError: it cannot be compared.
    """
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"compile: an argument of type {type(value).__name__} is neither a tensor nor hashable; pass "
            "tensors, numbers, strings, and tuples, lists or dicts of them"
        ) from None
    return type(value), value
