"""Radial basis functions as a layer, and the network of one such layer and a linear one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn import init
from nbdl.nn.linear import Linear
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.ops.creation import empty
from nbdl.ops.pointwise import call
from nbdl.ops.reduction import SQUARED_DIFFERENCE, Reduce

_BUMP = Formula("radial_basis", lambda square, sigma: f.exp(-square / (2 * sigma * sigma)), 2)


class RBF(Module):
    """phi_i(x) = exp(-|x - mu_i|^2 / (2 sigma_i^2)) for every centre mu_i.

    Args:
        in_features: size of the last axis of the input.
        n_centers: number of centres.
        learnable: whether centres and widths are trained.
        device: where they are.
        dtype: their dtype.

    Attributes:
        centers: (n_centers, in_features), standard normal at first.
        widths: (n_centers,), the sigma, ones at first.

    Shape:
        (..., in_features) -> (..., n_centers)

    Source: Broomhead, Lowe (1988), Multivariable functional interpolation and adaptive networks.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.RBF(2, 3)
        >>> layer(layer.centers).diagonal().tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        in_features: int,
        n_centers: int,
        learnable: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.in_features, self.n_centers = in_features, n_centers
        self.centers = Parameter(empty(n_centers, in_features, device=device, dtype=dtype), learnable)
        self.widths = Parameter(empty(n_centers, device=device, dtype=dtype), learnable)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the centres anew, widths 1."""
        init.normal_(self.centers)
        init.ones_(self.widths)

    def forward(self, input: Tensor) -> Tensor:
        if input.shape[-1] != self.in_features:
            raise RuntimeError(f"RBF: expected an input (..., {self.in_features}), got {tuple(input.shape)}")
        axis = input.ndim
        squares = apply(
            Reduce.of(SQUARED_DIFFERENCE, "sum", (axis,), False, 0), input.unsqueeze(-2), self.centers
        )
        return call(_BUMP, squares, self.widths)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.n_centers}"


class RBFNetwork(Module):
    """y = g(W phi(x)), or g(W phi(x) + b).

    Args:
        in_features: size of the last axis of the input.
        n_centers: number of radial basis functions.
        out_features: 1 for regression and two classes, else the number of classes.
        activation: g; default: the identity, which goes with the squared error, and with the losses that take
            logits.
        bias: whether there is b.
        device: where the parameters are.
        dtype: their dtype.

    Attributes:
        rbf: the :class:`RBF` layer.
        output: the linear layer.

    Source: Moody, Darken (1989), Fast learning in networks of locally-tuned processing units.

    Example:
        >>> import nbdl
        >>> nbdl.nn.RBFNetwork(2, 10, 3)(nbdl.zeros(5, 2)).shape
        nbdl.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        n_centers: int,
        out_features: int = 1,
        activation: Callable[[Tensor], Tensor] | None = None,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.rbf = RBF(in_features, n_centers, device=device, dtype=dtype)
        self.output = Linear(n_centers, out_features, bias, device=device, dtype=dtype)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        out = self.output(self.rbf(input))
        return out if self.activation is None else self.activation(out)
