"""Optimizers: update rules as formulas, with PyTorch's interface."""

from __future__ import annotations

from nbdl.optim.adam import Adam, AdamW
from nbdl.optim.optimizer import Optimizer
from nbdl.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
