"""The workloads on a GPU in JAX: the whole step is one jitted function with donated state.

JAX has no events: its times are those of the host, from the first call of a block to its last result.
"""

from __future__ import annotations

import jax
from gpu_tensors import NAMES, batches
from program import Program, Unsupported
from workloads_jax import training

jax.config.update("jax_default_matmul_precision", "highest")


def build(name: str) -> Program:
    """Training steps.

    Raises:
        Unsupported: JAX sees no GPU.
    """
    if jax.default_backend() != "gpu":
        raise Unsupported(f"this JAX computes on {jax.default_backend()}")
    return training(name, scanned=False, batches=batches(name))


PROGRAMS = {name: lambda variant, name=name: build(name) for name in NAMES}
