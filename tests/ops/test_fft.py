"""nbdl.fft: values, lengths, normalisations, derivatives, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl import fft
from nbdl.autograd import gradcheck, gradgradcheck

RNG = np.random.default_rng(9)
REAL = RNG.standard_normal((3, 4, 5))
COMPLEX = REAL + 1j * RNG.standard_normal(REAL.shape)
ONE_AXIS = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
MANY_AXES = (
    "fft2",
    "ifft2",
    "rfft2",
    "irfft2",
    "hfft2",
    "ihfft2",
    "fftn",
    "ifftn",
    "rfftn",
    "irfftn",
    "hfftn",
    "ihfftn",
)
TAKES_REAL = ("rfft", "ihfft")
NORMS = (None, "backward", "ortho", "forward")


def signals(name: str) -> list[np.ndarray]:
    return [REAL] if name.startswith(TAKES_REAL) else [REAL, COMPLEX]


def compare(name: str, x: np.ndarray, **options: Any) -> None:
    """Values, and gradients for random gradients of the result, as PyTorch's."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    mine, twin = nbdl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    found, expected = getattr(fft, name)(mine, **options), getattr(torch.fft, name)(twin, **options)
    expected = expected.resolve_conj()
    assert f"torch.{found.dtype}" == str(expected.dtype)
    tolerance = 1e-12 if x.dtype.itemsize // (1 + (x.dtype.kind == "c")) == 8 else 2e-5
    np.testing.assert_allclose(
        found.detach().numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance
    )
    seed = RNG.standard_normal(found.shape) + (
        1j * RNG.standard_normal(found.shape) if found.is_complex() else 0
    )
    seed = seed.astype(found.dtype)
    found.backward(nbdl.tensor(seed))
    expected.backward(torch.tensor(seed))
    gradient = twin.grad.resolve_conj().numpy()
    assert mine.grad.dtype == x.dtype
    np.testing.assert_allclose(mine.grad.numpy(), gradient, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ONE_AXIS)
def test_one_axis(name: str, norm: str | None) -> None:
    for x in signals(name):
        for n in (None, 1, 2, 3, 6, 7):
            compare(name, x, n=n, dim=-1, norm=norm)
        compare(name, x, n=6, dim=1, norm=norm)


@pytest.mark.torch
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MANY_AXES)
def test_several_axes(name: str, norm: str | None) -> None:
    for x in signals(name):
        compare(name, x, norm=norm)
        compare(name, x, s=(3, 6), norm=norm)
        compare(name, x, s=(2, -1), dim=(0, 2), norm=norm)


@pytest.mark.torch
@pytest.mark.parametrize("name", [*ONE_AXIS, *MANY_AXES])
def test_single_precision_and_integers(name: str) -> None:
    for x in signals(name):
        compare(name, x.astype(np.complex64 if x is COMPLEX else np.float32))
    whole = getattr(fft, name)(nbdl.tensor(np.arange(12).reshape(3, 4)))
    assert whole.dtype in (np.float32, np.complex64)


INVERSES = [
    ("fft", "ifft"),
    ("rfft", "irfft"),
    ("ihfft", "hfft"),
    ("fftn", "ifftn"),
    ("rfft2", "irfft2"),
    ("ihfftn", "hfftn"),
]


@pytest.mark.parametrize(("there", "back"), INVERSES)
@pytest.mark.parametrize("norm", NORMS)
def test_inverses(there: str, back: str, norm: str | None, backend: str) -> None:
    x = nbdl.tensor(REAL)
    options = {} if there in ("fft", "rfft", "ihfft") else {"dim": (0, 2)}
    length = {} if there.startswith("fft") else {"n": 5} if not options else {"s": (3, 5)}
    found = getattr(fft, back)(getattr(fft, there)(x, norm=norm, **options), norm=norm, **length, **options)
    np.testing.assert_allclose(found.real.numpy(), REAL, atol=1e-13)


def pairs(z: Any) -> Any:
    return nbdl.view_as_real(z) if z.is_complex() else z


DERIVATIVES = {
    "fft": lambda x: pairs(fft.fft(x * x, n=3)),
    "ifftn": lambda x: pairs(fft.ifftn(nbdl.complex(x, x * x))),
    "rfft, odd": lambda x: pairs(fft.rfft(x * x, n=5)),
    "rfft2": lambda x: pairs(fft.rfft2(x * x)),
    "irfft": lambda x: fft.irfft(nbdl.complex(x, x * x)),
    "irfft, odd": lambda x: fft.irfft(nbdl.complex(x, x * x), n=5),
    "hfft": lambda x: fft.hfft(nbdl.complex(x, x * x)),
    "power": lambda x: fft.rfft(x).abs().square(),
    "convolution": lambda x: fft.irfft(fft.rfft(x, n=8) * fft.rfft(x.flip(1), n=8), n=8),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives(name: str) -> None:
    x = nbdl.tensor(REAL[0, :2, :4], requires_grad=True)
    gradcheck(DERIVATIVES[name], x, check_forward_ad=True)
    gradgradcheck(DERIVATIVES[name], x, check_fwd_over_rev=True)


@pytest.mark.torch
def test_frequencies_and_shifts() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for n in (1, 2, 5, 6):
        for name in ("fftfreq", "rfftfreq"):
            found, expected = getattr(fft, name)(n, 0.5), getattr(torch.fft, name)(n, 0.5)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found.numpy(), expected.numpy())
    for dim in (None, 0, -1, (0, 2)):
        for name in ("fftshift", "ifftshift"):
            found = getattr(fft, name)(nbdl.tensor(REAL), dim)
            np.testing.assert_array_equal(
                found.numpy(), getattr(torch.fft, name)(torch.tensor(REAL), dim).numpy()
            )


ERRORS = {
    "half": (lambda x: fft.fft(x.to("float16")), RuntimeError, "fft: unsupported dtype float16"),
    "complex": (lambda x: fft.rfft(x * 1j), RuntimeError, "rfft: expects a real input tensor"),
    "norm": (lambda x: fft.fft(x, norm="both"), RuntimeError, "norm must be None, 'backward'"),
    "length": (lambda x: fft.fft(x, n=0), RuntimeError, "Invalid number of data points"),
    "short": (lambda x: fft.irfft(x[:, :1]), RuntimeError, r"Invalid number of data points \(0\)"),
    "axis": (lambda x: fft.fft(x, dim=2), IndexError, "fft: Dimension out of range"),
    "twice": (lambda x: fft.fftn(x, dim=(0, 0)), RuntimeError, "dims must be unique"),
    "lengths": (lambda x: fft.fftn(x, s=(2, 2), dim=(0,)), RuntimeError, "must have the same length"),
    "too many": (lambda x: fft.fftn(x, s=(2, 2, 2)), RuntimeError, "got shape with 3 values"),
    "no tensor": (
        lambda x: fft.fft([1.0]),
        TypeError,
        "argument 'input' \\(position 1\\) must be Tensor, not list",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(REAL[0]))
