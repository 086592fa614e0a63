"""Maxima and means over windows of (N, C, *spatial) tensors, with one to three spatial axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.backend.windows import Sizes, window_counts
from nbdl.ops.batching import over_merged_axes
from nbdl.ops.connection import connected
from nbdl.ops.primitive import NOTHING, LinearMap, Primitive

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor


class _Maximum(Primitive):
    """A primitive with the outputs (values, positions): the derivative passes through the chosen elements."""

    saved = NOTHING
    saves_output = True

    batch = over_merged_axes

    def is_differentiable_output(self, k: int) -> bool:
        """Positions are integers."""
        return k == 0

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Added up where the maxima were."""
        g = gradients[0]
        if g is None:
            return (None,)
        return (connected(window_scatter(g, node.output(1), node.shape(0)[2:]), node),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangents where the maxima are."""
        tangent = tangents[0]
        return (None if tangent is None else window_gather(tangent, outputs[1]), None)


class MaxPool(_Maximum):
    """The maximum of every window, and its position in the flattened spatial axes.

    Args:
        kernel: sizes of the window.
        stride: distances of neighbouring windows.
        padding: how far the first window begins before the input.
        dilation: distances of neighbouring taps.
        counts: numbers of windows.
    """

    name = "max_pool"

    def __init__(self, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, counts: Sizes):
        super().__init__(kernel=kernel, stride=stride, padding=padding, dilation=dilation, counts=counts)


class AdaptiveMaxPool(_Maximum):
    """The maxima of ``counts`` windows that cover the input evenly."""

    name = "adaptive_max_pool"

    def __init__(self, counts: Sizes):
        super().__init__(counts=counts)


class FractionalMaxPool(_Maximum):
    """``fractional_max_pool(x, samples)``: the maxima of ``counts`` windows that begin at random places."""

    name = "fractional_max_pool"

    def __init__(self, kernel: Sizes, counts: Sizes):
        super().__init__(kernel=kernel, counts=counts)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Added up where the maxima were; the places have no derivative."""
        return (*super().vjp(node, *gradients), None)


class WindowGather(LinearMap):
    """``window_gather(x, indices)``: elements at positions in the flattened spatial axes."""

    name = "window_gather"

    batch = over_merged_axes

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """The positions."""
        return frozenset((1,)), False

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Added up at the positions."""
        return window_scatter(gradients[0], node.input(1), node.shape(0)[2:]), None  # type: ignore[arg-type]


class WindowScatter(LinearMap):
    """``window_scatter(y, indices)``: elements added to zeros at positions in the flattened ``size``."""

    name = "window_scatter"

    batch = over_merged_axes

    def __init__(self, size: Sizes):
        super().__init__(size=size)

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """The positions."""
        return frozenset((1,)), False

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Taken from the positions."""
        return window_gather(gradients[0], node.input(1)), None  # type: ignore[arg-type]


class WindowPut(LinearMap):
    """``window_put(y, indices)``: zeros with elements at positions in the flattened ``size``.

    Where several have the same position one of them is there. The derivative is PyTorch's: all of them get
    the gradient of the place.
    """

    name = "window_put"

    batch = over_merged_axes

    def __init__(self, size: Sizes):
        super().__init__(size=size)
        self.size = size

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """The positions."""
        return frozenset((1,)), False

    def check_values(self, *arrays: Any) -> None:
        """The positions lie inside."""
        indices = arrays[1]
        outside = indices[(indices < 0) | (indices >= math.prod(self.size))]
        if outside.size:
            raise RuntimeError(
                f"max_unpool: found an invalid max index: {int(outside[0])} (output volumes are of size "
                f"{self.size})"
            )

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Taken from the positions."""
        return window_gather(gradients[0], node.input(1)), None  # type: ignore[arg-type]


class AvgPool(LinearMap):
    """The mean of every window.

    Args:
        size: spatial sizes of the operand.
        kernel: sizes of the window.
        stride: distances of neighbouring windows.
        padding: zeros around the input.
        counts: numbers of windows.
        count_include_pad: whether these zeros count in the mean.
        divisor: what the sum is divided by; None for the number of elements.
    """

    name = "avg_pool"

    batch = over_merged_axes

    def __init__(
        self,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        counts: Sizes,
        count_include_pad: bool,
        divisor: int | None,
    ):
        super().__init__(
            kernel=kernel,
            stride=stride,
            padding=padding,
            counts=counts,
            count_include_pad=count_include_pad,
            divisor=divisor,
        )
        self.geometry = (size, kernel, stride, padding, counts, count_include_pad, divisor)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Each element spread over its window."""
        return (connected(apply(AvgPoolInput.of(*self.geometry), gradients[0]), node),)  # type: ignore[arg-type]


class AvgPoolInput(AvgPool):
    """The transpose of :class:`AvgPool`, with the same parameters."""

    name = "avg_pool_input"

    def __init__(self, size: Sizes, *rest: Any):
        super().__init__(size, *rest)
        self.params = {"size": size, **self.params}

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The mean of every window."""
        return (apply(AvgPool.of(*self.geometry), gradients[0]),)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------- public functions
# The public functions by the number of spatial axes, for the texts of errors.
_MAX_POOLS, _AVG_POOLS = (tuple(f"{kind}_pool{rank}d" for rank in range(4)) for kind in ("max", "avg"))


@functools.lru_cache(maxsize=1024)
def pool_counts(
    label: str, size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> Sizes:
    """The numbers of pooling windows.

    Raises:
        RuntimeError: the padding is more than half the kernel, a stride is not positive, or no window fits.
    """
    if min(stride) < 1 or min(kernel) < 1 or min(dilation) < 1:
        raise RuntimeError(
            f"{label}: kernel_size, stride and dilation must be greater than zero, got kernel_size={kernel}, "
            f"stride={stride}, dilation={dilation}"
        )
    for k, d, pad in zip(kernel, dilation, padding, strict=True):
        if not 0 <= pad <= ((k - 1) * d + 1) // 2:
            raise RuntimeError(
                f"{label}: pad should be at most half of effective kernel size and not negative, but got "
                f"pad={padding}, kernel_size={kernel} and dilation={dilation}"
            )
    try:
        return window_counts(size, kernel, stride, tuple((pad, pad) for pad in padding), dilation, ceil_mode)
    except ValueError:
        raise RuntimeError(
            f"{label}: Given input size: {tuple(size)}. Kernel size: {kernel}, stride: {stride}, padding: "
            f"{padding}. Calculated output size is too small: it must be positive"
        ) from None


def max_pool(
    x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """The maximum of every window of (N, C, *size), and its int64 position in the flattened (*size).

    NaN wins; of equal elements the first does.
    """
    counts = pool_counts(
        _MAX_POOLS[len(kernel)], x.array.shape[2:], kernel, stride, padding, dilation, ceil_mode
    )
    return apply(MaxPool.of(kernel, stride, padding, dilation, counts), x)


def adaptive_max_pool(x: Tensor, counts: Sizes) -> tuple[Tensor, Tensor]:
    """The maxima of ``counts`` windows that cover the input evenly, and their positions."""
    return apply(AdaptiveMaxPool.of(counts), x)


def fractional_max_pool(x: Tensor, samples: Tensor, kernel: Sizes, counts: Sizes) -> tuple[Tensor, Tensor]:
    """The maxima of ``counts`` windows that begin where samples (N, C, axes) say, and their positions."""
    return apply(FractionalMaxPool.of(kernel, counts), x, samples)


def window_gather(x: Tensor, indices: Tensor) -> Tensor:
    """The elements of (N, C, *size) at the positions (N, C, *counts) in the flattened (*size)."""
    return apply(WindowGather.of(), x, indices)


def window_scatter(y: Tensor, indices: Tensor, size: Sizes) -> Tensor:
    """Zeros (N, C, *size) with (N, C, *counts) elements added at positions in the flattened (*size)."""
    return apply(WindowScatter.of(size), y, indices)


def window_put(y: Tensor, indices: Tensor, size: Sizes) -> Tensor:
    """Zeros (N, C, *size) with (N, C, *counts) elements at positions in the flattened (*size)."""
    return apply(WindowPut.of(size), y, indices)


def avg_pool(
    x: Tensor,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """The mean of every window of (N, C, *size)."""
    size = x.array.shape[2:]
    counts = pool_counts(_AVG_POOLS[len(kernel)], size, kernel, stride, padding, (1,) * len(size), ceil_mode)
    return apply(AvgPool.of(size, kernel, stride, padding, counts, count_include_pad, divisor), x)
