"""Operands of compiled functions."""

from __future__ import annotations

import numpy as np

import nbdl


def batches(count: int, *shape: int, seed: int = 0) -> list[nbdl.Tensor]:
    rng = np.random.default_rng(seed)
    return [nbdl.tensor(rng.normal(size=shape)) for _ in range(count)]
