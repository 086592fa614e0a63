#!/usr/bin/env python
"""Losses: what they are, what they do to scores, and which output activation goes with which.

Half squared error, l1 and l2, cross-entropy with classes and with soft labels, binary cross-entropy, the
multiclass hinge, and the total loss with lambda R(W); the worked scores 3.2, 5.1, -1.7; entropy,
cross-entropy and divergence; the gradients that matching pairs of output activation and loss have; convexity
in the first argument.

Source: L, softmax against SVM; N, losses and information; B, output activations (groups 20, 21, 22, 23, 24).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn
from nbdl.nn import functional as F
from nbdl.utils.convexity import convex_function_counterexample

SCORES, FIRST = [3.2, 5.1, -1.7], 0
Loss = Callable[[nbdl.Tensor], nbdl.Tensor]


def worked_scores() -> dict[str, float]:
    """The slide's example: probability, cross-entropy and hinge, where the first of three classes is true."""
    scores, target = nbdl.tensor(SCORES), nbdl.tensor(FIRST)
    return {
        "probability": scores.softmax(0)[FIRST].item(),
        "cross-entropy": F.cross_entropy(scores, target).item(),
        "hinge": F.multiclass_hinge_loss(scores, target).item(),
    }


def definitions() -> list[tuple[str, str, float, float]]:
    """Each loss: its formula, the value of the library, and the value of the formula written out."""
    x, y = nbdl.tensor([[0.5, -1.0, 2.0]]), nbdl.tensor([[1.0, 0.0, 0.5]])
    scores, soft = nbdl.tensor([SCORES]), nbdl.tensor([[0.7, 0.2, 0.1]])
    label = nbdl.tensor([FIRST])
    log_p = [s - math.log(sum(map(math.exp, SCORES))) for s in SCORES]
    z, c = nbdl.tensor([0.8, -1.5]), nbdl.tensor([1.0, 0.0])
    p = z.sigmoid()
    W = nbdl.tensor([[1.0, -2.0], [0.5, 0.0]])
    data_loss = F.cross_entropy(scores, label)
    return [
        ("half squared error", "1/2 |F - c|^2", F.half_squared_error(x, y).item(), (0.5**2 + 1 + 1.5**2) / 2),
        ("l2", "|F - c|^2", F.mse_loss(x, y, reduction="sum").item(), 0.5**2 + 1 + 1.5**2),
        ("l1", "sum |F - c|", F.l1_loss(x, y, reduction="sum").item(), 0.5 + 1 + 1.5),
        ("cross-entropy, class k", "-log p_k", data_loss.item(), -log_p[FIRST]),
        (
            "cross-entropy, soft c",
            "-sum c_k log p_k, 1^T c = 1",
            F.cross_entropy(scores, soft).item(),
            -sum(weight * value for weight, value in zip((0.7, 0.2, 0.1), log_p, strict=True)),
        ),
        (
            "binary cross-entropy",
            "-c log p - (1 - c) log(1 - p)",
            F.binary_cross_entropy_with_logits(z, c).item(),
            -((p[0].log() + (1 - p[1]).log()) / 2).item(),
        ),
        (
            "multiclass hinge",
            "sum_j max(0, s_j - s_y + 1)",
            F.multiclass_hinge_loss(scores, label).item(),
            max(0, 5.1 - 3.2 + 1) + max(0, -1.7 - 3.2 + 1),
        ),
        (
            "total loss, lambda 0.1",
            "L + lambda sum W^2",
            (data_loss + nn.L2(0.1)([W])).item(),
            -log_p[FIRST] + 0.1 * (1 + 4 + 0.25),
        ),
    ]


def softmax_against_svm() -> list[tuple[str, float, float]]:
    """Cross-entropy and hinge of scores whose first class wins by more and more."""
    rows = []
    for scores in ([10.0, -2.0, 3.0], [10.0, 9.0, 9.0], [10.0, -100.0, -100.0]):
        s, label = nbdl.tensor(scores), nbdl.tensor(0)
        rows.append((str(scores), F.cross_entropy(s, label).item(), F.multiclass_hinge_loss(s, label).item()))
    return rows


def likelihoods(n: int) -> tuple[float, float, float]:
    """The likelihood of n samples of probability 0.3: as a product, its logarithm as a sum, and exactly."""
    p = nbdl.full((n,), 0.3)
    return p.prod().item(), p.log().sum().item(), n * math.log(0.3)


def information(n: int) -> list[tuple[str, float]]:
    """Entropies of random p and q of n classes; cross-entropy as mean negative log-likelihood of samples."""
    p, q = nbdl.rand(n).softmax(0), nbdl.randn(n).softmax(0)
    counts = nbdl.tensor([7.0, 2.0, 1.0])
    samples = nbdl.repeat_interleave(nbdl.arange(3), counts.long())
    model = nbdl.tensor([0.5, 0.3, 0.2])
    return [
        ("H(p)", F.entropy(p).item()),
        ("H(p, q)", F.distribution_cross_entropy(p, q).item()),
        ("KL(p || q) = H(p, q) - H(p)", F.distribution_kl_divergence(p, q).item()),
        ("H(p, p) - H(p)", (F.distribution_cross_entropy(p, p) - F.entropy(p)).item()),
        ("H(frequencies, model)", F.distribution_cross_entropy(counts / counts.sum(), model).item()),
        ("-(1/N) log-likelihood", -(model[samples].log().mean().item())),
    ]


