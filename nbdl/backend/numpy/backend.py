"""NumpyBackend: one method a primitive, gathered from the modules of this package.

Every method takes arrays, then the static parameters of the primitive as keywords, then ``out``: None, or
an array (a tuple of arrays where there are several results) that receives the result and is returned. The
Numba and CuPy backends override methods with the same signature; ``tests/test_backend_contract.py`` holds
them to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.backend.numpy.alignments import Alignments
from nbdl.backend.numpy.attention import Attention
from nbdl.backend.numpy.bags import Bags
from nbdl.backend.numpy.class_losses import ClassLosses
from nbdl.backend.numpy.convolution import Convolution
from nbdl.backend.numpy.copying import Copying
from nbdl.backend.numpy.custom import Custom
from nbdl.backend.numpy.decompositions import Decompositions
from nbdl.backend.numpy.elementwise import Elementwise
from nbdl.backend.numpy.fourier import Fourier
from nbdl.backend.numpy.gating import Gating
from nbdl.backend.numpy.indexing import Indexing
from nbdl.backend.numpy.joining import Joining
from nbdl.backend.numpy.linalg import LinearAlgebra
from nbdl.backend.numpy.margin_losses import MarginLosses
from nbdl.backend.numpy.normalization import Normalization
from nbdl.backend.numpy.pooling import Pooling
from nbdl.backend.numpy.quasi_newton import QuasiNewton
from nbdl.backend.numpy.random import Random
from nbdl.backend.numpy.recurrent import Recurrent
from nbdl.backend.numpy.reduction import Reduction
from nbdl.backend.numpy.rejection import Rejection
from nbdl.backend.numpy.requirements import Requirements
from nbdl.backend.numpy.resampling import Resampling
from nbdl.backend.numpy.rows import groups_of_rows, joined_rows
from nbdl.backend.numpy.scanning import Scanning
from nbdl.backend.numpy.softmax import Softmax
from nbdl.backend.numpy.sorting import Sorting
from nbdl.backend.numpy.special import Special
from nbdl.backend.numpy.unfolding import Unfolding

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive


class NumpyBackend(
    Elementwise,
    Copying,
    Reduction,
    LinearAlgebra,
    Decompositions,
    Fourier,
    Special,
    Convolution,
    Pooling,
    Unfolding,
    Softmax,
    Gating,
    ClassLosses,
    MarginLosses,
    Alignments,
    Attention,
    Normalization,
    Recurrent,
    Indexing,
    Bags,
    Joining,
    Scanning,
    Sorting,
    QuasiNewton,
    Requirements,
    Resampling,
    Random,
    Rejection,
    Custom,
):
    """Computes on NumPy arrays with NumPy."""

    name = "numpy"
    array_type: type = np.ndarray
    xp: Any = np

    def execute(self, primitive: Primitive, arrays: Sequence[Any], out: Any = None) -> Any:
        """Run ``primitive`` on ``arrays``.

        Returns:
            An array, or a tuple of arrays where the primitive has several results.

        Raises:
            RuntimeError: the arrays are on different devices, or their shapes do not fit.
            TypeError: the primitive is not defined for the dtypes.
        """
        for array in arrays:
            if type(array) is not self.array_type:
                return self._elsewhere(primitive, arrays, out)
        try:
            return getattr(self, primitive.name)(*arrays, **primitive.params, out=out)
        except (ValueError, IndexError, TypeError):
            primitive.check(*arrays)  # says what is wrong in the terms of the operation
            primitive.check_values(*arrays)
            raise

    def overwrite(
        self, primitive: Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
    ) -> None:
        """Run ``primitive`` on every row of operands, its outputs overwriting the operands at ``positions``.

        Args:
            primitive: a pointwise primitive with as many outputs as there are positions.
            rows: operands of the calls, for instance one row a parameter of an optimizer.
            positions: which operand each output overwrites.
        """
        for group in groups_of_rows(rows):
            targets = {id(row[position]) for row in group for position in positions}
            if len(group) > 1 and len(targets) == len(group) * len(positions):
                self._overwrite_together(primitive, group, positions)
                continue
            for row in group:
                outs = tuple([row[position] for position in positions])
                self.execute(primitive, row, out=outs if len(outs) > 1 else outs[0])

    def _overwrite_together(
        self, primitive: Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
    ) -> None:
        """Rows of small arrays as one row of long ones."""
        results = self.execute(primitive, joined_rows(rows))
        for position, result in zip(positions, results if type(results) is tuple else (results,)):
            start = 0
            for row in rows:
                target = row[position]
                target[...] = result[start : start + target.size].reshape(target.shape)
                start += target.size

    def plan_with_epilogue(
        self,
        product: Primitive,
        inputs: Sequence[Any],
        pointwise: Primitive,
        operands: Sequence[Any],
        out: Any,
    ) -> Any:
        """A plan of two operations, the second one in place on the result of the first; None without."""
        return None

    def plan_group(self, primitive: Primitive, rows: Sequence[tuple[Sequence[Any], tuple]]) -> Any:
        """A plan of one pointwise operation in place on rows of operands and outputs; None without."""
        return None

    def plan_for(self, primitive: Primitive, arrays: Sequence[Any], outs: tuple | None) -> Any:
        """A kernel launch for operands like these, of which a program may make many in a row; None here.

        Args:
            primitive: what to compute.
            arrays: operands of the right shapes, strides and dtypes; their values are not looked at.
            outs: likewise the outputs; None if the plan may choose their layout.
        """
        return None

    def on_host(self, array: Any) -> np.ndarray:
        """An operand as a NumPy array, for what LAPACK computes."""
        return array

    def _elsewhere(self, primitive: Primitive, arrays: Sequence[Any], out: Any) -> Any:
        """Arrays of another device: the backend of that device computes, if all of them are there."""
        from nbdl.backend import registry
        from nbdl.backend.device import device_of

        devices = {device_of(array) for array in arrays if array.ndim or type(array) is not np.ndarray}
        if len(devices) > 1:
            raise RuntimeError(
                f"{primitive.label}: expected all tensors to be on the same device, but found at least two "
                f"devices: {' and '.join(sorted(map(str, devices)))}"
            )
        if next(iter(devices)).type == "cuda":
            backend = registry.load("cupy")  # Python numbers beside GPU tensors arrive as 0-d NumPy arrays
        else:
            backend = registry.select()
            arrays = [np.asarray(array) for array in arrays]  # subclasses of ndarray
        return backend.execute(primitive, arrays, out)
