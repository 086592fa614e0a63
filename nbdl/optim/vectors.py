"""Flat vectors: what second-order methods compute with, on the device of the parameters.

A method sees one vector x. :class:`Layout` says which tensors it is made of. The scalars that decide what
happens next are read by :func:`fetch`, all of an iteration at once, since each reading waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply, mark_changed
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.formula import Formula, dtypes
from nbdl.ops.complex_numbers import view_as_complex, view_as_real
from nbdl.ops.joining import Concatenate, cat
from nbdl.ops.matmul import dot
from nbdl.ops.pointwise import Pointwise, pointwise
from nbdl.ops.primitive import Primitive
from nbdl.ops.quasi_newton import SlopeAndSize

moved = pointwise("moved", lambda x, t, d: x + t * d)
"""x + t d, a step of length t along d."""

_COPY = Formula("copied", lambda old, new: new, 2)


def fetch(*scalars: Tensor) -> list[float]:
    """The values in 0-d or 1-D tensors, one after the other, with a single synchronisation of the device."""
    values: list[float] = []
    for x in scalars:
        if not is_on_host(x):
            return cat([x.to(np.float64).reshape(-1) for x in scalars]).tolist()
        values += x.array.reshape(-1).tolist()
    return values


def is_on_host(x: Tensor) -> bool:
    """Whether reading a value waits for nothing, so that it may be done whenever it saves work."""
    return isinstance(x.array, np.ndarray)


def norm(x: Tensor) -> Tensor:
    """The Euclidean norm, 0-d."""
    return dot(x, x).sqrt()


def max_norm(x: Tensor) -> Tensor:
    """The largest magnitude, 0-d; 0 for the empty vector."""
    return x.abs().amax() if x.numel() else x.new_zeros(())


def slope_and_size(x: Tensor, y: Tensor) -> Tensor:
    """x^T y and the largest magnitude in x (0 for the empty vector), as a tensor (2,)."""
    return SlopeAndSize.of()(x, y)


def overwrite(rule: Formula | Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]) -> None:
    """Run ``rule`` on rows of tensors or 0-d arrays; its outputs overwrite the operands at ``positions``."""
    backend = mode.backend or registry.cpu or registry.select()
    arrays = [[x.array if isinstance(x, Tensor) else x for x in row] for row in rows]
    backend.overwrite(Pointwise.of(rule) if isinstance(rule, Formula) else rule, arrays, positions)
    mark_changed([row[k] for row in rows for k in positions])


def assign(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy ``values`` into ``targets``, in place."""
    overwrite(_COPY, list(zip(targets, values, strict=True)), (0,))


def real_view(array: Any) -> Any:
    """Complex numbers as pairs of floats (..., 2) in the same memory; another array itself."""
    return view_as_real(Tensor(array)).array if array.dtype.kind == "c" else array


class Layout:
    """How tensors lie in one flat vector, one after the other; complex numbers as pairs of real ones.

    Vectors and their pieces have no history: gradients do not flow through here.

    Args:
        caller: the name that errors begin with.
        tensors: floating or complex tensors of one precision on one device.

    Attributes:
        shapes: of the tensors.
        slices: where they lie.
        size: of the vector.
        dtype: of the vector.

    Raises:
        RuntimeError: there is none, or dtypes or devices differ.
    """

    def __init__(self, caller: str, tensors: Sequence[Tensor]):
        if not tensors:
            raise RuntimeError(f"{caller}: there is nothing to optimize: no tensor was given")
        real = {dtypes.real_of(x.dtype) for x in tensors}
        for name, found in (("dtype", real), ("device", {x.device for x in tensors})):
            if len(found) > 1:
                raise RuntimeError(
                    f"{caller}: expected all parameters to have the same {name}, but found "
                    f"{' and '.join(sorted(map(str, found)))}"
                )
        self.shapes = [tuple(x.shape) for x in tensors]
        self._are_complex = [x.is_complex() for x in tensors]
        sizes = [x.numel() << x.is_complex() for x in tensors]
        ends = np.cumsum(sizes).tolist()
        self.slices = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
        self.size: int = ends[-1]
        (self.dtype,) = real
        self._join = Concatenate.of(0, tuple(sizes))

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """The vector of all elements; a view if there is only one tensor."""
        pieces = [Tensor(real_view(x.array).reshape(-1)) for x in tensors]
        return pieces[0] if len(pieces) == 1 else apply(self._join, *pieces)

    def split(self, vector: Tensor) -> list[Tensor]:
        """The tensors, as views of a vector."""
        array = vector.array
        return [
            self._piece(array[piece], shape, is_complex)
            for piece, shape, is_complex in zip(self.slices, self.shapes, self._are_complex, strict=True)
        ]

    def columns(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors with an axis of k before their own as the columns of a matrix (n, k)."""
        return cat([Tensor(real_view(x.array).reshape(x.shape[0], -1)) for x in tensors], 1).T

    def split_columns(self, matrix: Tensor) -> list[Tensor]:
        """The tensors in the columns of a matrix (n, k), with an axis of k before their own."""
        rows = matrix.array.T
        return [
            self._piece(rows[:, piece], (-1, *shape), is_complex)
            for piece, shape, is_complex in zip(self.slices, self.shapes, self._are_complex, strict=True)
        ]

    @staticmethod
    def _piece(array: Any, shape: tuple[int, ...], is_complex: bool) -> Tensor:
        if not is_complex:
            return Tensor(array.reshape(shape))
        return view_as_complex(Tensor(array.reshape(*shape, 2)).contiguous()).detach()
