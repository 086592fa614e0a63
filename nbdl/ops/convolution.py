"""Convolutions over (N, C, *spatial) tensors, with one to three spatial axes.

The convolution y = w * x is linear in each operand. Its two transposes are primitives as well, and the three
are each other's derivatives, so gradients of any order need no more.

========================  =============================  ==================================
primitive                 operands                       result
========================  =============================  ==================================
convolution               x (N, C, *size),               y (N, O, *windows)
                          w (O, C/groups, *kernel)
convolution_input         y, w                           x; also the transposed convolution
convolution_weight        x, y                           w
========================  =============================  ==================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.backend.windows import Pairs, Sizes, window_count
from nbdl.ops.batching import repeated
from nbdl.ops.matmul import check_same_dtype
from nbdl.ops.pointwise import conjugated
from nbdl.ops.primitive import Primitive
from nbdl.ops.reduction import sum as sum_over

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor


class _Bilinear(Primitive):
    """What the three have in common: where the windows lie, and the product rule.

    Args:
        stride: distances of neighbouring windows.
        padding: zeros before and after every axis.
        dilation: distances of neighbouring taps.
        groups: how many independent parts the channels fall into.
    """

    public = "convolution of {} spatial axes"  # what the texts of errors call it

    def __init__(self, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int, **sizes: Sizes):
        super().__init__(stride=stride, padding=padding, dilation=dilation, groups=groups, **sizes)
        self.geometry = (stride, padding, dilation, groups)
        self.function = self.public.format(len(stride))

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """Each factor is needed for the gradient of the other."""
        return frozenset(k for k in (0, 1) if needs >> (1 - k) & 1) or None, False

    def vjp(self, node: Node, *gradients: Tensor | None, conjugate: bool = True) -> Sequence[Tensor | None]:
        """The transposes of the product rule."""
        (g,) = gradients
        assert g is not None
        if conjugate and g.is_complex():
            return conjugated(self.vjp, node, gradients)
        return self.transposes(node, g)

    def transposes(self, node: Node, g: Tensor) -> Sequence[Tensor | None]:
        """The gradients of the operands that need one."""
        raise NotImplementedError

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """da * b + a * db."""
        a, b = inputs[:2]
        da, db = tangents[:2]
        parts = [] if da is None else [self(da, b)]
        if db is not None:
            parts.append(self(a, db))
        return (parts[0] + parts[1] if len(parts) == 2 else parts[0] if parts else None,)

    def in_parts(self, count: int) -> _Bilinear:
        """``count`` times as many groups of channels."""
        stride, padding, dilation, groups = self.geometry
        sizes = [value for key, value in self.params.items() if key in ("size", "kernel")]
        return type(self).of(stride, padding, dilation, count * groups, *sizes)

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """Examples with one weight are one batch, those with weights of their own are groups of channels."""
        if not any(flags[1:]) and self.name != "convolution_weight":
            x, size = values[0], level.size
            n = x.array.shape[1]
            y = self(x.reshape((size * n, *x.array.shape[2:])), *values[1:])
            return y.reshape((size, n, *y.array.shape[1:]))
        weights_at = {"convolution": (1, 2), "convolution_input": (1,)}.get(self.name, ())
        operands = [
            _rows_of_examples(x) if k in weights_at else _channels_of_examples(x)
            for k, x in enumerate(repeated(values, flags, level))
        ]
        y = self.in_parts(level.size)(*operands)
        shape = y.array.shape
        if not weights_at:
            return y.reshape((level.size, shape[0] // max(level.size, 1), *shape[1:]))
        y = y.reshape((shape[0], level.size, shape[1] // max(level.size, 1), *shape[2:]))
        return y.movedim(1, 0)

    def check_windows(self, size: Sizes, kernel: Sizes, windows: Sizes | None = None) -> Sizes:
        """The numbers of windows, which must be positive and, if given, equal to ``windows``.

        Raises:
            RuntimeError: they are not, or the numbers of spatial axes differ.
        """
        stride, padding, dilation, _ = self.geometry
        if not len(size) == len(kernel) == len(stride):
            raise RuntimeError(
                f"{self.function}: expected {len(stride)} spatial axes, got input size {tuple(size)} and "
                f"kernel size {tuple(kernel)}"
            )
        counts = tuple(map(window_count, size, kernel, stride, padding, dilation))
        if min(counts) < 1:
            padded = " x ".join(
                str(n + before + after) for n, (before, after) in zip(size, padding, strict=True)
            )
            spans = " x ".join(str(d * (k - 1) + 1) for k, d in zip(kernel, dilation, strict=True))
            raise RuntimeError(
                f"{self.function}: Calculated padded input size per channel: ({padded}). Kernel size: "
                f"({spans}). Kernel size can't be greater than actual input size"
            )
        if windows is not None and tuple(windows) != counts:
            raise RuntimeError(
                f"{self.function}: {tuple(counts)} windows fit into an input of size {tuple(size)}, but the "
                f"output has {tuple(windows)}"
            )
        return counts


def _channels_of_examples(x: Tensor) -> Tensor:
    """(examples, N, C, ...) as (N, examples * C, ...)."""
    size, n, channels, *rest = x.array.shape
    return x.movedim(0, 1).reshape((n, size * channels, *rest))


def _rows_of_examples(x: Tensor) -> Tensor:
    """(examples, O, ...) as (examples * O, ...)."""
    size, rows, *rest = x.array.shape
    return x.reshape((size * rows, *rest))


class Convolution(_Bilinear):
    """``convolution(x, w)`` or ``convolution(x, w, bias)``: the cross-correlation of x with w."""

    name = "convolution"
    public = "conv{}d"

    def check(self, *arrays: Any) -> None:
        """Channels must be ``groups`` times those of the weight, and a window must fit."""
        x, weight, *bias = arrays
        groups = self.geometry[3]
        if x.ndim != len(self.geometry[0]) + 2 or weight.ndim != x.ndim:
            raise RuntimeError(
                f"{self.function}: expected input (N, C, *size) and weight (O, C / groups, *kernel) with "
                f"{len(self.geometry[0])} spatial axes, got {tuple(x.shape)} and {tuple(weight.shape)}"
            )
        if weight.shape[0] % groups:
            raise RuntimeError(
                f"{self.function}: Given groups={groups}, expected weight to be divisible by {groups} at "
                f"dimension 0, but got weight of size {list(weight.shape)} instead"
            )
        if x.shape[1] != weight.shape[1] * groups:
            raise RuntimeError(
                f"{self.function}: Given groups={groups}, weight of size {list(weight.shape)}, expected "
                f"input {list(x.shape)} to have {weight.shape[1] * groups} channels, but got {x.shape[1]} "
                "channels instead"
            )
        if bias and bias[0].shape != (weight.shape[0],):
            raise RuntimeError(
                f"{self.function}: Given weight of size {list(weight.shape)}, expected bias to be "
                f"1-dimensional with {weight.shape[0]} elements, but got bias of size "
                f"{list(bias[0].shape)} instead"
            )
        self.check_windows(x.shape[2:], weight.shape[2:])
        check_same_dtype(self.label, arrays)

    def transposes(self, node: Node, g: Tensor) -> Sequence[Tensor | None]:
        """The two transposes, and the sum over all windows for the bias."""
        gx = gw = gb = None
        if node.needs_grad(0):
            gx = apply(ConvolutionInput.of(*self.geometry, node.shape(0)[2:]), g, node.input(1))
        if node.needs_grad(1):
            gw = apply(ConvolutionWeight.of(*self.geometry, node.shape(1)[2:]), node.input(0), g)
        if node.needs_grad(2):
            gb = sum_over(g, (0, *range(2, g.array.ndim)))
        return (gx, gw, gb)[: len(node.edges)]

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The product rule, and the tangent of the bias in every window."""
        (tangent,) = super().jvp(inputs, outputs, tangents)
        if len(inputs) > 2 and tangents[2] is not None:
            bias = per_channel(tangents[2], outputs[0].array.ndim)
            tangent = bias.expand(outputs[0].array.shape) if tangent is None else tangent + bias
        return (tangent,)


