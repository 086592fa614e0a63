#!/usr/bin/env python
"""The backward pass by hand: F = W a(K y + b) with softmax cross-entropy, and the deltas of a two-layer net.

Every gradient is written as the lecture derives it, compared with the tape, and with central differences.

Source: N, backpropagation worked out; B, the delta recursion (group 32).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import lecture
from lecture import Lesson

import nbdl
from nbdl.nn import functional as F

Gradients = dict[str, nbdl.Tensor]


def worked_example(n_in: int = 4, n_hidden: int = 5, n_out: int = 3) -> tuple[Gradients, ...]:
    """The gradients of L = -c^T log sigma(u2), u2 = W u1, u1 = a(u0), u0 = K y + b, with a = tanh.

    Returns:
        By the formulas of the lecture, by the tape, and by central differences.
    """
    K, b = nbdl.randn(n_hidden, n_in), nbdl.randn(n_hidden)
    W, y = nbdl.randn(n_out, n_hidden), nbdl.randn(n_in)
    c = nbdl.rand(n_out).softmax(0)  # 1^T c = 1
    variables = {"W": W, "K": K, "b": b, "y": y}

    # The lecture: from the loss back to each variable.
    u1 = (K @ y + b).tanh()
    delta2 = (W @ u1).softmax(0) - c
    delta0 = (1 - u1**2) * (W.T @ delta2)  # diag(a') W^T (sigma(u2) - c)
    by_hand = {
        "u2": delta2,
        "W": nbdl.outer(delta2, u1),
        "u1": W.T @ delta2,
        "K": nbdl.outer(delta0, y),
        "b": delta0,
        "y": K.T @ delta0,
    }

    # The tape, which keeps the gradients of u1 and u2 when it is asked to.
    leaves = {name: value.clone().requires_grad_() for name, value in variables.items()}
    hidden = (leaves["K"] @ leaves["y"] + leaves["b"]).tanh()
    scores = leaves["W"] @ hidden
    hidden.retain_grad()
    scores.retain_grad()
    F.cross_entropy(scores, c).backward()
    by_tape = {"u2": scores.grad, "u1": hidden.grad, **{name: leaf.grad for name, leaf in leaves.items()}}

    def loss() -> nbdl.Tensor:
        return F.cross_entropy(W @ (K @ y + b).tanh(), c)

    return by_hand, by_tape, {name: central_differences(loss, value) for name, value in variables.items()}


def central_differences(loss: Callable[[], nbdl.Tensor], x: nbdl.Tensor, h: float = 1e-5) -> nbdl.Tensor:
    """(L(x + h e_i) - L(x - h e_i)) / 2h for each element of `x`, which `loss` reads."""
    result = nbdl.zeros_like(x)
    flat, slopes = x.view(-1), result.view(-1)
    for i in range(x.numel()):
        kept = flat[i].item()
        flat[i] = kept + h
        above = loss().item()
        flat[i] = kept - h
        below = loss().item()
        flat[i] = kept
        slopes[i] = (above - below) / (2 * h)
    return result


def delta_recursion(sizes: tuple[int, ...] = (4, 6, 3), batch: int = 8) -> tuple[Gradients, Gradients]:
    """The deltas of a network of sigmoid layers with loss 1/2 |y - t|^2, averaged over a batch.

    The last layer has delta = (y - t) a'(z); the one before delta = (delta W) a'(z), with the W between; each
    weight has the gradient delta^T x, each bias the sum of delta.

    Returns:
        The gradients by the recursion, and by the tape.
    """
    x, t = nbdl.randn(batch, sizes[0]), nbdl.rand(batch, sizes[-1])
    weights = [nbdl.randn(m, n).requires_grad_() for n, m in itertools.pairwise(sizes)]
    biases = [nbdl.randn(m).requires_grad_() for m in sizes[1:]]

    activations = [x]
    for W, b in zip(weights, biases, strict=True):
        activations.append((activations[-1] @ W.T + b).sigmoid())
    (F.half_squared_error(activations[-1], t, reduction="sum") / batch).backward()

    recursion = {}
    with nbdl.no_grad():
        error = (activations[-1] - t) / batch
        for k in reversed(range(len(weights))):
            y = activations[k + 1]
            delta = error * y * (1 - y)
            recursion[f"W{k + 1}"] = delta.T @ activations[k]
            recursion[f"b{k + 1}"] = delta.sum(0)
            error = delta @ weights[k]
    tape = {f"W{k + 1}": W.grad for k, W in enumerate(weights)}
    return recursion, tape | {f"b{k + 1}": b.grad for k, b in enumerate(biases)}


def largest_difference(a: nbdl.Tensor, b: nbdl.Tensor) -> str:
    """The largest difference of an element."""
    return f"{(a - b).abs().max().item():.1e}"


FORMULAS = {
    "u2": "sigma - c",
    "W": "(sigma - c) u1^T",
    "u1": "W^T (sigma - c)",
    "K": "diag(a') W^T (sigma - c) y^T",
    "b": "diag(a') W^T (sigma - c)",
    "y": "K^T diag(a') W^T (sigma - c)",
}


def show(lesson: Lesson) -> None:
    """The program."""
    by_hand, by_tape, by_differences = worked_example()
    lesson.table(
        "L = -c^T log sigma(W a(K y + b)): largest difference of an element",
        ("variable", "gradient", "from the tape", "from central differences"),
        [
            (
                name,
                formula,
                largest_difference(by_hand[name], by_tape[name]),
                largest_difference(by_hand[name], by_differences[name]) if name in by_differences else "",
            )
            for name, formula in FORMULAS.items()
        ],
    )
    lesson.correction("the gradients of K, b and y carry W^T, and the softmax has sigma - c, not c - sigma.")
    recursion, tape = delta_recursion()
    lesson.table(
        "The delta recursion of a two-layer sigmoid network",
        ("variable", "shape", "largest difference from the tape"),
        [
            (name, tuple(found.shape), largest_difference(found, tape[name]))
            for name, found in recursion.items()
        ],
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
