#!/usr/bin/env python
"""Networks as compositions: affine maps and activations, residual and dense connections, convolutions.

A network is F(y, theta) = f_d(... f_1(u_0, theta_1) ..., theta_d) with u_0 = y, and u_j are its hidden
features. The program takes one apart, writes the formula of every kind of layer out and compares, shows the
matrix K(theta) that a convolution is, and counts width, depth and parameters.

Source: N, networks and layers; B, feed-forward networks (groups 1, 4, 7, 8, 9, 14).
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn
from nbdl.nn import functional as F
from nbdl.utils import summary

IMAGE = 6  # pixels along the side of the image that is convolved
CHANNELS, GROWTH = 4, 3  # of the densely connected block


def perceptron(sizes: list[int], activation: nn.Module, last: nn.Module) -> nn.Sequential:
    """Layers u_j = f(K_j u_{j-1} + b_j), with the last-layer activation g set apart from the hidden f."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [nn.Sequential(nn.Linear(n_in, n_out), activation)]
    return nn.Sequential(*layers, nn.Sequential(nn.Linear(*sizes[-2:]), last))


def hidden_features(network: nn.Sequential, y: nbdl.Tensor) -> list[nbdl.Tensor]:
    """All of u_0, u_1, ..., u_d."""
    features = [y]
    for layer in network:
        features.append(layer(features[-1]))
    return features


def written_out(u: nbdl.Tensor) -> list[tuple[str, str, float]]:
    """For each kind of layer, its formula and the largest difference between the formula and the layer."""
    n = u.shape[1]
    affine, residual = nn.Linear(n, n), nn.ResidualLinear(n)
    z = u @ affine.weight.T + affine.bias
    weight, bias = residual.linear.weight, residual.linear.bias
    kinds = [
        ("sigmoid layer", "1 / (1 + e^-z), z = K u + b", 1 / (1 + (-z).exp()), affine(u).sigmoid()),
        (
            "tanh layer",
            "(e^2z - 1) / (e^2z + 1)",
            ((2 * z).exp() - 1) / ((2 * z).exp() + 1),
            affine(u).tanh(),
        ),
        ("ReLU layer", "max(z, 0)", z.clamp(min=0), affine(u).relu()),
        ("residual layer", "u + tanh(K u + b)", u + (u @ weight.T + bias).tanh(), residual(u)),
    ]
    return [(name, formula, (mine - layer).abs().max().item()) for name, formula, mine, layer in kinds]


def dense_block() -> nn.DenselyConnected:
    """u_j = tanh(K_j [u_0, ..., u_{j-1}] + b_j): every layer sees all features before it."""
    return nn.DenselyConnected(
        nn.Sequential(nn.Linear(CHANNELS + j * GROWTH, GROWTH), nn.Tanh()) for j in range(3)
    )


def convolution() -> tuple[nbdl.Tensor, nbdl.Tensor, float, float]:
    """A kernel theta, K(theta), and how far K u is from the layer, K^T v from the transposed layer."""
    theta = nbdl.arange(1.0, 10.0, dtype=nbdl.float64).reshape(1, 1, 3, 3)
    image = nbdl.randn(1, 1, IMAGE, IMAGE)
    K = F.convolution_matrix(theta, IMAGE)
    out = F.conv2d(image, theta)
    back = F.conv_transpose2d(out, theta)
    return (
        theta,
        K,
        (K @ image.flatten() - out.flatten()).abs().max().item(),
        (K.T @ out.flatten() - back.flatten()).abs().max().item(),
    )


def draw_convolution(figure: Any, theta: Any, matrix: Any) -> None:
    """The kernel, and where its nine numbers stand in the matrix."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 3))
    left.imshow(theta, vmin=0, vmax=9)
    for k, value in enumerate(theta.ravel()):
        left.text(k % 3, k // 3, f"{value:.0f}", ha="center", va="center", color="w" if value < 6 else "k")
    left.set(title="kernel $\\theta$", xticks=[], yticks=[])
    shown = right.imshow(matrix, vmin=0, vmax=9)
    right.set(
        title=f"$K(\\theta)$: {matrix.shape[0]} x {matrix.shape[1]}, nine different numbers",
        xlabel="pixel of the input, row by row",
        ylabel="pixel of the output",
        xticks=range(0, 36, 5),
        yticks=range(0, 16, 5),
    )
    figure.get_layout_engine().set(wspace=0.08)
    for axes in (left, right):
        axes.grid(False)
    figure.colorbar(shown, ax=right, label="entry (0: no connection)", shrink=0.8)


def show(lesson: Lesson) -> None:
    """The program."""
    y = nbdl.randn(5, 2)
    network = perceptron([2, 8, 8, 3], nn.Tanh(), nn.Softmax(dim=1))
    features = hidden_features(network, y)
    lesson.table(
        "The composition, hidden f = tanh and last-layer g = softmax: features and parameters of each f_j",
        ("u_j", "shape", "norm", "parameters theta_j"),
        [("u_0 = y", tuple(y.shape), y.norm(), "")]
        + [
            (f"u_{j}", tuple(u.shape), u.norm(), sum(p.numel() for p in layer.parameters()))
            for j, (u, layer) in enumerate(zip(features[1:], network, strict=True), 1)
        ],
    )
    print(f"F(y, theta) - u_3: {(network(y) - features[-1]).abs().max().item():.1g}")
    lesson.table(
        "Layers against their formulas",
        ("layer", "formula", "largest difference"),
        written_out(nbdl.randn(5, 4)),
    )
    block, u = dense_block(), nbdl.randn(5, CHANNELS)
    sizes = [CHANNELS + j * GROWTH for j in range(len(block.layers) + 1)]
    lesson.table(
        f"Densely connected: the width grows by {GROWTH} a layer, and the input is still there at the end",
        ("layer", "sees", "adds"),
        [
            (f"u_{j + 1}", f"{', '.join(f'u_{i}' for i in range(j + 1))}: {sizes[j]} features", GROWTH)
            for j in range(len(block.layers))
        ]
        + [("result", f"{block(u).shape[1]} features", f"u_0 kept: {nbdl.equal(block(u)[:, :CHANNELS], u)}")],
    )
    theta, K, forward, adjoint = convolution()
    lesson.table(
        f"A 3 x 3 convolution of a {IMAGE} x {IMAGE} image is a linear operator K(theta)",
        ("quantity", "value"),
        [
            ("shape of K", tuple(K.shape)),
            ("entries", K.numel()),
            ("not zero", (K != 0).sum().item()),
            ("parameters", theta.numel()),
            ("|K u - conv(u)|", forward),
            ("|K^T v - transposed conv(v)|", adjoint),
        ],
    )
    lesson.picture(
        "convolution_matrix", draw_convolution, lecture.array(theta[0, 0]), lecture.array(K), size=(10, 4)
    )
    shapes = {
        "shallow and wide": [2, 64, 1],
        "deep and narrow": [2, 8, 8, 8, 8, 1],
        "both": [2, 64, 64, 64, 64, 1],
    }
    lesson.table(
        "Width, depth and number of parameters: (n_in + 1) n_out for each layer",
        ("network", "width", "depth", "parameters", "FLOPs for one y"),
        [
            (name, max(sizes[1:-1]), len(sizes) - 1, found.parameters, found.flops)
            for name, sizes in shapes.items()
            for found in [summary(perceptron(sizes, nn.ReLU(), nn.Identity()), nbdl.zeros(1, 2))]
        ],
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
