"""nbdl.special: values as PyTorch's and SciPy's, derivatives, extreme arguments, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.special

import nbdl
from nbdl import special
from nbdl.autograd import gradcheck, gradgradcheck

X = np.array([-2.3, -0.7, 0.4, 1.1, 3.2])
POSITIVE = np.array([0.3, 0.9, 1.7, 2.6, 4.5])
PLACES = np.array([-0.8, -0.25, 0.0, 0.6, 0.95])

# name: (operands, the function of SciPy, whether PyTorch has the derivative)
VALUES: dict[str, tuple[tuple[Any, ...], Any, bool]] = {
    "airy_ai": ((X,), lambda x: scipy.special.airy(x)[0], False),
    "bessel_j0": ((X,), scipy.special.j0, False),
    "bessel_j1": ((X,), scipy.special.j1, False),
    "bessel_y0": ((POSITIVE,), scipy.special.y0, False),
    "bessel_y1": ((POSITIVE,), scipy.special.y1, False),
    "digamma": ((POSITIVE,), scipy.special.psi, True),
    "entr": ((POSITIVE,), scipy.special.entr, True),
    "erf": ((X,), scipy.special.erf, True),
    "erfc": ((X,), scipy.special.erfc, True),
    "erfcx": ((X,), scipy.special.erfcx, True),
    "erfinv": ((PLACES,), scipy.special.erfinv, True),
    "exp2": ((X,), np.exp2, True),
    "expit": ((X,), scipy.special.expit, True),
    "expm1": ((X,), np.expm1, True),
    "gammainc": ((POSITIVE[:, None] + 0.1, POSITIVE), scipy.special.gammainc, False),
    "gammaincc": ((POSITIVE[:, None] + 0.1, POSITIVE), scipy.special.gammaincc, False),
    "gammaln": ((POSITIVE,), scipy.special.gammaln, True),
    "i0": ((X,), scipy.special.i0, True),
    "i0e": ((X,), scipy.special.i0e, True),
    "i1": ((X,), scipy.special.i1, True),
    "i1e": ((X,), scipy.special.i1e, True),
    "log1p": ((POSITIVE,), np.log1p, True),
    "log_ndtr": ((X,), scipy.special.log_ndtr, True),
    "logit": ((PLACES / 3 + 0.5,), scipy.special.logit, True),
    "modified_bessel_i0": ((X,), scipy.special.i0, False),
    "modified_bessel_i1": ((X,), scipy.special.i1, False),
    "modified_bessel_k0": ((POSITIVE,), scipy.special.k0, False),
    "modified_bessel_k1": ((POSITIVE,), scipy.special.k1, False),
    "multigammaln": ((POSITIVE + 1, 3), scipy.special.multigammaln, True),
    "ndtr": ((X,), scipy.special.ndtr, True),
    "ndtri": ((PLACES / 3 + 0.5,), scipy.special.ndtri, True),
    "psi": ((POSITIVE,), scipy.special.psi, True),
    "scaled_modified_bessel_k0": ((POSITIVE,), scipy.special.k0e, False),
    "scaled_modified_bessel_k1": ((POSITIVE,), scipy.special.k1e, False),
    "sinc": ((X,), np.sinc, True),
    "spherical_bessel_j0": ((X,), lambda x: scipy.special.spherical_jn(0, x), False),
    "xlog1py": ((X, POSITIVE), scipy.special.xlog1py, True),
    "xlogy": ((X, POSITIVE), scipy.special.xlogy, True),
    "zeta": ((POSITIVE[:, None] + 1.5, POSITIVE), scipy.special.zeta, False),
    "polygamma": ((2, POSITIVE), scipy.special.polygamma, False),
}
DEGREES = np.array([0, 1, 2, 3, 5, 9])
FAMILIES = {
    "chebyshev_polynomial_t": scipy.special.eval_chebyt,
    "chebyshev_polynomial_u": scipy.special.eval_chebyu,
    "chebyshev_polynomial_v": None,
    "chebyshev_polynomial_w": None,
    "hermite_polynomial_h": scipy.special.eval_hermite,
    "hermite_polynomial_he": scipy.special.eval_hermitenorm,
    "laguerre_polynomial_l": scipy.special.eval_laguerre,
    "legendre_polynomial_p": scipy.special.eval_legendre,
    "shifted_chebyshev_polynomial_t": scipy.special.eval_sh_chebyt,
    "shifted_chebyshev_polynomial_u": scipy.special.eval_sh_chebyu,
    "shifted_chebyshev_polynomial_v": None,
    "shifted_chebyshev_polynomial_w": None,
}
# The operands by which there is a derivative, where that is not all of them.
DIFFERENTIATED = {"zeta": (1,)}

# How many digits PyTorch's values have where they are not right to float64's precision.
TORCH_TOLERANCE = {
    "airy_ai": 1e-4, "bessel_j0": 1e-9, "bessel_j1": 1e-9, "bessel_y0": 1e-7, "bessel_y1": 1e-7,
    "digamma": 1e-8, "polygamma": 1e-8, "psi": 1e-8,
}  # fmt: skip


def operands(name: str, dtype: Any = np.float64) -> list[Any]:
    made = []
    for k, value in enumerate(VALUES[name][0]):
        if isinstance(value, np.ndarray):
            wanted = k in DIFFERENTIATED.get(name, (0, 1))
            value = nbdl.tensor(value.astype(dtype), requires_grad=wanted)
        made.append(value)
    return made


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str, backend: str) -> None:
    arguments, reference, _ = VALUES[name]
    found = getattr(special, name)(*operands(name)).detach().numpy()
    np.testing.assert_allclose(found, reference(*arguments), rtol=2e-13, atol=1e-15)
    single = getattr(special, name)(*operands(name, np.float32)).detach()
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.numpy(), reference(*arguments), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", VALUES)
def test_derivatives(name: str) -> None:
    values = operands(name)
    gradcheck(getattr(special, name), values, check_forward_ad=True, rtol=1e-5, atol=1e-7)
    gradgradcheck(getattr(special, name), values, rtol=1e-4, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("name", VALUES)
def test_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arguments, _, has_derivative = VALUES[name]
    mine = operands(name)
    twins = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in arguments]
    if has_derivative:
        for twin in twins:
            if isinstance(twin, torch.Tensor):
                twin.requires_grad_()
    found, expected = getattr(special, name)(*mine), getattr(torch.special, name)(*twins)
    tolerance = TORCH_TOLERANCE.get(name, 1e-11)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=1e-14)
    if has_derivative:
        found.sum().backward()
        expected.sum().backward()
        for a, b in zip(mine, twins, strict=True):
            if isinstance(a, nbdl.Tensor):
                np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=10 * tolerance, atol=1e-13)


@pytest.mark.parametrize("name", FAMILIES)
def test_polynomials(name: str, backend: str) -> None:
    function, reference = getattr(special, name), FAMILIES[name]
    x = nbdl.tensor(PLACES, requires_grad=True)
    found = function(x, nbdl.tensor(DEGREES[:, None]))
    assert found.dtype == np.float64
    if reference is not None:
        np.testing.assert_allclose(
            found.detach().numpy(), reference(DEGREES[:, None], PLACES), rtol=1e-11, atol=1e-13
        )
    gradcheck(lambda x: function(x, nbdl.tensor(DEGREES[:, None])), x, check_forward_ad=True)
    gradgradcheck(lambda x: function(x, 4), x)
    ends = nbdl.tensor(
        [-1.0, 0.0, 1.0], dtype="float64", requires_grad=True
    )  # where quotients would be 0 / 0
    gradcheck(lambda x: function(x, 5), ends)
    assert function(x.detach(), -1).tolist() == [0.0] * 5
    assert function(2, nbdl.tensor([3.0])).shape == (1,)


@pytest.mark.torch
@pytest.mark.parametrize("name", FAMILIES)
def test_polynomials_against_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for n in (-2, 0, 1, 4, 8):
        found = getattr(special, name)(nbdl.tensor(PLACES), n)
        expected = getattr(torch.special, name)(torch.tensor(PLACES), n)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-11, atol=1e-13)


def test_extreme_arguments() -> None:
    big = nbdl.tensor([-1e3, -40.0, 40.0], dtype="float64", requires_grad=True)
    y = special.log_ndtr(big)
    np.testing.assert_allclose(y.detach().numpy(), scipy.special.log_ndtr([-1e3, -40.0, 40.0]), rtol=1e-14)
    y.sum().backward()
    np.testing.assert_allclose(big.grad.numpy()[:2], [1000.001, 40.0249688], rtol=1e-6)
    zero = nbdl.zeros(1, dtype="float64", requires_grad=True)
    for function, slope in (
        (special.i1, 0.5),
        (special.bessel_j1, 0.5),
        (special.i0e, 0.0),
        (special.i1e, 0.5),
    ):
        (grad,) = nbdl.autograd.grad(function(zero), zero)
        assert grad.item() == slope
    assert special.entr(nbdl.tensor([-1.0, 0.0, math.nan])).tolist()[:2] == [-math.inf, 0]
    assert math.isnan(special.entr(nbdl.tensor(math.nan)).item())
    assert special.ndtr(nbdl.tensor(-30.0, dtype="float64")).item() == pytest.approx(
        4.906713927e-198, rel=1e-9
    )


def test_half_precision_and_integers() -> None:
    x = nbdl.tensor([0.5, 1.5], dtype="float16")
    assert special.i0(x).dtype == np.float16
    np.testing.assert_allclose(special.i0(x).numpy(), scipy.special.i0([0.5, 1.5]), rtol=1e-3)
    assert special.i0(nbdl.tensor([1, 2])).dtype == np.float32
    assert special.legendre_polynomial_p(nbdl.tensor([1, 2]), 2).tolist() == [1.0, 5.5]


ERRORS = {
    "derivative": (
        lambda x: special.zeta(x.requires_grad_(), 1.0).sum().backward(),
        RuntimeError,
        "zeta: the derivative with respect to argument 1 is not implemented",
    ),
    "complex": (lambda x: special.i0(x * 1j), NotImplementedError, "i0: not defined for complex numbers"),
    "no tensor": (lambda x: special.i0(1.0), TypeError, "must be Tensor, not float"),
    "dimension": (
        lambda x: special.multigammaln(x, 0),
        RuntimeError,
        "p has to be greater than or equal to 1",
    ),
    "shapes": (lambda x: special.zeta(x, nbdl.ones(3)), RuntimeError, "zeta: shapes .* cannot be broadcast"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor([1.0, 2.0]))
