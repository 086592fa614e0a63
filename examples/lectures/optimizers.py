#!/usr/bin/env python
"""Optimizers: each rule of the lectures beside the library's, what they remember, and a table of them.

SGD; momentum in its three forms; Nesterov's gradient at the look-ahead point, also on the adaptive methods;
AdaGrad and RMSProp with epsilon inside and outside the root; AdaDelta; Adam with and without bias correction.
The properties in the table are measured on the optimizers.

Source: N, D, B and L, optimization (groups 40, 44).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import optim

Path = Iterator[nbdl.Tensor]
Gradient = Callable[[nbdl.Tensor], nbdl.Tensor]
Move = Callable[[nbdl.Tensor], nbdl.Tensor]  # of the gradient, remembering what it needs
Textbook = Callable[[nbdl.Tensor, Gradient], Path]
START, CURVATURES = (2.0, -1.0, 0.5), (1.0, 4.0, 10.0)


def sgd(x: nbdl.Tensor, grad: Gradient, lr: float = 0.02) -> Path:
    """x <- x - a g."""
    while True:
        x = x - lr * grad(x)
        yield x


def momentum_mean(x: nbdl.Tensor, grad: Gradient, lr: float = 0.02, beta: float = 0.8) -> Path:
    """m <- b m + (1 - b) g, x <- x - a m."""
    m = nbdl.zeros_like(x)
    while True:
        m = beta * m + (1 - beta) * grad(x)
        x = x - lr * m
        yield x


def momentum_velocity(x: nbdl.Tensor, grad: Gradient, lr: float = 0.02, beta: float = 0.8) -> Path:
    """v <- b v - a g, x <- x + v."""
    v = nbdl.zeros_like(x)
    while True:
        v = beta * v - lr * grad(x)
        x = x + v
        yield x


def momentum_sum(x: nbdl.Tensor, grad: Gradient, lr: float = 0.02, rho: float = 0.8) -> Path:
    """v <- rho v + g, x <- x - a v."""
    v = nbdl.zeros_like(x)
    while True:
        v = rho * v + grad(x)
        x = x - lr * v
        yield x


def nesterov(x: nbdl.Tensor, grad: Gradient, lr: float = 0.02, beta: float = 0.8) -> Path:
    """v <- b v - a g(x + b v), x <- x + v."""
    v = nbdl.zeros_like(x)
    while True:
        v = beta * v - lr * grad(x + beta * v)
        x = x + v
        yield x


def descent(method: Callable[[], Move], look_ahead: float = 0.0) -> Textbook:
    """x <- x - move(g); for Nesterov from x + b (x - x before), with the gradient there."""

    def path(x: nbdl.Tensor, grad: Gradient) -> Path:
        move, previous = method(), x
        while True:
            ahead = x + look_ahead * (x - previous)
            previous, x = x, ahead - move(grad(ahead))
            yield x

    return path


def adagrad(inside: bool = False, lr: float = 0.3, eps: float = 1e-3) -> Move:
    """r <- r + g^2; the move is a g / (sqrt(r) + eps), or / sqrt(r + eps)."""
    r = nbdl.zeros(())

    def move(g: nbdl.Tensor) -> nbdl.Tensor:
        nonlocal r
        r = r + g * g
        return lr * g / _root(r, eps, inside)

    return move


def rmsprop(
    inside: bool = False, beta: float = 0.0, lr: float = 0.02, rho: float = 0.9, eps: float = 1e-3
) -> Move:
    """r <- rho r + (1 - rho) g^2, v <- b v + g / root; the move is a v."""
    r = v = nbdl.zeros(())

    def move(g: nbdl.Tensor) -> nbdl.Tensor:
        nonlocal r, v
        r = rho * r + (1 - rho) * g * g
        v = beta * v + g / _root(r, eps, inside)
        return lr * v

    return move


def adadelta(rho: float = 0.9, eps: float = 1e-6) -> Move:
    """d = sqrt(u + eps) / sqrt(r + eps) g, with running means r of g^2 and u of d^2."""
    r = u = nbdl.zeros(())

    def move(g: nbdl.Tensor) -> nbdl.Tensor:
        nonlocal r, u
        r = rho * r + (1 - rho) * g * g
        d = (u + eps).sqrt() / (r + eps).sqrt() * g
        u = rho * u + (1 - rho) * d * d
        return d

    return move


def adam(
    corrected: bool = True, lr: float = 0.05, beta1: float = 0.9, beta2: float = 0.99, eps: float = 1e-8
) -> Move:
    """m, v: running means of g and g^2, divided by 1 - b^t, t from 1; the move is a m / (sqrt(v) + eps)."""
    m = v = nbdl.zeros(())
    t = 0

    def move(g: nbdl.Tensor) -> nbdl.Tensor:
        nonlocal m, v, t
        t += 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        scales = (1 - beta1**t, 1 - beta2**t) if corrected else (1, 1)
        return lr * (m / scales[0]) / ((v / scales[1]).sqrt() + eps)

    return move


def _root(r: nbdl.Tensor, eps: float, inside: bool) -> nbdl.Tensor:
    return (r + eps).sqrt() if inside else r.sqrt() + eps


class Rule(NamedTuple):
    """A method: as the lecture writes it, and in the library."""

    textbook: Textbook
    make: Callable[[list[nbdl.Tensor]], optim.Optimizer]
    api: str


M = {"lr": 0.02, "momentum": 0.8}
A = {"lr": 0.3, "eps": 1e-3}
R = {"lr": 0.02, "alpha": 0.9, "eps": 1e-3}
ADAM = {"lr": 0.05, "betas": (0.9, 0.99)}
RULES: dict[str, Rule] = {
    "SGD": Rule(sgd, lambda p: optim.SGD(p, lr=0.02), "SGD"),
    "momentum, mean": Rule(momentum_mean, lambda p: optim.Momentum(p, form="mean", **M), "Momentum(mean)"),
    "momentum, velocity": Rule(
        momentum_velocity, lambda p: optim.Momentum(p, form="velocity", **M), "Momentum(velocity)"
    ),
    "momentum, sum": Rule(momentum_sum, lambda p: optim.SGD(p, **M), "SGD(momentum), Momentum(sum)"),
    "Nesterov": Rule(nesterov, lambda p: optim.Nesterov(p, optim.SGD, **M), "Nesterov(SGD)"),
    "AdaGrad": Rule(descent(adagrad), lambda p: optim.Adagrad(p, **A), "Adagrad"),
    "AdaGrad, eps inside": Rule(
        descent(lambda: adagrad(inside=True)),
        lambda p: optim.Adagrad(p, eps_inside_root=True, **A),
        "Adagrad(eps_inside_root)",
    ),
    "AdaGrad with Nesterov": Rule(
        descent(adagrad, look_ahead=0.5),
        lambda p: optim.Nesterov(p, optim.Adagrad, momentum=0.5, **A),
        "Nesterov(Adagrad)",
    ),
    "RMSProp": Rule(descent(rmsprop), lambda p: optim.RMSprop(p, **R), "RMSprop"),
    "RMSProp, eps inside": Rule(
        descent(lambda: rmsprop(inside=True)),
        lambda p: optim.RMSprop(p, eps_inside_root=True, **R),
        "RMSprop(eps_inside_root)",
    ),
    "RMSProp with momentum": Rule(
        descent(lambda: rmsprop(beta=0.8)),
        lambda p: optim.RMSprop(p, momentum=0.8, **R),
        "RMSprop(momentum)",
    ),
    "RMSProp with Nesterov": Rule(
        descent(rmsprop, look_ahead=0.5),
        lambda p: optim.Nesterov(p, optim.RMSprop, momentum=0.5, **R),
        "Nesterov(RMSprop)",
    ),
    "AdaDelta": Rule(descent(adadelta), lambda p: optim.Adadelta(p), "Adadelta"),
    "Adam": Rule(descent(adam), lambda p: optim.Adam(p, **ADAM), "Adam"),
    "Adam with Nesterov": Rule(
        descent(adam, look_ahead=0.5),
        lambda p: optim.Nesterov(p, optim.Adam, momentum=0.5, **ADAM),
        "Nesterov(Adam)",
    ),
    "Adam without correction": Rule(
        descent(lambda: adam(corrected=False)),
        lambda p: optim.UncorrectedAdam(p, **ADAM),
        "UncorrectedAdam",
    ),
}


def compare(rule: Rule, n_steps: int) -> tuple[float, float]:
    """The largest difference of the library's iterates from the textbook's, and the last function value."""
    curvatures = nbdl.tensor(CURVATURES)
    x = nbdl.tensor(START, requires_grad=True)
    optimizer = rule.make([x])

    def closure() -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = (curvatures * x * x).sum() / 2
        loss.backward()
        return loss

    largest = 0.0
    for expected in itertools.islice(rule.textbook(nbdl.tensor(START), lambda x: curvatures * x), n_steps):
        optimizer.step(closure)
        largest = max(largest, (x.detach() - expected).abs().max().item())
    return largest, closure().item()


def walk(optimizer: optim.Optimizer, x: nbdl.Tensor, gradients: list[nbdl.Tensor]) -> list[nbdl.Tensor]:
    """The steps that an optimizer makes of given gradients."""
    steps = []
    for g in gradients:
        before = x.detach().clone()
        x.grad = g.clone()
        optimizer.step()
        steps.append(x.detach() - before)
    return steps


def history_weights(make: Callable[[list[nbdl.Tensor]], optim.Optimizer], state: str, n: int) -> nbdl.Tensor:
    """How much each of the last n gradients weighs in an optimizer's state, the newest first.

    Element j of the parameter has a gradient of 1 at step j and of 0 at all others, so the state holds the
    weights.
    """
    x = nbdl.zeros(n, requires_grad=True)
    optimizer = make([x])
    walk(optimizer, x, list(nbdl.eye(n)))
    return optimizer.state[x][state].flip(0)


class Properties(NamedTuple):
    """What an optimizer does, as measured."""

    first_moment: bool
    second_moment: bool
    leaky: bool
    bias_correction: bool


def measure(make: Callable[[list[nbdl.Tensor]], optim.Optimizer]) -> Properties:
    """See how an optimizer answers to gradients that are made up.

    First moment: it goes on when the gradient is 0. Second moment: the scale of the gradient does not matter.
    Leaky: large gradients that are long past do not matter either. Bias correction: with a constant gradient
    the first step is as long as the thousandth, though the means have just begun.
    """
    n = 1000
    gradients = nbdl.ones(n, 4)  # one experiment a column, since the rules work element by element
    gradients[1:, 0] = 0
    gradients[:, 2] = 100
    gradients[:10, 3] = 3
    x = nbdl.zeros(4, requires_grad=True)
    stopped, ones, hundreds, once_larger = nbdl.stack(walk(make([x]), x, list(gradients))).T.tolist()

    goes_on = stopped[1] != 0
    normalises = _near(hundreds[0], ones[0])
    forgets = normalises and _near(once_larger[-1], ones[-1])
    return Properties(goes_on, normalises, forgets, (goes_on or forgets) and _near(ones[0], ones[-1]))


def _near(a: float, b: float) -> bool:
    """Whether two steps are as long, to a percent."""
    return abs(a - b) < 0.01 * abs(b)


METHODS: dict[str, Callable[[list[nbdl.Tensor]], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.01),
    "SGD with momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
    "AdaGrad": lambda p: optim.Adagrad(p),
    "RMSProp": lambda p: optim.RMSprop(p),
    "Adam": lambda p: optim.Adam(p, betas=(0.9, 0.995)),
    "Adam without correction": lambda p: optim.UncorrectedAdam(p, betas=(0.9, 0.995)),
}


def draw_weights(figure: Any, weights: dict[str, Any]) -> None:
    """Weights of past squared gradients."""
    axes = figure.subplots()
    for (name, values), style in zip(weights.items(), ("-o", "-s", "-^", "--"), strict=True):
        axes.plot(range(len(values)), values, style, markevery=5, label=name)
    axes.set(
        xlabel="age k of the gradient in steps", ylabel="weight of its square", yscale="log",
        title=r"RMSProp remembers by $\rho^k (1 - \rho)$, AdaGrad everything alike",
    )  # fmt: skip
    axes.legend()


def show(lesson: Lesson) -> None:
    """The program."""
    n_steps = 20 if lesson.quick else 200
    rows = []
    for name, rule in RULES.items():
        difference, value = compare(rule, n_steps)
        rows.append((name, rule.api, f"{difference:.0e}", value))
    lesson.table(
        f"Rules of the lectures against the library: {n_steps} steps on a quadratic",
        ("method", "nbdl.optim", "largest difference", "last value"),
        rows,
    )
    lesson.correction(
        "Adam divides m by 1 - beta1^t and v by 1 - beta2^t, t from 1, and adds eps outside the root; "
        "its decay rates lie in [0, 1); AdaDelta keeps exponential means of squared gradients and of squared "
        "updates."
    )
    x = nbdl.zeros(1, requires_grad=True)
    ones = [nbdl.ones(1)] * 200
    rows = [
        (form, -walk(optim.Momentum([x], lr=1.0, momentum=0.9, form=form), x, ones)[-1].item())
        for form in ("mean", "velocity", "sum")
    ]
    lesson.table(
        "Step at a constant gradient of 1, rate 1, beta 0.9, in the long run", ("form", "step"), rows
    )
    lesson.correction("v = rho v + g is a discounted sum, of scale 1 / (1 - rho), not a mean.")

    weights = {
        f"RMSProp, rho = {rho}": history_weights(
            lambda p, rho=rho: optim.RMSprop(p, alpha=rho), "square_avg", 40
        )
        for rho in (0.5, 0.9, 0.99)
    }
    weights["AdaGrad"] = history_weights(lambda p: optim.Adagrad(p), "sum", 40)
    lesson.table(
        "Weight of a squared gradient of age k, read from the state",
        ("method", "k = 0", "k = 1", "k = 10", "k = 30"),
        [(name, *[w[k] for k in (0, 1, 10, 30)]) for name, w in weights.items()],
    )
    lesson.picture("history_weights", draw_weights, {name: lecture.array(w) for name, w in weights.items()})
    lesson.table(
        "Optimizers, measured (both Adams with beta2 = 0.995)",
        ("method", "first moment", "second moment", "leaky second moment", "bias correction"),
        [(name, *["yes" if p else "no" for p in measure(make)]) for name, make in METHODS.items()],
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
