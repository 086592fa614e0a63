"""The arguments of a call of a compiled function, and what of them decides which program runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import GeneratorType
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.compiler.aliasing import apart
from nbdl.compiler.states import PLAIN
from nbdl.func.tree import Tree, flatten, records_in, unflatten


class Arguments:
    """The arguments of a call.

    Args:
        args: by position.
        kwargs: by name.
        flowing: whether leaves that require gradients are treated as tensors with a history are: another one
            may stand in their place, and gets the gradients. Else they are these tensors, and no others.

    Attributes:
        args, kwargs: the arguments, with lists in place of generators.
        arrays: of the tensors among them.
        tensors: the same as tensors.
        foreign: which of the arrays are arguments themselves, so that Python code may read them.
        leaves: the leaves that require gradients.
        flat: all leaves of the nest.
        given: what the recorded function gets for them.
        connected: the tensors with a history, through which gradients flow on to what made them; if they
            flow, the leaves too.
        objects: by position, what is neither a tensor nor a plain value, such as a module or ``self``.
        key: what else a program depends on: the nest, values of what is no tensor, shapes, strides, dtypes,
            which of the arrays are the same, and which tensors require gradients.
    """

    __slots__ = (
        "_twins", "args", "arrays", "connected", "flat", "foreign", "given", "key", "kwargs", "leaves",
        "objects", "tensors",
    )  # fmt: skip

    def __init__(self, args: tuple, kwargs: dict[str, Any], flowing: bool = False):
        tree: Tree | None = None
        leaves: Sequence[Any] = args
        if kwargs or not _all_tensors(args):
            if any(isinstance(value, GeneratorType) for value in (*args, *kwargs.values())):
                args = tuple([_repeatable(value) for value in args])
                kwargs = {name: _repeatable(value) for name, value in kwargs.items()}
            leaves, tree = flatten((args, kwargs))
        self.args, self.kwargs = args, kwargs
        self.flat = leaves
        self.given: list[Any] = []
        arrays: list[Any] = []
        self.tensors: list[Tensor] = []
        self.foreign: list[int] = []
        self.leaves: list[Tensor] = []
        self.connected: list[Tensor] = []
        self._twins: list[Tensor] = []
        self.objects: dict[int, Any] = {}
        statics: list[Any] = []
        first: dict[int, int] = {}
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                array = leaf.array
                if leaf.requires_grad:
                    if leaf.is_leaf:
                        self.leaves.append(leaf)
                        if not flowing:
                            statics.append(("leaf", id(leaf)))
                            continue
                    number = _position(self.connected, leaf)
                    statics.append(("connected", len(self.connected) if number is None else number))
                    if number is None:
                        self.connected.append(leaf)
            elif isinstance(leaf, np.ndarray):
                array = leaf
            else:
                if not isinstance(leaf, PLAIN):
                    self.objects[len(statics)] = leaf
                statics.append(_checked_static(leaf))
                continue
            known = first.setdefault(id(array), len(arrays))
            if known < len(arrays):
                statics.append(("same as", known))
            else:
                statics.append((array.shape, array.strides, array.dtype))
                if array is leaf:
                    self.foreign.append(len(arrays))
                arrays.append(array)
                self.tensors.append(leaf if isinstance(leaf, Tensor) else Tensor(array))
        if tree is not None:
            for k, kind in enumerate(records_in(tree)):
                self.objects[~k] = kind  # its methods are followed
        self.arrays = arrays
        self.key = (tree, tuple(statics))

    def for_recording(self) -> tuple[tuple, dict[str, Any]]:
        """The arguments that the function gets, apart from all other memory; :attr:`arrays` become theirs.

        New leaves stand for what is connected.
        """
        alone = {id(array): apart(array) for array in self.arrays}
        self._twins = [_twin(tensor, alone).requires_grad_() for tensor in self.connected]
        leaves, tree = flatten((self.args, self.kwargs))
        given: list[Any] = []
        for leaf in leaves:
            number = _position(self.connected, leaf)
            if number is not None:
                given.append(self._twins[number])
            elif isinstance(leaf, Tensor) and not leaf.requires_grad:
                given.append(_twin(leaf, alone))
            else:
                given.append(alone[id(leaf)] if isinstance(leaf, np.ndarray) else leaf)
        self.arrays, self.given = [alone[id(array)] for array in self.arrays], given
        return unflatten(given, tree)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """More arguments of the program: gradients that the function finds."""
        self.tensors += tensors
        self.arrays += [tensor.array for tensor in tensors]

    def given_number(self, value: Any) -> int | None:
        """Which leaf it stands for in the recorded function, if it is one of the tensors or arrays."""
        return _position(self.given, value) if isinstance(value, (Tensor, np.ndarray)) else None

    def are_changed(self, args: tuple, kwargs: dict[str, Any]) -> bool:
        """Whether the function changed a list or dict of those that :meth:`for_recording` gave it."""
        leaves, tree = flatten((args, kwargs))
        same = len(leaves) == len(self.given) and all(a is b for a, b in zip(leaves, self.given))
        return not same or tree != flatten((self.args, self.kwargs))[1]

    def twin_number(self, tensor: Tensor) -> int | None:
        """Which connected tensor it stands for, if any."""
        return _position(self._twins, tensor)


def _twin(tensor: Tensor, arrays: Mapping[int, Any]) -> Tensor:
    """The same memory as another tensor."""
    twin = tensor.detach()
    twin.array = arrays[id(tensor.array)]
    return twin


def _position(tensors: Sequence[Tensor], wanted: Any) -> int | None:
    """Where ``wanted`` itself stands."""
    return next((k for k, tensor in enumerate(tensors) if tensor is wanted), None)


def _all_tensors(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Tensor) for value in values)


def _repeatable(value: Any) -> Any:
    """A list of what a generator gives, such as ``model.parameters()``."""
    return list(value) if isinstance(value, GeneratorType) else value


def _checked_static(value: Any) -> Any:
    """A value that is no tensor, as a part of a key; 1, 1.0 and True differ.

    Raises:
        TypeError: it cannot be compared, or can be read only once.
    """
    if hasattr(value, "__next__"):
        raise TypeError(
            f"compile: an argument of type {type(value).__name__} can be read only once, so that a program "
            "could not repeat it; pass a list of what it gives"
        )
    if isinstance(value, slice):  # not hashable before Python 3.12
        return slice, *map(_checked_static, (value.start, value.stop, value.step))
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"compile: an argument of type {type(value).__name__} is neither a tensor nor hashable; pass "
            "tensors, numbers, strings, and tuples, lists, dicts or data classes of them"
        ) from None
    if value != value or value == 0:  # a NaN is not equal to itself, and 0.0 is equal to -0.0
        return type(value), repr(value)
    return type(value), value
