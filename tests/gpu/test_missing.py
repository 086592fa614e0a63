"""What is said where something of the GPU is missing or wrong: one line, with the remedy."""

from __future__ import annotations

import ctypes.util
import logging
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gpu import standin, standin_device

import nbdl
from nbdl.__main__ import _backend_lines
from nbdl.backend import registry
from nbdl.backend.cupy import availability, libraries

DRIVER, RUNTIME = 12080, 12090  # CUDA 12.8, known to the driver; 12.9, for which CuPy is made
MACHINES = {
    "no driver": (
        {"status": 35, "driver": 0},
        "no NVIDIA driver is installed. install the NVIDIA driver (nvidia-smi must find the GPU)",
    ),
    "driver too old for CUDA 13": (
        {"status": 35, "driver": 12040, "runtime": 13000},
        "the NVIDIA driver is too old: it knows CUDA 12.4, and cupy is made for CUDA 13. update the driver "
        "to 580 or later, or pip uninstall cupy-cuda13x and pip install 'nbdl[cuda12]'",
    ),
    "driver too old for both": (
        {"status": 35, "driver": 11080},
        "the NVIDIA driver is too old: it knows CUDA 11.8, and cupy is made for CUDA 12. update the driver "
        "to 525 or later",
    ),
    "wrong CUDA version": (
        {"runtime": 11080, "count": 1},
        "cupy is made for CUDA 11, and nbdl for CUDA 12 and 13. pip uninstall cupy-cuda11x and pip install "
        "'nbdl[cuda12]' (or [cuda13]) on a machine with an NVIDIA GPU",
    ),
    "no device": (
        {"status": 100},
        "there is no CUDA device. run on a machine with an NVIDIA GPU, and let CUDA_VISIBLE_DEVICES name it, "
        "or unset that variable",
    ),
    "none that is visible": (
        {"count": 0},
        "there is no CUDA device. run on a machine with an NVIDIA GPU, and let CUDA_VISIBLE_DEVICES name it, "
        "or unset that variable",
    ),
    "anything else": (
        {"status": 999},
        "no CUDA device answers: cudaErrorSomething: something. install or update the NVIDIA driver",
    ),
}


def state_of(
    monkeypatch: pytest.MonkeyPatch, *, driver: int = DRIVER, runtime: int = RUNTIME, status: int | None =
    None, count: int = 0,
) -> registry.BackendStatus:  # fmt: skip
    """What is found on a machine like this."""
    error = standin_device.CUDARuntimeError

    def device_count() -> int:
        if status is not None:
            raise error("cudaErrorSomething: something", status)
        return count

    module = standin.make_module()
    module.cuda.runtime = types.SimpleNamespace(
        CUDARuntimeError=error,
        getDeviceCount=device_count,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: runtime,
    )
    monkeypatch.setitem(sys.modules, "cupy", module)
    state = availability.cupy_status.__wrapped__()
    assert not state.available
    return state


