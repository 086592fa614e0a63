"""Floating-point operations of a call of the array layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive


class Call(Protocol):
    """A call that was observed, or an operation of a program; operands have a shape, a size and axes."""

    @property
    def primitive(self) -> Primitive: ...
    @property
    def inputs(self) -> Sequence[Any]: ...
    @property
    def outputs(self) -> Sequence[Any]: ...


def flops(call: Call) -> int:
    """Multiplications and additions of the products in a call; 0 for all that is no product.

    Products are what the time of a network goes into: matrix products, convolutions, attention, recurrent
    layers, and their gradients. A multiplication and the addition of what it gives are two operations.
    """
    rule = _RULES.get(call.primitive.name)
    return 0 if rule is None else int(rule(call))


def _matmul(call: Call) -> int:
    a = call.inputs[0]
    axis = -2 if call.primitive.params.get("transpose_a") and a.ndim > 1 else -1
    return 2 * call.outputs[0].size * a.shape[axis]


def _linear(call: Call) -> int:
    x, weight = call.inputs[:2]
    return 2 * x.size * weight.shape[0]


def _linear_gradients(call: Call) -> int:
    gradient, needs = call.inputs[0], call.primitive.params["needs"]
    first = 2 if call.primitive.name == "activated_linear_gradients" else 1
    operands = call.inputs[first : first + (needs & 1) + (needs >> 1 & 1)]
    return sum(2 * gradient.size * operand.shape[-1] for operand in operands)


def _convolution(call: Call) -> int:
    """Every output is a product with the weights of one channel."""
    return 2 * call.outputs[0].size * math.prod(call.inputs[1].shape[1:])


def _convolution_input(call: Call) -> int:
    return 2 * call.inputs[0].size * math.prod(call.inputs[1].shape[1:])


def _convolution_weight(call: Call) -> int:
    return 2 * call.inputs[1].size * math.prod(call.outputs[0].shape[1:])


def _attention_of(query: Any, key: Any, value: Any) -> int:
    """The scores, and the sums of values that they weight."""
    length, features = query.shape[-2:]
    batch = max(math.prod(x.shape[:-2]) for x in (query, key, value))
    return 2 * batch * length * key.shape[-2] * (features + value.shape[-1])


def _recurrent(call: Call) -> int:
    """In every step a product of the states with the weights."""
    weight = [array for array in call.inputs if array.ndim == 2][-1]  # behind it are vectors only
    return 2 * weight.size * math.prod(call.inputs[0].shape[:2])


_RULES: dict[str, Callable[[Call], int]] = {
    "matmul": _matmul,
    "linear": _linear,
    "linear_gradients": _linear_gradients,
    "activated_linear": _linear,
    "activated_linear_gradients": _linear_gradients,
    "convolution": _convolution,
    "convolution_input": _convolution_input,
    "convolution_weight": _convolution_weight,
    "attention": lambda call: _attention_of(*call.inputs[:3]),
    # The scores again, and four products of their size: by query, key, value, and the weights.
    "attention_input": lambda call: 5 * _attention_of(*call.inputs[1:4]) // 2,
    "recurrent": _recurrent,
    "recurrent_input": _recurrent,
}
