"""Every kind of kernel compiles with NVIDIA's compiler for sm_80 and sm_90, without register spills."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu import nvrtc
from gpu.test_pointwise import FUSED, INTEGER_FUNCTIONS, ORDERS, names_of, together

import nbdl
from nbdl.backend.cells import CELLS
from nbdl.backend.cupy import (
    copying,
    gating,
    pointwise,
    quasi_newton,
    reduction,
    scanning,
    scattering,
    uploading,
)
from nbdl.backend.cupy.codegen import headers
from nbdl.backend.cupy.files import source_of, types_of
from nbdl.backend.cupy.launch import Spec, module_source
from nbdl.backend.cupy.recurrent import source_of_cell
from nbdl.backend.loops import row_major
from nbdl.formula import FUNCTIONS, Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.reduction import IDENTITY

pytestmark = pytest.mark.skipif(not nvrtc.toolkits(), reason=f"NVRTC is not installed: {nvrtc.REMEDY}")

KERNELS = Path(str(resources.files("nbdl.kernels"))) / "cuda"
ARCHITECTURES = ["sm_80", "sm_90"]


class Sources:
    """Stands for `launch.Kernels`: keeps the sources instead of compiling them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def get(self, name: str, source: str, headers: tuple[str, ...]) -> str:
        self.texts.append(module_source(source, headers))
        return name


def spec(*shape: int, dtype: Any = np.float32, order: str = "C") -> Spec:
    dtype = np.dtype(dtype)
    strides = [step * dtype.itemsize for step in row_major(shape if order == "C" else shape[::-1])]
    return Spec(shape, tuple(strides if order == "C" else strides[::-1]), dtype, 16)


NUMBER = Spec((), (), np.dtype(np.float64), 0)
DEVICE_SCALAR = Spec((), (), np.dtype(np.float64), 16)


def pointwise_source(formula: Formula, *inputs: Spec) -> str:
    kernels: Any = Sources()
    pointwise.plan_pointwise(kernels, formula, 0, inputs, None, [False] * len(inputs))
    return kernels.texts[0]


def reduction_sources(
    kind: str, axes: tuple[int, ...], *inputs: Spec, formula: Formula = IDENTITY
) -> list[str]:
    kernels: Any = Sources()
    reduction.plan_reduce(
        kernels, inputs, None, formula=formula, kind=kind, axes=axes, keepdims=False, weak=0
    )
    return kernels.texts


def scan_source(kind: str, dtype: Any) -> str:
    kernels: Any = Sources()
    scanning.plan_scan(kernels, (30, 40), np.dtype(dtype), np.dtype(dtype), kind, 1, False)
    return kernels.texts[0]


def sources() -> dict[str, str]:
    """The sources by what they are."""
    found: dict[str, str] = {}
    for dtype in ("float32", "float64"):
        for arity in (1, 2):
            # A kernel of all functions at once would need more registers than there are: a dozen a kernel.
            names = names_of(arity)
            for first in range(0, len(names), 12):
                part = together(names[first : first + 12], arity)
                found[f"functions {arity} {dtype} {first}"] = pointwise_source(
                    part, *[spec(999, dtype=dtype)] * arity
                )
        found[f"choice {dtype}"] = pointwise_source(
            together(["where", "clip"], 3), *[spec(999, dtype=dtype)] * 3
        )
        for name, calls in ORDERS.items():
            formula = Formula(name, lambda x, calls=calls, name=name: calls(FUNCTIONS[name], x)[2], 1)
            found[f"{name} {dtype}"] = pointwise_source(formula, spec(999, dtype=dtype))
    names = [name for name in INTEGER_FUNCTIONS if FUNCTIONS[name].arity <= 2]
    for dtype in ("int8", "uint8", "int32", "int64"):
        found[f"integers {dtype}"] = pointwise_source(together(names, 2), *[spec(999, dtype=dtype)] * 2)
    halves = ["float16", dtypes.bfloat16()] if _has_bfloat16() else ["float16"]
    for dtype in halves:
        found[f"half {dtype}"] = pointwise_source(FUSED, spec(64, dtype=dtype), spec(64, dtype=dtype), NUMBER)
        found[f"sum {dtype}"], *_ = reduction_sources("sum", (1,), spec(9, 99, dtype=dtype))
    for name, shape in {"packs": (64, 64), "scalars": (63, 3)}.items():
        found[f"rows {name}"] = pointwise_source(FUSED, spec(*shape), spec(shape[1]), DEVICE_SCALAR)
    for formula in (gating._GRADIENT, quasi_newton._MORE, quasi_newton._DIFFERENCES):
        found[formula.name] = pointwise_source(formula, *[spec(999)] * formula.arity)
    found["strided"] = pointwise_source(formula_of("add"), spec(5, 6, 7), spec(5, 6, 7, order="F"))
    found["64-bit"] = pointwise_source(formula_of("add"), spec(1 << 20, 1 << 12), spec(1 << 12))
    for axis, shape in ((1, (9, 99)), (0, (99, 40)), (1, (5, 6, 7))):
        found[f"sum {axis} {shape}"], *_ = reduction_sources("sum", (axis,), spec(*shape))
    for kind in ("prod", "max", "min", "any", "all"):
        found[kind], *_ = reduction_sources(kind, (1,), spec(9, 99))
    found["two stages"], found["second stage"] = reduction_sources("mean", (0,), spec(1 << 20))
    found["integer sum"], *_ = reduction_sources("sum", (0,), spec(99, dtype="int32"))
    found["64-bit sum"], *_ = reduction_sources("sum", (0,), spec(1 << 12, 1 << 20))
    for kind in ("sum", "prod", "max", "min", "logsumexp"):
        found[f"scan {kind}"] = scan_source(kind, np.float32)
    return found | file_sources()


