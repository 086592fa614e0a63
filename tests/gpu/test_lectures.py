"""The lecture programs compute on a GPU: all on a device, the short ones where the CPU emulates it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import lecture
import pytest

PROGRAMS = sorted(path.stem for path in Path(lecture.__file__).parent.glob("*.py") if path.stem != "lecture")
SHORT = {"autodiff", "backward_pass", "derivatives", "gradient_checking", "losses", "networks"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_quick_form(gpu, name, tmp_path, capsys):
    if gpu == "standin" and name not in SHORT:
        pytest.skip("takes long where the CPU emulates the GPU")
    program = importlib.import_module(name)
    assert program.main(["--quick", "--backend", "cupy", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^-{5,}$", printed, re.M)  # a table
    assert "nan" not in printed
