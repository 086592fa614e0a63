"""Weights that are computed from other parameters before every call, by a hook.

:mod:`nbdl.nn.utils.parametrizations` does the same by properties, and composes; these are kept for the
programs and checkpoints that have them.
"""

from __future__ import annotations

from typing import Any, TypeVar

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from nbdl.nn.module import Module
from nbdl.nn.parameter import Parameter
from nbdl.nn.utils.normalized_weights import (
    as_matrix,
    norm_except_dim,
    power_iterations,
    random_direction,
    weight_of_norm,
)

M = TypeVar("M", bound=Module)


class _ComputedWeight:
    """A hook that computes a weight before each call of its module."""

    def __init__(self, name: str):
        self.name = name

    def compute(self, module: Module, training: bool) -> Tensor:
        raise NotImplementedError

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute(module, module.training))

    def part(self, module: Module, suffix: str) -> Tensor:
        """A parameter or buffer that the weight is computed from."""
        return getattr(module, f"{self.name}_{suffix}")


def _hooks(module: Module, kind: type[_ComputedWeight], name: str) -> dict[int, _ComputedWeight]:
    """The hooks of one kind that compute the weight ``name``, by their keys."""
    if module._hooks is None:
        return {}
    functions = {key: hook.function for key, hook in module._hooks.forward_pre.items()}
    return {key: hook for key, hook in functions.items() if isinstance(hook, kind) and hook.name == name}


def _take_weight(caller: str, module: Module, kind: type[_ComputedWeight], name: str) -> Parameter:
    """The parameter, removed from its place.

    Raises:
        RuntimeError: it is computed by such a hook already.
    """
    if _hooks(module, kind, name):
        raise RuntimeError(f"{caller}: Cannot register two {caller} hooks on the same parameter {name}")
    weight = module.get_parameter(name)
    delattr(module, name)
    return weight


def _remove(caller: str, module: M, kind: type[_ComputedWeight], name: str, parts: tuple[str, ...]) -> M:
    """Make the computed weight a parameter again."""
    found = _hooks(module, kind, name)
    if module._hooks is None or not found:
        raise ValueError(f"{caller}: no such hook of {name!r} in {module}")
    key, hook = found.popitem()
    with no_grad():
        weight = hook.compute(module, training=False)
    delattr(module, name)
    for suffix in parts:
        delattr(module, f"{name}_{suffix}")
    module.register_parameter(name, Parameter(weight))
    del module._hooks.forward_pre[key]
    return module


class _WeightNorm(_ComputedWeight):
    def __init__(self, name: str, dim: int):
        super().__init__(name)
        self.dim = dim

    def compute(self, module: Module, training: bool) -> Tensor:
        return weight_of_norm(self.part(module, "g"), self.part(module, "v"), self.dim)


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Split a weight into its norms ``<name>_g`` and its directions ``<name>_v``: w = g v / norm(v).

    Args:
        module: the layer, which is changed.
        name: the parameter.
        dim: the axis along which every slice has a norm of its own; None: one norm for all.

    Raises:
        RuntimeError: that has been done already.

    Source: Salimans, Kingma (2016), Weight normalization.

    Example:
        >>> import nbdl
        >>> layer = nbdl.nn.utils.weight_norm(nbdl.nn.Linear(20, 40))
        >>> layer.weight_g.shape, layer.weight_v.shape
        (nbdl.Size([40, 1]), nbdl.Size([40, 20]))
    """
    hook = _WeightNorm(name, -1 if dim is None else dim)
    weight = _take_weight("weight_norm", module, _WeightNorm, name)
    module.register_parameter(f"{name}_g", Parameter(norm_except_dim(weight.detach(), hook.dim)))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    setattr(module, name, hook.compute(module, module.training))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Undo :func:`weight_norm`; the weight keeps its value.

    Raises:
        ValueError: there is nothing to undo.
    """
    return _remove("remove_weight_norm", module, _WeightNorm, name, ("g", "v"))


class _SpectralNorm(_ComputedWeight):
    def __init__(self, name: str, n_power_iterations: int, eps: float, dim: int):
        super().__init__(name)
        self.n_power_iterations, self.eps, self.dim = n_power_iterations, eps, dim

    def compute(self, module: Module, training: bool) -> Tensor:
        weight = self.part(module, "orig")
        matrix = as_matrix(weight, self.dim)
        u, v = self.part(module, "u"), self.part(module, "v")
        if training:  # beginning with v, as PyTorch does here, but not in its parametrization
            power_iterations(matrix.mT, v, u, self.n_power_iterations, self.eps)
        return weight / u.clone().dot(matrix.mv(v.clone()))


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """Divide a weight by its largest singular value, which each call in training estimates a little better.

    Args:
        module: the layer, which is changed.
        name: the parameter; it moves to ``<name>_orig``.
        n_power_iterations: of every call in training.
        eps: lower bound of the norms in the iteration.
        dim: the axis that makes the rows of the matrix; default: 1 for transposed convolutions, else 0.

    Raises:
        RuntimeError: that has been done already.
        ValueError: ``n_power_iterations`` is not positive.

    Source: Miyato, Kataoka, Koyama, Yoshida (2018), Spectral normalization for generative adversarial
        networks.
    """
    if n_power_iterations <= 0:
        raise ValueError(
            "spectral_norm: Expected n_power_iterations to be positive, but got "
            f"n_power_iterations={n_power_iterations}"
        )
    hook = _SpectralNorm(name, n_power_iterations, eps, spectral_axis(module) if dim is None else dim)
    weight = _take_weight("spectral_norm", module, _SpectralNorm, name)
    rows, columns = as_matrix(weight.detach(), hook.dim).array.shape
    module.register_parameter(f"{name}_orig", weight)
    setattr(module, name, weight.detach())
    module.register_buffer(f"{name}_u", random_direction(weight, rows, eps))
    module.register_buffer(f"{name}_v", random_direction(weight, columns, eps))
    module.register_forward_pre_hook(hook)
    return module


def spectral_axis(module: Module) -> int:
    """The axis of the output channels of a weight."""
    return 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Undo :func:`spectral_norm`; the weight keeps its normalised value.

    Raises:
        ValueError: there is nothing to undo.
    """
    return _remove("remove_spectral_norm", module, _SpectralNorm, name, ("u", "v", "orig"))
