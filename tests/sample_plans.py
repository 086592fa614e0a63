"""A plan for tests of launching: the sum of two float32 vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan
from nbdl.kernels.cpu.memory import float32_at, load_int64


def make_add() -> Callable[..., Any]:
    def add(args, lo, hi, task):
        n = hi - lo
        x = float32_at(load_int64(args, 0) + 4 * lo, n)
        y = float32_at(load_int64(args, 1) + 4 * lo, n)
        out = float32_at(load_int64(args, 2) + 4 * lo, n)
        for i in range(n):
            out[i] = x[i] + y[i]

    return add


def add_plan(n: int = 64, tasks: int = 1) -> Plan:
    kernel = compile_kernel("test_add", make_add, "tests add")
    return Plan(kernel, inputs=2, outputs=[OutputSpec((n,), np.dtype("f4"))], rows=n, tasks=tasks)
