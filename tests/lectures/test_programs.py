"""The lecture programs run in their quick form on both CPU backends, and refuse bad options in one line."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import lecture
import pytest

import nbdl

FOLDER = Path(lecture.__file__).parent
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "lecture")
SIGNATURES = {".png": b"\x89PNG\r\n", ".gif": b"GIF8"}
RULE = re.compile(r"^-{5,}$", re.M)  # what stands under the header of a table


@pytest.mark.parametrize("name", PROGRAMS)
def test_quick_form(name, backend, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib draws: pip install matplotlib")
    dtype = nbdl.get_default_dtype()
    program = importlib.import_module(name)
    assert program.main(["--quick", "--backend", backend, "--out", str(tmp_path)]) == 0
    assert nbdl.get_default_dtype() == dtype
    printed = capsys.readouterr().out
    assert RULE.search(printed)
    assert "nan" not in printed
    pictures = sorted(tmp_path.iterdir())
    assert [str(path) for path in pictures] == sorted(re.findall(r"^picture (\S+)$", printed, re.M))
    for path in pictures:
        assert path.read_bytes().startswith(SIGNATURES[path.suffix])


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_deck_is_named(name):
    assert re.search(r"^Source: .*\b[NDBL]\b", importlib.import_module(name).__doc__, re.M)


def show(lesson: lecture.Lesson) -> None:
    lesson.table("Numbers", ("name", "value"), [("third", 1 / 3), ("many", 1234567), ("t", nbdl.tensor(2.5))])
    lesson.correction("one is not two.")
    lesson.picture("line", lambda figure, y: figure.subplots().plot(y), [1, 2])


def test_what_a_lesson_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert (
        lecture.run(show, "A test.", ["--backend", "numpy", "--seed", "7", "--out", str(tmp_path / "new")])
        == 0
    )
    assert capsys.readouterr().out.splitlines() == [
        "A test. [numpy, seed 7]",
        "",
        "Numbers",
        "name       value",
        "----------------",
        "third     0.3333",
        "many   1,234,567",
        "t            2.5",
        "",
        "The slide corrected: one is not two.",
        "picture line.png: not drawn, since matplotlib is missing: pip install matplotlib",
    ]
    assert list((tmp_path / "new").iterdir()) == []


def test_a_wrong_backend_in_the_environment_is_refused_in_one_line(capsys, monkeypatch):
    """The backend of the process is chosen already, so its message is what is looked at."""

    def get_backend():
        raise ValueError("NBDL_BACKEND: unknown backend 'x'\nBackends here:")

    monkeypatch.setattr(nbdl, "get_backend", get_backend)
    with pytest.raises(SystemExit, match="2"):
        lecture.run(show, "A test.", [])
    assert capsys.readouterr().err.splitlines()[-1].endswith("error: NBDL_BACKEND: unknown backend 'x'")


def test_pictures_that_cannot_be_written_are_refused_in_one_line(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws: pip install matplotlib")
    (tmp_path / "line.png").mkdir()
    with pytest.raises(SystemExit, match=r"line\.png: Is a directory$"):
        lecture.run(show, "A test.", ["--backend", "numpy", "--out", str(tmp_path)])


REFUSALS = [
    (("--backend", "fortran"), "unknown backend 'fortran'; there are numpy, numba, cupy"),
    (("--out", "/nowhere/at/all"), "--out: there is no folder /nowhere/at"),
    (("--out", __file__), "cannot be a folder: File exists"),
    (("--seed", "-1"), "--seed must be in [0, 2^63), got -1"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS)
def test_refusals_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        lecture.run(show, "A test.", list(arguments))
    assert message in capsys.readouterr().err.splitlines()[-1]
