"""What the programs of this folder share: data and initial values that do not depend on the framework."""

from __future__ import annotations

from typing import Any

import numpy as np


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def integers(high: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Integers from 0 up to and without ``high``."""
    return np.random.default_rng(seed).integers(0, high, shape)


def seeded(torch: Any, module: Any, seed: int = 0) -> Any:
    """The module with parameters that depend on their names and shapes only."""
    rng = np.random.default_rng(seed)
    state = module.state_dict()
    for name, value in state.items():
        if value.is_floating_point() and "running" not in name:
            shape = tuple(value.shape)
            scale = 1 / np.sqrt(max(1, int(np.prod(shape[1:]))))
            noise = scale * rng.uniform(-1, 1, shape)
            if "norm" in name and name.endswith("weight"):
                noise = 1 + 0.1 * noise
            state[name] = torch.from_numpy(np.asarray(noise)).to(value.dtype)
    missing, unexpected = module.load_state_dict(state)
    assert not missing
    assert not unexpected
    return module
