"""Complex parameters of second-order optimizers: pairs of real ones, PyTorch's trajectory of L-BFGS."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import nbdl
from nbdl import optim

TARGET = np.array([0.3 - 1j, 1 + 1j, -0.2 + 0j])
START = np.array([1 + 2j, -0.5 + 0.3j, 2 - 1j])
REAL = np.array([[0.4, -1.0]])
OF_HESSIANS = {"Newton", "NewtonCG", "SaddleFreeNewton", "TrustRegion", "ARC"}
OPTIMIZERS = [
    ("LBFGS", {"line_search_fn": "strong_wolfe"}), ("BFGS", {}), ("NonlinearCG", {}), ("Newton", {}),
    ("NewtonCG", {}), ("SaddleFreeNewton", {}), ("SaddleFreeNewton", {"subspace": 4}), ("ARC", {}),
    *[("TrustRegion", {"subproblem": name}) for name in ("steihaug", "gltr", "dogleg", "exact")],
]  # fmt: skip


def residuals(package, z, w):
    """Of a complex and a real tensor; complex."""
    return (z - package.tensor(TARGET)) * (2 + w.sum() ** 2)


def trained(package, make, steps, swap=None, dtype=np.complex128):
    """The parameters after each step, as real numbers; in the middle ``swap`` gives another optimizer."""
    z = package.tensor(START.astype(dtype), requires_grad=True)
    w = package.tensor(REAL.astype(np.zeros((), dtype).real.dtype), requires_grad=True)
    optimizer = make([z, w])
    way = []

    def closure():
        optimizer.zero_grad()
        r = residuals(package, z, w)
        loss = (r * r.conj()).real.sum() + (w**2).sum() + 0.1 * (z.imag**4).sum()
        loss.backward()
        return loss

    for step in range(steps):
        if step == steps // 2 and swap is not None:
            optimizer = swap(optimizer, [z, w])
        optimizer.step(closure)
        parts = package.view_as_real(z.detach()).reshape(-1), w.detach().reshape(-1)
        way.append(np.concatenate([part.numpy() for part in parts]))
    return np.array(way)


@pytest.mark.torch
@pytest.mark.parametrize(
    "options", [{"lr": 0.05, "max_iter": 3}, {"line_search_fn": "strong_wolfe", "max_iter": 4}], ids=str
)
def test_same_trajectory_as_torch(options, backend):
    import torch

    def resumed(old, params):
        new = optim.LBFGS(params, **options)
        new.load_state_dict(copy.deepcopy(old.state_dict()))
        return new

    theirs = trained(torch, lambda params: torch.optim.LBFGS(params, **options), 10)
    for swap in (None, resumed):
        mine = trained(nbdl, lambda params: optim.LBFGS(params, **options), 10, swap)
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-9)


def test_single_precision():
    way = trained(
        nbdl, lambda params: optim.LBFGS(params, line_search_fn="strong_wolfe"), 3, None, np.complex64
    )
    assert way.dtype == np.float32
    np.testing.assert_allclose(way[-1], [*TARGET.view(float)[:2], *way[-1][2:]], atol=0.2)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_pairs_of_real_numbers_take_the_same_way(name, options):
    ends = []
    for is_complex in (True, False):
        start = START if is_complex else START.view(float).reshape(-1, 2)
        z, w = nbdl.tensor(start, requires_grad=True), nbdl.tensor(REAL, requires_grad=True)
        optimizer = getattr(optim, name)([z, w], max_iter=4, **options)

        def closure(z=z, w=w, is_complex=is_complex, optimizer=optimizer):
            optimizer.zero_grad()
            r = residuals(nbdl, z if is_complex else nbdl.view_as_complex(z), w)
            loss = (r * r.conj()).real.sum() + (w**2).sum()
            if name not in OF_HESSIANS:
                loss.backward()
            return loss

        optimizer.step(closure)
        end = nbdl.view_as_real(z.detach()) if is_complex else z.detach()
        ends.append(np.r_[end.numpy().ravel(), w.detach().numpy().ravel(), optimizer.result.fun])
        assert optimizer.result.nit >= 2
    np.testing.assert_allclose(*ends, rtol=1e-9)


@pytest.mark.parametrize("name", ["LevenbergMarquardt", "GaussNewton"])
def test_complex_parameters_of_residuals(name):
    z, w = nbdl.tensor(START, requires_grad=True), nbdl.tensor(REAL, requires_grad=True)
    optimizer = getattr(optim, name)([z, w], max_iter=30)
    optimizer.step(lambda: nbdl.cat([nbdl.view_as_real(residuals(nbdl, z, w)).reshape(-1), w.reshape(-1)]))
    assert optimizer.result.success
    np.testing.assert_allclose(z.detach().numpy(), TARGET, atol=1e-6)


def test_a_compiled_closure():
    def run(compiled):
        z = nbdl.tensor(START, requires_grad=True)
        optimizer = optim.LBFGS([z], line_search_fn="strong_wolfe", max_iter=5)

        def closure():
            optimizer.zero_grad()
            loss = ((z - nbdl.tensor(TARGET)).abs() ** 2).sum() + (z.imag**4).sum()
            loss.backward()
            return loss

        optimizer.step(nbdl.compile(closure) if compiled else closure)
        return z.detach().numpy()

    np.testing.assert_allclose(run(True), run(False), rtol=1e-9)


def test_parts_of_other_precision_are_an_error():
    params = [nbdl.tensor(START, requires_grad=True), nbdl.ones(2, requires_grad=True)]
    with pytest.raises(RuntimeError, match="BFGS: expected all parameters to have the same dtype"):
        optim.BFGS(params)
    with pytest.raises(TypeError, match=r"LBFGSB: .* floating tensors, but one has dtype complex128"):
        optim.LBFGSB(params)
