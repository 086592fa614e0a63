"""Activations: the functions of :mod:`nbdl.nn.functional` as modules; their formulas stand there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn import init
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.nn.settings import settings
from nbdl.ops.creation import empty


class _Plain(Module):
    """A function without arguments."""

    _function: ClassVar[Callable[..., Tensor]]

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input)


class _InPlace(Module):
    """A function that may overwrite its input."""

    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, inplace=self.inplace)

    def extra_repr(self) -> str:
        return settings(self, "inplace")


class Sigmoid(_Plain):
    """1 / (1 + exp(-x)).

    Example:
        >>> import nbdl
        >>> nbdl.nn.Sigmoid()(nbdl.tensor([0.0, 1.0]))
        tensor([0.5000, 0.7311])
    """

    _function = staticmethod(F.sigmoid)


class Tanh(_Plain):
    """Hyperbolic tangent.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Tanh()(nbdl.tensor([0.0, 1.0]))
        tensor([0.0000, 0.7616])
    """

    _function = staticmethod(F.tanh)


class LogSigmoid(_Plain):
    """log(1 / (1 + exp(-x)))."""

    _function = staticmethod(F.logsigmoid)


class Softsign(_Plain):
    """x / (1 + |x|)."""

    _function = staticmethod(F.softsign)


class Tanhshrink(_Plain):
    """x - tanh(x)."""

    _function = staticmethod(F.tanhshrink)


class ReLU(_InPlace):
    """max(x, 0).

    Args:
        inplace: overwrite the input.

    Example:
        >>> import nbdl
        >>> nbdl.nn.ReLU()(nbdl.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    _function = staticmethod(F.relu)


class ReLU6(_InPlace):
    """min(max(x, 0), 6)."""

    _function = staticmethod(F.relu6)


class SELU(_InPlace):
    """The exponential linear unit whose fixed point has mean 0 and variance 1."""

    _function = staticmethod(F.selu)


class SiLU(_InPlace):
    """x sigmoid(x)."""

    _function = staticmethod(F.silu)


class Mish(_InPlace):
    """x tanh(softplus(x))."""

    _function = staticmethod(F.mish)


class Hardsigmoid(_InPlace):
    """Piecewise linear approximation of the logistic function."""

    _function = staticmethod(F.hardsigmoid)


class Hardswish(_InPlace):
    """x hardsigmoid(x)."""

    _function = staticmethod(F.hardswish)


class LeakyReLU(Module):
    """x for x > 0, negative_slope x elsewhere.

    Example:
        >>> import nbdl
        >>> nbdl.nn.LeakyReLU(0.1)(nbdl.tensor([-1.0, 2.0]))
        tensor([-0.1000,  2.0000])
    """

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False):
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return settings(self, "negative_slope", "inplace")


class _Exponential(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        return settings(self, "alpha", "inplace")


class ELU(_Exponential):
    """x for x > 0, alpha (exp(x) - 1) elsewhere."""

    _function = staticmethod(F.elu)


class CELU(_Exponential):
    """x for x > 0, alpha (exp(x / alpha) - 1) elsewhere."""

    _function = staticmethod(F.celu)


class GELU(Module):
    """x times the normal distribution function.

    Args:
        approximate: ``none``, or ``tanh`` for the approximation by a hyperbolic tangent.

    Example:
        >>> import nbdl
        >>> nbdl.nn.GELU()(nbdl.tensor([-1.0, 2.0]))
        tensor([-0.1587,  1.9545])
    """

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return settings(self, "approximate")


class Softplus(Module):
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return settings(self, "beta", "threshold")


class _Shrink(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, lambd: float = 0.5):
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Softshrink(_Shrink):
    """x moved towards 0 by lambd, 0 where it is nearer."""

    _function = staticmethod(F.softshrink)


class Hardshrink(_Shrink):
    """x, but 0 where |x| <= lambd."""

    _function = staticmethod(F.hardshrink)


class Hardtanh(Module):
    """x limited to [min_val, max_val]."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        super().__init__()
        if min_val >= max_val:
            raise ValueError(f"Hardtanh: max_val must be larger than min_val, got {max_val} and {min_val}")
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        return settings(self, "min_val", "max_val", "inplace")


class Threshold(Module):
    """x for x > threshold, value elsewhere."""

    def __init__(self, threshold: float, value: float, inplace: bool = False):
        super().__init__()
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.threshold(input, self.threshold, self.value, self.inplace)

    def extra_repr(self) -> str:
        return settings(self, "threshold", "value", "inplace")


class RReLU(Module):
    """x for x > 0, a x elsewhere; a is drawn from [lower, upper) in training, and its mean in evaluation."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False):
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def extra_repr(self) -> str:
        return settings(self, "lower", "upper", "inplace")


class PReLU(Module):
    """x for x > 0, weight x elsewhere, with a learned weight.

    Args:
        num_parameters: 1, or the number of channels for one weight a channel.
        init: the first value.
        device: where the weight is.
        dtype: its dtype.
        learnable: whether the weight is trained; otherwise it stays as it is.

    Source: He, Zhang, Ren, Sun (2015), Delving deep into rectifiers.

    Example:
        >>> import nbdl
        >>> nbdl.nn.PReLU()(nbdl.tensor([-1.0, 2.0])).detach()
        tensor([-0.2500,  2.0000])
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: Any = None,
        dtype: Any = None,
        *,
        learnable: bool = True,
    ):
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(empty(num_parameters, device=device, dtype=dtype), learnable)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The weight as it was at first."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return settings(self, "num_parameters")


class GLU(Module):
    """a sigmoid(b), a and b being the halves of the input along an axis.

    Args:
        dim: the axis.
    """

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        return settings(self, "dim")


class _Softmax(Module):
    _function: ClassVar[Callable[..., Tensor]]

    def __init__(self, dim: int | None = None):
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.dim)

    def extra_repr(self) -> str:
        return settings(self, "dim")


class Softmax(_Softmax):
    """exp(x) / sum(exp(x)) along an axis.

    Args:
        dim: the axis.

    Example:
        >>> import nbdl
        >>> nbdl.nn.Softmax(dim=1)(nbdl.zeros(1, 4))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    _function = staticmethod(F.softmax)


class Softmin(_Softmax):
    """exp(-x) / sum(exp(-x)) along an axis."""

    _function = staticmethod(F.softmin)


class LogSoftmax(_Softmax):
    """x - log(sum(exp(x))) along an axis."""

    _function = staticmethod(F.log_softmax)


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D (got {input.ndim}D instead)")
        return F.softmax(input, -3)
