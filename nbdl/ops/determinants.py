"""Determinants of batches of matrices, with derivatives of any order; the first at singular ones too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.batching import over_leading_axes
from nbdl.ops.complex_numbers import adjoint, conj, imag, is_complex
from nbdl.ops.matrices import check_matrices, total
from nbdl.ops.pointwise import conjugated
from nbdl.ops.primitive import EVERYTHING, Primitive
from nbdl.ops.solving import inv

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node


def _trace(x: Tensor) -> Tensor:
    return x.diagonal(0, -2, -1).sum(-1)


def _spread(x: Tensor) -> Tensor:
    """Numbers, one a matrix, so that they broadcast with the matrices."""
    return x.unsqueeze(-1).unsqueeze(-1)


class Determinant(Primitive):
    """The determinants."""

    name = "determinant"

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The cofactors; they exist at singular matrices too."""
        assert gradients[0] is not None
        return (_spread(gradients[0]) * conj(apply(_COFACTORS, node.input(0))),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The sum of the changes, each times its cofactor."""
        return ((apply(_COFACTORS, inputs[0]) * tangents[0]).sum((-2, -1)),)


class Cofactors(Primitive):
    """The cofactors C = det(A) A^-T; their own derivative exists at regular matrices only."""

    name = "cofactors"
    saves_output = True

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None, conjugate: bool = True) -> Sequence[Tensor | None]:
        """With X = A^-1: <g, C> X^T - det(A) (X g X)^T."""
        if conjugate and node.specs[0][1].kind == "c":
            return conjugated(self.vjp, node, gradients)
        (a,), (g,) = node.inputs, gradients
        assert g is not None
        x = inv(a)
        product = (g * node.output()).sum((-2, -1))
        return ((_spread(product) * x - _spread(det(a)) * (x @ g @ x)).transpose(-2, -1),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """C tr(X dA) - det(A) (X dA X)^T."""
        (a,), (da,) = inputs, tangents
        x = inv(a)
        change = x @ da
        return (outputs[0] * _spread(_trace(change)) - (_spread(det(a)) * (change @ x)).transpose(-2, -1),)


class SignAndLogarithm(Primitive):
    """The sign of the determinant and the logarithm of its absolute value."""

    name = "slogdet"
    saved = EVERYTHING
    saves_output = True

    batch = over_leading_axes

    def is_differentiable_output(self, k: int) -> bool:
        """The sign is constant, or of a complex matrix a point of the unit circle."""
        return True

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """g A^-H; a complex sign turns by the imaginary part of tr(A^-1 dA)."""
        a, (by_sign, by_log) = node.input(0), gradients
        slope = by_log
        if by_sign is not None and is_complex(a):
            turn = imag(conj(by_sign) * node.output(0))
            slope = total(slope, turn * -1j)
        if slope is None:
            return (a.zeros_like(),)
        return (_spread(slope) * adjoint(inv(a)),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The real part of tr(A^-1 dA) for the logarithm, the imaginary one for the sign."""
        (a,), (da,) = inputs, tangents
        change = _trace(inv(a) @ da)
        if not is_complex(a):
            return None, change
        return outputs[0] * (imag(change) * 1j), change.real


_DETERMINANT, _COFACTORS, _SLOGDET = Determinant.of(), Cofactors.of(), SignAndLogarithm.of()


class SlogdetResult(NamedTuple):
    """Sign and logarithm of the absolute value."""

    sign: Tensor
    logabsdet: Tensor


def det(A: Tensor) -> Tensor:
    """The determinants of square matrices; the first derivative is right at singular ones too.

    Raises:
        RuntimeError: matrices that are not square, or a dtype that is neither float nor complex.
    """
    check_matrices("linalg.det", A, square=True)
    return apply(_DETERMINANT, A)


def slogdet(A: Tensor) -> SlogdetResult:
    """Sign and logarithm of the absolute value of determinants, which overflow less easily.

    Returns:
        (sign, logabsdet): of a singular matrix 0 and -inf.

    Raises:
        RuntimeError: matrices that are not square, or a dtype that is neither float nor complex.
    """
    check_matrices("linalg.slogdet", A, square=True)
    return SlogdetResult(*apply(_SLOGDET, A))


def logdet(input: Tensor) -> Tensor:
    """The logarithm of determinants: NaN where it is negative, -inf where it is 0."""
    sign, logarithm = slogdet(input)
    if is_complex(input):
        return logarithm + sign.angle() * 1j
    return where(sign < 0, float("nan"), logarithm)
