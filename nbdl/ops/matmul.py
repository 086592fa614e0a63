"""Matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.autocast import in_widest
from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.batching import aligned
from nbdl.ops.fused import Fused
from nbdl.ops.pointwise import conjugated
from nbdl.ops.primitive import EVERYTHING, Primitive, broadcast_error
from nbdl.ops.reduction import IDENTITY, Reduce, sum_to
from nbdl.ops.shape import reshape, transpose, unsqueeze

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node

__all__ = ["bmm", "dot", "linear", "matmul", "mm", "mv"]


class MatMul(Primitive):
    """``a @ b``, batches broadcast; vectors are rows on the left and columns on the right.

    Args:
        transpose_a: take the last two axes of ``a`` exchanged; ``a`` is no vector then.
        transpose_b: likewise.
    """

    name = "matmul"

    def __init__(self, transpose_a: bool = False, transpose_b: bool = False):
        super().__init__(transpose_a=transpose_a, transpose_b=transpose_b)
        self.transpose_a, self.transpose_b = transpose_a, transpose_b

    def check(self, *arrays: Any) -> None:
        """Inner sizes must be equal, batches broadcast, dtypes be the same."""
        a, b = arrays
        if a.ndim == 0 or b.ndim == 0:
            raise RuntimeError(
                f"matmul: both arguments need to be at least 1D, but they are {a.ndim}D and {b.ndim}D"
            )
        inner_a = a.shape[-2 if self.transpose_a else -1]
        inner_b = b.shape[-1 if self.transpose_b or b.ndim == 1 else -2]
        if inner_a != inner_b:
            raise RuntimeError(
                f"matmul: shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be multiplied: "
                f"the axes that meet have sizes {inner_a} and {inner_b}"
            )
        check_same_dtype("matmul", arrays)
        for m, n in zip(reversed(a.shape[:-2]), reversed(b.shape[:-2]), strict=False):
            if m != n and 1 not in (m, n):
                raise broadcast_error("matmul", (a.shape[:-2], b.shape[:-2]))

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """Products that broadcast; examples that are rows of one matrix product stay one."""
        a, b = values
        ranks_a, ranks_b = a.array.ndim - flags[0], b.array.ndim - flags[1]
        if not flags[1] and ranks_b == 2 and ranks_a == 1:  # (k,) @ (k, n)
            return self(a, b)
        if not flags[0] and ranks_a == 2 and ranks_b == 1:  # (m, k) @ (k,)
            return MatMul.of(False, not self.transpose_a)(b, a)
        if ranks_a == 1:
            a = unsqueeze(a, -2)
        if ranks_b == 1:
            b = unsqueeze(b, -1)
        product = self(*aligned((a, b), flags))
        if ranks_b == 1:
            product = product.squeeze(-1)
        return product.squeeze(-1 if ranks_b == 1 else -2) if ranks_a == 1 else product

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """Each operand is needed for the gradient of the other."""
        return _OTHER_OPERAND[needs & 3]

    def vjp(self, node: Node, *gradients: Tensor | None, conjugate: bool = True) -> Sequence[Tensor | None]:
        """g @ b^T and a^T @ g, transposed where the operand was."""
        if conjugate and node.specs[0][1].kind == "c":
            return conjugated(self.vjp, node, gradients)
        (g,) = gradients
        assert g is not None
        ta, tb = self.transpose_a, self.transpose_b
        ga = gb = None
        if node.needs & 1:
            b, shape = node.input(1), node.shape(0)
            if len(shape) == 1 or b.array.ndim == 1:
                ga = _vector_gradient_left(g, transpose(b, -2, -1) if tb else b, shape)
            else:
                ga = sum_to(
                    apply(MatMul.of(tb, True), b, g) if ta else apply(MatMul.of(False, not tb), g, b), shape
                )
        if node.needs & 2:
            a, shape = node.input(0), node.shape(1)
            if len(shape) == 1 or a.array.ndim == 1:
                gb = _vector_gradient_right(transpose(a, -2, -1) if ta else a, g, shape)
            elif (
                len(shape) == 2 and a.array.ndim > 2 and not ta
            ):  # one matrix for the whole batch: one product
                left, right = _rows(a), _rows(g)
                gb = apply(MatMul.of(True, False), *((right, left) if tb else (left, right)))
            else:
                gb = sum_to(
                    apply(MatMul.of(True, ta), g, a) if tb else apply(MatMul.of(not ta, False), a, g), shape
                )
        return ga, gb

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """da @ b + a @ db."""
        a, b = inputs
        left = None if tangents[0] is None else self(tangents[0], b)
        right = None if tangents[1] is None else self(a, tangents[1])
        return (left + right if left is not None and right is not None else left if right is None else right,)


# What is saved for a product of two operands, by which of them need gradients: each for the other; everything
# if both do, since a bias beside them costs nothing.
_OTHER_OPERAND: tuple[tuple[frozenset[int] | None, bool], ...] = (
    (None, False), (frozenset((1,)), False), (frozenset((0,)), False), (EVERYTHING, False),
)  # fmt: skip


def _vector_gradient_left(g: Tensor, b: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of a in a @ b where one of them is a vector."""
    if len(shape) == 1 and b.array.ndim == 1:
        return g * b
    if b.array.ndim == 1:  # (..., m, k) @ (k,): an outer product
        return sum_to(unsqueeze(g, -1) * b, shape)
    return sum_to(matmul(b, unsqueeze(g, -1)).squeeze(-1), shape)  # (k,) @ (..., k, n)


