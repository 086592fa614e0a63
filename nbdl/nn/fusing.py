"""Pairs of modules that a chain computes as one operation."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import mode
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.nn.activation import ReLU, Sigmoid, Tanh
from nbdl.nn.linear import Linear
from nbdl.ops.activated_linear import ActivatedLinear
from nbdl.ops.arithmetic import formula_of

# Nobody sees the value before the activation, so an activation in place makes no difference.
_ACTIVATED = {
    kind: ActivatedLinear.of(formula_of(name))
    for kind, name in ((Tanh, "tanh"), (ReLU, "relu"), (Sigmoid, "expit"))
}


def is_linear(module: Any) -> bool:
    """Whether ``module`` may be computed together with the activation behind it.

    Nothing but its class must say what calling it does: no hook, and no ``forward`` of its own.
    """
    return type(module) is Linear and module._hooks is None and "forward" not in module.__dict__


def activated_linear(linear: Linear, activation: Any, input: Any) -> Any:
    """``activation(linear(input))``, in one operation if that makes no difference.

    It would if somebody looks at what is between: hooks, the search for NaN, a recorder that fuses itself.
    """
    rule = _ACTIVATED.get(type(activation))
    modes = mode.__dict__
    if (
        rule is None
        or activation._hooks is not None
        or "forward" in activation.__dict__
        or modes["anomaly"]
        or modes["recorder"] is not None
        or not isinstance(input, Tensor)
    ):
        return activation(linear(input))
    weight, bias = linear.weight, linear.bias
    return apply(rule, input, weight) if bias is None else apply(rule, input, weight, bias)
