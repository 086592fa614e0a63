"""Products of Householder reflections, which stand as vectors in the columns of a matrix."""

from __future__ import annotations

from collections.abc import Sequence

from nbdl.autograd.tensor import Tensor
from nbdl.ops.complex_numbers import adjoint, conj
from nbdl.ops.creation import eye
from nbdl.ops.matrices import check_matrices


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first columns of H_1 H_2 ... H_k with H_i = I - tau_i v_i v_i^H.

    Args:
        A: (..., m, n), m >= n; v_i is 0 above element i, 1 there, and A's column i below.
        tau: (..., k), k <= n.

    Returns:
        (..., m, n)

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    check_matrices("linalg.householder_product", A, name="input")
    m, n = A.array.shape[-2:]
    k = tau.array.shape[-1]
    if m < n or k > n:
        raise RuntimeError(
            "linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1], "
            f"and that to tau.shape[-1]; got {m}, {n} and {k}"
        )
    identity = eye(m, n, dtype=A.dtype, device=A.device)
    return _reflected(A, tau, identity.expand((*A.array.shape[:-2], m, n)), range(k - 1, -1, -1))


def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Q ``other`` (or ``other`` Q), Q being the whole product of reflections of :func:`householder_product`.

    Args:
        input: (..., m, k), the vectors as :func:`nbdl.geqrf` gives them.
        tau: (..., k).
        other: (..., m, n), or (..., n, m) if not ``left``.
        left: False: ``other`` Q.
        transpose: Q^H in place of Q.

    Raises:
        RuntimeError: shapes or dtypes do not fit.
        NotImplementedError: a dtype that is neither float nor complex.
    """
    _check_reflections("ormqr", input, tau, other, left)
    if not left:
        return adjoint(ormqr(input, tau, adjoint(other), True, not transpose))
    k = tau.array.shape[-1]
    if transpose:
        return _reflected(input, conj(tau), other, range(k))
    return _reflected(input, tau, other, range(k - 1, -1, -1))


def _check_reflections(label: str, input: Tensor, tau: Tensor, other: Tensor, left: bool) -> None:
    a, t, x = (tuple(operand.array.shape) for operand in (input, tau, other))
    if len(a) < 2 or len(x) < 2:
        raise RuntimeError(f"{label}: input and other must have at least 2 dimensions, got {a} and {x}")
    rows = x[-2 if left else -1]
    if rows != a[-2]:
        raise RuntimeError(
            f"{label}: other.shape[{-2 if left else -1}] must be equal to input.shape[-2], got "
            f"{rows} and {a[-2]}"
        )
    if t != (*a[:-2], min(a[-2:])):
        raise RuntimeError(
            f"{label}: tau must have the batch dimensions of input, and as many elements as the smaller "
            f"side of its matrices, got tau {list(t)} and input {list(a)}"
        )
    if a[:-2] != x[:-2]:
        raise RuntimeError(
            f"{label}: the batch dimensions of other must be equal to input.shape[:-2], got {list(x)} "
            f"and {list(a)}"
        )
    if not input.dtype == tau.dtype == other.dtype:
        raise RuntimeError(
            f"{label}: expected input, tau and other to have the same dtype, got {input.dtype}, "
            f"{tau.dtype} and {other.dtype}"
        )
    if not (input.is_floating_point() or input.is_complex()):
        raise NotImplementedError(f"{label}: not implemented for {input.dtype}; use floating point numbers")


def _reflected(A: Tensor, tau: Tensor, x: Tensor, order: Sequence[int]) -> Tensor:
    """Reflections of the columns of ``x``, one after the other."""
    vectors = A.tril(-1) + eye(*A.array.shape[-2:], dtype=A.dtype, device=A.device)
    for k in order:
        v = vectors[..., k : k + 1]
        x = x - (tau[..., k : k + 1].unsqueeze(-1) * v) @ (adjoint(v) @ x)
    return x
