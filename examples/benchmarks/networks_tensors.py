"""The networks of the workloads in PyTorch and in nbdl, which has its names: `lib` is `torch` or `nbdl`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from data import HEADS


def perceptron(lib: ModuleType, activation: str, *sizes: int) -> Any:
    """Workloads a, b, c and i: linear layers with an activation between each two."""
    layers = [lib.nn.Linear(sizes[0], sizes[1])]
    for inputs, outputs in itertools.pairwise(sizes[1:]):
        layers += [getattr(lib.nn, activation)(), lib.nn.Linear(inputs, outputs)]
    return lib.nn.Sequential(*layers)


def convolutional_network(lib: ModuleType) -> Any:
    """Workload d."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def residual_network(lib: ModuleType) -> Any:
    """Workload e: the ResNet-20 of He et al. (2015), section 4.2, with shortcuts of option A."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int):
            super().__init__()
            self.stride = outputs // inputs
            self.border = (outputs - inputs) // 2
            self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)

        def forward(self, x: Any) -> Any:
            y = F.relu(self.norm1(self.conv1(x)))
            y = self.norm2(self.conv2(y))
            if self.stride > 1:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.border, self.border))
            return F.relu(x + y)

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(16)
            channels = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
            self.blocks = nn.Sequential(*(Block(*pair) for pair in itertools.pairwise(channels)))
            self.head = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            x = self.blocks(F.relu(self.norm(self.conv(x))))
            return self.head(x.mean((2, 3)))

    return ResNet()


def transformer(lib: ModuleType) -> Any:
    """Workload f: a GPT with normalization before the sublayers."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            n, length, width = x.shape
            parts = self.qkv(self.norm1(x)).split(width, 2)
            q, k, v = (part.view(n, length, HEADS, width // HEADS).transpose(1, 2) for part in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(n, length, width))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):
        def __init__(self, layers: int, width: int, length: int, characters: int):
            super().__init__()
            self.tokens = nn.Embedding(characters, width)
            self.positions = nn.Parameter(lib.zeros(length, width))
            self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, characters, bias=False)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(self.blocks(self.tokens(x) + self.positions)))

    return GPT(layers=4, width=128, length=128, characters=65)


def recurrent_network(lib: ModuleType) -> Any:
    """Workload g."""
    nn = lib.nn

    class CharacterModel(nn.Module):
        def __init__(self, width: int, characters: int):
            super().__init__()
            self.tokens = nn.Embedding(characters, width)
            self.lstm = nn.LSTM(width, width, batch_first=True)
            self.head = nn.Linear(width, characters)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(self.tokens(x))[0])

    return CharacterModel(width=128, characters=65)


def softmax_regression(lib: ModuleType) -> Any:
    """Workload h."""
    nn = lib.nn

    class SoftmaxRegression(nn.Module):
        def __init__(self, features: int, classes: int):
            super().__init__()
            self.weight = nn.Parameter(lib.zeros(features, classes))
            self.bias = nn.Parameter(lib.zeros(classes))

        def forward(self, x: Any) -> Any:
            return lib.addmm(self.bias, x, self.weight)

    return SoftmaxRegression(64, 10)


NETWORKS: dict[str, Callable[[ModuleType], Any]] = {
    "a": lambda lib: perceptron(lib, "Tanh", 2, 32, 32, 1),
    "b": lambda lib: perceptron(lib, "ReLU", 784, 512, 512, 10),
    "c": lambda lib: perceptron(lib, "ReLU", 784, 2048, 2048, 10),
    "d": convolutional_network,
    "e": residual_network,
    "f": transformer,
    "g": recurrent_network,
    "h": softmax_regression,
    "i1": lambda lib: perceptron(lib, "Tanh", 2, 16, 16, 1),
    "i2": lambda lib: perceptron(lib, "Tanh", 2, 16, 16, 1),
    "i3": lambda lib: perceptron(lib, "Tanh", 2, 16, 16, 1),
}
