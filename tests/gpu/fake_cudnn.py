"""A library that stands for the module `cudnn` of nvidia-cudnn-frontend: graphs of one operation.

Its names and arguments are those of release 1.18, from the signatures of its compiled module; it computes
with the specification, on the addresses, and refuses what the library's own checks refuse.
"""

from __future__ import annotations

import ctypes
import enum
import types
from typing import Any

import numpy as np
from gpu.standin_device import current_device, get_current_stream, is_capturing, issue

from nbdl.backend import registry
from nbdl.formula import dtypes

data_type = enum.Enum("data_type", "NOT_SET HALF BFLOAT16 FLOAT DOUBLE")
diagonal_alignment = enum.Enum("diagonal_alignment", "TOP_LEFT BOTTOM_RIGHT")
heur_mode = enum.Enum("heur_mode", "A FALLBACK")
numerical_note = enum.Enum("numerical_note", "TENSOR_CORE NONDETERMINISTIC")
built: list[pygraph] = []
"""The graphs, in the order in which they were built."""
refused: set[str] = set()
"""Kinds of graphs (`conv_fprop`) for which there is no engine."""


class cudnnGraphNotSupportedError(Exception):
    """There is no engine."""


def backend_version() -> int:
    return 91000


_devices_of_handles: dict[int, int] = {}
workspaces: list[tuple[int, int]] = []
"""The streams of the graphs that ran, and their workspaces."""
_streams: dict[int, int] = {}


def create_handle() -> int:
    handle = 1 + len(_devices_of_handles)
    _devices_of_handles[handle] = current_device()
    return handle


def _check(handle: int | None) -> None:
    assert _devices_of_handles[handle or 0] == current_device(), "a handle of another device"


def set_stream(handle: int, stream: int) -> None:
    _check(handle)
    assert stream == get_current_stream().ptr
    _streams[handle] = stream


class tensor:
    def __init__(self, dim: list[int] | None = None, stride: list[int] | None = None, data_type: Any = None):
        self.dim, self.stride, self.kind, self.uid, self.is_output = dim, stride, data_type, 0, False
        self.is_pass_by_value = False

    def set_uid(self, uid: int) -> tensor:
        self.uid = uid
        return self

    def set_output(self, value: bool) -> tensor:
        self.is_output = value
        return self

    def set_dim(self, dim: list[int]) -> tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: list[int]) -> tensor:
        self.stride = stride
        return self

    def set_data_type(self, kind: Any) -> tensor:
        self.kind = kind
        return self

    def at(self, address: int) -> np.ndarray:
        """The array at an address."""
        names = {"HALF": "float16", "FLOAT": "float32", "DOUBLE": "float64"}
        dtype = np.dtype(names[self.kind.name]) if self.kind.name in names else dtypes.bfloat16()
        assert self.dim is not None
        assert self.stride is not None
        assert len(self.dim) in (4, 5)
        assert address % (4 if self.is_pass_by_value else 16) == 0, "what the library assumes"
        span = 1 + sum((n - 1) * step for n, step in zip(self.dim, self.stride, strict=True))
        memory = (ctypes.c_char * (span * dtype.itemsize)).from_address(address)
        return np.ndarray(self.dim, dtype, memory, 0, [step * dtype.itemsize for step in self.stride])


