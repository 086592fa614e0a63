"""The table of what the applications reach."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


def test_what_applications_reach(run, tmp_path: Path):
    options = ("--quick", "--backend", "numpy", "--only", "rbf_regression", "--out", str(tmp_path))
    printed = run("applications.py", *options)
    found = json.loads((tmp_path / "applications.json").read_text())["results"]["rbf_regression.py"]
    assert 0 < found["figures"]["error after Levenberg-Marquardt"] < found["figures"]["error at the start"]
    assert not any("seconds" in name for name in found["figures"])
    assert 0 < found["processor_seconds"] < 2 * found["seconds"] * (os.cpu_count() or 1)
    table = (tmp_path / "applications.md").read_text().partition("\n## Figures")[2]
    assert "R2" in table
    assert table in printed + "\n"


def test_an_application_that_fails(module, monkeypatch, tmp_path: Path, capsys):
    program = module("applications")
    arguments = ["--backend", "fortran", "--only", "rbf_regression", "--out", str(tmp_path)]
    assert program.main(arguments) == 1
    line = "failed: exit code 2: rbf_regression.py: error: unknown backend 'fortran'"
    assert line in (tmp_path / "applications.md").read_text()
    with pytest.raises(SystemExit):
        program.main(["--only", "poems"])
    assert "argument --only: unknown program 'poems'; there are char_gpt, " in capsys.readouterr().err