# The files of kernels/cuda that are templates over a type in memory, and what stands in front of them.
FILES = {
    "alignments.cu": (),
    "bags.cu": ("elements.cuh",),
    "class_losses.cu": ("elements.cuh",),
    "framing.cu": ("elements.cuh",),
    "margin_losses.cu": ("rows.cuh",),
    "pooling.cu": ("elements.cuh", "windows.cuh"),
    "rejection.cu": ("elements.cuh", "philox.cuh"),
    "resampling.cu": ("elements.cuh",),
    "scans.cu": ("rows.cuh",),
    "searching.cu": ("rows.cuh",),
    "softmax.cu": ("rows.cuh",),
    "unfolding.cu": ("elements.cuh", "windows.cuh"),
}


def file_sources() -> dict[str, str]:
    """The files of kernels/cuda, for the types that they are templates over."""
    found: dict[str, str] = {}
    for dtype in ("float32", "float64", "float16", *(["bfloat16"] if _has_bfloat16() else [])):
        kind = dtypes.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
        types = types_of(kind)
        for file, parts in FILES.items():
            for across in (0, 1) if "rows.cuh" in parts else (0,):
                text = source_of(file, types, parts, {"NBDL_ACROSS": across})
                found[f"{file} {dtype} {across}"] = module_source(text, headers([kind]))
        more = {"real_t": types["number"], "probability_t": "const double*"}
        text = source_of("random.cu", types | more, ("philox.cuh",))
        found[f"random.cu {dtype}"] = module_source(text, headers([kind]))
        for cell in CELLS if dtype in ("float32", "float64") else ("lstm",):
            found[f"recurrent.cu {cell} {dtype}"] = module_source(source_of_cell(cell, kind), headers([kind]))
    for word in (1, 2, 4, 8, 16):
        text = source_of("joining.cu", {}, ("words.cuh", "elements.cuh"), {"NBDL_BYTES": word})
        found[f"joining.cu {word}"] = module_source(text, ())
        kernels: Any = Sources()
        copying.plan_tiles(
            kernels, (40, 3, 50), (word, 40 * word, 120 * word), (150 * word, 50 * word, word), word
        )
        found[f"tiles {word}"] = kernels.texts[0]
    for name, kind in {"int64": np.dtype(np.int64), "uint8": np.dtype(np.uint8), "bool": dtypes.BOOL}.items():
        text = source_of("searching.cu", types_of(kind), ("rows.cuh",), {"NBDL_ACROSS": 0})
        found[f"searching.cu {name}"] = module_source(text, headers([kind]))
    for name, shape in {"float32": (30, 40), "float16": (30, 40), "int8": (1 << 16, 1 << 16)}.items():
        for step in (1, 2):
            kernels = Sources()
            sides = [copying.Side(0, shape[0], 1, 9), copying.Side(3, 9, step, 1)]
            copying.plan_frame(kernels, shape, (shape[1], 1), sides, np.dtype(name))
            found[f"frame {name} {step}"] = kernels.texts[0]
    found["numbers"] = module_source(uploading.source_of(64), ())
    places = scattering.Places((30, 4), (4, 1), (0, 1), ((1, 0),), (9,), (4,), (1, 0), (0, 0), (1,))
    for name in ("float32", "float64", "float16", "int8", "int16", "int64"):
        for action in ("add", "prod", "amax", "gather", "set", *(["claim"] if name == "int64" else [])):
            kernels = Sources()
            scattering.plan_scatter(kernels, action, places, np.dtype(name), [np.dtype(np.int64)])
            found[f"scatter {action} {name}"] = kernels.texts[0]
    return found


