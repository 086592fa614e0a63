"""The table of primitives in docs/primitives.md: how each backend runs each of them.

python tests/primitive_table.py    # writes it anew
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import nbdl.ops
from nbdl.backend.cupy.backend import CupyBackend
from nbdl.backend.numba.backend import PLANNERS, NumbaBackend
from nbdl.backend.numba.blas import DECOMPOSITIONS
from nbdl.backend.numpy import NumpyBackend
from nbdl.ops.primitive import Primitive, View

FILE = Path(__file__).resolve().parents[1] / "docs" / "primitives.md"
HEAD = """# Primitives

Everything that is computed is one of these primitives, or a composition of them. The NumPy backend has a
method for each, and is the specification; this table says what the two others do, as the code has it
(`python tests/primitive_table.py` writes it).

*Kernel* is one of nbdl's own: generated from formulas or taken from `kernels`. *CuPy* is the specification
on CuPy's functions. *Host* copies operands to the CPU, where LAPACK computes, and results back; Python waits
for the GPU. Kernels for a GPU know real numbers; complex ones are computed by CuPy's functions.

| primitive | `numba` | `cupy` |
|---|---|---|
"""
# What modules of the cupy backend do where it is no kernel of its own.
LIBRARIES = {
    "products": "cuBLASLt, else cuBLAS",
    "convolution": "cuDNN, else products of windows",
    "attention": "cuDNN in half precision, else cuBLAS and kernels",
    "recurrent": "kernel; wide layers step by step",
}
PARTLY = {
    "requirement": "not looked at: Python would have to wait",
    **dict.fromkeys(("normalize", "normalize_input"), "kernel; cuDNN for batches"),
}


def primitives() -> dict[str, type[Primitive]]:
    """All that nbdl.ops declares, by name."""
    for module in pkgutil.iter_modules(nbdl.ops.__path__):
        importlib.import_module(f"nbdl.ops.{module.name}")
    found: dict[str, type[Primitive]] = {}
    waiting = [Primitive]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        name = kind.__dict__.get("name")
        if name and isinstance(name, str) and kind.__module__.startswith("nbdl.ops."):
            found[name] = kind
    return found


def on_numba(name: str) -> str:
    """What the Numba backend does."""
    if name in PLANNERS or _is_own(NumbaBackend, name):
        return "kernel"
    return "LAPACK" if name in DECOMPOSITIONS else "NumPy"


def on_cupy(name: str) -> str:
    """What the CuPy backend does."""
    method: Any = getattr(CupyBackend, name)
    if name in PARTLY:
        return PARTLY[name]
    if _is_own(CupyBackend, name):
        return LIBRARIES.get(method.__module__.rpartition(".")[2], "kernel")
    return "host" if "on_host" in inspect.getsource(method) else "CuPy"


def _is_own(backend: type, name: str) -> bool:
    """Whether a backend has a method of its own."""
    return getattr(backend, name) is not getattr(NumpyBackend, name)


def table() -> str:
    """The text of the file."""
    found = primitives()
    rows = [
        f"| `{name}` | {on_numba(name)} | {on_cupy(name)} |\n"
        for name in sorted(found)
        if hasattr(NumpyBackend, name)
    ]
    views = [f"`{name}`" for name, kind in sorted(found.items()) if issubclass(kind, View)]
    rest = [name for name in found if not (hasattr(NumpyBackend, name) or issubclass(found[name], View))]
    others = [f"`{name}`" for name in sorted(rest)]
    tail = f"\nViews share memory and compute nothing: {', '.join(views)}.\n"
    tail += f"{' and '.join(others)} copy between devices or are only recorded.\n"
    return HEAD + "".join(rows) + tail


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
