"""Complex tensors: dtypes, values and gradients as PyTorch's, views, printing, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl.autograd import gradcheck, gradgradcheck

Z = np.array([1 + 2j, 3 - 4j, -0.5 + 0.25j, 2j])

# Functions of a complex vector that give real or complex vectors.
FUNCTIONS: dict[str, Any] = {
    "product": lambda lib, z: z * z.conj() + z * (2 - 1j),
    "quotient": lambda lib, z: (z + 1) / (z - 2j),
    "difference": lambda lib, z: 1j - 2 * z,
    "reciprocal": lambda lib, z: 1 / z + z.reciprocal(),
    "power": lambda lib, z: z**3 + z**0.5 + lib.square(z),
    "sqrt": lambda lib, z: z.sqrt() + z.rsqrt(),
    "exp": lambda lib, z: z.exp() + lib.expm1(z) + lib.exp2(z),
    "log": lambda lib, z: z.log() + lib.log1p(z) + lib.log2(z) + lib.log10(z),
    "sin": lambda lib, z: z.sin() * z.cos() + (z / 3).tan(),
    "sinh": lambda lib, z: z.sinh() * z.cosh() + (z / 3).tanh(),
    "inverse": lambda lib, z: z.asin() + z.acos() + z.atan() + z.asinh() + z.acosh() + (z / 9).atanh(),
    "abs": lambda lib, z: z.abs() + lib.abs(z * 1j),
    "angle": lambda lib, z: z.angle(),
    "sgn": lambda lib, z: z.sgn(),
    "parts": lambda lib, z: z.real * z.imag + lib.real(z) * lib.imag(z * z),
    "view": lambda lib, z: lib.view_as_real(z * z),
    "round trip": lambda lib, z: lib.view_as_complex(lib.view_as_real(z) * 2) * z,
    "complex": lambda lib, z: lib.complex(z.real.exp(), z.imag) * z,
    "polar": lambda lib, z: lib.polar(z.real.exp(), z.imag),
    "sum": lambda lib, z: z.sum() * z + z.mean(),
    "prod": lambda lib, z: z.prod() + z.cumprod(0),
    "cumsum": lambda lib, z: z.cumsum(0) * z,
    "matmul": lambda lib, z: z.reshape(2, 2) @ z.reshape(2, 2).mH,
    "dot": lambda lib, z: lib.dot(z, z) + lib.vdot(z, z * 1j),
    "vector": lambda lib, z: z.reshape(2, 2) @ z[:2],
    "adjoint": lambda lib, z: z.reshape(2, 2).H * z.reshape(2, 2).adjoint(),
    "where": lambda lib, z: lib.where(z.real > 0, z, 2 * z),
    "indexing": lambda lib, z: z[[0, 1, 1]] * z[1:],
    "cat": lambda lib, z: lib.cat((z, z.flip(0))) * lib.stack((z, z)).reshape(-1),
    "real times complex": lambda lib, z: z.abs() * z,
    "cast": lambda lib, z: z.real.to(lib.complex128) * z,
    "power of itself": lambda lib, z: z**z + 2**z + lib.pow(z.abs(), z) + lib.float_power(z, 2),
    "sigmoid": lambda lib, z: z.sigmoid() + lib.nn.functional.softsign(z),
    "logsumexp": lambda lib, z: z.reshape(2, 2).logsumexp(1) + z.logsumexp(0),
    "variance": lambda lib, z: lib.complex(z.var(), z.reshape(2, 2).std(1)) * lib.var_mean(z)[1],
    "norms": lambda lib, z: z.norm() + lib.norm(z.reshape(2, 2), "nuc") + z.norm(3),
    "distances": lambda lib, z: (
        lib.nn.functional.pairwise_distance(z.reshape(2, 2), z[:2]) + lib.nn.functional.l1_loss(z, z * 1j)
    ),
    "normalize": lambda lib, z: lib.nn.functional.normalize(z.reshape(2, 2)),
    "rms_norm": lambda lib, z: lib.nn.functional.rms_norm(z, (4,), z.cos()),
    "conv1d": lambda lib, z: lib.nn.functional.conv1d(z.reshape(1, 1, 4), z[:2].reshape(1, 1, 2), z[:1]),
    "conv_transpose1d": lambda lib, z: lib.nn.functional.conv_transpose1d(
        z.reshape(1, 2, 2), z.exp().reshape(2, 1, 2), z[:1], stride=2
    ),
    "istft": lambda lib, z: lib.istft(
        z.expand(3, 4).T, 4, 2, window=z.abs(), onesided=False, return_complex=True
    ),
    "istft of real": lambda lib, z: lib.istft(z.expand(3, 4).T, 4, 2, window=z.abs(), onesided=False),
    "isclose": lambda lib, z: lib.isclose(z, z + 1e-9j) | lib.isclose(z, z * 1.1),
    "isreal": lambda lib, z: lib.isreal(z),
    "equal": lambda lib, z: (z == z) & (z != 1),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_torch(name: str, backend: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    mine, twin = nbdl.tensor(Z, requires_grad=True), torch.tensor(Z, requires_grad=True)
    found = FUNCTIONS[name](nbdl, mine)
    expected = FUNCTIONS[name](torch, twin).resolve_conj()
    assert f"torch.{found.dtype}" == str(expected.dtype)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-13, atol=1e-14)
    if expected.requires_grad:
        weights = np.cos(np.arange(found.numel())).reshape(tuple(found.shape)).astype(found.dtype)
        if found.is_complex():
            weights = weights * (1 - 0.5j)
        found.backward(nbdl.tensor(weights))
        expected.backward(torch.tensor(weights))
        gradient = twin.grad.resolve_conj().numpy()
        np.testing.assert_allclose(mine.grad.numpy(), gradient, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("isclose", "isreal", "equal")])
def test_derivatives_are_differences(name: str) -> None:
    def function(x: Any) -> Any:
        out = FUNCTIONS[name](nbdl, nbdl.view_as_complex(x))
        return nbdl.view_as_real(out) if out.is_complex() else out

    pairs = nbdl.tensor(np.stack([Z.real + 0.1, Z.imag], -1), requires_grad=True)
    gradcheck(function, pairs, check_forward_ad=True)
    gradgradcheck(function, pairs)


def test_power_of_zero() -> None:
    base = nbdl.tensor([0j, 0j, 2], requires_grad=True)
    exponent = nbdl.tensor([1 + 0j, 2 - 1j, 0], requires_grad=True)
    power = base**exponent
    power.real.sum().backward()
    assert power.tolist() == [0, 0, 1]
    assert base.grad.tolist() == [1, 0, 0]
    np.testing.assert_allclose(exponent.grad.numpy(), [0, 0, math.log(2)], rtol=1e-6)


def test_random_numbers() -> None:
    z = nbdl.randn(4000, dtype="complex64")
    assert z.dtype == np.complex64
    assert abs(z.var().item() - 1) < 0.1
    assert abs(z.real.var().item() - 0.5) < 0.05
    u = nbdl.rand_like(nbdl.zeros(2000, dtype="complex128"))
    assert u.dtype == np.complex128
    for part in (u.real, u.imag):
        assert 0 <= part.min().item() < 0.1 < 0.9 < part.max().item() < 1


def test_no_slope_at_the_origin() -> None:
    for function in (nbdl.abs, nbdl.angle, lambda z: nbdl.sgn(z).imag):
        z = nbdl.zeros(1, dtype="complex128", requires_grad=True)
        function(z).sum().backward()
        assert z.grad.tolist() == [0j]


PROMOTIONS = [
    (("float32", 1), 1j, "complex64"),
    (("float64", 1), 1j, "complex128"),
    (("float64", 0), 1j, "complex128"),
    (("int64", 1), 1j, "complex64"),
    (("complex64", 1), 2.0, "complex64"),
    (("complex64", 1), ("float64", 1), "complex128"),
    (("complex64", 1), ("float64", 0), "complex64"),
    (("float64", 1), ("complex64", 0), "complex128"),
    (("float32", 1), ("complex128", 0), "complex64"),
    (("float16", 1), ("complex64", 1), "complex64"),
    (("complex64", 1), ("complex128", 1), "complex128"),
]


@pytest.mark.parametrize(("left", "right", "expected"), PROMOTIONS)
def test_promotion(left: Any, right: Any, expected: str) -> None:
    def operand(entry: Any) -> Any:
        return nbdl.ones([2] * entry[1], dtype=entry[0]) if isinstance(entry, tuple) else entry

    assert nbdl.result_type(operand(left), operand(right)) == expected
    assert (operand(left) * operand(right)).dtype == expected
    assert (operand(right) + operand(left)).dtype == expected


def test_making_and_asking() -> None:
    z = nbdl.tensor([1 + 2j, 3])
    assert z.dtype == np.complex64
    assert z.is_complex() and nbdl.is_complex(z) and not z.is_floating_point()
    assert nbdl.tensor(Z).dtype == np.complex128
    assert nbdl.full((2,), 1j).dtype == np.complex64
    assert z.cdouble().dtype == np.complex128
    assert z.tolist() == [1 + 2j, 3 + 0j]
    assert complex(z[0]) == 1 + 2j
    assert nbdl.zeros(2, dtype=nbdl.cfloat).dtype == np.complex64
    assert z.to(nbdl.float64).tolist() == [1.0, 3.0]
    assert nbdl.tensor([1.0]).real.tolist() == [1.0]
    assert nbdl.tensor([-1.0, 2.0]).angle().tolist() == pytest.approx([math.pi, 0.0])


def test_parts_share_memory() -> None:
    z = nbdl.tensor(Z)
    z.imag.zero_()
    z.real[0] = 7
    assert z.tolist() == [7, 3, -0.5, 0]
    strided = nbdl.tensor(Z.reshape(2, 2)).T
    np.testing.assert_array_equal(nbdl.view_as_real(strided)[..., 1].numpy(), Z.reshape(2, 2).T.imag)


def test_printing() -> None:
    assert repr(nbdl.tensor([1 + 2j, 3 - 0.5j])) == "tensor([1.+2.0000j, 3.-0.5000j])"


ERRORS = {
    "order": (lambda z: z < z, NotImplementedError, "less: not defined for complex numbers, got complex128"),
    "maximum": (
        lambda z: nbdl.maximum(z, z),
        NotImplementedError,
        "maximum: not defined for complex numbers",
    ),
    "max": (lambda z: z.amax(), NotImplementedError, "max: complex numbers have no order"),
    "relu": (lambda z: z.relu(), NotImplementedError, "relu: not defined for complex numbers"),
    "clamp": (lambda z: z.clamp(0, 1), NotImplementedError, "clip: not defined for complex numbers"),
    "floor": (lambda z: z.floor(), NotImplementedError, "floor: not defined for complex numbers"),
    "gradient": (
        lambda z: z.requires_grad_().sum().backward(),
        RuntimeError,
        "grad can be implicitly created only for real scalar outputs",
    ),
    "imag": (lambda z: z.abs().imag, RuntimeError, "imag: is not implemented for tensors with non-complex"),
    "complex": (
        lambda z: nbdl.complex(z.real, z.real.float()),
        RuntimeError,
        "both inputs to be float32 or both",
    ),
    "pairs": (lambda z: nbdl.view_as_complex(z.real), RuntimeError, "the last axis must have length 2"),
    "memory": (
        lambda z: nbdl.view_as_complex(nbdl.ones(2, 3).T),
        RuntimeError,
        "must lie together in memory",
    ),
    "as real": (lambda z: nbdl.view_as_real(z.real), RuntimeError, "only supported for complex tensors"),
    "in place": (lambda z: z.real.mul_(1j), RuntimeError, "can't be cast to the desired output type"),
    "stored": (lambda z: nbdl.tensor(1j, dtype="float32"), TypeError, "cannot be stored as float32"),
    "wide": (
        lambda z: nbdl.zeros(1, dtype=np.clongdouble),
        TypeError,
        "tensors hold bools, integers, floats and",
    ),
    "wide and real": (
        lambda z: nbdl.from_numpy(np.ones(2, np.longdouble)),
        TypeError,
        "tensors hold bools, integers, floats and",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_complex_numbers_do_not_do(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(Z))
