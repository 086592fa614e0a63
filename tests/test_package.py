"""The package as installed: what it imports, what it is called, what it reads from the environment."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import run_python

import nbdl
import nbdl.kernels
from nbdl import __main__, config

ROOT = Path(__file__).resolve().parent.parent
PACKAGE_FOLDERS = {"nbdl": ROOT / "nbdl", "nbdl.kernels": ROOT / "kernels"}


def package_sources() -> list[Path]:
    return sorted(path for folder in PACKAGE_FOLDERS.values() for path in folder.rglob("*.py"))


# Imports


@pytest.mark.parametrize("heavy", ["numba", "cupy", "scipy", "nbdl.kernels.cpu", "matplotlib"])
def test_import_is_light(heavy, tmp_path):
    code = f"import sys, nbdl; sys.exit({heavy!r} in sys.modules)"
    result = run_python("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr or f"import nbdl imports {heavy}"


def test_import_prints_nothing(tmp_path):
    result = run_python("-c", "import nbdl", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("absent", ["numba", "cupy"])
def test_import_and_compute_without(absent, tmp_path):
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "import nbdl; print(nbdl.tensor([1.0, 2.0]).sum().item())"
    )
    result = run_python("-c", code, cwd=tmp_path)
    assert result.stdout == "3.0\n", result.stderr


def test_kernels_are_a_part_of_nbdl_only(tmp_path):
    result = run_python("-c", "import nbdl.kernels\nimport kernels", cwd=tmp_path)
    assert "No module named 'kernels'" in result.stderr


# The lowest first; all other packages stand between the last two. Modules beside the packages are no floor.
FLOORS = ("formula", "backend", "autograd", "ops", "", "compiler")
# What `nbdl.autograd` offers on first use: made with operations, and not known to the tape. The registry of
# backends asks which one the thread has set.
FROM_ABOVE = {
    "autograd/checking.py": "ops",
    "autograd/custom.py": "ops",
    "autograd/function.py": "ops",
    "autograd/jacobians.py": "ops",
    "backend/registry.py": "autograd",
}


def floor_of(package: str) -> int:
    return FLOORS.index(package if package in FLOORS else "")


def imported_packages(path: Path) -> set[str]:
    """The packages of nbdl that a module imports when it is imported, not later, nor for type checkers."""
    body = ast.parse(path.read_text()).body
    modules = [node.module for node in body if isinstance(node, ast.ImportFrom) and node.module]
    found = {module.split(".")[1] for module in modules if module.startswith("nbdl.")}
    return {name for name in found if (PACKAGE_FOLDERS["nbdl"] / name).is_dir()} - {"kernels"}


def test_floors_import_from_those_below():
    folder = PACKAGE_FOLDERS["nbdl"]
    upwards = {}
    for path in folder.glob("*/**/*.py"):
        place = path.relative_to(folder)
        for package in imported_packages(path) if place.parts[0] != "kernels" else ():
            if floor_of(package) > floor_of(place.parts[0]):
                upwards[place.as_posix()] = package
    assert upwards == FROM_ABOVE


# Distribution


def test_every_package_is_listed_for_the_build():
    declared = re.search(r"^packages = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M)
    listed = re.findall(r'"([\w.]+)"', declared[1])
    found = [
        ".".join([package, *init.parent.relative_to(folder).parts])
        for package, folder in PACKAGE_FOLDERS.items()
        for init in folder.rglob("__init__.py")
    ]
    assert listed == sorted(found)


def test_every_module_is_in_a_package():
    orphans = [path for path in package_sources() if not (path.parent / "__init__.py").exists()]
    assert orphans == []


def test_kernel_sources_are_installed():
    installed = Path(nbdl.kernels.__file__).parent
    patterns = ("*.py", "*.cu", "*.cuh", "*.h")
    sources = [path.relative_to(ROOT / "kernels") for p in patterns for path in (ROOT / "kernels").rglob(p)]
    assert sources
    assert [path for path in sources if not (installed / path).is_file()] == []


def test_version_heads_the_changelog():
    releases = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert releases[0] == nbdl.__version__


def test_changelog_releases_are_in_order():
    releases = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    numbers = [tuple(map(int, release.split("."))) for release in releases]
    assert numbers == sorted(numbers, reverse=True)


# The environment


def reads_environment(path: Path) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv"))
        or (isinstance(node, ast.alias) and node.name in ("environ", "environb", "getenv", "putenv"))
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_one_file_reads_the_environment():
    readers = [path.relative_to(ROOT).as_posix() for path in package_sources() if reads_environment(path)]
    assert readers == ["nbdl/config.py"]


@pytest.mark.parametrize("name", ["fortran", "numpyy", "gpu"])
def test_unknown_backend_is_named_with_what_is_there(name, tmp_path):
    result = run_python("-c", "import nbdl; nbdl.get_backend()", cwd=tmp_path, NBDL_BACKEND=name)
    assert result.returncode == 1
    assert f"ValueError: NBDL_BACKEND: unknown backend '{name}'" in result.stderr
    for known in ("numpy", "numba", "cupy"):
        assert re.search(rf"^  {known}: (available|missing: .+)$", result.stderr, re.M), result.stderr


@pytest.mark.parametrize("absent", ["numba", "cupy"])
def test_unusable_backend_gives_reason_and_remedy(absent, tmp_path):
    code = f"import sys; sys.modules[{absent!r}] = None\nimport nbdl; nbdl.get_backend()"
    result = run_python("-c", code, cwd=tmp_path, NBDL_BACKEND=absent)
    assert result.returncode == 1
    assert f"RuntimeError: NBDL_BACKEND: backend '{absent}' cannot be used" in result.stderr
    assert re.search(rf"^  {absent}: missing: .+pip install", result.stderr, re.M), result.stderr


@pytest.mark.parametrize("spelling", ["numpy", "NumPy", " numpy "])
def test_backend_names_ignore_case_and_blanks(spelling, monkeypatch):
    monkeypatch.setenv("NBDL_BACKEND", spelling)
    assert config.backend() == "numpy"


BAD_SETTINGS = [
    (config.NUM_THREADS, "0", "1 or more"),
    (config.NUM_THREADS, "-2", "1 or more"),
    (config.NUM_THREADS, "two", "1 or more"),
    (config.NUM_THREADS, "1.5", "1 or more"),
    (config.REQUIRE_GPU, "maybe", "expected one of 1, true, yes, on or 0, false, no, off"),
]


@pytest.mark.parametrize(("flag", "text", "allowed"), BAD_SETTINGS)
def test_bad_setting_names_variable_value_and_allowed(flag, text, allowed, monkeypatch):
    monkeypatch.setenv(flag.variable, text)
    with pytest.raises(ValueError, match=re.escape(allowed)) as raised:
        flag.value
    assert f"{flag.variable}='{text}'" in str(raised.value)


BAD_VALUES = [
    (config.BACKEND, 3, "got int"),
    (config.NUM_THREADS, 0, "1 or more"),
    (config.NUM_THREADS, 2.5, "1 or more"),
    (config.CACHE_DIR, 3, "got int"),
    (config.REQUIRE_GPU, 2, "expected one of"),
]


@pytest.mark.parametrize(("flag", "value", "allowed"), BAD_VALUES)
def test_bad_value_is_refused_and_changes_nothing(flag, value, allowed):
    before = flag.value
    with pytest.raises(ValueError, match=allowed), flag.using(value):
        pass
    with pytest.raises(ValueError, match=allowed):
        flag.set(value)
    assert flag.value == before


def test_settings_are_looked_up_inside_out(monkeypatch):
    monkeypatch.setenv("NBDL_NUM_THREADS", "7")
    assert config.num_threads() == 7
    config.NUM_THREADS.set(5)
    try:
        assert config.num_threads() == 5
        with config.NUM_THREADS.using(3):
            assert config.num_threads() == 3
            with config.NUM_THREADS.using(1):
                assert config.num_threads() == 1
            assert config.num_threads() == 3
        assert config.num_threads() == 5
    finally:
        config.NUM_THREADS.set(None)
    assert config.num_threads() == 7
    monkeypatch.setenv("NBDL_NUM_THREADS", "")
    assert config.num_threads() == config.usable_cores()


@pytest.mark.parametrize("text", ["1", "true", "YES", " on "])
def test_switch_is_on(text, monkeypatch):
    monkeypatch.setenv("NBDL_REQUIRE_GPU", text)
    assert config.require_gpu() is True


@pytest.mark.parametrize("text", ["", "0", "False", "no", "off"])
def test_switch_is_off(text, monkeypatch):
    monkeypatch.setenv("NBDL_REQUIRE_GPU", text)
    assert config.require_gpu() is False


@pytest.mark.parametrize(
    ("content", "quota"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("50000 100000\n", 0.5)]
)
def test_container_quota(content, quota, tmp_path):
    (tmp_path / "cpu.max").write_text(content)
    assert config._container_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (0.5, 1), (1.5, 2), (9.0, 4)])
def test_usable_cores(quota, cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(config, "_container_quota", lambda: quota)
    assert config.usable_cores() == cores


CACHE_FOLDERS = [
    ("linux", {}, ".cache/nbdl"),
    ("linux", {"XDG_CACHE_HOME": "/var/tmp/xdg"}, "/var/tmp/xdg/nbdl"),
    ("linux", {"XDG_CACHE_HOME": "not/absolute"}, ".cache/nbdl"),
    ("darwin", {"XDG_CACHE_HOME": "/var/tmp/xdg"}, "Library/Caches/nbdl"),
    ("win32", {}, "AppData/Local/nbdl/cache"),
    ("win32", {"LOCALAPPDATA": "/var/tmp/local"}, "/var/tmp/local/nbdl/cache"),
    ("linux", {"NBDL_CACHE_DIR": "/var/tmp/mine"}, "/var/tmp/mine"),
    ("linux", {"NBDL_CACHE_DIR": "~/mine"}, "mine"),
]


@pytest.mark.skipif(os.name == "nt", reason="the table's folders are POSIX paths")
@pytest.mark.parametrize(("system", "environment", "folder"), CACHE_FOLDERS)
def test_cache_folder(system, environment, folder, monkeypatch, tmp_path):
    for variable in ("NBDL_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in (environment | {"HOME": str(tmp_path)}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "platform", system)
    assert config.cache_dir() == tmp_path / folder


def test_cache_folder_without_a_home_is_private_and_stays_the_same(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for variable in ("NBDL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    folder = config.cache_dir()
    try:
        assert folder == config.cache_dir()
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        folder.rmdir()
        config._private_temporary_dir.cache_clear()


# The command line


def test_command_line_reports_everything(tmp_path, empty_cache):
    result = run_python("-m", "nbdl", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for expected in (
        f"nbdl {nbdl.__version__}",
        "numpy: available",
        "  numba: ",
        "  cupy: ",
        f"threads: {config.num_threads()} of {config.usable_cores()}",
        "threading layer: ",
        f"folder: {empty_cache}",
        "  size: ",
        f"Python {sys.version.split()[0]}",
    ):
        assert expected in result.stdout


def test_a_folder_called_cupy_is_not_taken_for_the_package(tmp_path):
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("CuPy is installed, and goes before a folder without modules")
    (tmp_path / "cupy").mkdir()
    result = run_python("-m", "nbdl", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "the package cupy is not installed" in result.stdout


def test_cache_size_counts_all_files(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").write_bytes(bytes(1_200_000))
    (tmp_path / "folder" / "b").write_bytes(bytes(34_000))
    assert __main__._size(tmp_path) == "1,234 kB in 2 files"
    assert __main__._size(tmp_path / "missing") == "0 kB in 0 files"


@pytest.mark.parametrize("absent", ["numba", "cupy"])
def test_command_line_explains_what_is_missing(absent, tmp_path):
    code = (
        f"import sys, runpy; sys.modules[{absent!r}] = None; sys.argv = ['nbdl']\n"
        "runpy.run_module('nbdl', run_name='__main__')"
    )
    result = run_python("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"  {absent}: missing: .+\n    remedy: .+", result.stdout), result.stdout


def test_command_line_reports_a_wrong_setting(tmp_path):
    result = run_python("-m", "nbdl", cwd=tmp_path, NBDL_NUM_THREADS="none")
    assert result.returncode == 1
    assert "NBDL_NUM_THREADS='none'" in result.stderr
    assert "Traceback" not in result.stderr


# The documents


def python_below(document: str, heading: str) -> str:
    """The first fenced block of Python below a heading."""
    section = (ROOT / document).read_text().split(f"\n## {heading}\n")[1]
    return section.split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_readme_example(backend, tmp_path):
    code = python_below("README.md", "Automatic differentiation")
    result = run_python("-c", code, cwd=tmp_path, NBDL_BACKEND=backend)
    assert result.returncode == 0, result.stderr
    loss, second = re.fullmatch(r"loss (\S+)\nsecond derivative (\S+)\n", result.stdout).groups()
    assert float(loss) < 0.01
    assert second == "-0.4794"


def test_contributing_example(tmp_path):
    code = python_below("CONTRIBUTING.md", "A pointwise operation")
    code += "x = nbdl.tensor(0.0, requires_grad=True); silu(x).backward(); print(x.grad.item())"
    result = run_python("-c", code, cwd=tmp_path, NBDL_BACKEND="numpy")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "0.5"


def test_readme_lists_every_setting():
    rows = re.findall(r"^\| `(NBDL_\w+)` \|", (ROOT / "README.md").read_text(), re.M)
    flags = [flag.variable for flag in vars(config).values() if isinstance(flag, config.Flag)]
    assert rows == flags


@pytest.mark.parametrize(
    ("threads", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_set_num_threads_refuses_what_is_no_count(threads: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="set_num_threads: threads must be"):
        nbdl.set_num_threads(threads)
