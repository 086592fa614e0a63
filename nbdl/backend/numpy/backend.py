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

from nbdl.backend.numpy.convolution import Convolution
from nbdl.backend.numpy.copying import Copying
from nbdl.backend.numpy.custom import Custom
from nbdl.backend.numpy.elementwise import Elementwise
from nbdl.backend.numpy.indexing import Indexing
from nbdl.backend.numpy.joining import Joining
from nbdl.backend.numpy.linalg import LinearAlgebra
from nbdl.backend.numpy.normalization import Normalization
from nbdl.backend.numpy.pooling import Pooling
from nbdl.backend.numpy.random import Random
from nbdl.backend.numpy.reduction import Reduction
from nbdl.backend.numpy.scanning import Scanning
from nbdl.backend.numpy.softmax import Softmax
from nbdl.backend.numpy.sorting import Sorting

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive


class NumpyBackend(
    Elementwise,
    Copying,
    Reduction,
    LinearAlgebra,
    Convolution,
    Pooling,
    Softmax,
    Normalization,
    Indexing,
    Joining,
    Scanning,
    Sorting,
    Random,
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
        for row in rows:
            outs = tuple([row[position] for position in positions])
            self.execute(primitive, row, out=outs if len(outs) > 1 else outs[0])

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
