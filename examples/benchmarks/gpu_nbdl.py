"""The workloads on a GPU in nbdl. Variants: "eager"; "compiled", the whole step as CUDA graphs."""

from __future__ import annotations

from typing import Any

from gpu_tensors import COPIED, NAMES, ROWS, Clock, prepare, rotating
from program import Program

import nbdl

DEVICE = "cuda"


def build(name: str, variant: str) -> Program:
    """Training steps in one variant."""
    step, found = prepare(nbdl, name, DEVICE)
    facts = None
    if variant == "compiled":
        step = compiled = nbdl.compile(step)

        def facts() -> dict[str, Any]:
            """FLOPs of a step, and the bytes of its operands and results."""
            report = compiled.program(*found[0])
            return {"flops": report.flops, "bytes": report.bytes}

    return Program(rotating(step, found), nbdl.Tensor.item, clock=Clock(nbdl.cuda.Event), facts=facts)


def copy(variant: str) -> Program:
    """A copy that no cache holds."""
    x = nbdl.ones(COPIED, device=DEVICE)
    return Program(x.clone, lambda y: y[0].item(), clock=Clock(nbdl.cuda.Event))


def product(variant: str) -> Program:
    """A large matrix product."""
    x = nbdl.ones(ROWS, ROWS, device=DEVICE)
    return Program(lambda: x @ x, lambda y: y[0, 0].item(), clock=Clock(nbdl.cuda.Event))


PROGRAMS = {name: lambda variant, name=name: build(name, variant) for name in NAMES}
PROGRAMS |= {"copy": copy, "product": product}
