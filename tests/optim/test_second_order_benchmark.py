"""The programs that compare second-order methods: do they run, and write what they promise?"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples" / "benchmarks" / "second_order.py"


def test_it_writes_its_report(tmp_path):
    pytest.importorskip("scipy.optimize")
    command = [
        sys.executable,
        str(PROGRAM),
        "--methods",
        "bfgs,levenberg-marquardt,l-bfgs-b,levenberg-marquardt-b",
        "--problems",
        "Beale,Wood,HS 2,HS 110",
        "--plot",
        str(tmp_path / "plot.png"),
    ]
    pytest.importorskip("matplotlib")
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "second_order.json").read_text())["results"]
    assert {method: set(found) for method, found in results.items()} == {
        "bfgs": {"Beale", "Wood"},
        "levenberg-marquardt": {"Beale", "Wood"},
        "l-bfgs-b": {"HS 2", "HS 110"},
        "levenberg-marquardt-b": {"HS 2"},
    }
    text = (tmp_path / "second_order.md").read_text()
    assert "| bfgs" in text
    assert "| monkey saddle at 0 " in text
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_claims_that_do_not_hold_are_told(monkeypatch, capsys, tmp_path):
    pytest.importorskip("scipy.optimize")
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    # By its path: a lecture has the same name.
    spec = importlib.util.spec_from_file_location("second_order_benchmark", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    arguments = ["--methods", "bfgs", "--problems", "Beale,Wood", "--out", str(tmp_path)]
    for name, value, said in (
        ("MEDIAN_RATIO", 0.1, "bfgs: median ratio"),
        ("LARGEST_RATIO", 0.1, "bfgs: largest ratio"),
        ("run_nbdl", lambda *_: module.Run(1.0, 1, ""), "bfgs: did not reach the minimum of Beale, Wood"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert module.main(arguments) == 1
        assert said in capsys.readouterr().err
    assert module.main(arguments) == 0


def test_unknown_names_are_told():
    for option in ("--methods", "--problems"):
        done = subprocess.run(
            [sys.executable, str(PROGRAM), option, "nothing"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 2
        assert "there are" in done.stderr


@pytest.mark.parametrize(
    ("name", "options", "entries", "text"),
    [
        (
            "digits_optimizers",
            ["--methods", "adam,gauss-newton/cg,k-fac", "--seconds", "0.05"],
            {"adam", "gauss-newton/cg", "k-fac"},
            "| k-fac ",
        ),
        (
            "curvature_products",
            ["--models", "small mlp", "--repeats", "1"],
            {"small mlp"},
            "| Hessian, forward over reverse ",
        ),
    ],
    ids=["digits", "products"],
)
def test_the_other_programs(name, options, entries, text, tmp_path):
    if name == "digits_optimizers":
        pytest.importorskip("sklearn")
    command = [sys.executable, str(PROGRAM.with_name(f"{name}.py")), *options, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(json.loads((tmp_path / f"{name}.json").read_text())["results"]) == entries
    assert text in (tmp_path / f"{name}.md").read_text()


def test_the_document_runs():
    blocks = (ROOT / "docs" / "second_order.md").read_text().split("```python\n")[1:]
    names: dict = {}
    for block in blocks:
        exec(block.split("```")[0], names)
    assert names["step"].shape == names["preconditioned"].x.shape == (names["risk"].layout.size,)
    assert names["loss"].item() < names["risk"].loss(names["risk"].model(names["x"]) * 0, names["y"]).item()