@pytest.mark.parametrize("name", MACHINES)
def test_machines(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    settings, expected = MACHINES[name]
    state = state_of(monkeypatch, **settings)
    assert f"{state.reason}. {state.remedy}" == expected
    monkeypatch.setattr(availability, "cupy_status", lambda: state)
    with pytest.raises(RuntimeError) as caught:
        nbdl.ones(2, device="cuda")
    assert str(caught.value) == f"device 'cuda' cannot be used: {expected}"


def test_a_broken_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = types.SimpleNamespace(origin="somewhere")
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes the import fail
    state = availability.cupy_status.__wrapped__()
    assert state.reason.startswith("cupy cannot be imported: ")
    assert state.remedy == "pip install 'nbdl[cuda12]' (or [cuda13]) on a machine with an NVIDIA GPU"


LIBRARIES = {
    "nvmath-python": (
        "nvmath.bindings.cublasLt", libraries.cublaslt, lambda: nbdl.ones(2, 3) @ nbdl.ones(3, 2),
        "products are CuPy's, which a CUDA graph cannot hold",
    ),
    "nvidia-cudnn-frontend": (
        "cudnn", libraries.cudnn,
        lambda: nbdl.nn.functional.conv1d(nbdl.ones(1, 1, 4), nbdl.ones(1, 1, 2)),
        "convolutions are products of copied windows, norms and attention own kernels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("problem", [ImportError, RuntimeError, OSError])
@pytest.mark.parametrize("package", LIBRARIES)
def test_libraries(
    gpu: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    package: str,
    problem: type[Exception],
) -> None:
    """Not installed, or the library behind it is not found: told once, and the work is done all the same."""
    module, cached, work, consequence = LIBRARIES[package]

    def find(name: str, load: Callable[[str], object] = libraries.importlib.import_module) -> object:
        if name == module:
            raise problem("libsomething.so.9:\n cannot open shared object file")
        return load(name)

    monkeypatch.setattr(libraries, "importlib", types.SimpleNamespace(import_module=find))
    cached.cache_clear()
    with caplog.at_level(logging.INFO, "nbdl"):
        for _ in range(2):
            work()
    expected = (
        f"{package} cannot be used: libsomething.so.9: cannot open shared object file. So {consequence}; "
        f"pip install 'nbdl[cuda{availability.cuda_major(sys.modules['cupy'].cuda.runtime)}]' brings it"
    )
    assert [text for text in caplog.messages if "cannot be used" in text and package in text] == [expected]
    assert expected in libraries.report()
    assert f"    {expected}" in _backend_lines(availability.cupy_status())
    cached.cache_clear()


@pytest.mark.parametrize(
    ("steps", "code", "expected"),
    [
        ("tests", 1, "no GPU here: "),
        ("everything", 2, "STEPS: report, tests, throughput and training are the steps, not everything"),
    ],
)
def test_the_script_for_a_device(steps: str, code: int, expected: str) -> None:
    """It says in one line why it cannot run, before it fetches anything."""
    if code == 1 and ctypes.util.find_library("cuda"):
        pytest.skip("there is a driver")
    script = Path(__file__).parents[2] / ".ci" / "gpu"
    settings = {**os.environ, "PYTHON": sys.executable, "STEPS": steps}
    done = subprocess.run([script], env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1


_SAME_DEVICE = "expected all tensors to be on the same device, but found at least two devices"
MISTAKES = {
    "no such device": (lambda: nbdl.ones(2, device="cuda:7"), "device 'cuda:7' does not exist: there "),
    "no such device to move to": (
        lambda: nbdl.ones(2).to("cuda:7"),
        "device 'cuda:7' does not exist: there ",
    ),
    "a CPU tensor beside": (
        lambda: nbdl.ones(2, device="cuda") + nbdl.ones(2, device="cpu"),
        f"add: {_SAME_DEVICE}: cpu and cuda:0",
    ),
    "a weight on the CPU": (
        lambda: nbdl.nn.functional.linear(nbdl.ones(2, 3, device="cuda"), nbdl.ones(4, 3, device="cpu")),
        f"linear: {_SAME_DEVICE}: cpu and cuda:0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_devices(gpu: str, name: str) -> None:
    mistake, expected = MISTAKES[name]
    with pytest.raises(RuntimeError) as caught:
        mistake()
    assert str(caught.value).startswith(expected)


def test_two_gpus(gpu: str) -> None:
    if nbdl.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    first, second = (nbdl.ones(2, device=f"cuda:{k}") for k in range(2))
    with pytest.raises(RuntimeError, match="but found at least two devices: cuda:0 and cuda:1"):
        first + second
    last = nbdl.cuda.device_count() - 1
    with pytest.raises(RuntimeError, match=f"there are {last + 1} CUDA devices, cuda:0 to cuda:{last}"):
        nbdl.ones(2, device="cuda:99")
    np.testing.assert_array_equal((first + second.to("cuda:0")).cpu().numpy(), [2, 2])


@pytest.mark.parametrize("major", sorted(availability._FIRST_DRIVERS))
def test_an_extra_is_of_one_cuda_version(major: int) -> None:
    """What a remedy names exists, and brings packages of that version only."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 has it")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["project"]["optional-dependencies"][f"cuda{major}"]
    assert any(package.startswith(f"cupy-cuda{major}x[ctk]") for package in packages)
    assert any(package.startswith(f"nvidia-cudnn-cu{major}") for package in packages)
    (bindings,) = [package for package in packages if package.startswith("cuda-bindings")]
    assert bindings.startswith(f"cuda-bindings>={major}.")
    assert bindings.endswith(f"<{major + 1}")
    others = {str(other) for other in availability._FIRST_DRIVERS if other != major}
    assert not [package for package in packages for other in others if f"cu{other}" in package]
    names = [package.split("=")[0].rstrip(">") for package in packages]
    assert set(LIBRARIES) <= set(names)
