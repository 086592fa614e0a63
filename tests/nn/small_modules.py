"""Small modules that the tests of modules share."""

from __future__ import annotations

import nbdl
from nbdl import nn


class Affine(nn.Module):
    def __init__(self, n_in=3, n_out=2):
        super().__init__()
        self.weight = nn.Parameter(nbdl.ones(n_out, n_in))
        self.bias = nn.Parameter(nbdl.zeros(n_out))
        self.register_buffer("calls", nbdl.tensor(0))
        self.register_buffer("scratch", nbdl.zeros(1), persistent=False)

    def forward(self, x):
        return x @ self.weight.T + self.bias


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Affine(3, 4)
        self.second = Affine(4, 2)
        self.scale = nn.Parameter(nbdl.tensor([2.0]))

    def forward(self, x):
        return self.second(self.first(x)) * self.scale


def names(pairs):
    return [name for name, _ in pairs]
