"""Ways to connect layers: residually, and each with all before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn.activation import Tanh
from nbdl.nn.containers import ModuleList
from nbdl.nn.linear import Linear
from nbdl.nn.module import Module
from nbdl.ops.joining import cat


class Residual(Module):
    """shortcut(u) + f(u).

    Args:
        block: f.
        shortcut: what brings u to the shape of f(u); default: the identity.

    Source: He, Zhang, Ren, Sun (2016), Deep residual learning for image recognition, equations 1 and 2.

    Example:
        >>> import nbdl
        >>> from nbdl import nn
        >>> block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        >>> nn.Residual(block)(nbdl.zeros(2, 4, 8, 8)).shape
        nbdl.Size([2, 4, 8, 8])
    """

    def __init__(self, block: Module, shortcut: Module | None = None):
        super().__init__()
        self.block = block
        self.register_module("shortcut", shortcut)

    def forward(self, input: Tensor) -> Tensor:
        kept = input if self.shortcut is None else self.shortcut(input)
        return kept + self.block(input)


class ResidualLinear(Module):
    """u + activation(K u + b), the fully connected residual layer.

    Args:
        features: size of the last axis of input and output.
        activation: default: tanh.
        bias: whether there is b.
        device: where the parameters are.
        dtype: their dtype.
    """

    def __init__(
        self,
        features: int,
        activation: Module | None = None,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.linear = Linear(features, features, bias, device=device, dtype=dtype)
        self.activation = Tanh() if activation is None else activation

    def forward(self, input: Tensor) -> Tensor:
        return input + self.activation(self.linear(input))


class DenselyConnected(Module):
    """u_j = f_j(u_{j-1}, ..., u_0): each layer sees the input and the results of all before it.

    Args:
        layers: the f_j; the input of each has as many channels as the input and all results before have.
        dim: the axis of the channels.

    Returns:
        the input and all results, concatenated

    Source: Huang, Liu, van der Maaten, Weinberger (2017), Densely connected convolutional networks, equation
        2.

    Example:
        >>> import nbdl
        >>> from nbdl import nn
        >>> block = nn.DenselyConnected([nn.Linear(4, 3), nn.Linear(7, 3)])
        >>> block(nbdl.zeros(5, 4)).shape
        nbdl.Size([5, 10])
    """

    def __init__(self, layers: Iterable[Module], dim: int = 1):
        super().__init__()
        self.layers, self.dim = ModuleList(layers), dim

    def forward(self, input: Tensor) -> Tensor:
        features = input
        for layer in self.layers:
            features = cat([features, layer(features)], self.dim)
        return features

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
