"""The pages of the documentation: the Python in them runs, top to bottom, a page at a time."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path
from types import FunctionType

import pytest

import nbdl
from nbdl.ops import functions

ROOT = Path(__file__).parents[1]
# A block after this line is a sketch: it speaks of things that the page does not define.
SKETCH = "<!-- sketch -->"
BLOCK = re.compile(rf"({SKETCH}\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [
    path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
    if any(not sketch and ">>> " not in code for sketch, code in BLOCK.findall(path.read_text()))
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path) -> None:
    namespace: dict[str, object] = {}
    with nbdl.use_backend("numba"):
        for sketch, code in BLOCK.findall(page.read_text()):
            if not sketch and ">>> " not in code:
                exec(compile(code, str(page), "exec"), namespace)
    nbdl.set_backend("auto")  # a page may have chosen another
    assert nbdl.is_grad_enabled()
    assert nbdl.get_default_dtype() == nbdl.float32


WITH_SESSIONS = [path for path in sorted((ROOT / "docs").glob("*.md")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("page", WITH_SESSIONS, ids=lambda page: page.stem)
def test_the_sessions_of_a_page_print_what_it_shows(page: Path, backend: str) -> None:
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.testfile(str(page), module_relative=False, optionflags=options)
    assert results.attempted > 0
    assert results.failed == 0, "see the captured output"


def test_every_page_is_in_the_index() -> None:
    listed = (ROOT / "docs" / "index.md").read_text().split()
    assert [path.stem for path in (ROOT / "docs").glob("*.md") if path.stem not in ("index", *listed)] == []


def test_every_operation_has_a_place_in_the_reference() -> None:
    spec = importlib.util.spec_from_file_location("api_pages", ROOT / "docs" / "api_pages.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    homes = [name for _, names in pages.TENSOR_PAGES.values() for name in names]
    homes = [name if "." in name else f"nbdl.ops.{name}" for name in homes] + list(pages.MODULES.values())
    described = {name for home in homes for name, _ in pages.exported(importlib.import_module(home))}
    operations = {name for name, value in vars(functions).items() if isinstance(value, FunctionType)}
    assert sorted(name for name in operations - described if name[0] != "_") == []
