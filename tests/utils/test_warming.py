"""`nbdl warmup`: what it compiles, counts and refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import nbdl
from nbdl import __main__
from nbdl.utils import warming, warmup

PROGRAM = """
import sys
import nbdl
only_here = nbdl.pointwise("only_here", lambda x: x * 0.8125 + 0.4375)
only_here(nbdl.ones(40))
print(sys.argv[1], nbdl.get_backend())
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("name", warming.TABLE)
def test_the_table_runs_and_leaves_no_trace(name: str) -> None:
    with nbdl.use_backend("numpy"):
        nbdl.manual_seed(0)
        before = nbdl.get_rng_state().numpy().copy()
        warming.run_table([name])
        np.testing.assert_array_equal(nbdl.get_rng_state().numpy(), before)
        assert nbdl.get_default_dtype() == nbdl.float32


def test_a_program_is_compiled_once(
    program: Path, empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["warmup", "--backend", "numba", str(program), "--word"]
    assert __main__.main(arguments) == 0
    compiled = len(list(empty_cache.rglob("*.o")))
    assert compiled > 0
    found = capsys.readouterr().out
    assert found.startswith(f"--word numba\nnumba: {compiled} kernels compiled in ")
    assert __main__.main(arguments) == 0
    assert "numba: 0 kernels compiled in " in capsys.readouterr().out


def test_a_program_imports_what_lies_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "beside_the_program.py").write_text("word = 'found'")
    (tmp_path / "program.py").write_text("from beside_the_program import word\nprint(word)")
    before = list(sys.path)
    assert __main__.main(["warmup", "--backend", "numba", str(tmp_path / "program.py")]) == 0
    assert capsys.readouterr().out.startswith("found\n")
    assert sys.path == before
    del sys.modules["beside_the_program"]


def test_a_program_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "program.py").write_text("raise SystemExit(3)")
    assert __main__.main(["warmup", "--backend", "numba", str(tmp_path / "program.py")]) == 1
    assert "ended with the exit code 3" in capsys.readouterr().err


def test_what_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"warmup: there is no program .*none\.py"):
        warmup(tmp_path / "none.py")
    with pytest.raises(ValueError, match="warmup: backend must be one of numba, cupy, got 'numpy'"):
        warmup(backend="numpy")


def test_a_backend_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [nbdl.backend.BackendStatus("cupy", False, "no device", "buy one")]
    monkeypatch.setattr(warming.backends, "status", lambda: missing)
    with pytest.raises(RuntimeError, match="warmup: backend cupy is missing: no device; buy one"):
        warmup(backend="cupy")
    assert warmup() == []
