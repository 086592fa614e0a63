"""A library that stands for the module `cudnn` of nvidia-cudnn-frontend: graphs of one convolution.

Its names and arguments are those of release 1.18; it computes with the specification, on the addresses.
"""

from __future__ import annotations

import ctypes
import enum
import types
from typing import Any

import numpy as np
from gpu.standin_device import issue

from nbdl.backend import registry
from nbdl.formula import dtypes

data_type = enum.Enum("data_type", "HALF BFLOAT16 FLOAT DOUBLE")
heur_mode = enum.Enum("heur_mode", "A FALLBACK")
numerical_note = enum.Enum("numerical_note", "TENSOR_CORE")
built: list[pygraph] = []
"""The graphs, in the order in which they were built."""
refused: set[str] = set()
"""Kinds of graphs (`conv_fprop`) for which there is no engine."""


class cudnnGraphNotSupportedError(Exception):
    """There is no engine."""


def backend_version() -> int:
    return 91000


def create_handle() -> int:
    return 1


def set_stream(handle: int, stream: int) -> None:
    assert handle == 1
    assert isinstance(stream, int)


class tensor:
    def __init__(self, dim: list[int] | None = None, stride: list[int] | None = None, data_type: Any = None):
        self.dim, self.stride, self.kind, self.uid, self.is_output = dim, stride, data_type, 0, False

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
        span = 1 + sum((n - 1) * step for n, step in zip(self.dim, self.stride, strict=True))
        memory = (ctypes.c_char * (span * dtype.itemsize)).from_address(address)
        return np.ndarray(self.dim, dtype, memory, 0, [step * dtype.itemsize for step in self.stride])


class pygraph:
    def __init__(
        self, name: str = "", io_data_type: Any = None, intermediate_data_type: Any = None,
        compute_data_type: Any = None, handle: int | None = None,
    ):  # fmt: skip
        self.compute, self.notes, self.state = compute_data_type, [], ["made"]
        assert handle == 1

    def tensor(self, dim: Any, stride: Any, data_type: Any, name: str = "") -> tensor:
        return tensor(dim, stride, data_type)

    def _convolution(self, kind: str, operands: list[tensor], windows: dict[str, Any]) -> tensor:
        self.kind, self.operands, self.windows, self.result = kind, operands, windows, tensor()
        assert set(windows) == {"pre_padding", "post_padding", "stride", "dilation"}
        return self.result

    def conv_fprop(self, image: tensor, weight: tensor, **windows: Any) -> tensor:
        return self._convolution("conv_fprop", [image, weight], windows)

    def conv_dgrad(self, loss: tensor, filter: tensor, **windows: Any) -> tensor:
        return self._convolution("conv_dgrad", [loss, filter], windows)

    def conv_wgrad(self, image: tensor, loss: tensor, **windows: Any) -> tensor:
        return self._convolution("conv_wgrad", [image, loss], windows)

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
        self._step("build_plans", "check_support")
        built.append(self)

    def get_workspace_size(self) -> int:
        return 0

    def execute(self, tensor_to_device_buffer: dict[int, int], workspace: int, handle: int) -> None:
        assert self.state[-1] == "build_plans"
        assert self.result.is_output
        arrays = [operand.at(tensor_to_device_buffer[operand.uid]) for operand in self.operands]
        result = self.result.at(tensor_to_device_buffer[self.result.uid])
        issue(lambda: self._compute(*arrays, result), [])

    def _compute(self, first: np.ndarray, second: np.ndarray, result: np.ndarray) -> None:
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
    "backend_version", "create_handle", "cudnnGraphNotSupportedError", "data_type", "heur_mode",
    "numerical_note", "pygraph", "set_stream", "tensor",
]  # fmt: skip


def module() -> types.ModuleType:
    """What `sys.modules` needs as `cudnn`."""
    made: Any = types.ModuleType("cudnn")
    for name in NAMES:
        setattr(made, name, globals()[name])
    return made
