#!/usr/bin/env python
"""Predicts ratings from ratings: a matrix of users and items as the product of two narrow ones.

    python examples/matrix_factorization.py --ratings ml-100k/u.data
    python examples/matrix_factorization.py --quick

A line of the file holds user, item and rating, separated by tabs, commas or "::", as in the files of
MovieLens; what follows them is ignored, and so is a first line that is a heading. Without --ratings the
program makes ratings of a known model, popular items being rated more often, with noise of 0.3: no prediction
has a smaller error. A tenth of the ratings is kept for the test.

A batch touches few rows of the embeddings. SparseAdam moves these rows and their running means, and leaves
the others alone, where Adam would move all of them along their means.

Source: Koren, Bell, Volinsky (2009), Matrix factorization techniques for recommender systems.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import application
import nbdl
from nbdl import nn
from nbdl.utils.data import DataLoader, TensorDataset, random_split

TEST_PART = 0.1
NOISE = 0.3

Ratings = tuple[nbdl.Tensor, nbdl.Tensor, nbdl.Tensor]  # users and items as numbers from 0 on, and ratings


class Factorization(nn.Module):
    """mean + bias of the user + bias of the item + product of their factors.

    Args:
        users: how many.
        items: how many.
        rank: how many factors.
        mean: of all ratings.
    """

    def __init__(self, users: int, items: int, rank: int, mean: float):
        super().__init__()
        self.users, self.items = nn.Embedding(users, rank), nn.Embedding(items, rank)
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        self.mean = mean
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, users: nbdl.Tensor, items: nbdl.Tensor) -> tuple[nbdl.Tensor, nbdl.Tensor]:
        """Predicted ratings (n,), and the sum of squares of what they were made of (n,)."""
        rows = [
            table(index)
            for table, index in (
                (self.users, users), (self.items, items), (self.user_bias, users), (self.item_bias, items),
            )
        ]  # fmt: skip
        user, item, user_bias, item_bias = rows
        prediction = self.mean + (user_bias + item_bias).squeeze(1) + (user * item).sum(1)
        return prediction, sum(row.square().sum(1) for row in rows)


def make_ratings(users: int, items: int, count: int, rank: int = 6) -> Ratings:
    """Ratings of random pairs by a model of random factors, with noise."""
    popularity = 1 / nbdl.arange(1, items + 1).to(nbdl.float32) ** 0.7
    user = nbdl.randint(0, users, (count,))
    item = nbdl.multinomial(popularity, count, replacement=True)
    user_factors, item_factors = nbdl.randn(users, rank), nbdl.randn(items, rank)
    user_bias, item_bias = 0.3 * nbdl.randn(users), 0.4 * nbdl.randn(items)
    products = (user_factors[user] * item_factors[item]).sum(1) / rank**0.5
    ratings = 3.5 + user_bias[user] + item_bias[item] + 0.7 * products + NOISE * nbdl.randn(count)
    return user, item, ratings


def read_ratings(path: Path) -> Ratings:
    """The ratings of a file."""
    rows = []
    with application.refusing(OSError, UnicodeDecodeError):
        lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        fields = line.replace("::", "\t").replace(",", "\t").split("\t")
        try:
            rows.append((fields[0], fields[1], float(fields[2])))
        except (IndexError, ValueError):
            if number > 1:
                application.refuse(f"line {number} of {path} is no user, item and rating: {line[:40]!r}")
    if len(rows) < 1 / TEST_PART:
        application.refuse(f"{path} holds {len(rows)} ratings; {1 / TEST_PART:.0f} are needed")
    users, items, ratings = zip(*rows)
    codes = [np.unique(names, return_inverse=True)[1] for names in (users, items)]
    return *map(nbdl.tensor, codes), nbdl.tensor(ratings)


def root_mean_square(differences: nbdl.Tensor) -> float:
    """The size of errors."""
    return differences.square().mean().sqrt().item()


def train(options: argparse.Namespace) -> application.Figures:
    """Learn from most ratings, predict the others; returns errors."""
    if options.ratings is not None:
        ratings = read_ratings(options.ratings)
    else:
        ratings = make_ratings(*((100, 50, 3000) if options.quick else (2000, 1000, 200_000)))
    epochs = 3 if options.quick else options.epochs
    training, test = random_split(TensorDataset(*ratings), [1 - TEST_PART, TEST_PART])
    users, items, truth = (column[nbdl.tensor(test.indices)] for column in ratings)
    known = ratings[2][nbdl.tensor(training.indices)]
    batches = DataLoader(training, batch_size=512, shuffle=True, drop_last=True)
    model = Factorization(
        *(int(column.max()) + 1 for column in ratings[:2]), options.rank, known.mean().item()
    )
    optimizer = nbdl.optim.SparseAdam(model.parameters(), lr=0.01)
    schedule = nbdl.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    @application.compiled(options)
    def descend(users: nbdl.Tensor, items: nbdl.Tensor, ratings: nbdl.Tensor) -> nbdl.Tensor:
        optimizer.zero_grad()
        prediction, squares = model(users, items)
        loss = (prediction - ratings).square().mean()
        (loss + options.penalty * squares.mean()).backward()
        optimizer.step()
        return loss.detach()

    @nbdl.no_grad()
    def evaluate() -> dict[str, float]:
        schedule.step()
        return {"error": root_mean_square(model(users, items)[0] - truth)}

    history = application.fit(
        options, lambda batch: descend(*batch), batches, epochs,
        {"model": model, "optimizer": optimizer, "schedule": schedule}, evaluate,
    )  # fmt: skip

    def draw(axes):
        passes = range(1, len(history) + 1)
        axes.plot(passes, [epoch["loss"] ** 0.5 for epoch in history], ".-", label="training")
        axes.plot(passes, [epoch["error"] for epoch in history], ".-", label="test")
        if options.ratings is None:
            axes.axhline(NOISE, color="gray", linestyle=":", label="noise of the ratings")
        axes.set(xlabel="epoch", ylabel="root mean squared error of ratings")
        axes.legend()

    application.save_picture(options.out, draw)
    return {
        "error of the mean rating": root_mean_square(known.mean() - truth),
        "error on the training ratings": history[-1]["loss"] ** 0.5,
        "error on the test ratings": history[-1]["error"],
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = application.make_parser(__doc__, "matrix_factorization.png")
    parser.add_argument("--ratings", type=Path, metavar="FILE", help="what to learn from")
    parser.add_argument("--rank", type=application.positive, default=8, help="number of factors (default 8)")
    parser.add_argument("--penalty", type=float, default=0.003, help="on squared factors (default 0.003)")
    parser.add_argument("--epochs", type=application.positive, default=15, help="default 15")
    return application.run(parser, argv, train)


if __name__ == "__main__":
    sys.exit(main())
