"""The benchmark programs as a user runs them, and their modules."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"


def run_program(program: str, *arguments: str, code: int = 0) -> str:
    # These would disturb nobody but the contenders, whose processes must not see them.
    environment = os.environ | {"OPENBLAS_CORETYPE": "Haswell", "NBDL_BACKEND": "no such backend"}
    command = [sys.executable, str(FOLDER / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks, which are no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


@pytest.fixture
def run() -> Callable[..., str]:
    """A function that runs one of the programs as a user does, and gives what it wrote."""
    return run_program