def _vector_gradient_right(a: Tensor, g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of b in a @ b where one of them is a vector."""
    if a.array.ndim == 1 and len(shape) == 1:
        return g * a
    if a.array.ndim == 1:  # (k,) @ (..., k, n): an outer product
        return sum_to(unsqueeze(a, -1) * unsqueeze(g, -2), shape)
    return sum_to(matmul(transpose(a, -2, -1), unsqueeze(g, -1)).squeeze(-1), shape)  # (..., m, k) @ (k,)


def _rows(x: Tensor) -> Tensor:
    """All leading axes merged."""
    shape = x.array.shape
    return x if len(shape) == 2 else reshape(x, (math.prod(shape[:-1]), shape[-1]))


class LinearLayer(Primitive):
    """``x @ weight.T + bias``, the bias being optional."""

    name = "linear"

    def check(self, *arrays: Any) -> None:
        """weight (out, in), x (..., in), bias (out,)."""
        x, weight, *bias = arrays
        if weight.ndim != 2:
            raise RuntimeError(f"linear: weight must have 2 axes (out, in), got shape {tuple(weight.shape)}")
        if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
            raise RuntimeError(
                f"linear: the last axis of the input must have the size of the weight's second, "
                f"{weight.shape[1]}; got input {tuple(x.shape)} and weight {tuple(weight.shape)}"
            )
        if bias and bias[0].shape != (weight.shape[0],):
            raise RuntimeError(
                f"linear: bias must have shape ({weight.shape[0]},), got {tuple(bias[0].shape)}"
            )
        check_same_dtype("linear", arrays)

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Tensor:
        """One product if the weight is the same in all examples, else one for each."""
        if not any(flags[1:]):
            return self(*values)
        x, weight = values[:2]
        product = _WITH_TRANSPOSED.batch((x, weight), flags[:2], level) if any(flags[:2]) else self(x, weight)
        if len(values) == 2:
            return product
        product, bias = aligned((product, values[2]), (any(flags[:2]), flags[2]))
        return product + bias

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """The input for the weight's gradient, the weight for the input's."""
        return _OTHER_OPERAND[needs & 3]

    def vjp(self, node: Node, *gradients: Tensor | None, conjugate: bool = True) -> Sequence[Tensor | None]:
        """g @ weight, g^T @ x, and g summed over the rows."""
        if conjugate and node.specs[0][1].kind == "c":
            return conjugated(self.vjp, node, gradients)
        (g,) = gradients
        assert g is not None
        return linear_vjp(node, g)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The product rule."""
        x, weight = inputs[0], inputs[1]
        tx, tw, tb = (*tangents, None)[:3]
        if tx is not None:
            total = linear(tx, weight, tb)
            return (total if tw is None else total + linear(x, tw),)
        if tw is not None:
            return (linear(x, tw, tb),)
        return (None if tb is None else tb.expand(outputs[0].array.shape),)


class LinearGradients(Fused):
    """The gradients of :class:`LinearLayer` in one call.

    Operands: the gradient of the result, (..., out); weight if that of the input is needed; the input if
    that of the weight is. Outputs: the gradients that are needed, at least two, of input, weight and bias.

    Args:
        needs: bit k is set where operand k of the layer needs a gradient.
    """

    name = "linear_gradients"

    def __init__(self, needs: int):
        super().__init__(needs=needs)
        self.needs = needs

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """g @ weight, g^T @ x, and g summed over the rows."""
        return linear_gradients(self.needs, inputs)


def linear_vjp(node: Node, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of the operands of a node that begins with a linear layer, from that of the layer."""
    needs, modes = node.needs, mode.__dict__
    operands = [g]
    if needs & 1:
        operands.append(node.input(1))
    if needs & 2:
        operands.append(node.input(0))
    rule = _LINEAR_GRADIENTS.get(needs)
    is_watched = modes["grad"] or modes["dual_level"] or modes["recorder"] is not None
    found: tuple[Tensor | None, ...]
    if rule is None or is_watched or (g.array.ndim != 2 and not _are_rows(operands)):
        found = linear_gradients(needs, operands)
    else:
        found = apply(rule, *operands)
    if not needs & 1:
        found = (None, *found)
    return found if needs & 2 else (*found[:1], None, *found[1:])


def _are_rows(operands: Sequence[Tensor]) -> bool:
    """Whether each operand is the rows of one matrix without being copied."""
    for x in operands:
        ndim = x.array.ndim
        if ndim != 2 and (ndim < 2 or not x.array.flags.c_contiguous):
            return False
    return True


def linear_gradients(needs: int, operands: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What :class:`LinearGradients` computes in several calls, for operands of any rank."""
    g = operands[0]
    found: list[Tensor] = []
    if needs & 1:
        found.append(apply(MATMUL, g, operands[1]))
    if needs & 2:
        x = operands[-1]
        if x.array.ndim > 1:
            found.append(apply(_MATMUL_TN, _rows(g), _rows(x)))
        else:
            found.append(unsqueeze(g, 1) * unsqueeze(x, 0))
    if needs & 4:
        found.append(apply(_SUM_OF_ROWS, _rows(g)) if g.array.ndim > 1 else g)
    return tuple(found)


def check_same_dtype(label: str, arrays: Sequence[Any]) -> None:
    """Raise unless all arrays have one dtype, which is not bool."""
    kinds = {array.dtype for array in arrays}
    if len(kinds) > 1:
        raise RuntimeError(
            f"{label}: expected operands of the same dtype, but got {' and '.join(sorted(map(str, kinds)))}"
        )
    if next(iter(kinds)) == dtypes.BOOL:
        raise NotImplementedError(f"{label}: not implemented for 'Bool'")


MATMUL = MatMul.of(False, False)
_MATMUL_TN = MatMul.of(True, False)
_WITH_TRANSPOSED = MatMul.of(False, True)
_SUM_OF_ROWS = Reduce.of(IDENTITY, "sum", (0,), False)
LINEAR = LinearLayer.of()
_LINEAR_GRADIENTS = {needs: LinearGradients.of(needs) for needs in (3, 5, 6, 7)}


# ----------------------------------------------------------------------------------------- public functions
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product of batches of matrices, or with vectors.

    Args:
        input: (..., m, k) or (k,).
        other: (..., k, n) or (k,).

    Raises:
        RuntimeError: the inner sizes or the dtypes differ.

    Example:
        >>> import nbdl
        >>> nbdl.matmul(nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]), nbdl.tensor([1.0, 1.0]))
        tensor([3., 7.])
    """
    for position, value in enumerate((input, other), 1):
        if not isinstance(value, Tensor):
            raise TypeError(f"matmul(): argument {position} must be a tensor, got {type(value).__name__}")
    return apply(MATMUL, input, other)


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices, without batches.

    Raises:
        RuntimeError: an operand is no matrix, or inner sizes or dtypes differ.

    Example:
        >>> import nbdl
        >>> nbdl.mm(nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]), nbdl.eye(2))
        tensor([[1., 2.],
                [3., 4.]])
    """
    if input.array.ndim != 2 or mat2.array.ndim != 2:
        raise RuntimeError(
            f"mm: expected two matrices, got {input.array.ndim}-D and {mat2.array.ndim}-D tensors"
        )
    return apply(MATMUL, input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices of the same length.

    Raises:
        RuntimeError: an operand has not three axes, or lengths, inner sizes or dtypes differ.

    Example:
        >>> import nbdl
        >>> nbdl.bmm(nbdl.ones(5, 2, 3), nbdl.ones(5, 3, 4)).shape
        nbdl.Size([5, 2, 4])
    """
    if input.array.ndim != 3 or mat2.array.ndim != 3 or input.array.shape[0] != mat2.array.shape[0]:
        raise RuntimeError(
            "bmm: expected two batches of equally many matrices, "
            f"got shapes {tuple(input.array.shape)} and {tuple(mat2.array.shape)}"
        )
    return apply(MATMUL, input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector.

    Raises:
        RuntimeError: the operands are no matrix and vector, or sizes or dtypes differ.
    """
    if input.array.ndim != 2 or vec.array.ndim != 1:
        raise RuntimeError(
            f"mv: expected a matrix and a vector, got {input.array.ndim}-D and {vec.array.ndim}-D tensors"
        )
    if input.array.shape[1] != vec.array.shape[0]:
        raise RuntimeError(
            "mv: the vector must have an element for each column of the matrix, got "
            f"{list(vec.array.shape)} for {list(input.array.shape)}"
        )
    return apply(MATMUL, input, vec)


@in_widest("cpu", "cuda")
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors.

    Raises:
        RuntimeError: an operand is no vector, or sizes or dtypes differ.
    """
    if input.array.ndim != 1 or tensor.array.ndim != 1:
        raise RuntimeError(
            f"dot: 1D tensors expected, but got {input.array.ndim}D and {tensor.array.ndim}D tensors"
        )
    return apply(MATMUL, input, tensor)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``.

    Args:
        input: (..., in).
        weight: (out, in).
        bias: (out,) or None.

    Returns:
        (..., out)

    Raises:
        RuntimeError: shapes or dtypes do not fit.
    """
    return apply(LINEAR, input, weight) if bias is None else apply(LINEAR, input, weight, bias)
