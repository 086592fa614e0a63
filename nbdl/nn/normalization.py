"""Normalisation of every example by itself: over layers, groups and neighbouring channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn import init
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.ops.creation import empty


def reset_scale_and_shift(module: Any) -> None:
    """Scale 1 and shift 0, where the module has them."""
    if module.weight is not None:
        init.ones_(module.weight)
    if module.bias is not None:
        init.zeros_(module.bias)


def _as_shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axes.

    Args:
        normalized_shape: the sizes of these axes.
        eps: added to the variance.
        elementwise_affine: whether there are weight and bias.
        bias: whether there is a bias.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        weight: (*normalized_shape), ones at first; or None.
        bias: (*normalized_shape), zeros at first; or None.

    Source: Ba, Kiros, Hinton (2016), Layer normalization.

    Example:
        >>> import nbdl
        >>> nbdl.nn.LayerNorm(2)(nbdl.tensor([[1.0, 3.0]])).detach()
        tensor([[-1.0000,  1.0000]])
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        shape = self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        affine = elementwise_affine
        self.register_parameter(
            "weight", Parameter(empty(shape, device=device, dtype=dtype)) if affine else None
        )
        self.register_parameter(
            "bias", Parameter(empty(shape, device=device, dtype=dtype)) if affine and bias else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        reset_scale_and_shift(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        bias = self.bias is not None
        affine = self.elementwise_affine
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={affine}, bias={bias}"


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axes.

    Args:
        normalized_shape: the sizes of these axes.
        eps: added to the mean square; default: the smallest step of the dtype at 1.
        elementwise_affine: whether there is a weight.
        device: where the weight is.
        dtype: its dtype.

    Attributes:
        weight: (*normalized_shape), ones at first; or None.

    Source: Zhang, Sennrich (2019), Root mean square layer normalization.

    Example:
        >>> import nbdl
        >>> nbdl.nn.RMSNorm(2, eps=0.0)(nbdl.tensor([[1.0, 1.0]])).detach()
        tensor([[1., 1.]])
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        shape = self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        value = Parameter(empty(shape, device=device, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over groups of channels of (N, C, *).

    Args:
        num_groups: number of groups; divides C.
        num_channels: C.
        eps: added to the variance.
        affine: whether there are weight and bias.
        device: where the parameters are.
        dtype: their dtype.
        bias: whether ``affine`` includes the bias.

    Attributes:
        weight: (C,), ones at first; or None.
        bias: (C,), zeros at first; or None.

    Raises:
        ValueError: the groups do not divide the channels.

    Source: Wu, He (2018), Group normalization.

    Example:
        >>> import nbdl
        >>> nbdl.nn.GroupNorm(2, 6)(nbdl.randn(4, 6, 5)).shape
        nbdl.Size([4, 6, 5])
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        if num_groups <= 0 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels must be divisible by num_groups, got {num_channels} and "
                f"{num_groups}"
            )
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        for name, is_there in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(empty(num_channels, device=device, dtype=dtype)) if is_there else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        reset_scale_and_shift(self)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={bias}"


class LocalResponseNorm(Module):
    """x / (k + alpha mean(x^2))^beta, the mean being over neighbouring channels of (N, C, *).

    Args:
        size: number of these channels.
        alpha: see the formula.
        beta: see the formula.
        k: see the formula.

    Source: Krizhevsky, Sutskever, Hinton (2012), section 3.3.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """An older name of :class:`LocalResponseNorm` for (N, C, H, W)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1):
        super().__init__(size, alpha, beta, k)
