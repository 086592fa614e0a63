"""A Sphinx extension: writes the pages of the API reference from what the public modules export."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# Functions of nbdl: heading of a page, and the modules that define them, of nbdl.ops if nothing else is said.
TENSOR_PAGES = {
    "creation": ("Making tensors", ("creation", "new_like", "type_rules", "random", "rejection")),
    "signals": ("Windows and short-time spectra", ("spectral_windows", "short_time")),
    "pointwise": (
        "Element by element",
        (
            "arithmetic",
            "clamping",
            "closeness",
            "complex_numbers",
            "numbers",
            "special_functions",
            "pointwise",
        ),
    ),
    "reductions": (
        "Reductions, sorting, statistics",
        (
            "reduction",
            "extrema",
            "statistics",
            "quantiles",
            "counting",
            "sorting",
            "searching",
            "scanning",
            "segments",
            "calculus",
        ),
    ),
    "shapes": (
        "Shapes, joining, rearranging",
        ("shape", "layout", "joining", "rearranging", "triangular", "copying", "buffers"),
    ),
    "indexing": (
        "Indexing, gathering, scattering",
        ("indexing", "selecting", "masks", "scattering", "index_writing", "window_scattering"),
    ),
    "products": ("Products", ("matmul", "products", "einsum", "matrix_aliases", "low_rank")),
    "settings": (
        "Settings, seeds, devices, control flow",
        (
            "nbdl.random",
            "nbdl.formula.dtypes",
            "nbdl.backend.device",
            "nbdl.threads",
            "nbdl.settings",
            "nbdl.control_flow",
            "nbdl.autograd.printing",
        ),
    ),
}

MODULES = {
    "compiler": "nbdl.compiler",
    "autograd": "nbdl.autograd",
    "autograd_functional": "nbdl.autograd.functional",
    "autograd_graph": "nbdl.autograd.graph",
    "forward_ad": "nbdl.autograd.forward_ad",
    "formula": "nbdl.formula",
    "amp": "nbdl.amp",
    "cuda": "nbdl.cuda",
    "func": "nbdl.func",
    "nn": "nbdl.nn",
    "nn_functional": "nbdl.nn.functional",
    "nn_init": "nbdl.nn.init",
    "nn_utils": "nbdl.nn.utils",
    "nn_parametrize": "nbdl.nn.utils.parametrize",
    "nn_parametrizations": "nbdl.nn.utils.parametrizations",
    "nn_prune": "nbdl.nn.utils.prune",
    "nn_rnn": "nbdl.nn.utils.rnn",
    "nn_rbf": "nbdl.nn.rbf",
    "optim": "nbdl.optim",
    "curvature": "nbdl.optim.curvature",
    "lr_scheduler": "nbdl.optim.lr_scheduler",
    "swa_utils": "nbdl.optim.swa_utils",
    "distributions": "nbdl.distributions",
    "constraints": "nbdl.distributions.constraints",
    "transforms": "nbdl.distributions.transforms",
    "linalg": "nbdl.linalg",
    "fft": "nbdl.fft",
    "special": "nbdl.special",
    "backend": "nbdl.backend",
    "utils": "nbdl.utils",
    "utils_callbacks": "nbdl.utils.callbacks",
    "utils_metrics": "nbdl.utils.metrics",
    "utils_tensorboard": "nbdl.utils.tensorboard",
    "utils_checkpoint": "nbdl.utils.checkpoint",
    "utils_convexity": "nbdl.utils.convexity",
    "viz": "nbdl.viz",
    "testing": "nbdl.testing",
    "utils_data": "nbdl.utils.data",
    "datasets": "nbdl.datasets",
    "profiler": "nbdl.profiler",
    "serialization": "nbdl.serialization",
}


_OUTSIDE_LITERALS = re.compile(r"(``.*?``|:\w+:`[^`]*`)")


def exported(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public functions and classes: those of `__all__` in its order, or those defined in or below it."""
    listed = getattr(module, "__all__", None)
    for name in sorted(vars(module)) if listed is None else listed:
        value = getattr(module, name)
        home = f"{getattr(value, '__module__', '')}."
        here = listed is not None or home.startswith(f"{module.__name__}.")
        if here and not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value)):
            yield name, value


class Pages:
    """The text of the pages. What several modules export is indexed where it comes first."""

    def __init__(self) -> None:
        self.described: set[int] = set()

    def entry(self, path: str, value: Any) -> str:
        """The directive for one object; a class shows its own public methods."""
        kind = "class" if inspect.isclass(value) else "function"
        options = ["members"] if kind == "class" else []
        if id(value) in self.described:
            options = ["no-index"]
        self.described.add(id(value))
        return f".. auto{kind}:: {path}\n" + "".join(f"   :{option}:\n" for option in options) + "\n"

    def of_operations(self, heading: str, modules: tuple[str, ...]) -> str:
        """A page of functions of `nbdl`, which stand in several modules of `nbdl.ops`."""
        import nbdl

        text = title(heading) + ".. currentmodule:: nbdl\n\n"
        for name in modules:
            home = name if name.startswith("nbdl.") else f"nbdl.ops.{name}"
            for key, _ in exported(importlib.import_module(home)):
                value = getattr(nbdl, key, None)
                if inspect.isfunction(value) or inspect.isclass(value):
                    text += self.entry(f"nbdl.{key}", value)
        return text

    def of_module(self, name: str) -> str:
        """A page of all that a module exports, under its docstring."""
        module = importlib.import_module(name)
        text = title(name) + (inspect.getdoc(module) or "") + f"\n\n.. currentmodule:: {name}\n\n"
        return text + "".join(self.entry(f"{name}.{key}", value) for key, value in exported(module))

    def of_tensor(self) -> str:
        """The class of tensors with its methods."""
        import nbdl

        self.described.add(id(nbdl.Tensor))
        options = "".join(f"   :{option}:\n" for option in ("members", "inherited-members", "no-index"))
        return title("nbdl.Tensor") + ".. autoclass:: nbdl.Tensor\n" + options


def title(text: str) -> str:
    """A heading of reStructuredText."""
    return f"{text}\n{'=' * len(text)}\n\n"


def write_pages(app: Any) -> None:
    """Writes the pages that changed, so that Sphinx reads no others again."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    pages = Pages()
    texts = {"tensor": pages.of_tensor()}
    texts |= {key: pages.of_operations(*value) for key, value in TENSOR_PAGES.items()}
    texts |= {key: pages.of_module(name) for key, name in MODULES.items()}
    for key, text in texts.items():
        path = folder / f"{key}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def escape_formulas(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings write |x| and (*, n) plainly: outside of literals these are no markup."""
    in_example = False
    for k, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            parts = _OUTSIDE_LITERALS.split(line)
            parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
            lines[k] = "".join(parts)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", escape_formulas, priority=400)  # before napoleon, at 500
    return {"parallel_read_safe": True}