def score_gradient(loss: Loss, score: float) -> float:
    """The derivative of a loss with respect to the score."""
    s = nbdl.tensor(score, requires_grad=True)
    loss(s).backward()
    return s.grad.item()


def matching_pairs() -> list[tuple[str, str, float, float]]:
    """Gradients by a score of -8 whose target is 1: the pairs that match give output - target."""
    one = nbdl.tensor(1.0)
    pairs: list[tuple[str, str, Callable[[nbdl.Tensor], nbdl.Tensor], Loss]] = [
        ("identity", "half squared error", lambda s: s, lambda s: (s - one).square() / 2),
        ("identity", "l1 (gives the sign)", lambda s: s, lambda s: (s - one).abs()),
        ("sigmoid", "binary cross-entropy", nbdl.sigmoid,
         lambda s: F.binary_cross_entropy_with_logits(s, one)),
        ("softmax", "cross-entropy", lambda s: _two_classes(s).softmax(0)[0],
         lambda s: F.cross_entropy(_two_classes(s), nbdl.tensor(0))),
        ("sigmoid", "half squared error", nbdl.sigmoid, lambda s: (s.sigmoid() - one).square() / 2),
        ("tanh", "half squared error", nbdl.tanh, lambda s: (s.tanh() - one).square() / 2),
    ]  # fmt: skip
    return [
        (output, name, score_gradient(loss, -8.0), (g(nbdl.tensor(-8.0)) - one).item())
        for output, name, g, loss in pairs
    ]


def _two_classes(s: nbdl.Tensor) -> nbdl.Tensor:
    return nbdl.stack([s, nbdl.zeros_like(s)])


ONE_SCORE: dict[str, Loss] = {
    "half squared error, target 1": lambda s: (s - 1).square() / 2,
    "l1, target 1": lambda s: (s - 1).abs(),
    "cross-entropy (logistic)": lambda s: F.softplus(-s),
    "hinge": lambda s: (1 - s).clamp(min=0),
    "sigmoid, then squared error": lambda s: (s.sigmoid() - 1).square(),
}


def draw_losses(figure: Any, s: Any, curves: dict[str, Any], q: Any, information: dict[str, Any]) -> None:
    """The losses of one score; entropy, cross-entropy and divergence of coins."""
    left, right = figure.subplots(1, 2)
    for k, (name, curve) in enumerate(curves.items()):
        left.plot(s, curve, label=name, linestyle=("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))[k])
    left.set(xlabel="score of the true class", ylabel="loss", ylim=(-0.1, 6), title="Convex, but for one")
    for k, (name, curve) in enumerate(information.items()):
        right.plot(q, curve, label=name, linestyle=("-", "--", ":")[k])
    right.axvline(0.3, color="black", linewidth=1)
    right.set(xlabel="q", ylabel="information in nats", ylim=(-0.05, 2), title="Coins p = 0.3 and q")
    left.legend(fontsize=10)
    right.legend()


def show(lesson: Lesson) -> None:
    """The program."""
    lesson.table("Losses and their formulas", ("loss", "formula", "library", "written out"), definitions())
    lesson.table(
        f"Scores {SCORES}, the first class is true",
        ("quantity", "value"),
        [(name, f"{value:.4f}") for name, value in worked_scores().items()],
    )
    lesson.table(
        "Softmax against SVM: the hinge is content with a margin of 1, the cross-entropy never quite",
        ("scores, the first class is true", "cross-entropy", "hinge"),
        softmax_against_svm(),
    )
    product, logarithms, exact = likelihoods(1000)
    lesson.table(
        "The likelihood of 1000 samples of probability 0.3: the product underflows, the sum of logs does not",
        ("quantity", "value"),
        [("product", product), ("sum of logs", logarithms), ("1000 log 0.3", exact)],
    )
    lesson.table("Information in nats", ("quantity", "value"), information(5))
    lesson.correction("KL(p || q) = H(p, q) - H(p), and the simplex is 1^T x = 1, x >= 0.")
    lesson.table(
        "Which output activation goes with which loss: gradients at score -8, target 1",
        ("output", "loss", "d loss / d score", "output - target"),
        matching_pairs(),
    )
    n_points = 1_000 if lesson.quick else 100_000
    points = 6 * nbdl.randn(500)
    found = {name: convex_function_counterexample(loss, points, n_points) for name, loss in ONE_SCORE.items()}
    lesson.table(
        f"Convex in the first argument? {n_points:,} tries of the two-point test",
        ("loss", "convex", "counterexample x, y, t"),
        [
            (name, "no", ", ".join(f"{float(value):.2f}" for value in broken[:3]))
            if broken
            else (name, "not refuted", "")
            for name, broken in found.items()
        ],
    )
    s, q, p = nbdl.linspace(-4, 4, 200), nbdl.linspace(0.005, 0.995, 199), nbdl.tensor([0.3, 0.7])
    coins = nbdl.stack([q, 1 - q], dim=1)
    curves = {
        "cross-entropy H(p, q)": F.distribution_cross_entropy(p, coins),
        "divergence KL(p || q)": F.distribution_kl_divergence(p, coins),
        "entropy H(p)": F.entropy(p).expand(len(q)),
    }
    lesson.picture(
        "losses",
        draw_losses,
        lecture.array(s),
        {name: lecture.array(loss(s)) for name, loss in ONE_SCORE.items()},
        lecture.array(q),
        {name: lecture.array(curve) for name, curve in curves.items()},
        size=(12, 5),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
