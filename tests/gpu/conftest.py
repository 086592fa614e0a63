"""GPU tests run on a stand-in for CuPy, whose kernels the CPU emulates, and on a device if there is one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from gpu import emulator, fake_cudnn, fake_lt, standin

import nbdl
from nbdl import config, random
from nbdl.backend import registry
from nbdl.backend.cupy import availability, libraries


def _forget_backends() -> None:
    availability.cupy_status.cache_clear()
    registry._status_of.cache_clear()
    registry._loaded.pop("cupy", None)
    for device in [place for place in random._defaults if place.type == "cuda"]:
        del random._defaults[device]  # its state lies in memory of the backend that is gone


@pytest.fixture(scope="module", params=["standin", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """The cupy backend in force, on the stand-in or on a device; gives which."""
    wanted = request.config.getoption("--gpu")
    if wanted not in ("both", request.param):
        pytest.skip(f"--gpu={wanted}")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "standin":
            reason = emulator.missing_reason()
            if reason:
                pytest.skip(reason)
            for name, module in standin.modules().items():
                patch.setitem(sys.modules, name, module)
        _forget_backends()
        state = availability.cupy_status()
        if not state.available:  # the policy of the marker, which cannot judge while the stand-in is in place
            (pytest.fail if config.require_gpu() else pytest.skip)(
                f"backend cupy is missing: {state.reason}; {state.remedy}"
            )
        with nbdl.use_backend("cupy"):
            yield request.param
    _forget_backends()


@pytest.fixture(scope="module")
def products(gpu: str) -> Iterator[None]:
    """cuBLASLt and cuDNN are there."""
    with pytest.MonkeyPatch.context() as patch:
        if gpu == "standin":
            for name, module in {**fake_lt.modules(), "cudnn": fake_cudnn.module()}.items():
                patch.setitem(sys.modules, name, module)
        _forget_libraries()
        yield
    _forget_libraries()


def _forget_libraries() -> None:
    libraries.cublaslt.cache_clear()
    libraries.cudnn.cache_clear()
    registry.load("cupy")._plans.clear()


@pytest.fixture(params=[0, 1, 12345], ids=["forward", "backward", "shuffled"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The order in which emulated threads get their turns."""
    monkeypatch.setattr(emulator.Kernel, "seed", request.param)
    return request.param
