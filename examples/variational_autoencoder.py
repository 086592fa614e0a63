#!/usr/bin/env python
"""Learns to draw handwritten digits: a variational autoencoder of scikit-learn's 8 x 8 images.

    python examples/variational_autoencoder.py
    python examples/variational_autoencoder.py --quick --backend numpy

An encoder gives a normal distribution of a few hidden numbers for each image, a decoder the grey values for
hidden numbers. Both are trained together on the lower bound of the log-likelihood: the expected
log-likelihood of the image under the decoder, minus the divergence of the encoder's distribution from the
standard normal one. The picture shows test images, their reconstructions, and images drawn from nothing.

Source: Kingma, Welling (2014), Auto-encoding variational Bayes, algorithm 1 and appendix B.
"""

from __future__ import annotations

import argparse
import sys

import application
import nbdl
from nbdl import nn
from nbdl.nn import functional as F
from nbdl.utils.data import DataLoader, TensorDataset, random_split

PIXELS = 64
TEST_PART = 0.2


class Autoencoder(nn.Module):
    """Encoder and decoder, each with one hidden layer.

    Args:
        hidden: width of these layers.
        latent: how many numbers describe an image.
    """

    def __init__(self, hidden: int, latent: int):
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(PIXELS, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, PIXELS))

    def forward(self, images: nbdl.Tensor) -> tuple[nbdl.Tensor, nbdl.Tensor, nbdl.Tensor]:
        """Logits of the pixels for a draw of the hidden numbers, and their means and log-variances."""
        mean, log_variance = self.encoder(images).chunk(2, 1)
        z = mean + (log_variance / 2).exp() * nbdl.randn_like(mean)
        return self.decoder(z), mean, log_variance

    @nbdl.no_grad()
    def reconstruct(self, images: nbdl.Tensor) -> nbdl.Tensor:
        """The images for the mean hidden numbers of these."""
        return self.decoder(self.encoder(images)[:, : self.latent]).sigmoid()

    @nbdl.no_grad()
    def draw(self, count: int) -> nbdl.Tensor:
        """Images of random hidden numbers."""
        return self.decoder(nbdl.randn(count, self.latent)).sigmoid()


def negative_bound(model: Autoencoder, images: nbdl.Tensor) -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """Mean reconstruction loss and mean divergence of an image, in nats; their sum is minimized."""
    logits, mean, log_variance = model(images)
    reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
    return reconstruction / len(images), divergence / len(images)


def load_images() -> nbdl.Tensor:
    """The images, (1797, 64) from 0 to 1."""
    with application.refusing(ImportError):
        digits = nbdl.datasets.Digits()
    return nbdl.tensor(digits.data.numpy(), dtype=nbdl.float32).flatten(1) / 16


def train(options: argparse.Namespace) -> application.Figures:
    """Train on four fifths of the images; returns the bound and the quality of reconstructions."""
    epochs = 8 if options.quick else 150
    images = load_images()
    training, test = random_split(TensorDataset(images), [1 - TEST_PART, TEST_PART])
    test_images = images[nbdl.tensor(test.indices)]
    batches = DataLoader(training, batch_size=64, shuffle=True, drop_last=True)
    model = Autoencoder(hidden=128, latent=8)
    optimizer = nbdl.optim.Adam(model.parameters(), lr=2e-3)

    @application.compiled(options)
    def descend(images: nbdl.Tensor) -> dict[str, nbdl.Tensor]:
        optimizer.zero_grad()
        reconstruction, divergence = negative_bound(model, images)
        loss = reconstruction + divergence
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach(), "divergence": divergence.detach()}

    @nbdl.no_grad()
    def evaluate() -> dict[str, nbdl.Tensor]:
        return {"test loss": sum(negative_bound(model, test_images))}

    history = application.fit(
        options, lambda batch: descend(*batch), batches, epochs, {"model": model, "optimizer": optimizer},
        evaluate,
    )  # fmt: skip
    reconstructed = model.reconstruct(test_images)
    drawn = model.draw(10)

    def draw(left, right):
        rows = [test_images[:10], reconstructed[:10], drawn]
        left.imshow(nbdl.cat([montage(row) for row in rows]).cpu().numpy(), cmap="gray_r")
        left.set(title="test images, reconstructed ones, new ones", xticks=[], yticks=[])
        for name, label in (("loss", "training"), ("test loss", "test")):
            right.plot(range(1, len(history) + 1), [epoch[name] for epoch in history], label=label)
        right.set(xlabel="epoch", ylabel="negative bound in nats an image")
        right.legend()

    application.save_picture(options.out, draw, columns=2)
    return {
        "negative bound, training": history[-1]["loss"],
        "negative bound, test": history[-1]["test loss"],
        "divergence": history[-1]["divergence"],
        "explained variance of test images": explained(test_images, reconstructed),
    }


def montage(images: nbdl.Tensor) -> nbdl.Tensor:
    """Images (n, 64) side by side, with a margin."""
    return F.pad(images.reshape(-1, 8, 8), (1, 1, 1, 1)).transpose(0, 1).reshape(10, -1)


def explained(images: nbdl.Tensor, reconstructed: nbdl.Tensor) -> float:
    """1 - squared error of reconstructions / that of the mean image."""
    residual = (images - reconstructed).square().sum()
    return (1 - residual / (images - images.mean(0)).square().sum()).item()


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return application.run(application.make_parser(__doc__, "variational_autoencoder.png"), argv, train)


if __name__ == "__main__":
    sys.exit(main())
