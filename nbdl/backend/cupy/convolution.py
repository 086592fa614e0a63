"""Convolutions by cuDNN, by way of nvidia-cudnn-frontend; without it, by the products of the specification.

A convolution or one of its two gradients is a graph of one operation, built for shapes, strides, dtype,
geometry and stream, and kept with its workspace, so that it may run while a stream is captured. Sizes are
given in the order N, C, spatial axes, whatever the strides say, so arrays that lie channels last stay as
they are.

This was tested with a library that stands for cuDNN, under the names of nvidia-cudnn-frontend 1.18, not on a
device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.cupy.libraries import cudnn, state, tell
from nbdl.backend.cupy.placing import overlap
from nbdl.backend.numpy.convolution import Convolution
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Pairs, Sizes, window_counts
from nbdl.formula import Formula

_ADD = Formula("add", lambda x, y: x + y, 2)
_KINDS = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}
# The numbers of the operands in a graph.
_X, _WEIGHT, _Y = 1, 2, 3


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
    _plans: dict[Any, Any]
    _keep: Any
    pointwise: Any

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
        return y if y is out else delivered(y, out)

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
        return x if x is out else delivered(x, out)

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
        return weight if weight is out else delivered(weight, out)

    def _computed(
        self, wanted: int, operands: dict[int, Any], shape: Sizes, geometry: Geometry, out: Any
    ) -> Any:
        """The operand that is wanted, of the other two, in ``out`` if it can be; None where cuDNN cannot."""
        first, second = operands.values()
        is_known = first.dtype == second.dtype and first.dtype.name in _KINDS
        if not is_known or not (first.size and second.size and all(shape)):
            return None
        library = cudnn()
        if library is None:
            return None
        operands = {number: self._upright(x) for number, x in operands.items()}
        stream = self.xp.cuda.get_current_stream()
        places = tuple((number, x.shape, _steps(x)) for number, x in operands.items())
        key = (
            "convolution", wanted, first.dtype.name, places, shape, geometry, state.tf32,
            int(first.device.id), stream.ptr,
        )  # fmt: skip
        plan = self._plans.get(key)
        if plan is None:
            plan = self._keep(key, Plan(library, self.xp, key))
        if plan.graph is None:
            return None
        is_direct = out is not None and out.flags.c_contiguous and out.dtype == first.dtype
        is_direct = is_direct and not (overlap(first, out) or overlap(second, out))
        result = out if is_direct else self.xp.empty(shape, first.dtype)
        plan({**operands, wanted: result}, stream)
        return result

    def _upright(self, x: Any) -> Any:
        """The array, copied if elements overlap or axes run backwards, which cuDNN does not know."""
        steps = sorted((step, n) for step, n in zip(_steps(x), x.shape, strict=True) if n > 1)
        reached = 1
        for step, n in steps:
            if step < reached:
                return self.xp.ascontiguousarray(x)
            reached = step * n
        return x


def _steps(x: Any) -> Sizes:
    return tuple(step // x.itemsize for step in x.strides)


def _planar(sizes: Sequence[int], filler: int, lead: int = 2) -> list[int]:
    """Sizes with an axis of length 1 before a single spatial one: cuDNN knows planes and spaces."""
    sizes = list(sizes)
    return [*sizes[:lead], filler, *sizes[lead:]] if len(sizes) == lead + 1 else sizes


class Plan:
    """A graph of one operation, with its workspace.

    Args:
        library: the module ``cudnn``.
        xp: the module ``cupy``.
        key: what it depends on; see :meth:`CupyConvolution._computed`.

    Attributes:
        graph: of cuDNN; None where it has no engine for it.
    """

    def __init__(self, library: Any, xp: Any, key: Sequence[Any]):
        _, wanted, kind, places, shape, geometry, tf32, *_ = key
        self._library, self._handle = library, _handle(library, xp.cuda.runtime.getDevice())
        data = getattr(library.data_type, _KINDS[kind])
        wide = library.data_type.DOUBLE if kind == "float64" else library.data_type.FLOAT
        graph = library.pygraph(
            io_data_type=data, intermediate_data_type=wide, compute_data_type=wide, handle=self._handle
        )
        tensors = {
            number: graph.tensor(
                dim=_planar(dims, 1), stride=_planar(steps, max(steps)), data_type=data, name=f"t{number}"
            ).set_uid(number)
            for number, dims, steps in places
        }
        stride, padding, dilation = geometry
        windows = {
            "pre_padding": _planar([before for before, _ in padding], 0, 0),
            "post_padding": _planar([after for _, after in padding], 0, 0),
            "stride": _planar(stride, 1, 0),
            "dilation": _planar(dilation, 1, 0),
        }
        if wanted == _Y:
            made = graph.conv_fprop(image=tensors[_X], weight=tensors[_WEIGHT], **windows)
        elif wanted == _X:
            made = graph.conv_dgrad(loss=tensors[_Y], filter=tensors[_WEIGHT], **windows)
        else:
            made = graph.conv_wgrad(image=tensors[_X], loss=tensors[_Y], **windows)
        dims = _planar(shape, 1)
        steps = [int(np.prod(dims[k + 1 :], dtype=np.int64)) for k in range(len(dims))]
        made.set_output(True).set_dim(dims).set_stride(steps).set_data_type(data).set_uid(wanted)
        self.graph = graph
        try:
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([library.heur_mode.A, library.heur_mode.FALLBACK])
            if kind == "float32" and not tf32:  # tensor cores would round the operands
                graph.deselect_numeric_notes([library.numerical_note.TENSOR_CORE])
            graph.check_support()
            graph.build_plans()
        except (library.cudnnGraphNotSupportedError, RuntimeError) as error:
            self.graph = None
            tell(f"cuDNN does not compute a convolution of {kind}, {shape}: {' '.join(str(error).split())}")
            return
        self._workspace = xp.empty(max(1, graph.get_workspace_size()), np.uint8)

    def __call__(self, operands: dict[int, Any], stream: Any) -> None:
        """Compute one operand of the others."""
        self._library.set_stream(handle=self._handle, stream=stream.ptr)
        addresses = {number: x.data.ptr for number, x in operands.items()}
        self.graph.execute(addresses, self._workspace.data.ptr, handle=self._handle)


_handles: dict[tuple[int, int], int] = {}


def _handle(library: Any, device: int) -> int:
    """The library's state on a device."""
    key = (id(library), device)
    if key not in _handles:
        _handles[key] = library.create_handle()
    return _handles[key]
