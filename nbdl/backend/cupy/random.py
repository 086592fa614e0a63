"""Random numbers on the GPU: the streams of the CPU backends, without a look at the seed from the host."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy.codegen import c_type
from nbdl.backend.cupy.files import kernel_of
from nbdl.backend.cupy.launch import MAX_BLOCKS, THREADS, Kernels, blocks
from nbdl.backend.cupy.placing import target
from nbdl.backend.cupy.waiting import number_on_host
from nbdl.backend.numpy.results import delivered
from nbdl.formula import dtypes

# Of a multiple of 2^-d in [0, 1), by dtype.
_DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


class CupyRandom:
    """Random primitives; see :class:`~nbdl.backend.numpy.random.Random`. Elements are in row-major order."""

    xp: Any
    cast: Any
    _kernels: Kernels

    def random_uniform(
        self, seed: Any, offset: Any, *, shape: tuple[int, ...], dtype: np.dtype, out: Any = None
    ) -> Any:
        """Uniform numbers in [0, 1)."""
        return self._draw("random_uniform", (seed, offset), shape, dtype, out, np.int32(_DIGITS[dtype.name]))

    def random_normal(
        self, seed: Any, offset: Any, *, shape: tuple[int, ...], dtype: np.dtype, out: Any = None
    ) -> Any:
        """Standard normal numbers."""
        return self._draw("random_normal", (seed, offset), shape, dtype, out)

    def random_integers(
        self,
        seed: Any,
        offset: Any,
        low: Any,
        span: Any,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any = None,
    ) -> Any:
        """Integers in [low, low + span)."""
        bounds = [self.xp.asarray(value, np.int64) for value in (low, span)]
        return self._draw("random_integers", (seed, offset, *bounds), shape, dtype, out)

    def random_bernoulli(
        self, seed: Any, offset: Any, p: Any, *, shape: tuple[int, ...], dtype: np.dtype, out: Any = None
    ) -> Any:
        """1 with probability ``p``, broadcast, else 0."""
        if isinstance(p, np.ndarray):
            return self._draw("random_bernoulli", (seed, offset, np.float64(p)), shape, dtype, out)
        wide = self.xp.ascontiguousarray(self.xp.broadcast_to(self.cast(p, dtype=dtypes.FLOAT64), shape))
        return self._draw("random_bernoulli", (seed, offset, wide), shape, dtype, out)

    def dropout(self, seed: Any, offset: Any, x: Any, p: Any, *, out: Any = None) -> Any:
        """``x`` / (1 - p) where an element is kept, else 0; and which are kept, bool."""
        x = self.xp.ascontiguousarray(x)
        of_y, of_kept = out or (None, None)
        y = target(self.xp, of_y, x.shape, x.dtype, x)
        kept = target(self.xp, of_kept, x.shape, dtypes.BOOL, x)
        probability = np.float64(number_on_host(p, "the rate of dropout"))
        self._launch_draw("dropout", x.dtype, x.size, (seed, offset, x, probability, y, kept))
        return delivered((y, kept), out)

    def _draw(
        self,
        name: str,
        operands: tuple[Any, ...],
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any,
        *arguments: Any,
    ) -> Any:
        result = target(self.xp, out, shape, dtype, *[x for x in operands if isinstance(x, self.xp.ndarray)])
        self._launch_draw(name, dtype, math.prod(shape), (*operands, result), *arguments)
        return delivered(result, out)

    def _launch_draw(
        self, name: str, dtype: np.dtype, count: int, operands: tuple[Any, ...], *arguments: Any
    ) -> None:
        if count == 0:
            return
        operands = tuple([self.xp.asarray(x) if isinstance(x, np.ndarray) else x for x in operands])
        types = {
            "element_t": c_type(dtype),
            "real_t": "double" if dtype == dtypes.FLOAT64 else "float",
            "probability_t": "double" if isinstance(operands[2], np.generic) else "const double*",
        }
        kernel = kernel_of(self._kernels, f"nbdl_{name}", "random.cu", types, (dtype,), parts=("philox.cuh",))
        threads = -(-count // 2)
        kernel((blocks(threads, THREADS, MAX_BLOCKS),), (THREADS,), (*operands, np.int64(count), *arguments))
