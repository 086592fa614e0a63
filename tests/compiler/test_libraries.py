"""Compiled functions are followed through the user's code, and not through the libraries that it calls."""

from __future__ import annotations

import importlib
import sys

import pytest

import nbdl
from nbdl.compiler import libraries
from nbdl.compiler.captured import Captured

HELPERS = """
scale = 2.0
def deeper(x):
    return x * scale
def scaled(x):
    return deeper(x)
"""
CALLER = """
import helpers
def function(x):
    return helpers.scaled(x)
"""


@pytest.fixture(params=["beside the program", "installed"])
def function(request, tmp_path, monkeypatch):
    """A function that calls a package; how that came to be there."""
    for name, code in {"helpers": HELPERS, "caller": CALLER}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    if request.param == "installed":
        monkeypatch.setattr(libraries, "_folders", lambda: (str(tmp_path / "helpers"),))
    yield importlib.import_module("caller").function, request.param == "installed"
    for name in ("helpers", "caller"):
        sys.modules.pop(name)


def test_globals_of_libraries_are_left_alone(function):
    run, is_library = function
    found = {variable.name for variable in Captured(run).variables}
    assert ("scale" in found) == (not is_library)


@pytest.mark.usefixtures("function")
def test_a_function_of_a_library_is_followed_within_it():
    helper = sys.modules["helpers"].scaled
    assert "scale" in {variable.name for variable in Captured(helper).variables}


def test_helpers_beside_the_program_are_noticed(function):
    run, is_library = function
    compiled = nbdl.compile(run)
    x = nbdl.ones(2)
    values = [compiled(x)[0].item()]
    sys.modules["helpers"].scale = 3.0
    values.append(compiled(x)[0].item())
    assert values == [2.0, 2.0 if is_library else 3.0]
