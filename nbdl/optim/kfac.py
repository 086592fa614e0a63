"""K-FAC as an optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.module import Module
from nbdl.ops.joining import stack
from nbdl.ops.matmul import dot
from nbdl.optim.curvature.blocks import KroneckerSpectrum
from nbdl.optim.curvature.kfac import Layer, Recording, check_fisher, columns_of, layers_of
from nbdl.optim.curvature.kfac_layers import packed, unpacked
from nbdl.optim.curvature.source import Source
from nbdl.optim.elementwise import zeros_state
from nbdl.optim.optimizer import check_at_least_zero, update
from nbdl.optim.outputs import MOMENTUM_STEP, OutputsOptimizer, shortening
from nbdl.optim.result import Status, reported
from nbdl.optim.shampoo import check_frequency
from nbdl.optim.vectors import fetch, moved, norm
from nbdl.random import Generator

_SPECTRUM = ("left_vectors", "right_vectors", "eigenvalues")  # as the state names them


class KFAC(OutputsOptimizer):
    r"""K-FAC: natural gradient descent with one Kronecker product a layer as the Fisher matrix.

        L <- ema L + (1 - ema) g g^T,  R <- ema R + (1 - ema) a a^T
        d = (L (x) R + damping I)^-1 gradient,  v <- momentum v + nu d,  p <- p - lr v

    with the inputs a of a layer and the gradients g by its outputs, and nu <= 1 so that the change in KL
    divergence stays within ``max_kl``. See :class:`nbdl.optim.curvature.KFAC` for the layers that have such
    factors; all other parameters take plain gradient steps. The closure calls the model and returns its
    outputs and the targets; it calls no ``backward``. Where the loss, its gradient or the factors are not
    finite nothing changes, and ``result`` says so.

    Args:
        model: the module.
        loss: a function of outputs and targets: ``nn.CrossEntropyLoss()``, ``nn.MSELoss()`` or
            ``nn.BCEWithLogitsLoss()``; any other one with ``fisher="empirical"``.
        params: parameters or groups, which may have their own ``lr``, ``momentum`` and ``weight_decay``;
            default: all that require a gradient. Other settings are those of the first group.
        lr: the learning rate.
        momentum: how much of the last step is kept.
        damping: added to the Fisher matrix.
        weight_decay: how much parameters shrink, relative to the learning rate.
        ema: how much of the factors is kept in a step; in the first steps, less.
        max_kl: bound of the divergence, see above; None: there is none.
        fisher: "mc" (targets drawn from the model), "exact" or "empirical" (the targets of the data).
        n_samples: targets for every row with "mc".
        factor_freq: steps between two updates of the factors.
        inverse_freq: steps between two decompositions of them.
        generator: where sampled targets come from; default: the global one.

    Raises:
        TypeError: ``model`` is no module, or the closure returns no pair.
        ValueError: a setting is out of its range, or no layer has factors.

    Source: Martens, Grosse (2015), Optimizing neural networks with Kronecker-factored approximate curvature;
        Ba, Grosse, Martens (2017), Distributed second-order optimization using Kronecker-factored
        approximations, section 5 (the bound of the divergence).

    Example:
        >>> import nbdl
        >>> _ = nbdl.manual_seed(0)
        >>> x, y = nbdl.randn(64, 4), nbdl.randint(0, 3, (64,))
        >>> model = nbdl.nn.Sequential(nbdl.nn.Linear(4, 16), nbdl.nn.Tanh(), nbdl.nn.Linear(16, 3))
        >>> optimizer = nbdl.optim.KFAC(model, nbdl.nn.CrossEntropyLoss(), lr=0.5)
        >>> losses = [optimizer.step(lambda: (model(x), y)).item() for _ in range(30)]
        >>> losses[-1] < 0.9 * losses[0]
        True
    """

    not_negative = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        model: Module,
        loss: Callable[[Tensor, Any], Tensor],
        params: Iterable[Any] | None = None,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        damping: float = 3e-2,
        weight_decay: float = 0.0,
        ema: float = 0.95,
        max_kl: float | None = 1e-2,
        fisher: str = "mc",
        n_samples: int = 1,
        factor_freq: int = 1,
        inverse_freq: int = 5,
        generator: Generator | None = None,
    ):
        if not isinstance(model, Module):
            raise TypeError(f"KFAC: model must be a module, got {type(model).__name__}")
        if params is None:
            params = [p for p in model.parameters() if p.requires_grad]
        super().__init__(params, loss, {
            "lr": lr, "momentum": momentum, "damping": damping, "weight_decay": weight_decay, "ema": ema,
            "max_kl": max_kl, "fisher": fisher, "n_samples": n_samples, "factor_freq": factor_freq,
            "inverse_freq": inverse_freq,
        })  # fmt: skip
        self._layers = layers_of(model, self.trained)
        if not self._layers:
            raise ValueError("KFAC: no layer of the model has Kronecker factors")
        self._generator = generator

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        check_fisher("KFAC", group["fisher"], group["n_samples"])
        if not group["damping"] > 0:
            raise ValueError(f"KFAC: damping must be above 0, got {group['damping']}")
        if not 0 <= group["ema"] < 1:
            raise ValueError(f"KFAC: ema must be in [0, 1), got {group['ema']}")
        if group["max_kl"] is not None:
            check_at_least_zero("KFAC", "max_kl", group["max_kl"])
        for name in ("factor_freq", "inverse_freq"):
            check_frequency("KFAC", name, group[name])

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {name: group[name] for name in ("lr", "momentum", "weight_decay")}

    def take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        settings = self.param_groups[0]
        counts = self.state[self._layers[0].params[0]]
        steps = counts.get("updates", 0)
        learns = steps % settings["factor_freq"] == 0
        recording = Recording(self._layers)
        with recording.looking() if learns else nullcontext():
            source = self.evaluated(closure)
        loss, gradients = self.differentiated(source)
        factors = self._moments(source, recording, settings) if learns else []
        with no_grad():
            sums = [factor.sum() for pair in factors if pair is not None for factor in pair]
            gradient = source.layout.flat(gradients)
            value, size, *others = fetch(loss.reshape(()), norm(gradient), *sums)
        if not all(map(math.isfinite, (value, size, *others))):
            self.result = reported(Status.NON_FINITE, value, nfev=1, njev=1, nit=0)
            return loss
        if learns:
            self._learn(factors, steps // settings["factor_freq"], settings)
        if steps % settings["inverse_freq"] == 0:
            self._decompose()
        directions = {id(p): g for p, g in zip(source.params, gradients, strict=True)}
        self._precondition(directions, settings)
        for index, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if id(p) in directions]
            states = [[zeros_state(self.state[p], "momentum_buffer", p)] for p in params]
            if params:
                moves = [directions[id(p)] for p in params]
                update(MOMENTUM_STEP, params, moves, states, list(self.scalars(index, group).values()))
        self.state[self._layers[0].params[0]]["updates"] = steps + 1
        self.result = reported(Status.STEPPED if size else Status.CONVERGED, value, nfev=1, njev=1)
        return loss

    def _moments(
        self, source: Source, recording: Recording, settings: dict[str, Any]
    ) -> list[tuple[Tensor, Tensor] | None]:
        """The factors of a mini-batch, layer by layer; None for a layer that was not called."""
        (term,) = source.terms()
        columns = columns_of(source, term, settings["fisher"], settings["n_samples"], self._generator)
        rows = float(term.outputs.shape[0]) if source.reduction == "mean" else 1.0
        with no_grad():
            return [
                None if found is None else (found.left * (1 / rows), found.right * (1 / found.positions))
                for found in recording.moments(term.outputs, columns)
            ]

    def _learn(
        self, factors: list[tuple[Tensor, Tensor] | None], updates: int, settings: dict[str, Any]
    ) -> None:
        """Mix the factors of a mini-batch into the means."""
        keep = min(1 - 1 / (updates + 1), settings["ema"])
        for layer, pair in zip(self._layers, factors, strict=True):
            state = self.state[layer.params[0]]
            with no_grad():
                for name, factor in zip(("left", "right"), pair or (), strict=False):
                    old = state.get(name)
                    state[name] = factor if old is None else moved(keep * old, 1 - keep, factor)

    def _decompose(self) -> None:
        for layer in self._layers:
            state = self.state[layer.params[0]]
            if "left" in state:
                spectrum = KroneckerSpectrum.of(state["left"], state["right"])
                state.update(zip(_SPECTRUM, spectrum, strict=True))

    def _precondition(self, directions: dict[int, Tensor], settings: dict[str, Any]) -> None:
        """Replace the gradients of the layers by directions, shortened to the bound of the divergence."""
        found: dict[int, Tensor] = {}
        with no_grad():
            for layer in self._layers:
                found.update(self._direction(layer, directions, settings["damping"]))
            if settings["max_kl"] is not None and found:
                slopes = [dot(directions[key].reshape(-1), d.reshape(-1)) for key, d in found.items()]
                squared = float(settings["lr"]) ** 2 * stack(slopes).sum()
                factor = shortening(squared, settings["max_kl"])
                found = {key: d * factor for key, d in found.items()}
        directions.update(found)

    def _direction(self, layer: Layer, gradients: dict[int, Tensor], damping: float) -> dict[int, Tensor]:
        state = self.state[layer.params[0]]
        if _SPECTRUM[0] not in state:
            return {}
        spectrum = KroneckerSpectrum(*[state[name] for name in _SPECTRUM])
        matrices = packed([gradients[id(p)] for p in layer.params], layer.rule.shape(layer.module))
        parts = unpacked(spectrum.solve(matrices, damping), layer.params)
        return {id(p): part for p, part in zip(layer.params, parts, strict=True)}
