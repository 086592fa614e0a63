"""Faults planted in the kernels of kernels/cuda are caught when the emulator runs the kernels' own tests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from gpu.emulator import KernelError
from gpu.samples import on_device

from nbdl.backend.cupy import files, launch
from nbdl.backend.cupy.backend import CupyBackend
from nbdl.backend.resampling import Taps
from nbdl.ops.alignments import CtcLossInput
from nbdl.ops.bags import EmbeddingBag, EmbeddingBagInput
from nbdl.ops.class_losses import NllLoss, NllLossInput
from nbdl.ops.extrema import ArgReduce
from nbdl.ops.joining import Concatenate
from nbdl.ops.margin_losses import MultilabelMarginLossInput
from nbdl.ops.pooling import FractionalMaxPool, MaxPool, WindowPut
from nbdl.ops.rejection import RandomLogGamma
from nbdl.ops.resampling import Resample
from nbdl.ops.scanning import ArgScan, LinearScan
from nbdl.ops.scattering import Scatter
from nbdl.ops.searching import SearchSorted
from nbdl.ops.softmax import Softmax
from nbdl.ops.unfolding import ColumnsOfWindows, WindowsOfColumns


class Fault(NamedTuple):
    """A change of a source.

    Attributes:
        file: of kernels/cuda.
        right, wrong: text, and what stands there instead.
        run: gives primitive and operands.
        message: what the emulator says; None where only the result is another one.
    """

    file: str
    right: str
    wrong: str
    run: Callable[[], tuple[Any, list[np.ndarray]]]
    message: str | None


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def scan() -> tuple[Any, list[np.ndarray]]:
    return LinearScan.of(1, False), [numbers(2, 300), numbers(2, 300)]


def softmax() -> tuple[Any, list[np.ndarray]]:
    return Softmax.of(1), [numbers(5, 300)]


def short_rows() -> tuple[Any, list[np.ndarray]]:
    """A block has threads for more rows than there are."""
    return Softmax.of(1), [numbers(5, 4)]


def sums_at_places(dtype: str) -> tuple[Any, list[np.ndarray]]:
    x, values = numbers(4, 3).astype(dtype), np.ones((600, 3), dtype)
    return Scatter.of(0, "add"), [x, np.arange(600)[:, None] % 2 + np.zeros((1, 3), np.int64), values]


def losses() -> tuple[Any, list[np.ndarray]]:
    return NllLoss.of(-1, True), [numbers(3000, 3), np.arange(3000) % 3]


def slopes() -> tuple[Any, list[np.ndarray]]:
    return NllLossInput.of(-1, (5, 3)), [numbers(1), np.arange(5) % 3, numbers(1)]


def bags() -> tuple[Any, list[np.ndarray]]:
    return EmbeddingBag.of(True, None), [numbers(7, 5), np.arange(12) % 7, np.array([0, 2, 5])]


def slopes_of_bags() -> tuple[Any, list[np.ndarray]]:
    return EmbeddingBagInput.of(False, None, 7), [numbers(30, 9), np.zeros((30, 4), np.int64)]


_WINDOWS = {"size": (7, 6), "kernel": (3, 2), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)}


def columns() -> tuple[Any, list[np.ndarray]]:
    return ColumnsOfWindows.of(**_WINDOWS, counts=(4, 4)), [numbers(2, 3, 7, 6)]


def images() -> tuple[Any, list[np.ndarray]]:
    return WindowsOfColumns.of(**_WINDOWS, counts=(4, 4)), [numbers(2, 18, 16)]


def maxima() -> tuple[Any, list[np.ndarray]]:
    return MaxPool.of((3, 2), (2, 2), (1, 1), (1, 1), (4, 4)), [numbers(2, 3, 7, 6)]


def alignments() -> tuple[Any, list[np.ndarray]]:
    labels, lengths = np.arange(12).reshape(2, 6) // 2 % 3, np.array([20, 19])
    return CtcLossInput.of(3, False, False), [numbers(20, 2, 4), labels, lengths, lengths // 4, numbers(2)]


def random_windows() -> tuple[Any, list[np.ndarray]]:
    return FractionalMaxPool.of((2, 3), (3, 4)), [numbers(2, 3, 6, 9), np.full((2, 3, 2), 0.9, np.float32)]


def put_back() -> tuple[Any, list[np.ndarray]]:
    return WindowPut.of((4, 5)), [numbers(2, 3, 2, 2), np.arange(24).reshape(2, 3, 2, 2) % 21]


def parts() -> tuple[Any, list[np.ndarray]]:
    return Concatenate.of(1, (3, 5)), [numbers(4, 3), numbers(4, 5)]


def margins() -> tuple[Any, list[np.ndarray]]:
    labels = np.array([[3, 1, 3, -1, 0], [0, 1, 2, 3, -1], [-1, 0, 0, 0, 0]])
    return MultilabelMarginLossInput.of(True), [numbers(1), numbers(3, 5), labels]


_TAPS = Taps(np.array([0, 2, 3]), np.array([0, 2, 4]), np.ones(3), 5)


def maps() -> tuple[Any, list[np.ndarray]]:
    return Resample.of(1, _TAPS), [numbers(2, 5)]


def gammas() -> tuple[Any, list[np.ndarray]]:
    return RandomLogGamma.of((40,), np.dtype(np.float32)), [
        np.array([3]), np.array([4]), np.full(40, 0.5, np.float32)
    ]  # fmt: skip


def largest() -> tuple[Any, list[np.ndarray]]:
    return ArgReduce.of("argmax", 1), [numbers(5, 300)]


def largest_so_far() -> tuple[Any, list[np.ndarray]]:
    return ArgScan.of("max", 1), [numbers(2, 300)]


def values_and_boundaries() -> tuple[Any, list[np.ndarray]]:
    return SearchSorted.of(False), [np.arange(9.0), np.arange(9.0)]


RACE, OUTSIDE = "data race", "illegal memory access|wrote outside its array"
BARRIER = "__syncthreads();"
FAULTS = {
    "scan: a missing barrier before maps are read": Fault(
        "scans.cu", f"        {BARRIER}\n        if (row.lane > 0)", "        if (row.lane > 0)", scan, RACE
    ),
    "scan: a missing barrier before maps are written": Fault(
        "scans.cu", f"{BARRIER}\n            maps[here] = mine;", "maps[here] = mine;", scan, RACE
    ),
    "scan: one step too many": Fault(
        "scans.cu", "first + share < n ? first + share : n", "first + share", scan, f"{RACE}|{OUTSIDE}"
    ),
    "scan: a lane takes its own value": Fault(
        "scans.cu", "before = maps[here - next].value", "before = maps[here].value", scan, None
    ),
    "rows: a missing barrier": Fault(
        "rows.cuh", f"{BARRIER}\n        if (row.lane < half)", "if (row.lane < half)", softmax, RACE
    ),
    "rows: no bounds check in the tail": Fault(
        "rows.cuh", "row.exists = row.number < rows;", "row.exists = true;", short_rows, OUTSIDE
    ),
    "rows: shared memory that nobody wrote": Fault(
        "rows.cuh", "    shared[mine] = value;\n", "", softmax, None
    ),
    "scatter: a plain sum instead of an atomic one": Fault(
        "atomics.cuh", "atomicAdd(address, value);", "*address += value;",
        functools.partial(sums_at_places, "float32"), RACE,
    ),
    "scatter: the other half of the word is overwritten": Fault(
        "atomics.cuh", "~(mask << shift)", "~mask", functools.partial(sums_at_places, "int16"), None
    ),
    "losses: a missing barrier": Fault(
        "class_losses.cu", f"{BARRIER}\n        if (lane < half) {{", "if (lane < half) {", losses, RACE
    ),
    "losses: a barrier for some": Fault(
        "class_losses.cu", BARRIER, f"if (lane < half) {BARRIER}", losses, "cannot go on"
    ),
    "losses: all threads write one word": Fault(
        "class_losses.cu", "    if (threadIdx.x != 0) return;\n", "", losses, RACE
    ),
    "losses: one element too many": Fault(
        "elements.cuh", "i < (count)", "i <= (count)", slopes, OUTSIDE
    ),
    "bags: one index too many": Fault(
        "bags.cu", "end < total ? end : total", "end + 1", bags, OUTSIDE
    ),
    "bags: a race on shared words": Fault(
        "bags.cu", "atomicAdd(&gx[row * width + i % width], slope)", "gx[row * width + i % width] += slope",
        slopes_of_bags, RACE,
    ),
    "columns: the edge is inside": Fault(
        "unfolding.cu", "n >= 0 &&", "n >= -1 &&", columns, None
    ),
    "columns: beyond the edge": Fault(
        "unfolding.cu", "n < b.size &&", "n <= b.size &&", columns, OUTSIDE
    ),
    "images: windows between the steps": Fault(
        "unfolding.cu", "start % axis.stride != 0", "start < 0", images, None
    ),
    "maxima: one element too many": Fault(
        "pooling.cu", "n >= b.size", "n > b.size", maxima, OUTSIDE
    ),
    "alignments: a missing barrier between the steps": Fault(
        "alignments.cu", f"        {BARRIER}\n    }}\n    const", "    }\n    const", alignments, RACE
    ),
    "alignments: a missing barrier before classes are added up": Fault(
        "alignments.cu", f"        {BARRIER}\n        for (", "        for (", alignments, RACE
    ),
    "alignments: a path skips blanks between equal labels": Fault(
        "alignments.cu", " && labels[state / 2] != labels[state / 2 - 1]", "", alignments, None
    ),
    "windows at random places: the last one begins one later": Fault(
        "pooling.cu", "return size - kernel;", "return size - kernel + 1;", random_windows, OUTSIDE
    ),
    "put back: a place behind the plane": Fault(
        "pooling.cu", "place < plane) x[", "place <= plane) x[", put_back, f"{RACE}|{OUTSIDE}"
    ),
    "parts: rows of one part are exchanged": Fault(
        "joining.cu", "x##k + row * n##k", "x##k + (row ^ 1) * n##k", parts, None
    ),
    "parts: a place behind the last row": Fault(
        "joining.cu", "y + row * width", "y + (row + 1) * width", parts, OUTSIDE
    ),
    "margins: one class too many": Fault(
        "margin_losses.cu", "for (long long j = row.lane; j < n; j += row.lanes) {",
        "for (long long j = row.lane; j <= n; j += row.lanes) {", margins, f"{RACE}|{OUTSIDE}"
    ),
    "margins: every lane writes the slope of a target": Fault(
        "margin_losses.cu", "if (target[k] % row.lanes == row.lane)\n", "", margins, RACE
    ),
    "maps: one element too many": Fault(
        "resampling.cu", "k < starts[j + 1]", "k <= starts[j + 1]", maps, None
    ),
    "gammas: all in one place": Fault(
        "rejection.cu", "y[i] = nbdl", "y[i / 2] = nbdl", gammas, RACE
    ),
    "searching: every lane writes the place": Fault(
        "searching.cu", "row.exists && row.lane == 0", "row.exists", largest, RACE
    ),
    "searching: one element too many": Fault(
        "searching.cu", "begin + part < count ? begin + part : count", "begin + part + 1", largest, OUTSIDE
    ),
    "searching: of equal ones the later": Fault(
        "searching.cu", "return a.place < b.place ? a : b", "return a.place < b.place ? b : a",
        lambda: (ArgReduce.of("argmax", 1), [numbers(2, 300) * 0]), None,
    ),
    "searching: a missing barrier before the others are read": Fault(
        "searching.cu", f"        {BARRIER}\n        if (row.lane >= distance)",
        "        if (row.lane >= distance)", largest_so_far, RACE,
    ),
    "searching: a lane takes its own element": Fault(
        "searching.cu", "best = shared[here - next]", "best = shared[here]", largest_so_far, None
    ),
    "searching: equal boundaries are passed": Fault(
        "searching.cu", ": is_below(there, value)", ": !is_below(value, there)", values_and_boundaries, None
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu != "standin":
        pytest.skip("a device would not notice")
    fault = FAULTS[name]

    def with_fault(file: str) -> str:
        text = right(file)
        if file != fault.file:
            return text
        assert fault.right in text, "the source is another one now"
        return text.replace(fault.right, fault.wrong)

    primitive, operands = fault.run()
    expected = CupyBackend().execute(primitive, [*map(placed, operands)])
    right = launch.header
    for module in (files, launch):
        monkeypatch.setattr(module, "header", with_fault)
    monkeypatch.setattr(launch, "module_source", launch.module_source.__wrapped__)
    backend = CupyBackend()  # which has compiled nothing
    arrays = [*map(placed, operands)]
    if fault.message is not None:
        with pytest.raises(KernelError, match=fault.message):
            backend.execute(primitive, arrays)
        return
    found = backend.execute(primitive, arrays)
    assert not np.allclose(found.get(), expected.get(), equal_nan=True)


def placed(array: np.ndarray) -> Any:
    """On the device; numbers as 0-d arrays there."""
    there = on_device(array)
    return there.reshape(()) if array.shape == (1,) else there
