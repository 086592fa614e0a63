"""Names under which PyTorch has functions once more: in place, and with the positions of the maxima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn.functional import activation, adaptive_pooling, fractional, pooling


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def variant(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(input, *args, inplace=True, **kwargs)

    name = f"{function.__name__}_"
    variant.__name__ = variant.__qualname__ = name
    variant.__doc__ = f":func:`{function.__name__}` in place."
    return variant


def _with_indices(function: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    def variant(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return function(input, *args, **{**kwargs, "return_indices": True})

    name = f"{function.__name__}_with_indices"
    variant.__name__ = variant.__qualname__ = name
    variant.__doc__ = f":func:`{function.__name__}`, and the positions of the maxima."
    return variant


relu_ = _in_place(activation.relu)
elu_ = _in_place(activation.elu)
selu_ = _in_place(activation.selu)
celu_ = _in_place(activation.celu)
hardtanh_ = _in_place(activation.hardtanh)
leaky_relu_ = _in_place(activation.leaky_relu)
rrelu_ = _in_place(activation.rrelu)
threshold_ = _in_place(activation.threshold)
max_pool1d_with_indices = _with_indices(pooling.max_pool1d)
max_pool2d_with_indices = _with_indices(pooling.max_pool2d)
max_pool3d_with_indices = _with_indices(pooling.max_pool3d)
adaptive_max_pool1d_with_indices = _with_indices(adaptive_pooling.adaptive_max_pool1d)
adaptive_max_pool2d_with_indices = _with_indices(adaptive_pooling.adaptive_max_pool2d)
adaptive_max_pool3d_with_indices = _with_indices(adaptive_pooling.adaptive_max_pool3d)
fractional_max_pool2d_with_indices = _with_indices(fractional.fractional_max_pool2d)
fractional_max_pool3d_with_indices = _with_indices(fractional.fractional_max_pool3d)
