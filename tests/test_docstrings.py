"""Docstrings: the examples in them run, and what users call has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import nbdl

PACKAGE = Path(nbdl.__file__).parent


def module_name(path: Path) -> str:
    parts = ("nbdl", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


WITH_EXAMPLES = sorted(module_name(path) for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text())
PUBLIC_MODULES = (
    "nbdl",
    "nbdl.autograd",
    "nbdl.datasets",
    "nbdl.distributions",
    "nbdl.fft",
    "nbdl.func",
    "nbdl.linalg",
    "nbdl.nn",
    "nbdl.nn.functional",
    "nbdl.optim",
    "nbdl.optim.curvature",
    "nbdl.profiler",
    "nbdl.serialization",
    "nbdl.special",
    "nbdl.utils.callbacks",
    "nbdl.utils.convexity",
    "nbdl.utils.data",
    "nbdl.utils.metrics",
    "nbdl.viz",
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name):
    if name.startswith("nbdl.viz"):
        pytest.importorskip("matplotlib", reason="draws pictures").use("Agg")
    with nbdl.use_backend("numpy"):
        results = doctest.testmod(
            importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
        )
    assert results.attempted > 0
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    assert results.failed == 0, "see the captured output"


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_everything_public_is_described(name):
    module = importlib.import_module(name)
    named = {key: value for key, value in vars(module).items() if key[0] != "_" and callable(value)}
    own = {key: value for key, value in named.items() if value.__module__.startswith("nbdl")}
    assert own
    assert [key for key, value in own.items() if not inspect.getdoc(value)] == []


def test_every_method_of_tensors_is_described():
    methods = {key: value for key, value in vars(nbdl.Tensor).items() if key[0] != "_" and callable(value)}
    assert [key for key, value in methods.items() if not value.__doc__] == []
