"""No public name that nbdl shares with PyTorch gets lost, and the committed table says what there is."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import nbdl

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("torch_names_generator", FOLDER / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def split(generator: ModuleType, qualified: str) -> tuple[str, str]:
    path, _, name = qualified.rpartition(".")
    assert path in generator.MODULES
    return path, name


def test_no_name_is_lost(generator: ModuleType) -> None:
    names = [split(generator, line) for line in generator.NAMES.read_text().split()]
    assert len(names) > 1400
    modules = {path: generator.lookup(nbdl, path) for path, _ in names}
    lost = [f"{path}.{name}" for path, name in names if not hasattr(modules[path], name)]
    assert not lost, "names that were there before (see tests/torch_names/generate.py)"


def test_the_table_is_of_these_names(generator: ModuleType) -> None:
    counts = Counter(split(generator, line)[0] for line in generator.NAMES.read_text().split())
    rows = re.findall(r"^\| `torch\.?([\w.]*)` \| \d+ \| (\d+) \|", generator.TABLE.read_text(), re.MULTILINE)
    assert {path: int(count) for path, count in rows if int(count)} == dict(counts)


@pytest.mark.torch
def test_names_are_pytorchs(generator: ModuleType) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.__version__.startswith("2.13"):
        pytest.skip(f"the table is of PyTorch 2.13, this is {torch.__version__}")
    public = {generator.qualified(p, n) for p, names in generator.public_names(torch).items() for n in names}
    assert not set(generator.NAMES.read_text().split()) - public
