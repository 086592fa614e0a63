"""nbdl.linalg: values, first and second derivatives, batches, dtypes, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from linalg_cases import CASES, MANY, PAIR, RNG, SINGULAR, WITHOUT_TWIN, A, B

import nbdl
from nbdl import linalg


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str, check_op: Any) -> None:
    function, *arrays = CASES[name]
    check_op(function, *arrays, twin=name not in WITHOUT_TWIN)


@pytest.mark.parametrize(
    "name", ["cholesky", "solve, batch", "det", "eigh", "svd, tall", "qr, tall", "lu, wide"]
)
def test_on_every_backend(name: str, check_op: Any, backend: str) -> None:
    function, *arrays = CASES[name]
    check_op(function, *arrays, orders=1)


@pytest.mark.parametrize("name", CASES)
def test_single_precision(name: str) -> None:
    function, *arrays = CASES[name]
    if "float64" in function.__code__.co_names:
        pytest.skip("the case is written in double precision")
    single = function(nbdl, *[nbdl.tensor(x.astype(np.float32)) for x in arrays])
    double = function(nbdl, *[nbdl.tensor(x.astype(np.float32).astype(np.float64)) for x in arrays])
    one, two = ([y] if isinstance(y, nbdl.Tensor) else list(y) for y in (single, double))
    for a, b in zip(one, two, strict=True):
        expected = {"float64": "float32", "complex128": "complex64"}.get(b.dtype.name, b.dtype.name)
        assert a.dtype.name == expected
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-3, atol=2e-3)


def test_determinant_of_a_singular_matrix() -> None:
    x = nbdl.tensor(SINGULAR, requires_grad=True)
    y = nbdl.linalg.det(x)
    y.backward()
    cofactors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(SINGULAR, i, 0), j, 1)) for j in range(3)]
        for i in range(3)
    ]
    assert abs(y.item()) < 1e-14
    np.testing.assert_allclose(x.grad.numpy(), cofactors, atol=1e-13)
    nbdl.autograd.gradcheck(nbdl.linalg.det, nbdl.zeros(2, 2, dtype="float64", requires_grad=True))


def test_information_instead_of_errors() -> None:
    batch = nbdl.tensor(np.stack([np.eye(3), SINGULAR, -np.eye(3)]))
    factor, info = linalg.cholesky_ex(batch)
    assert info.dtype == np.int32
    assert info.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(factor[0].numpy(), np.eye(3))
    singular = nbdl.tensor(np.stack([np.eye(3), np.diag([1.0, 0.0, 2.0])]))
    inverse, info = linalg.inv_ex(singular)
    assert info.tolist() == [0, 2]
    np.testing.assert_array_equal(inverse[0].numpy(), np.eye(3))
    solution, info = linalg.solve_ex(singular, nbdl.ones(3, 1, dtype="float64"))
    assert info.tolist() == [0, 2]
    assert solution[0].flatten().tolist() == [1, 1, 1]
    assert linalg.lu_factor_ex(singular).info.tolist() == [0, 2]
    sign, logarithm = linalg.slogdet(singular)
    assert (sign.tolist(), logarithm.tolist()) == ([1, 0], [0, -math.inf])


def test_ranks_and_conditions() -> None:
    x = nbdl.tensor(np.stack([SINGULAR, A, np.zeros((3, 3))]))
    assert linalg.matrix_rank(x).tolist() == [2, 3, 0]
    assert linalg.matrix_rank(x, atol=100).tolist() == [0, 0, 0]
    assert linalg.matrix_rank(x[0] + x[0].mT, hermitian=True).item() == 3
    assert linalg.cond(nbdl.tensor(np.diag([1.0, 0.0])), 1).item() == math.inf
    assert linalg.pinv(x[2]).abs().sum().item() == 0


def test_least_squares_outputs() -> None:
    a, b = nbdl.tensor(MANY), nbdl.tensor(RNG.standard_normal((2, 4, 2)))
    solution, residuals, rank, values = linalg.lstsq(a, b, driver="gelss")
    assert linalg.lstsq(a, b).residuals.numel() == 0
    np.testing.assert_allclose(residuals.numpy(), ((a @ solution - b) ** 2).sum(-2).numpy())
    assert rank.tolist() == [3, 3]
    np.testing.assert_allclose(values.numpy(), linalg.svdvals(a).numpy(), rtol=1e-12)
    deficient = linalg.lstsq(nbdl.tensor(SINGULAR), nbdl.tensor(B), driver="gelsd")
    assert deficient.rank.item() == 2
    assert deficient.residuals.numel() == 0
    np.testing.assert_allclose(deficient.solution.numpy(), np.linalg.pinv(SINGULAR) @ B, atol=1e-13)


# Results without elements, or without slope: a backward pass goes through them all the same.
CONSTANTS: dict[str, Any] = {
    "gather": lambda lib, x: x.gather(0, lib.zeros(0, 3, dtype=lib.int64)),
    "gather, other rank": lambda lib, x: x.gather(0, lib.zeros(0, dtype=lib.int64)),
    "sort": lambda lib, x: x[:0].sort().values,
    "power": lambda lib, x: lib.linalg.matrix_power(x, 0),
    "powers": lambda lib, x: lib.linalg.matrix_power(x.expand(2, 3, 3), 0),
    "residuals": lambda lib, x: lib.linalg.lstsq(x, x).residuals,
    "residuals, wide": lambda lib, x: lib.linalg.lstsq(x[:2], x[:2], driver="gelsd").residuals,
    "lu_solve": lambda lib, x: lib.linalg.lu_solve(*lib.linalg.lu_factor(x), x[:0], left=False),
    "pdist": lambda lib, x: lib.nn.functional.pdist(x, 0.0),
    "norm": lambda lib, x: lib.linalg.vector_norm(x, 0),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_have_a_history(name: str, backend: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, twin = nbdl.tensor(PAIR[0], requires_grad=True), torch.tensor(PAIR[0], requires_grad=True)
    found, expected = CONSTANTS[name](nbdl, x), CONSTANTS[name](torch, twin)
    assert tuple(found.shape) == tuple(expected.shape)
    np.testing.assert_array_equal(found.detach().numpy(), expected.detach().numpy())
    assert found.requires_grad and expected.requires_grad
    found.sum().backward()
    assert x.grad.tolist() == np.zeros((3, 3)).tolist()


@pytest.mark.torch
@pytest.mark.parametrize("is_hermitian", [False, True])
def test_symmetric_factors(is_hermitian: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    z = PAIR[0] + 1j * PAIR[1]
    z = (z + z.conj().T if is_hermitian else z + z.T) - 4 * np.eye(3)
    b = PAIR[0][:, :2] + 0j
    for a, c in ((z, b), (z.real, b.real)):
        packed, pivots = linalg.ldl_factor(nbdl.tensor(a), hermitian=is_hermitian)
        expected = torch.linalg.ldl_factor(torch.tensor(a), hermitian=is_hermitian)
        np.testing.assert_allclose(packed.numpy(), expected[0].numpy(), rtol=1e-12)
        assert pivots.tolist() == expected[1].tolist()
        solution = linalg.ldl_solve(packed, pivots, nbdl.tensor(c), hermitian=is_hermitian)
        np.testing.assert_allclose(a @ solution.numpy(), c, atol=1e-12)
    assert linalg.ldl_factor_ex(nbdl.zeros(2, 2)).info.item() == 1


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)])
def test_no_elements(shape: tuple[int, ...]) -> None:
    x = nbdl.zeros(shape, dtype="float64", requires_grad=True)
    for function in (linalg.inv, linalg.cholesky, linalg.matrix_exp, linalg.svdvals, linalg.eigvalsh):
        y = function(x)
        assert tuple(y.shape[:-1]) == shape[:-1] if y.ndim == len(shape) else shape[:-1]
    assert linalg.det(x).tolist() == np.linalg.det(np.zeros(shape)).tolist()
    assert tuple(linalg.solve(x, x).shape) == shape
    assert tuple(linalg.qr(x).Q.shape) == shape
    linalg.det(x).sum().backward()
    assert tuple(x.grad.shape) == shape


def test_exponential_of_very_different_matrices() -> None:
    x = np.stack([np.zeros((2, 2)), [[0, -30.0], [30.0, 0]], [[1e-9, 0], [0, -700.0]]])
    expected = [
        np.eye(2),
        [[math.cos(30), -math.sin(30)], [math.sin(30), math.cos(30)]],
        [[1 + 1e-9, 0], [0, 0]],
    ]
    np.testing.assert_allclose(linalg.matrix_exp(nbdl.tensor(x)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_matrix_exp_of_half_precision_is_that_of_float32_rounded(dtype: str):
    x = nbdl.tensor(A / 3).to(dtype)
    y = linalg.matrix_exp(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.float().numpy(), linalg.matrix_exp(x.float()).to(dtype).float().numpy())
    assert linalg.matrix_exp(x.requires_grad_()).sum().requires_grad


ERRORS = {
    "indefinite": (lambda x: linalg.cholesky(-x @ x.mT), linalg.LinAlgError, "leading minor of order 1"),
    "indefinite, batch": (
        lambda x: linalg.cholesky(nbdl.stack([x @ x.mT, -x @ x.mT])),
        linalg.LinAlgError,
        r"\(Batch element 1\)",
    ),
    "singular": (lambda x: linalg.inv(x * 0), linalg.LinAlgError, "The diagonal element 1 is zero"),
    "unsolvable": (lambda x: linalg.solve(x * 0, x), linalg.LinAlgError, "linalg.solve: The solver failed"),
    "not a number": (
        lambda x: linalg.eigvals(x * math.nan),
        linalg.LinAlgError,
        "eigvals: .*failed to converge",
    ),
    "not square": (
        lambda x: linalg.det(x[:2]),
        RuntimeError,
        "linalg.det: A must be batches of square matrices, but they are 2 by 3 matrices",
    ),
    "vector": (
        lambda x: linalg.inv(x[0]),
        RuntimeError,
        "linalg.inv: The input tensor A must have at least 2",
    ),
    "integers": (lambda x: linalg.svd(x.to("int64")), RuntimeError, "Expected a floating point or complex"),
    "half": (lambda x: linalg.qr(x.to("float16")), RuntimeError, "Low precision dtypes not supported"),
    "no tensor": (lambda x: linalg.eigh([[1.0]]), TypeError, "eigh.*must be Tensor, not list"),
    "shapes": (lambda x: linalg.solve(x, x[:2]), RuntimeError, "Incompatible shapes of A and B"),
    "dtypes": (lambda x: linalg.solve(x, x.float()), RuntimeError, "same dtype, got float64 and float32"),
    "triangle": (lambda x: linalg.eigh(x, "X"), RuntimeError, "Expected UPLO argument to be 'L' or 'U'"),
    "mode": (lambda x: linalg.qr(x, "full"), RuntimeError, "unrecognized mode 'full'"),
    "driver": (lambda x: linalg.lstsq(x, x, driver="svd"), RuntimeError, "parameter `driver`"),
    "order": (lambda x: linalg.matrix_norm(x, 3), RuntimeError, "Order 3 not supported"),
    "axes": (lambda x: linalg.matrix_norm(x, dim=(0, 0)), RuntimeError, "dims must be different"),
    "pivot": (lambda x: linalg.lu(x, pivot=False), RuntimeError, "without pivoting"),
    "cross": (lambda x: linalg.cross(x[:, :2], x[:, :2]), RuntimeError, "must have length 3"),
    "multi_dot": (lambda x: linalg.multi_dot([x]), RuntimeError, "expected at least 2 tensors"),
    "vander": (lambda x: linalg.vander(x, N=1), RuntimeError, "N must be greater than 1"),
    "vander of one": (lambda x: linalg.vander(x[0, :1]), RuntimeError, "N must be greater than 1, got 1"),
    "complete": (
        lambda x: linalg.qr(x.requires_grad_()[:, :2], "complete").Q.sum().backward(),
        RuntimeError,
        "derivative of mode='complete'",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(A))


def test_errors_are_runtime_errors() -> None:
    assert issubclass(linalg.LinAlgError, RuntimeError)
