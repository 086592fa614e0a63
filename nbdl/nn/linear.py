"""Linear and bilinear maps."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn import init
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.ops.creation import empty


class Identity(Module):
    """Returns its argument; takes any arguments.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Identity()(nbdl.tensor([1.0]))
        tensor([1.])
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """y = x W^T + b.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        bias: whether b is added.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight: (out_features, in_features), evenly distributed in ±1 / sqrt(in_features) at first.
        bias: (out_features,), likewise; or None.

    Shape:
        (..., in_features) -> (..., out_features)

    Example:
        >>> import nbdl
        >>> nbdl.nn.Linear(20, 30)(nbdl.zeros(128, 20)).shape
        nbdl.Size([128, 30])
    """

    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        self.register_parameter(
            "bias", Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Bilinear(Module):
    """y_k = x1^T A_k x2 + b_k.

    Args:
        in1_features: size of the last axis of the first input.
        in2_features: size of the last axis of the second input.
        out_features: size of the last axis of the output.
        bias: whether b is added.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight: (out_features, in1_features, in2_features), evenly distributed in ±1 / sqrt(in1_features) at
            first.
        bias: (out_features,), likewise; or None.

    Shape:
        (..., in1_features), (..., in2_features) -> (..., out_features)
    """

    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if in1_features <= 0:
            raise ValueError(f"Bilinear: in1_features must be > 0, but got {in1_features}")
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = Parameter(empty(out_features, in1_features, in2_features, device=device, dtype=dtype))
        self.register_parameter(
            "bias", Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
