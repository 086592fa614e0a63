"""Kernels on the device: compiled once for each source, launched with arrays and numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.loops import Strides, element_strides

# Threads of a block.
THREADS = 256
# Blocks along the axes of a grid; kernels loop over what is beyond.
MAX_BLOCKS = 1 << 16
MAX_BLOCKS_Y = 65535
# Largest extent that 32-bit indices serve, with room for the stride of a grid.
INDEX32_LIMIT = 1 << 30

OPTIONS = ("--std=c++17",)


@functools.cache
def header(name: str) -> str:
    """The text of a file of kernels/cuda."""
    return (resources.files("nbdl.kernels") / "cuda" / name).read_text(encoding="utf-8")


@functools.lru_cache(maxsize=4096)
def module_source(source: str, headers: tuple[str, ...]) -> str:
    """What is compiled: the text of the headers, so that it alone determines the code, and the kernel."""
    return "\n".join([*map(header, headers), source])


class Kernels:
    """The kernels of a CuPy module by their source.

    Args:
        xp: the module ``cupy``.

    Attributes:
        xp: the same.
    """

    def __init__(self, xp: Any):
        self.xp = xp
        self._functions: dict[tuple[str, str, tuple[str, ...]], Any] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._functions)

    def get(self, name: str, source: str, headers: tuple[str, ...]) -> Any:
        """The kernel called ``name`` in ``source``, which uses ``headers`` of kernels/cuda."""
        key = (name, source, headers)
        function = self._functions.get(key)
        if function is None:
            module = self.xp.RawModule(code=module_source(source, headers), options=OPTIONS)
            function = self._functions[key] = module.get_function(name)
        return function


class Launch(NamedTuple):
    """A kernel with everything but the data.

    Attributes:
        kernel: from :meth:`Kernels.get`.
        grid: numbers of blocks.
        block: numbers of threads.
        arguments: NumPy scalars that come after the operands.
    """

    kernel: Any
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: tuple[Any, ...]

    def __call__(self, *operands: Any) -> None:
        """Launch on the current stream."""
        self.kernel(self.grid, self.block, (*operands, *self.arguments))


class Spec(NamedTuple):
    """What a plan depends on in an operand.

    Attributes:
        shape, strides, dtype: of the array.
        alignment: largest power of two, at most 16, that divides its address; 0 for a number on the host.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    alignment: int

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def is_value(self) -> bool:
        """Whether it is a number on the host."""
        return self.alignment == 0


def spec_of(array: Any) -> Spec:
    """The :class:`Spec` of a CuPy array, or of a 0-d NumPy array."""
    if isinstance(array, np.ndarray):
        return Spec((), (), array.dtype, 0)
    address = array.data.ptr
    return Spec(array.shape, array.strides, array.dtype, min(16, address & -address) if address else 16)


def strides_of(label: str, specs: Sequence[Spec], shape: tuple[int, ...]) -> list[Strides]:
    """Element strides of operands broadcast to ``shape``.

    Raises:
        ValueError: the strides of an operand are no multiple of its element size.
    """
    strides = []
    for k, spec in enumerate(specs):
        steps = element_strides(spec, shape)
        if steps is None:
            raise ValueError(
                f"{label}: strides of operand {k} must be multiples of {spec.itemsize} bytes, "
                f"got {spec.strides}"
            )
        strides.append(steps)
    return strides


def index_type(dims: Sequence[int], strides: Sequence[Strides]) -> type:
    """``int32`` where all offsets and counts of a loop nest fit, else ``int64``."""
    extent = math.prod(dims)
    for steps in strides:
        extent = max(extent, sum((n - 1) * abs(step) for n, step in zip(dims, steps, strict=True)))
    return np.int32 if extent < INDEX32_LIMIT else np.int64


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below ``n``."""
    return 1 << max(0, n - 1).bit_length()


def blocks(count: int, size: int, limit: int) -> int:
    """How many blocks of ``size`` cover ``count``, at most ``limit``."""
    return max(1, min(-(-count // size), limit))


def as_argument(array: Any) -> Any:
    """An operand as a kernel gets it: an array as it is, a number on the host in the type of its kind."""
    if not isinstance(array, np.ndarray):
        return array
    value = array.item()
    if isinstance(value, complex):
        return value
    return (np.bool_ if isinstance(value, bool) else np.float64 if isinstance(value, float) else np.int64)(
        value
    )