def _has_bfloat16() -> bool:
    try:
        dtypes.bfloat16()
    except ImportError:
        return False
    return True


SOURCES = sources()


def test_every_file_is_compiled():
    """A new file of kernels is listed above."""
    listed = {*FILES, "joining.cu", "random.cu", "recurrent.cu"}
    assert {file.name for file in KERNELS.glob("*.cu")} == listed
    everything = "\n".join(SOURCES.values())
    for file in KERNELS.glob("*.cuh"):
        assert file.read_text().strip() in everything, file.name


@pytest.mark.parametrize("toolkit", nvrtc.toolkits(), ids=lambda toolkit: toolkit.library.name)
@pytest.mark.parametrize("name", SOURCES)
def test_it_compiles_without_spills(toolkit, name):
    for architecture in ARCHITECTURES if toolkit is nvrtc.toolkits()[0] else ARCHITECTURES[-1:]:
        compiled = nvrtc.compile_source(toolkit, SOURCES[name], architecture)
        assert compiled.code
        assert "Used" in compiled.log, "the compiler does not report registers"
        assert compiled.spills == 0, compiled.log
        assert "warning" not in compiled.log, compiled.log


@pytest.mark.parametrize("toolkit", nvrtc.toolkits(), ids=lambda toolkit: toolkit.library.name)
def test_a_wrong_source_is_refused(toolkit):
    with pytest.raises(RuntimeError, match=r'kernel.cu\(2\): error: identifier "undefined" is undefined'):
        nvrtc.compile_source(
            toolkit, 'extern "C" __global__ void f(float* x) {\n    x[0] = undefined(1);\n}\n', "sm_80"
        )


def formulas() -> list[Formula]:
    """What the modules of nbdl apply to elements, losses and steps of optimizers among them.

    Those that are a single function are left out: they are among :func:`sources`.
    """
    found: dict[Any, Formula] = {}
    for module in pkgutil.walk_packages(nbdl.__path__, "nbdl."):
        if module.name.startswith("nbdl.kernels") or module.name.endswith(("__main__", "tensorboard")):
            continue
        values = list(vars(importlib.import_module(module.name)).values())
        while values:
            value = values.pop()
            if isinstance(value, Formula) and len(value.nodes) > value.arity + 1:
                found.setdefault(value.outputs, value)
            elif isinstance(value, dict):
                values += value.values()
            elif isinstance(value, (tuple, list, frozenset)):
                values += value
            elif isinstance(value, type) and value.__module__ == module.name:
                values += [
                    entry for entry in vars(value).values() if isinstance(entry, (Formula, dict, tuple))
                ]
    return list(found.values())


def merged(parts: list[Formula], most: int = 12) -> Iterator[Formula]:
    """Formulas of the results of several, as many as the registers of a kernel hold: that compiles faster."""
    waiting: dict[int, list[Formula]] = {}
    for part in parts:
        waiting.setdefault(part.arity, []).append(part)
    for arity, group in waiting.items():
        chosen: list[Formula] = []
        for part in [*group, None]:
            full = part is None or sum(len(each.outputs) for each in [*chosen, part]) > most
            if chosen and full:
                name = "_and_".join(each.name for each in chosen)
                yield Formula.of(name, tuple(y for each in chosen for y in each.outputs), arity)
                chosen = []
            if part is not None:
                chosen.append(part)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_formulas_compile(architecture: str) -> None:
    found = formulas()
    assert {"adam", "gelu", "huber", "sgd"} <= {formula.name for formula in found}
    assert len(found) > 200
    for formula in merged(found):
        text = pointwise_source(formula, *[spec(999)] * formula.arity)
        compiled = nvrtc.compile_source(nvrtc.toolkits()[0], text, architecture)
        assert compiled.code, formula.name
        assert compiled.spills == 0, f"{formula.name}: {compiled.log}"
        assert "warning" not in compiled.log, f"{formula.name}: {compiled.log}"


def test_single_precision_stays_single():
    """No literal and no overload makes a float32 kernel compute in double."""
    formula = Formula(
        "single",
        lambda x, y: f.exp(-x) * 0.1 + f.where(x > 0.5, 1 / y, f.tanh(y)) + f.log1p(f.sqrt(f.abs(x))),
        2,
    )
    source = pointwise_source(formula, spec(999), spec(999))
    ptx = nvrtc.compile_source(nvrtc.toolkits()[0], source, "compute_80").code.decode()
    assert ".f32" in ptx
    assert ".f64" not in ptx
