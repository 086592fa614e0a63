#!/usr/bin/env python
"""Recognises malignant tumours by logistic regression, trained by Newton's method with conjugate gradients.

    python examples/logistic_regression.py
    python examples/logistic_regression.py --penalty 0.001 --backend numpy

The data come with scikit-learn: 569 biopsies, 30 measures of the nuclei of their cells (Wolberg, Street,
Mangasarian 1995, Breast Cancer Wisconsin). The loss, mean log-loss plus penalty / 2 |w|^2, is convex, so the
minimum is the same for every method: the program finds it with a gradient of 1e-10, and tells in how many
iterations, beside those that gradient descent takes for a gradient of 1e-4.

Source: Nocedal, Wright (2006), Numerical optimization, algorithm 7.1 (line-search Newton-CG).
"""

from __future__ import annotations

import argparse
import sys

import application
import nbdl
from nbdl import nn
from nbdl.nn import functional as F
from nbdl.utils.metrics import accuracy, confusion_matrix

TEST_PART = 0.25


def load_data() -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """Measures (569, 30), and 1 for malignant (569,)."""
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        application.refuse("scikit-learn is missing, which brings the data: pip install scikit-learn")
    measures, benign = load_breast_cancer(return_X_y=True)
    return nbdl.tensor(measures), nbdl.tensor(1.0 - benign)


def regression_loss(
    model: nn.Linear, measures: nbdl.Tensor, malignant: nbdl.Tensor, penalty: float
) -> nbdl.Tensor:
    """The mean log-loss and the penalty of large weights."""
    log_loss = F.binary_cross_entropy_with_logits(model(measures).squeeze(1), malignant)
    return log_loss + penalty / 2 * model.weight.square().sum()


def gradient_size(model: nn.Linear, loss: nbdl.Tensor) -> float:
    """The largest element of the gradient."""
    return max(g.abs().max().item() for g in nbdl.autograd.grad(loss, list(model.parameters())))


def count_descent(options: argparse.Namespace, model: nn.Linear, loss, tolerance: float, limit: int) -> int:
    """Steps of gradient descent with the largest safe rate until the gradient is that small."""
    optimizer = nbdl.optim.SGD(model.parameters(), lr=0.3)

    @application.compiled(options)
    def descend() -> nbdl.Tensor:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
        return nbdl.stack([p.grad.abs().max() for p in model.parameters()]).max()

    steps = 1
    while descend().item() > tolerance and steps < limit:
        steps += 1
    return steps


def train(options: argparse.Namespace) -> application.Figures:
    """Find the minimum; returns accuracy and counts."""
    measures, malignant = load_data()
    order = nbdl.randperm(len(measures))
    split = int(len(order) * TEST_PART)
    test, training = order[:split], order[split:]
    mean, deviation = measures[training].mean(0), measures[training].std(0)
    measures = (measures - mean) / deviation
    model = nn.Linear(measures.shape[1], 1, dtype=nbdl.float64)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    optimizer = nbdl.optim.NewtonCG(model.parameters(), tolerance_grad=1e-10)

    def loss(network: nn.Linear) -> nbdl.Tensor:
        return regression_loss(network, measures[training], malignant[training], options.penalty)

    def step(batch: None) -> dict[str, float]:
        before = optimizer.step(lambda: loss(model))
        return {"loss": before, "gradient": gradient_size(model, loss(model))}

    history = application.fit(
        options, step, [None], 9 if options.quick else 12, {"model": model, "optimizer": optimizer}
    )
    iterations = 1 + sum(epoch["gradient"] > 1e-10 for epoch in history)
    with nbdl.no_grad():
        scores = model(measures[test]).squeeze(1)
    predicted = (scores > 0).long()
    missed, alarms = (confusion_matrix(predicted, malignant[test].long(), 2)[k, 1 - k].item() for k in (1, 0))

    def draw(left, right):
        left.semilogy(range(1, len(history) + 1), [epoch["gradient"] for epoch in history], ".-")
        left.set(xlabel="iterations of Newton-CG", ylabel="largest element of the gradient")
        for value, label in ((0, "benign"), (1, "malignant")):
            right.hist(scores[malignant[test] == value].cpu().numpy(), bins=20, alpha=0.6, label=label)
        right.axvline(0, color="gray", linestyle=":")
        right.set(xlabel="logit of test samples", ylabel="count")
        right.legend()

    application.save_picture(options.out, draw, columns=2)
    plain = nn.Linear(measures.shape[1], 1, dtype=nbdl.float64)
    return {
        "test accuracy": accuracy(predicted, malignant[test].long()).item(),
        "malignant samples missed": missed,
        "false alarms": alarms,
        "loss at the minimum": loss(model).item(),
        "gradient": history[-1]["gradient"],
        "iterations of Newton-CG": iterations,
        "steps of gradient descent to a gradient of 1e-4": count_descent(
            options, plain, loss, 1e-4, 100 if options.quick else 100_000
        ),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = application.make_parser(__doc__, "logistic_regression.png")
    parser.add_argument("--penalty", type=float, default=0.001, help="on squared weights (default 0.001)")
    return application.run(parser, argv, train)


if __name__ == "__main__":
    sys.exit(main())