class ConvolutionInput(_Bilinear):
    """``convolution_input(y, w)``: the transpose of the convolution in x.

    Args:
        stride, padding, dilation, groups: of the convolution.
        size: spatial sizes of the result, which the number of windows does not determine.
    """

    name = "convolution_input"
    public = "conv_transpose{}d"

    def __init__(self, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int, size: Sizes):
        super().__init__(stride, padding, dilation, groups, size=size)
        self.size = size

    def check(self, *arrays: Any) -> None:
        """The channels of y must be the rows of the weight."""
        y, weight = arrays
        if y.ndim != len(self.size) + 2 or weight.ndim != y.ndim:
            raise RuntimeError(
                f"{self.function}: expected input (N, O, *windows) and weight (O, C / groups, *kernel) with "
                f"{len(self.size)} spatial axes, got {tuple(y.shape)} and {tuple(weight.shape)}"
            )
        if y.shape[1] != weight.shape[0] or y.shape[1] % self.geometry[3]:
            raise RuntimeError(
                f"{self.function}: Given transposed=1, weight of size {list(weight.shape)}, expected input "
                f"{list(y.shape)} to have {weight.shape[0]} channels (a multiple of "
                f"groups={self.geometry[3]}), but got {y.shape[1]} channels instead"
            )
        self.check_windows(self.size, weight.shape[2:], y.shape[2:])
        check_same_dtype(self.label, arrays)

    def transposes(self, node: Node, g: Tensor) -> Sequence[Tensor | None]:
        """The convolution for y, the weight's transpose for w."""
        gy = apply(Convolution.of(*self.geometry), g, node.input(1)) if node.needs_grad(0) else None
        gw = None
        if node.needs_grad(1):
            gw = apply(ConvolutionWeight.of(*self.geometry, node.shape(1)[2:]), g, node.input(0))
        return gy, gw


