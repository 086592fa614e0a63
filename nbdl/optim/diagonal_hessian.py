"""Methods that divide by an estimate of the Hessian's diagonal: AdaHessian and Sophia."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Expr, Formula, maximum, minimum, pow
from nbdl.optim.checks import count as checked_count
from nbdl.optim.elementwise import (
    CheckedOptimizer,
    ElementwiseOptimizer,
    count,
    counter,
    overwrite,
    rates,
    sign_of,
    zeros_state,
)
from nbdl.optim.optimizer import COUNT
from nbdl.optim.recorded import pulled_back
from nbdl.random import Generator


def hutchinson_diagonal(
    params: Sequence[Tensor], n_samples: int = 1, generator: Generator | None = None
) -> list[Tensor]:
    r"""An unbiased estimate of the diagonal of the Hessian: the mean of z * (H z) over random signs z.

    Args:
        params: parameters whose gradients were made by ``loss.backward(create_graph=True)``.
        n_samples: how many z.
        generator: where the signs come from; default: the global one.

    Returns:
        For each parameter a tensor of its shape.

    Raises:
        RuntimeError: no gradient is on the tape.

    Source: Bekas, Kokiopoulou, Saad (2007), An estimator for the diagonal of a matrix, equation 1.
    """
    on_tape = [k for k, param in enumerate(params) if param.grad is not None and param.grad.requires_grad]
    if not on_tape:
        raise RuntimeError(
            "hutchinson_diagonal: the gradients of the parameters must be on the tape; call "
            "loss.backward(create_graph=True)"
        )
    total: list[Tensor] | None = None
    for _ in range(n_samples):
        with no_grad():
            signs = [2 * param.detach().bernoulli(0.5, generator=generator) - 1 for param in params]
        gradients = [params[k].grad for k in on_tape]
        products = pulled_back(gradients, params, [signs[k] for k in on_tape])
        with no_grad():
            sample = [z * product for z, product in zip(signs, products, strict=True)]
            total = sample if total is None else [a + b for a, b in zip(total, sample, strict=True)]
    with no_grad():
        return [value / n_samples for value in total or ()]


def _adahessian(
    p: Expr, g: Expr, m: Expr, v: Expr, h: Expr, step: Expr, lr: Expr, beta1: Expr, beta2: Expr, eps: Expr,
    power: Expr, decay: Expr, sign: Expr,
) -> tuple[Expr, ...]:  # fmt: skip
    m, v = m + (1 - beta1) * (sign * g - m), beta2 * v + (1 - beta2) * (h * h)
    scale = pow(v / (1 - pow(beta2, step)), power / 2) + eps
    return p * (1 - lr * decay) - lr / (1 - pow(beta1, step)) * (m / scale), m, v


_ADAHESSIAN = Formula("adahessian", _adahessian, 13)


class AdaHessian(CheckedOptimizer):
    r"""AdaHessian: Adam with the diagonal of the Hessian in place of the gradient's size.

        D = mean of z * (H z),  v <- beta2 v + (1 - beta2) D^2
        p <- p - lr m_hat / (v_hat^(hessian_power / 2) + eps)

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate.
        betas: decay of the two running means.
        eps: added to the denominator.
        weight_decay: how much parameters shrink, relative to the learning rate.
        hessian_power: from 0 (gradient descent) to 1 (Newton's scale).
        n_samples: random vectors a step.
        average_conv_kernel: use one value for each filter of a convolution: the mean of |D| over the axes
            after the second.
        maximize: climb instead of descend.
        generator: where the random vectors come from.

    Raises:
        ValueError: a hyperparameter is out of its range.

    Source: Yao et al. (2021), ADAHESSIAN: an adaptive second order optimizer for machine learning,
        algorithm 1.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = nbdl.optim.AdaHessian([w], lr=0.1)
        >>> (w ** 2).sum().backward(create_graph=True)
        >>> optimizer.step()
        >>> w.detach()
        tensor([0.9000, 1.8000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        hessian_power: float = 1.0,
        n_samples: int = 1,
        average_conv_kernel: bool = False,
        *,
        maximize: bool = False,
        generator: Generator | None = None,
    ):
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "hessian_power": hessian_power, "n_samples": n_samples,
            "average_conv_kernel": average_conv_kernel, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.generator = generator

    def check_group(self, group: dict[str, Any]) -> None:
        super().check_group(group)
        if not 0.0 <= group["hessian_power"] <= 1.0:
            raise ValueError(f"AdaHessian: Invalid Hessian power value: {group['hessian_power']} (0 to 1)")
        checked_count("AdaHessian", "n_samples", group["n_samples"], 1)

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            **rates(group), "power": group["hessian_power"], "decay": group["weight_decay"],
            "sign": sign_of(group),
        }  # fmt: skip

    def update_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], scalars: dict[str, np.ndarray]
    ) -> None:
        """A new estimate of the diagonal, and a step scaled by it."""
        diagonals = hutchinson_diagonal(params, group["n_samples"], self.generator)
        rows: list[Any] = []
        for param, grad, diagonal in zip(params, grads, diagonals, strict=True):
            state = self.state[param]
            state.setdefault("step", counter(0.0))
            m, v = zeros_state(state, "exp_avg", param), zeros_state(state, "exp_avg_sq", param)
            if group["average_conv_kernel"] and param.ndim > 2:
                with no_grad():
                    diagonal = diagonal.abs().mean(tuple(range(2, param.ndim)), keepdim=True)
            rows.append([param, grad, m, v, diagonal, state["step"], *scalars.values()])
        count(COUNT, [[self.state[param]["step"]] for param in params], ())
        overwrite(_ADAHESSIAN, rows, (0, 2, 3), 5)


