"""The workloads on a GPU in PyTorch.

Variants: "eager", with the fused optimizer; "graph", the whole step captured by hand as one CUDA graph;
"compile", the loss through `torch.compile(mode="reduce-overhead")`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from gpu_tensors import COPIED, NAMES, ROWS, Clock, prepare, rotating
from program import Program
from workloads_tensors import Loss

DEVICE = "cuda"
WARM_UP = 5
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True


def build(name: str, variant: str) -> Program:
    """Training steps in one variant."""
    more: dict[str, Any] = {"fused": True}
    if variant == "graph" and name in ("a", "b", "c", "f"):
        more["capturable"] = True  # Adam counts its steps on the device
    wrap: Callable[[Loss], Loss] = lambda loss: loss  # noqa: E731
    if variant == "compile":
        wrap = functools.partial(torch.compile, mode="reduce-overhead")
    step, found = prepare(torch, name, DEVICE, wrap, **more)
    call = captured(step, found) if variant == "graph" else rotating(step, found)
    return Program(call, torch.Tensor.item, clock=Clock(torch.cuda.Event))


def captured(step: Loss, found: list[tuple[Any, Any]]) -> Any:
    """The step as one graph; a call copies the next batch to where the graph reads it."""
    x, y = (part.clone() for part in found[0])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step(x, y)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(x, y)
    turns = itertools.cycle(found)

    def call() -> torch.Tensor:
        for place, part in zip((x, y), next(turns), strict=True):
            place.copy_(part)
        graph.replay()
        return loss

    return call


def copy(variant: str) -> Program:
    """A copy that no cache holds."""
    x = torch.ones(COPIED, device=DEVICE)
    return Program(x.clone, lambda y: y[0].item(), clock=Clock(torch.cuda.Event))


def product(variant: str) -> Program:
    """A large matrix product."""
    x = torch.ones(ROWS, ROWS, device=DEVICE)
    return Program(lambda: x @ x, lambda y: y[0, 0].item(), clock=Clock(torch.cuda.Event))


PROGRAMS = {name: lambda variant, name=name: build(name, variant) for name in NAMES}
PROGRAMS |= {"copy": copy, "product": product}
