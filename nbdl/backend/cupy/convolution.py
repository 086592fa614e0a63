"""Convolutions by cuDNN; without it, by the products of the specification.

A convolution or one of its two gradients is a graph of one operation (:mod:`nbdl.backend.cupy.dnn`), built
for shapes, strides, dtype, geometry and stream. Channels lie last, so a chain of layers is reordered nowhere:
what comes in another order (the first images, filters) is copied, and gradients of filters are given back in
the order of their indices. Where cuDNN has no engine for that, rows lie as they are indexed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from nbdl.backend.cupy.dnn import (
    DATA_TYPES,
    Plan,
    Sketch,
    empty_in_order,
    image_order,
    is_aligned,
    is_upright,
    lies,
    packed,
    placed_in_order,
    planar,
    steps_of,
)
from nbdl.backend.cupy.libraries import cudnn, plan_of, state
from nbdl.backend.numpy.convolution import Convolution
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Pairs, Sizes, window_counts
from nbdl.formula import Formula

_ADD = Formula("add", lambda x, y: x + y, 2)
# The numbers of the operands in a graph.
_X, _WEIGHT, _Y = 1, 2, 3
_NAMES = {_X: "convolution_input", _WEIGHT: "convolution_weight", _Y: "convolution"}


class Geometry(NamedTuple):
    """What a convolution depends on beside its operands.

    Attributes:
        stride, padding, dilation: of the primitive.
    """

    stride: Sizes
    padding: Pairs
    dilation: Sizes


class CupyConvolution(Convolution):
    """Convolutions; see :class:`~nbdl.backend.numpy.convolution.Convolution`."""

    xp: Any
    pointwise: Any
    _copied_into: Any
    _row_major: Any

    def convolution(
        self, x: Any, weight: Any, *bias: Any, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int,
        out: Any = None,
    ) -> Any:  # fmt: skip
        """By cuDNN, then the bias."""
        counts = window_counts(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        shape = (x.shape[0], weight.shape[0], *counts)
        geometry = Geometry(stride, padding, dilation)
        y = self._computed(_Y, {_X: x, _WEIGHT: weight}, shape, geometry, None if bias else out)
        if y is None or any(b.dtype != x.dtype for b in bias):
            return super().convolution(
                x, weight, *bias, stride=stride, padding=padding, dilation=dilation, groups=groups, out=out
            )
        if bias:
            column = bias[0].reshape((-1, *[1] * len(counts)))
            return self.pointwise(y, column, formula=_ADD, out=y if out is None else out)
        return delivered(y, out)

    def convolution_input(
        self, y: Any, weight: Any, *, size: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups:
        int, out: Any = None,
    ) -> Any:  # fmt: skip
        """By cuDNN."""
        shape = (y.shape[0], weight.shape[1] * groups, *size)
        x = self._computed(_X, {_Y: y, _WEIGHT: weight}, shape, Geometry(stride, padding, dilation), out)
        if x is None:
            return super().convolution_input(
                y,
                weight,
                size=size,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                out=out,
            )
        return delivered(x, out)

    def convolution_weight(
        self, x: Any, y: Any, *, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int,
        out: Any = None,
    ) -> Any:  # fmt: skip
        """By cuDNN."""
        shape = (y.shape[1], x.shape[1] // groups, *kernel)
        weight = self._computed(_WEIGHT, {_X: x, _Y: y}, shape, Geometry(stride, padding, dilation), out)
        if weight is None:
            return super().convolution_weight(
                x, y, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, out=out
            )
        return weight if out is None or out is weight else self._copied_into(out, weight)

    def _computed(
        self, wanted: int, operands: dict[int, Any], shape: Sizes, geometry: Geometry, out: Any
    ) -> Any:
        """The operand that is wanted, of the other two, in ``out`` if it can be; None where cuDNN cannot."""
        first, second = operands.values()
        kind = first.dtype.name
        is_known = first.dtype == second.dtype and kind in DATA_TYPES
        if not is_known or not (first.size and second.size and all(shape)):
            return None
        library = cudnn()
        if library is None:
            return None
        stream = self.xp.cuda.get_current_stream()
        for is_last in (True, False):
            order = image_order(first.ndim, is_last)
            places = tuple((number, x.shape, _steps(x, is_last)) for number, x in operands.items())
            key = (
                "convolution", wanted, kind, places, shape, is_last, geometry, state.tf32,
                int(first.device.id),
            )  # fmt: skip
            result = (wanted, shape, packed(shape, order))
            label = f"a {_NAMES[wanted]} of {kind}, {shape}, channels {'last' if is_last else 'first'}"
            describe = functools.partial(_describe, places, result, geometry)
            avoids = ["NONDETERMINISTIC"]
            if kind == "float32" and not state.tf32:
                avoids.append("TENSOR_CORE")  # they would round the operands
            make = functools.partial(Plan, library, self.xp, kind, label, describe, avoids)
            plan = plan_of(self, key, stream, make)
            if plan.graph is not None:
                laid = {number: self._laid(operands[number], steps, order) for number, _, steps in places}
                return self._filled(plan, laid, wanted, shape, order, out, stream)
        return None

    def _filled(
        self, plan: Plan, laid: dict[int, Any], wanted: int, shape: Sizes, order: Sizes, out: Any, stream: Any
    ) -> Any:
        """The operand that is wanted; a filter in the order of its indices, as optimizers go through it."""
        dtype = next(iter(laid.values())).dtype
        result = placed_in_order(self.xp, out, shape, order, dtype, *laid.values())
        plan({**laid, wanted: result}, stream)
        return self._row_major(result) if wanted == _WEIGHT and out is None else result

    def _laid(self, x: Any, steps: Sizes, order: Sizes) -> Any:
        """The array if it lies with these strides, else a copy that does."""
        if lies(x, steps) and is_aligned(x):
            return x
        return self._copied_into(empty_in_order(self.xp, x.shape, order, x.dtype), x)


def _steps(x: Any, is_last: bool) -> Sizes:
    """Strides with which cuDNN can read the array: its own, or those of a copy."""
    dense = packed(x.shape, image_order(x.ndim, is_last))
    steps = steps_of(x)
    is_in_order = not is_last or x.shape[1] == 1 or steps[1] == 1
    return steps if is_in_order and is_upright(x) and not lies(x, dense) else dense


def _describe(places: Any, result: Any, geometry: Geometry, sketch: Sketch) -> None:
    """The operands (number, sizes, strides) and the result of a convolution or a gradient of it."""
    tensors = {number: sketch.operand(number, *planar(dims, steps)) for number, dims, steps in places}
    stride, padding, dilation = geometry
    windows = {
        "pre_padding": _in_plane([before for before, _ in padding], 0),
        "post_padding": _in_plane([after for _, after in padding], 0),
        "stride": _in_plane(stride, 1),
        "dilation": _in_plane(dilation, 1),
    }
    wanted, shape, steps = result
    if wanted == _Y:
        made = sketch.graph.conv_fprop(image=tensors[_X], weight=tensors[_WEIGHT], **windows)
    elif wanted == _X:
        made = sketch.graph.conv_dgrad(loss=tensors[_Y], filter=tensors[_WEIGHT], **windows)
    else:
        made = sketch.graph.conv_wgrad(image=tensors[_X], loss=tensors[_Y], **windows)
    sketch.result(made, wanted, *planar(shape, steps))


def _in_plane(values: Sequence[int], filler: int) -> list[int]:
    """A value for each spatial axis, of which there are at least two."""
    return [filler, *values] if len(values) == 1 else list(values)