class pygraph:
    def __init__(
        self, name: str = "", io_data_type: Any = None, intermediate_data_type: Any = None,
        compute_data_type: Any = None, handle: int | None = None,
    ):  # fmt: skip
        self.compute, self.notes, self.state = compute_data_type, [], ["made"]
        _check(handle)

    def tensor(
        self, dim: Any, stride: Any, data_type: Any = data_type.NOT_SET, is_virtual: bool = False,
        is_pass_by_value: bool = False, name: str = "",
    ) -> tensor:  # fmt: skip
        assert not is_virtual
        made = tensor(dim, stride, data_type)
        made.is_pass_by_value = is_pass_by_value
        return made

    def _convolution(self, kind: str, operands: list[tensor], windows: dict[str, Any]) -> tensor:
        self.kind, self.operands, self.windows, self.result = kind, operands, windows, tensor()
        self.results = [self.result]
        assert set(windows) == {"pre_padding", "post_padding", "stride", "dilation"}
        return self.result

    def conv_fprop(self, image: tensor, weight: tensor, **windows: Any) -> tensor:
        return self._convolution("conv_fprop", [image, weight], windows)

    def conv_dgrad(self, loss: tensor, filter: tensor, **windows: Any) -> tensor:
        return self._convolution("conv_dgrad", [loss, filter], windows)

    def conv_wgrad(self, image: tensor, loss: tensor, **windows: Any) -> tensor:
        return self._convolution("conv_wgrad", [image, loss], windows)

    def _operation(self, kind: str, operands: list[Any], count: int, run: Any) -> list[tensor]:
        self.kind, self.run = kind, run
        self.operands, self.results = operands, [tensor() for _ in range(count)]
        return self.results

    def batchnorm(
        self, input: tensor, scale: tensor, bias: tensor, in_running_mean: Any, in_running_var: Any,
        epsilon: tensor, momentum: Any, peer_stats: Any = (), compute_data_type: Any = data_type.NOT_SET,
        name: str = "",
    ) -> list[Any]:  # fmt: skip
        assert in_running_mean is in_running_var is momentum is None
        assert epsilon.is_pass_by_value
        self._check_vectors(input, scale, bias)

        def run(x: Any, weight: Any, bias: Any, eps: Any, y: Any, mean: Any, inverse: Any) -> None:
            axes = (0, *range(2, x.ndim))
            wide = x.astype(np.float64)
            mean[...] = wide.mean(axes, keepdims=True)
            inverse[...] = 1 / np.sqrt(wide.var(axes, keepdims=True) + eps.item())
            y[...] = (wide - mean) * inverse * weight + bias

        made = self._operation("batchnorm", [input, scale, bias, epsilon], 3, run)
        return [*made, None, None]

    def batchnorm_backward(
        self, grad: tensor, input: tensor, scale: tensor, mean: tensor, inv_variance: tensor,
        peer_stats: Any = (), compute_data_type: Any = data_type.NOT_SET, name: str = "",
    ) -> list[tensor]:  # fmt: skip
        assert (grad.dim, grad.stride, grad.kind) == (input.dim, input.stride, input.kind)
        self._check_vectors(input, scale, mean, inv_variance)

        def run(
            g: Any, x: Any, weight: Any, mean: Any, inverse: Any, gx: Any, of_weight: Any, of_bias: Any
        ) -> None:
            axes = (0, *range(2, x.ndim))
            wide, n = g.astype(np.float64), (x.astype(np.float64) - mean) * inverse
            of_weight[...], of_bias[...] = (wide * n).sum(axes, keepdims=True), wide.sum(axes, keepdims=True)
            count = x.size / x.shape[1]
            gx[...] = weight * inverse * (wide - (of_bias + n * of_weight) / count)

        return self._operation("batchnorm_backward", [grad, input, scale, mean, inv_variance], 3, run)

    def _check_vectors(self, image: tensor, *vectors: tensor) -> None:
        """Images of single or half precision, with channels last or first; vectors of single precision."""
        dim, stride = image.dim, image.stride
        assert dim is not None and stride is not None
        assert image.kind in (data_type.FLOAT, data_type.HALF, data_type.BFLOAT16)
        assert self.compute is data_type.FLOAT
        assert stride[1] == 1 or stride == [int(np.prod(dim[k + 1 :])) for k in range(len(dim))]
        for vector in vectors:
            assert vector.dim == [1, dim[1], *[1] * (len(dim) - 2)]
            assert vector.kind is data_type.FLOAT

    def sdpa(
        self, q: tensor, k: tensor, v: tensor, is_inference: Any = None, attn_scale: Any = None,
        bias: Any = None, use_causal_mask: bool = False, diagonal_alignment: Any =
        diagonal_alignment.TOP_LEFT, diagonal_band_left_bound: Any = None, diagonal_band_right_bound: Any =
        None, dropout: Any = None, compute_data_type: Any = data_type.NOT_SET, name: str = "",
        generate_stats: Any = None,
    ) -> list[tensor]:  # fmt: skip
        assert generate_stats is True and is_inference is None
        settings = self._check_attention((q, k, v), attn_scale, diagonal_alignment, diagonal_band_right_bound)

        def run(q: Any, k: Any, v: Any, o: Any, statistics: Any) -> None:
            cpu = registry.load("numpy")
            wide = [x.astype(np.float32) for x in (q, k, v)]
            found, log_sum = cpu.attention(*wide, **settings)
            o[...], statistics[...] = found, log_sum[..., None]

        return self._operation("sdpa", [q, k, v], 2, run)

    def sdpa_backward(
        self, q: tensor, k: tensor, v: tensor, o: tensor, dO: tensor, stats: tensor, attn_scale: Any = None,
        bias: Any = None, use_causal_mask: bool = False, diagonal_alignment: Any =
        diagonal_alignment.TOP_LEFT, diagonal_band_left_bound: Any = None, diagonal_band_right_bound: Any =
        None, dropout: Any = None, use_deterministic_algorithm: bool = False, compute_data_type: Any =
        data_type.NOT_SET, name: str = "",
    ) -> list[tensor]:  # fmt: skip
        operands = (q, k, v, o, dO)
        settings = self._check_attention(operands, attn_scale, diagonal_alignment, diagonal_band_right_bound)
        self.is_ordered = use_deterministic_algorithm
        assert stats.kind is data_type.FLOAT
        assert q.dim is not None
        assert stats.dim == [*q.dim[:3], 1]

        def run(q: Any, k: Any, v: Any, o: Any, g: Any, statistics: Any, *results: Any) -> None:
            cpu = registry.load("numpy")
            q, k, v, o, g = (x.astype(np.float32) for x in (q, k, v, o, g))
            found = cpu.attention_input(g, q, k, v, o, statistics[..., 0], **settings)
            for result, gradient in zip(results, found, strict=True):
                result[...] = gradient

        return self._operation("sdpa_backward", [*operands, stats], 3, run)

    def _check_attention(
        self, operands: tuple[tensor, ...], scale: Any, alignment: Any, right: Any
    ) -> dict[str, Any]:
        """The library's own checks; what the specification is called with."""
        for x in operands:
            assert x.dim is not None and x.stride is not None
            assert len(x.dim) == 4 and x.stride[3] == 1
            assert x.kind in (data_type.HALF, data_type.BFLOAT16)
            if x.dim[3] % 8:
                raise cudnnGraphNotSupportedError("hidden_dim should be multiple of 8")
        assert self.compute is data_type.FLOAT
        assert isinstance(scale, float)
        assert alignment.name == "TOP_LEFT" and right in (None, 0)
        return {"scale": scale, "is_causal": right == 0, "has_mask": False}

    def _step(self, name: str, behind: str) -> None:
        assert self.state[-1] in (behind, "deselect_numeric_notes"), f"{name} behind {self.state[-1]}"
        self.state.append(name)

    def validate(self) -> None:
        self._step("validate", "made")

    def build_operation_graph(self) -> None:
        self._step("build_operation_graph", "validate")

    def create_execution_plans(self, modes: list[Any]) -> None:
        self._step("create_execution_plans", "build_operation_graph")

    def deselect_numeric_notes(self, notes: list[Any]) -> None:
        self._step("deselect_numeric_notes", "create_execution_plans")
        self.notes += [note.name for note in notes]

    def check_support(self) -> None:
        self._step("check_support", "create_execution_plans")
        if self.kind in refused:
            raise cudnnGraphNotSupportedError("No valid engine configs")

    def build_plans(self) -> None:
        assert not is_capturing(), "a plan is made before"
        self._step("build_plans", "check_support")
        built.append(self)

    def get_workspace_size(self) -> int:
        return 0

    def execute(self, tensor_to_device_buffer: dict[int, int], workspace: int, handle: int) -> None:
        _check(handle)
        workspaces.append((_streams[handle], workspace))
        assert self.state[-1] == "build_plans"
        assert all(result.is_output for result in self.results)
        tensors = [*self.operands, *self.results]
        assert sorted(tensor_to_device_buffer) == sorted(x.uid for x in tensors)
        arrays = [x.at(tensor_to_device_buffer[x.uid]) for x in tensors]
        issue(lambda: self.run(*arrays), [])

    def run(self, first: np.ndarray, second: np.ndarray, result: np.ndarray) -> None:
        before, after = self.windows["pre_padding"], self.windows["post_padding"]
        settings: Any = {
            "stride": tuple(self.windows["stride"]),
            "padding": tuple(zip(before, after, strict=True)),
            "dilation": tuple(self.windows["dilation"]),
        }
        cpu = registry.load("numpy")
        if self.kind == "conv_fprop":
            groups = first.shape[1] // second.shape[1]
            result[...] = cpu.convolution(first, second, groups=groups, **settings)
        elif self.kind == "conv_dgrad":
            groups = result.shape[1] // second.shape[1]
            found = cpu.convolution_input(first, second, size=result.shape[2:], groups=groups, **settings)
            result[...] = found
        else:
            groups = first.shape[1] // result.shape[1]
            found = cpu.convolution_weight(first, second, kernel=result.shape[2:], groups=groups, **settings)
            result[...] = found


NAMES = [
    "backend_version", "create_handle", "cudnnGraphNotSupportedError", "data_type", "diagonal_alignment",
    "heur_mode", "numerical_note", "pygraph", "set_stream", "tensor",
]  # fmt: skip


def module() -> types.ModuleType:
    """What `sys.modules` needs as `cudnn`."""
    made: Any = types.ModuleType("cudnn")
    for name in NAMES:
        setattr(made, name, globals()[name])
    return made