class ConvolutionWeight(_Bilinear):
    """``convolution_weight(x, y)``: the transpose of the convolution in w.

    Args:
        stride, padding, dilation, groups: of the convolution.
        kernel: spatial sizes of the result.
    """

    name = "convolution_weight"

    def __init__(self, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int, kernel: Sizes):
        super().__init__(stride, padding, dilation, groups, kernel=kernel)
        self.kernel = kernel

    def check(self, *arrays: Any) -> None:
        """Both operands must have the same batch, and fit together."""
        x, y = arrays
        groups = self.geometry[3]
        if x.ndim != len(self.kernel) + 2 or y.ndim != x.ndim or x.shape[0] != y.shape[0]:
            raise RuntimeError(
                f"{self.function}: expected input (N, C, *size) and output (N, O, *windows) with "
                f"{len(self.kernel)} spatial axes, got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        if x.shape[1] % groups or y.shape[1] % groups:
            raise RuntimeError(
                f"{self.function}: the channels of input {tuple(x.shape)} and output {tuple(y.shape)} "
                f"must be divisible by groups={groups}"
            )
        self.check_windows(x.shape[2:], self.kernel, y.shape[2:])
        check_same_dtype(self.label, arrays)

    def transposes(self, node: Node, g: Tensor) -> Sequence[Tensor | None]:
        """The gradient takes the place of the weight."""
        gx = None
        if node.needs_grad(0):
            gx = apply(ConvolutionInput.of(*self.geometry, node.shape(0)[2:]), node.input(1), g)
        gy = apply(Convolution.of(*self.geometry), node.input(0), g) if node.needs_grad(1) else None
        return gx, gy


def per_channel(vector: Tensor, ndim: int) -> Tensor:
    """A (C,) tensor as (C, 1, ..., 1), to be broadcast over (N, C, *spatial) with ``ndim`` axes."""
    return vector.reshape((vector.array.shape[0], *[1] * (ndim - 2)))


# ----------------------------------------------------------------------------------------- public functions
def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """The cross-correlation of ``x`` with ``weight``, plus ``bias``.

    Args:
        x: (N, C, *size).
        weight: (O, C / groups, *kernel).
        bias: (O,) or None.
        stride: distances of neighbouring windows.
        padding: zeros before and after every axis.
        dilation: distances of neighbouring taps.
        groups: how many independent parts the channels fall into.

    Returns:
        (N, O, *windows)

    Raises:
        RuntimeError: the shapes do not fit, or the dtypes differ.
    """
    operands = (x, weight) if bias is None else (x, weight, bias)
    return apply(Convolution.of(stride, padding, dilation, groups), *operands)


def transposed_convolution(
    y: Tensor, weight: Tensor, size: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int
) -> Tensor:
    """The transpose of :func:`convolution` in its first operand.

    Args:
        y: (N, O, *windows).
        weight: (O, C / groups, *kernel).
        size: spatial sizes of the result.
        stride: distances of neighbouring windows.
        padding: zeros before and after every axis of the result.
        dilation: distances of neighbouring taps.
        groups: how many independent parts the channels fall into.

    Returns:
        (N, C, *size)

    Raises:
        RuntimeError: the shapes do not fit, or the dtypes differ.
    """
    return apply(ConvolutionInput.of(stride, padding, dilation, groups, size), y, weight)
