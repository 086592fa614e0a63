"""Products on a GPU: what cuBLASLt does on the way to a product becomes a part of it.

===================================================  =====================================================
operations                                           become
===================================================  =====================================================
linear layer, activation                             one, which also notes what the derivative reads if the
                                                     next line wants it
product, derivative of an activation, sum of rows    one: the gradient before the activation and that of the
                                                     bias, from the gradient behind the next layer
product for a weight's gradient, sum of rows         one: the gradients of a weight and a bias
===================================================  =====================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nbdl.backend.numpy.linalg import length_of_bits
from nbdl.compiler.passes.fusion import MAX_DISTANCE, can_be_delayed
from nbdl.compiler.program import TEMPORARY, Buffer, Operation, Program, Window, read_counts, write_counts
from nbdl.formula import IDENTITY, Formula
from nbdl.formula.activations import GELU_TANH, RELU
from nbdl.ops.activated_linear import ActivatedLinear
from nbdl.ops.matmul import LINEAR, LinearGradients, MatMul
from nbdl.ops.pointwise import Pointwise
from nbdl.ops.product_epilogues import ActivatedLinearAux, SlopedProduct
from nbdl.ops.reduction import Reduce

_PRODUCT, _WEIGHT_PRODUCT = MatMul.of(False, False), MatMul.of(True, False)
_SUM_OF_ROWS = Reduce.of(IDENTITY, "sum", (0,), False)
_OF_WEIGHT_AND_BIAS = LinearGradients.of(6)
# cuBLASLt has these for single and half precision, and wants rows of GELU's operands at multiples of 8.
_DTYPES = ("float16", "bfloat16", "float32")
_GELU_ROWS = 8


def join_products(program: Program) -> Program:
    """Linear layers, activations and gradients in one call each, where cuBLASLt is there to compute them."""
    if not program.on_device:
        return program
    from nbdl.backend.cupy.libraries import cublaslt

    return program if cublaslt() is None else _Joining(program).program()


class _Joining:
    """Operations that are joined one after the other.

    Args:
        program: what they are of.
    """

    def __init__(self, program: Program):
        self._program, self._operations = program, list(program.operations)
        self._reads, self._writes = read_counts(program), write_counts(program.operations)
        self._number = max([buffer.number for buffer in program.buffers], default=0)

    def program(self) -> Program:
        """The program with joined operations."""
        for operation in list(self._operations):
            for activation in (RELU, GELU_TANH):
                if _applies(operation, activation):
                    self._join_activation(operation, activation)
                elif _applies(operation, _slope(activation)) and activation is GELU_TANH:
                    self._join_slope(operation, GELU_TANH)
        for operation in list(self._operations):
            if operation.primitive is _WEIGHT_PRODUCT and not operation.into:
                self._join_bias(operation)
        return self._program.with_operations(self._operations)

    def _join_activation(self, operation: Operation, activation: Formula) -> None:
        """The layer before an activation with it; and the products that its derivative follows."""
        (layer_out,), (y,) = operation.inputs, operation.outputs
        layer = self._maker(operation, layer_out, LINEAR)
        if layer is None or operation.into or y.dtype != layer_out.dtype:
            return
        is_only = self._reads[layer_out.buffer] == 1
        aux: Window | None = None
        if activation is GELU_TANH:
            if not is_only and layer_out.shape[-1] % _GELU_ROWS:
                return
            aux = None if is_only else layer_out
        elif is_only:
            bits = self._bits(y)
            slopes = [
                other for other in self._operations
                if self._writes[y.buffer] == 1 and _applies(other, _slope(RELU))
                and other.inputs[_source(RELU)] == y
            ]  # fmt: skip
            joined_slopes = [self._join_slope(slope, RELU, bits) for slope in slopes]
            aux = bits if any(joined_slopes) else None
        else:
            return
        if aux is None:
            joined = Operation(ActivatedLinear.of(activation), layer.inputs, [y])
        else:
            joined = Operation(ActivatedLinearAux.of(activation), layer.inputs, [y, aux])
        self._replace(operation, joined)
        self._operations.remove(layer)

    def _join_slope(self, operation: Operation, activation: Formula, *aux: Window) -> bool:
        """The product before the derivative of an activation with it, and the sum of rows behind; whether."""
        at = _source(activation)
        g, source = operation.inputs[1 - at], operation.inputs[at]
        product = self._maker(operation, g, _PRODUCT)
        if (
            product is None
            or operation.into
            or self._reads[g.buffer] != 1
            or len(product.inputs[1].shape) != 2
            or any(x.shape != g.shape or x.dtype != g.dtype for x in (source, *operation.outputs))
            or (activation is GELU_TANH and g.shape[-1] % _GELU_ROWS)
        ):
            return False
        (slope,) = operation.outputs
        total = self._sum_of(slope, behind=operation)
        outputs = [slope] if total is None else [slope, *total.outputs]
        inputs = (*product.inputs, source, *aux)
        self._replace(operation, Operation(SlopedProduct.of(activation, total is not None), inputs, outputs))
        self._operations.remove(product)
        if total is not None:
            self._operations.remove(total)
        return True

    def _join_bias(self, product: Operation) -> None:
        """The product for the gradient of a weight with the sum of rows for that of the bias."""
        g, (weight,) = product.inputs[0], product.outputs
        total = self._sum_of(g, behind=product) if len(g.shape) == 2 and _is_single(weight) else None
        if total is not None:
            self._replace(product, Operation(_OF_WEIGHT_AND_BIAS, product.inputs, [weight, *total.outputs]))
            self._operations.remove(total)

    def _maker(self, operation: Operation, window: Window, primitive: object) -> Operation | None:
        """The operation of a kind that computes what ``operation`` reads, if it may run right before that."""
        buffer = window.buffer
        if not (buffer.is_private and self._writes[buffer] == 1 and _is_single(window)):
            return None
        between: list[Operation] = []
        for other in self._before(operation):
            if any(out.buffer is buffer for out in other.outputs):
                fits = other.primitive is primitive and other.outputs == (window,) and not other.into
                return other if fits and can_be_delayed(other, between) else None
            between.append(other)
        return None

    def _sum_of(self, window: Window, behind: Operation) -> Operation | None:
        """The sum of the rows of a window that may run as early as ``behind``."""
        start = self._operations.index(behind) + 1
        rows = (math.prod(window.shape[:-1]), window.shape[-1])
        for k, other in enumerate(self._operations[start : start + MAX_DISTANCE], start):
            if any(out.buffer is window.buffer for out in other.outputs):
                return None
            if other.primitive is _SUM_OF_ROWS and not other.into:
                (operand,) = other.inputs
                same = operand.buffer is window.buffer and operand.offset == window.offset
                if same and operand.shape == rows and _is_whole(operand) and _is_whole(window):
                    return other if can_be_delayed(other, self._operations[start:k]) else None
        return None

    def _before(self, operation: Operation) -> Iterator[Operation]:
        at = self._operations.index(operation)
        return reversed(self._operations[max(0, at - MAX_DISTANCE) : at])

    def _replace(self, operation: Operation, joined: Operation) -> None:
        self._operations[self._operations.index(operation)] = joined

    def _bits(self, y: Window) -> Window:
        """Memory for the bits that say where ``y`` is positive."""
        self._number += 1
        shape = (math.prod(y.shape[:-1]), length_of_bits(y.shape[-1]))
        buffer = Buffer(TEMPORARY, math.prod(shape), self._number, on_host=False)
        return Window(buffer, 0, shape, (shape[1], 1), np.dtype(np.uint8))


def _applies(operation: Operation, formula: Formula) -> bool:
    """Whether ``operation`` is a formula of these values, which is what it may be called by."""
    primitive = operation.primitive
    return isinstance(primitive, Pointwise) and primitive.formula.outputs == formula.outputs


def _slope(activation: Formula) -> Formula:
    """The gradient before an activation: a formula of that behind it and of a source."""
    (term,) = activation.vjp(1).terms
    assert term is not None
    return term.formula


def _source(activation: Formula) -> int:
    """Which operand of :func:`_slope` is the source."""
    (term,) = activation.vjp(1).terms
    assert term is not None
    return [kind != "g" for kind, _ in term.sources].index(True)


def _is_single(window: Window) -> bool:
    return window.dtype.name in _DTYPES


def _is_whole(window: Window) -> bool:
    """Whether the elements lie one after the other."""
    step = window.dtype.itemsize
    for n, stride in zip(reversed(window.shape), reversed(window.strides), strict=True):
        if n != 1 and stride != step:
            return False
        step *= n
    return True
