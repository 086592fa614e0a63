#!/usr/bin/env python
"""Trains a small GPT on the characters of a text, and lets it write.

    python examples/char_gpt.py --text my_novel.txt
    python examples/char_gpt.py --quick --backend numpy

Without --text it reads the language reference that comes with Python. The last tenth of the text is kept
for validation. The loss is in bits a character: a text of which every character were equally likely would
have the logarithm of their number.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import application
import nbdl
from nbdl import nn
from nbdl.nn import functional as F

VALIDATION_PART = 0.1


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    layers: int = 3
    heads: int = 4
    width: int = 128
    context: int = 96
    batch: int = 16
    epochs: int = 40
    steps: int = 50  # an epoch
    written: int = 400


QUICK = Size(layers=1, heads=2, width=32, context=32, batch=8, epochs=2, steps=20, written=40)


class Block(nn.Module):
    """Attention to what came before, then a small network for each character, both residual."""

    def __init__(self, size: Size):
        super().__init__()
        self.heads = size.heads
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.project = nn.Linear(size.width, 3 * size.width)
        self.merge = nn.Linear(size.width, size.width)
        self.network = nn.Sequential(
            nn.Linear(size.width, 4 * size.width), nn.GELU(), nn.Linear(4 * size.width, size.width)
        )

    def forward(self, x: nbdl.Tensor) -> nbdl.Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.network(self.norm2(x))

    def attend(self, x: nbdl.Tensor) -> nbdl.Tensor:
        """Attention in several heads, (batch, time, width) to the same."""
        batch, time, width = x.shape
        heads = self.project(x).reshape(batch, time, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        found = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.merge(found.transpose(1, 2).reshape(batch, time, width))


class GPT(nn.Module):
    """The scores of the next character at each position, (batch, time) to (batch, time, characters).

    Source: Radford et al. (2019), Language models are unsupervised multitask learners.
    """

    def __init__(self, characters: int, size: Size):
        super().__init__()
        self.embedding = nn.Embedding(characters, size.width)
        self.position = nn.Embedding(size.context, size.width)
        self.blocks = nn.Sequential(*[Block(size) for _ in range(size.layers)])
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, characters)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        for block in self.blocks:  # so that the sum over all layers begins with variance 1
            for layer in (block.merge, block.network[-1]):
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * size.layers))

    def forward(self, text: nbdl.Tensor) -> nbdl.Tensor:
        x = self.embedding(text) + self.position.weight[: text.shape[1]]
        return self.head(self.norm(self.blocks(x)))


class Excerpts:
    """Batches of excerpts at random places of a text, new ones at each iteration."""

    def __init__(self, text: nbdl.Tensor, size: Size):
        self.text, self.size = text, size

    def __len__(self) -> int:
        return self.size.steps

    def __iter__(self) -> Iterator[tuple[nbdl.Tensor, nbdl.Tensor]]:
        for _ in range(self.size.steps):
            starts = nbdl.randint(0, len(self.text) - self.size.context, (self.size.batch, 1))
            excerpts = self.text[starts + nbdl.arange(self.size.context + 1)]
            yield excerpts[:, :-1], excerpts[:, 1:]


def read_text(options: argparse.Namespace) -> str:
    """The text that was named, or the reference that comes with Python."""
    if options.text is None:
        from pydoc_data.topics import topics

        text = "\n\n".join(topics[name] for name in sorted(topics))
        return text[:60_000] if options.quick else text
    with application.refusing(OSError, UnicodeDecodeError):
        return options.text.read_text(encoding="utf-8")


def cross_entropy(model: nn.Module, text: nbdl.Tensor, following: nbdl.Tensor) -> nbdl.Tensor:
    """The mean loss in bits a character."""
    return F.cross_entropy(model(text).flatten(0, 1), following.flatten()) / math.log(2)


@nbdl.no_grad()
def validation_loss(model: GPT, text: nbdl.Tensor, size: Size, excerpts: int = 128) -> float:
    """The loss on excerpts at equal distances, the same each time."""
    starts = nbdl.linspace(0, len(text) - size.context - 1, excerpts).long()
    rows = text[starts.unsqueeze(1) + nbdl.arange(size.context + 1)]
    losses = [cross_entropy(model, part[:, :-1], part[:, 1:]).item() for part in rows.split(32)]
    return sum(losses) / len(losses)


@nbdl.no_grad()
def write(model: GPT, characters: str, size: Size, temperature: float = 0.8) -> str:
    """What the model goes on with after a new line."""
    text = nbdl.full((1, 1), characters.find("\n") % len(characters))
    for _ in range(size.written):
        scores = model(text[:, -size.context :])[:, -1]
        text = nbdl.cat([text, nbdl.multinomial((scores / temperature).softmax(1), 1)], 1)
    return "".join(characters[k] for k in text[0].tolist())


def train(options: argparse.Namespace) -> application.Figures:
    """Train on the text; returns the losses."""
    size = QUICK if options.quick else Size()
    content = read_text(options)
    needed = int((size.context + 1) / VALIDATION_PART) + 1
    if len(content) < needed:
        application.refuse(f"the text has {len(content)} characters; {needed} are needed")
    characters = "".join(sorted(set(content)))
    codes = {character: k for k, character in enumerate(characters)}
    text = nbdl.tensor([codes[character] for character in content])
    split = int(len(text) * (1 - VALIDATION_PART))
    training, validation = text[:split], text[split:]
    model = GPT(len(characters), size)
    optimizer = nbdl.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = nbdl.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=size.epochs * size.steps, pct_start=0.1
    )
    print(
        f"{len(content):,} characters, {len(characters)} different ones; "
        f"{sum(p.numel() for p in model.parameters()):,} parameters"
    )

    @application.compiled(options)
    def descend(excerpt: nbdl.Tensor, following: nbdl.Tensor) -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model, excerpt, following)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    def step(batch: tuple[nbdl.Tensor, nbdl.Tensor]) -> nbdl.Tensor:
        loss = descend(*batch)
        schedule.step()
        return loss

    history = application.fit(
        options, step, Excerpts(training, size), size.epochs,
        {"model": model, "optimizer": optimizer, "schedule": schedule},
        lambda: {"validation": validation_loss(model, validation, size)},
    )  # fmt: skip
    print(write(model, characters, size))

    def draw(axes):
        for name, label in (("loss", "training"), ("validation", "validation")):
            axes.plot(range(1, len(history) + 1), [epoch[name] for epoch in history], ".-", label=label)
        axes.set(xlabel=f"epoch of {size.steps} batches", ylabel="loss in bits a character")
        axes.legend()

    application.save_picture(options.out, draw)
    return {
        "bits a character if all were equally likely": math.log2(len(characters)),
        "training loss": history[-1]["loss"],
        "validation loss": history[-1]["validation"],
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = application.make_parser(__doc__, "char_gpt.png")
    parser.add_argument("--text", type=Path, metavar="FILE", help="what to learn from, in UTF-8")
    return application.run(parser, argv, train)


if __name__ == "__main__":
    sys.exit(main())
