"""Biases: a matrix product and the row that is added to it are one operation."""

from __future__ import annotations

from nbdl.compiler.passes.fusion import MAX_DISTANCE, can_be_delayed
from nbdl.compiler.program import Operation, Program, Window, read_counts, write_counts
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.matmul import LINEAR, MatMul
from nbdl.ops.pointwise import Pointwise

_SUM = formula_of("add")


def join_biases(program: Program) -> Program:
    """``a @ b + bias`` becomes a linear layer, whose kernel begins its sums with the bias."""
    reads, writes = read_counts(program), write_counts(program.operations)
    kept: list[Operation] = []
    for operation in program.operations:
        kept.append(operation)
        primitive = operation.primitive
        if not isinstance(primitive, Pointwise) or primitive.formula is not _SUM or operation.into:
            continue
        for k in range(len(kept) - 2, max(-1, len(kept) - 2 - MAX_DISTANCE), -1):
            product = kept[k]
            if not isinstance(product.primitive, MatMul) or product.into:
                continue
            (out,) = product.outputs
            if not out.buffer.is_private or reads.get(out.buffer) != 1 or writes[out.buffer] != 1:
                continue
            layer = _layer(product, operation)
            if layer is not None and can_be_delayed(product, kept[k + 1 : -1]):
                del kept[k]
                kept[-1] = layer
                break
    return program.with_operations(kept)


def _layer(product: Operation, addition: Operation) -> Operation | None:
    """The two as one operation, if the sum is that of the product and a row."""
    (a, b), (out,) = product.inputs, product.outputs
    if out not in addition.inputs or product.primitive.params["transpose_a"] or len(b.shape) != 2:
        return None
    bias = addition.inputs[1 - addition.inputs.index(out)]
    weight = b if product.primitive.params["transpose_b"] else _transposed(b)
    if bias.shape != (weight.shape[0],) or addition.outputs[0].shape != out.shape or bias.dtype != out.dtype:
        return None
    return Operation(LINEAR, (a, weight, bias), addition.outputs)


def _transposed(window: Window) -> Window:
    return window._replace(shape=window.shape[::-1], strides=window.strides[::-1])
