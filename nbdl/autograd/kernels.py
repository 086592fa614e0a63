"""Kernels of operations of one's own, for :func:`nbdl.autograd.custom_op`: loops for Numba, and CUDA C."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_TYPES = {"float32": "float", "float64": "double", "int32": "int", "int64": "long long"}


def numba_kernel(function: Callable[..., None]) -> Callable[..., None]:
    """A kernel for ``custom_op(numba=...)``: a function that ``numba.njit`` compiles at the first call.

    Args:
        function: ``function(*inputs, *outputs, **params)`` writes into the outputs, as Numba can compile it.

    Returns:
        The compiled function.

    Example:
        >>> import nbdl
        >>> import numpy as np
        >>> @nbdl.autograd.numba_kernel
        ... def running_sum(x, out):
        ...     total = 0.0
        ...     for i in range(x.size):
        ...         total += x[i]
        ...         out[i] = total
        >>> sums = nbdl.autograd.custom_op(
        ...     "running_sum", numpy=lambda x, out: np.cumsum(x, out=out), numba=running_sum
        ... )
        >>> with nbdl.use_backend("numba"):
        ...     sums(nbdl.tensor([1.0, 2.0, 3.0]))
        tensor([1., 3., 6.])
    """

    @functools.cache
    def compiled() -> Any:
        import numba

        return numba.njit(function)

    @functools.wraps(function)
    def launch(*arrays: Any, **params: Any) -> None:
        compiled()(*arrays, **params)

    return launch


def cuda_kernel(
    source: str, name: str, threads: Callable[..., int | tuple[int, ...]], block: int = 128
) -> Callable[..., None]:
    """A kernel for ``custom_op(cupy=...)``, compiled when it is first used.

    The kernel's parameters are the pointers of the inputs and the outputs, then integers of the type
    ``long long``: how many threads have work to do (the last block has more), and what else ``threads``
    gives.

    Args:
        source: CUDA C that defines ``extern "C" __global__ void name(...)``. In it ``REAL`` is the type of
            the elements of the last output.
        name: of the kernel.
        threads: gets the arrays and the parameters as the kernels of ``custom_op`` do; returns how many
            threads are needed, alone or followed by further integers for the kernel.
        block: how many threads make a block.

    Returns:
        The function that launches it.

    Raises:
        TypeError: when it is launched with outputs of another type than float32, float64, int32 and int64.

    Example:
        >>> import nbdl
        >>> import numpy as np
        >>> source = r'''
        ... extern "C" __global__ void cube(const REAL* x, REAL* out, long long n) {
        ...     const long long i = blockIdx.x * (long long) blockDim.x + threadIdx.x;
        ...     if (i < n) out[i] = x[i] * x[i] * x[i];
        ... }'''
        >>> launch = nbdl.autograd.cuda_kernel(source, "cube", lambda x, out: out.size)
        >>> cube = nbdl.autograd.custom_op(
        ...     "cube", numpy=lambda x, out: np.power(x, 3, out=out), cupy=launch
        ... )
        >>> with nbdl.use_backend("numpy"):
        ...     cube(nbdl.tensor([1.0, 2.0]))
        tensor([1., 8.])
    """

    @functools.cache
    def compiled(real: str) -> Any:
        import cupy

        return cupy.RawModule(code=f"#define REAL {real}\n{source}").get_function(name)

    def launch(*arrays: Any, **params: Any) -> None:
        found = threads(*arrays, **params)
        numbers = found if isinstance(found, tuple) else (found,)
        if numbers[0]:
            kernel = compiled(_real(name, arrays[-1].dtype.name))
            kernel((-(-numbers[0] // block),), (block,), (*arrays, *map(int, numbers)))

    return launch


def _real(name: str, dtype: str) -> str:
    if dtype not in _TYPES:
        raise TypeError(f"{name}: cuda_kernel has no type for {dtype}, only for {', '.join(_TYPES)}")
    return _TYPES[dtype]