def _sophia(
    p: Expr, g: Expr, m: Expr, h: Expr, step: Expr, lr: Expr, beta1: Expr, rho: Expr, eps: Expr, decay: Expr,
    sign: Expr,
) -> tuple[Expr, ...]:  # fmt: skip
    m = beta1 * m + (1 - beta1) * (sign * g)
    move = minimum(maximum(m / maximum(rho * h, eps), -1), 1)
    return p * (1 - lr * decay) - lr * move, m, h


_SOPHIA = Formula("sophia", _sophia, 11)
_HESSIAN_MEAN = Formula("sophia_hessian", lambda h, new, beta2: beta2 * h + (1 - beta2) * new, 3)
_SQUARED = Formula("sophia_squares", lambda h, g, beta2, n: beta2 * h + (1 - beta2) * (n * (g * g)), 4)


class Sophia(ElementwiseOptimizer):
    r"""Sophia: momentum divided by the diagonal of the Hessian, clipped coordinate by coordinate.

        p <- p - lr clip(m / max(rho h, eps), -1, 1)

    The running mean h is updated every ten steps or so, by one of two methods, with its own backward pass:

    - :meth:`update_hessian`, from the gradient of the loss for labels that were drawn from the model's own
      predictions (Gauss-Newton-Bartlett, algorithm 2);
    - :meth:`update_hessian_hutchinson`, from ``loss.backward(create_graph=True)`` (algorithm 1).

    Args:
        params: parameters or groups, see :class:`Optimizer`.
        lr: the learning rate, which is the longest step of a coordinate.
        betas: decay of the momentum and of h.
        rho: scale of h; larger means fewer clipped coordinates.
        weight_decay: how much parameters shrink, relative to the learning rate.
        eps: least denominator.
        maximize: climb instead of descend.

    Raises:
        ValueError: a hyperparameter is negative, or a beta is not in [0, 1).

    Source: Liu, Li, Hall, Liang, Ma (2024), Sophia: a scalable stochastic second-order optimizer for language
        model pre-training, algorithm 3.
    """

    not_negative = ("lr", "rho", "weight_decay", "eps")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.965, 0.99),
        rho: float = 0.04,
        weight_decay: float = 1e-1,
        *,
        eps: float = 1e-12,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr, "betas": betas, "rho": rho, "weight_decay": weight_decay, "eps": eps,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "hessian")

    def hyperparameters(self, group: dict[str, Any]) -> dict[str, float]:
        return {
            "lr": group["lr"], "beta1": group["betas"][0], "rho": group["rho"], "eps": group["eps"],
            "decay": group["weight_decay"], "sign": sign_of(group),
        }  # fmt: skip

    def rule(self, group: dict[str, Any]) -> Formula:
        return _SOPHIA

    def update_hessian(self, bs: int = 1) -> None:
        """Mix bs g^2 into h, where g is the gradient of the mean loss of ``bs`` sampled labels."""
        for group, params in self._with_gradient():
            weights = np.array(group["betas"][1]), np.array(float(bs))
            rows: list[Any] = [[self.state_of(p, group)["hessian"], p.grad, *weights] for p in params]
            overwrite(_SQUARED, rows, (0,), 2)

    def update_hessian_hutchinson(self, n_samples: int = 1, generator: Generator | None = None) -> None:
        """Mix z * (H z) into h, for random signs z.

        Raises:
            RuntimeError: the gradients are not on the tape.
        """
        for group, params in self._with_gradient():
            diagonals = hutchinson_diagonal(params, n_samples, generator)
            weight = np.array(group["betas"][1])
            rows: list[Any] = [
                [self.state_of(param, group)["hessian"], diagonal, weight]
                for param, diagonal in zip(params, diagonals, strict=True)
            ]
            overwrite(_HESSIAN_MEAN, rows, (0,), 2)

    def _with_gradient(self) -> list[tuple[dict[str, Any], list[Any]]]:
        chosen = [
            (group, [param for param in group["params"] if param.grad is not None])
            for group in self.param_groups
        ]
        return [(group, params) for group, params in chosen if params]
