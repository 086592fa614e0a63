"""Every public operation as a line: what to call, on what arguments, how often it can be differentiated.

`op("name", *arguments, **keywords)` calls `nbdl.name` (`F.name`: `nbdl.nn.functional.name`, `.name`: the
method) and compares with PyTorch's function of the same name. Arguments are samples (below), plain values, or
lists of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import nbdl


# ----------------------------------------------------------------------------------------------- the operands
@dataclass(frozen=True)
class Sample:
    """A random array.

    `kind` is `signed` (low <= |x| <= high), `uniform` (low <= x <= high), `distinct` (far apart, shuffled),
    `int` (low <= x < high) or `bool`. A `constant` operand is not differentiated by.
    """

    shape: tuple[int, ...]
    kind: str = "signed"
    low: float = 0.2
    high: float = 2.0
    constant: bool = False

    def array(self, generator: np.random.Generator, dtype: Any) -> np.ndarray:
        if self.kind == "bool":
            return np.asarray(generator.integers(0, 2, self.shape), bool)
        if self.kind == "int":
            return np.asarray(generator.integers(int(self.low), int(self.high), self.shape), np.int64)
        if self.kind == "distinct":
            count = int(np.prod(self.shape))
            offset = generator.uniform(0.05, 0.2)  # two samples have no element in common
            return (
                ((generator.permutation(count) - count // 2) / 4.0 + offset).reshape(self.shape).astype(dtype)
            )
        values = generator.uniform(self.low, self.high, self.shape)
        if self.kind == "signed":
            values = values * generator.choice([-1.0, 1.0], self.shape)
        return np.asarray(values).astype(dtype)


def real(*shape: int, **options: Any) -> Sample:
    """Of both signs, away from 0."""
    return Sample(shape, **options)


def between(low: float, high: float, *shape: int, **options: Any) -> Sample:
    return Sample(shape, "uniform", low, high, **options)


def positive(*shape: int, **options: Any) -> Sample:
    return Sample(shape, "uniform", **options)


def distinct(*shape: int, **options: Any) -> Sample:
    """No two elements near each other, for what sorts and compares."""
    return Sample(shape, "distinct", **options)


def ints(low: int, high: int, *shape: int) -> Sample:
    return Sample(shape, "int", low, high, True)


def bools(*shape: int) -> Sample:
    return Sample(shape, "bool", constant=True)


# ------------------------------------------------------------------------------------------------ the entries
@dataclass(frozen=True)
class Op:
    """One line of the table.

    Attributes:
        name: of the function.
        args: positional arguments: samples, other values, lists of them.
        kwargs: keyword arguments.
        orders: how many times it can be differentiated (0: not at all).
        half: whether it is defined for float16.
        strided: whether it takes operands in any memory order.
        scale: factor of the tolerances in single and half precision, for ill-conditioned ones.
        call: what to call instead of nbdl's function `name`.
        twin: what to call instead of PyTorch's function `name`; None: there is none.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    orders: int = 2
    half: bool = True
    strided: bool = True
    scale: float = 1.0
    call: Callable[..., Any] | None = None
    twin: str | Callable[..., Any] | None = ""

    def function(self) -> Callable[..., Any]:
        """nbdl's function."""
        return self.call or resolve(
            nbdl, nbdl.nn.functional if self.name.startswith("F.") else None, self.name
        )

    def torch_function(self) -> Callable[..., Any]:
        """PyTorch's function."""
        import torch

        if callable(self.twin):
            return self.twin
        name = self.twin or self.name
        return resolve(torch, torch.nn.functional, name)

    def arrays(self, dtype: Any = np.float64) -> list[Any]:
        """The arguments with arrays in the places of samples; the same at every call."""
        generator = np.random.default_rng(sum(map(ord, self.name)))
        return [_filled(arg, generator, dtype) for arg in self.args]

    def differentiable(self) -> list[bool]:
        """For each leaf among the arguments whether it is differentiated by."""
        return [
            isinstance(leaf, Sample) and not leaf.constant and leaf.kind not in ("int", "bool")
            for leaf in leaves(self.args)
        ]


def resolve(library: Any, functional: Any, name: str) -> Callable[..., Any]:
    if name.startswith("F."):
        return getattr(functional, name[2:])
    if name.startswith("."):
        return lambda x, *args, **kwargs: getattr(x, name[1:])(*args, **kwargs)
    return operator.attrgetter(name)(library)


def _filled(arg: Any, generator: np.random.Generator, dtype: Any) -> Any:
    if isinstance(arg, Sample):
        return arg.array(generator, dtype)
    return [_filled(entry, generator, dtype) for entry in arg] if isinstance(arg, list) else arg


def leaves(arguments: Any) -> list[Any]:
    """The entries of nested lists."""
    flat: list[Any] = []
    for arg in arguments:
        flat.extend(leaves(arg) if isinstance(arg, list) else [arg])
    return flat


def rebuilt(arguments: Any, values: Any) -> list[Any]:
    """Nested lists like `arguments` with the entries of the iterator `values`."""
    return [rebuilt(arg, values) if isinstance(arg, list) else next(values) for arg in arguments]


def op(name: str, *args: Any, **options: Any) -> Op:
    fields = {
        key: options.pop(key)
        for key in ("orders", "half", "strided", "scale", "call", "twin")
        if key in options
    }
    return Op(name, args, options, **fields)


def each(names: str, *args: Any, **options: Any) -> list[Op]:
    """One entry for each name."""
    return [op(name, *args, **options) for name in names.split()]
