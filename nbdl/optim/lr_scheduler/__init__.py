"""Schedules of the learning rate, with PyTorch's interface."""

from __future__ import annotations

from nbdl.optim.lr_scheduler.base import LRScheduler
from nbdl.optim.lr_scheduler.classical import LinearToFinalLR, RobbinsMonroLR
from nbdl.optim.lr_scheduler.composite import ChainedScheduler, SequentialLR
from nbdl.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts, WarmupCosineLR
from nbdl.optim.lr_scheduler.cyclic import CyclicLR, OneCycleLR
from nbdl.optim.lr_scheduler.decay import (
    ConstantLR,
    ExponentialLR,
    HalveEvery,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from nbdl.optim.lr_scheduler.plateau import HalveOnPlateau, ReduceLROnPlateau

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR",
    "ExponentialLR", "HalveEvery", "HalveOnPlateau", "LRScheduler", "LambdaLR", "LinearLR", "LinearToFinalLR",
    "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau", "RobbinsMonroLR",
    "SequentialLR", "StepLR", "WarmupCosineLR",
]  # fmt: skip

_LRScheduler = LRScheduler  # its name before PyTorch 2.0, of which programs derive schedules of their own
