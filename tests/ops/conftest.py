"""One check for an operation: values and gradients as PyTorch's, derivatives as differences."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl.autograd import gradcheck, gradgradcheck

Check = Callable[..., None]


def flat(value: Any) -> list[Any]:
    """The tensors in a result."""
    if isinstance(value, (tuple, list)):
        return [leaf for entry in value for leaf in flat(entry)]
    return [value]


def is_float(tensor: Any) -> bool:
    return "float" in str(tensor.dtype)


def run(
    lib: Any, function: Callable[..., Any], arrays: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values of `function(lib, *tensors)`, and gradients of a weighted sum by the floating operands."""
    tensors = [lib.from_numpy(array.copy()) for array in arrays]
    wanted = [tensor.requires_grad_() for tensor in tensors if is_float(tensor)]
    outputs = flat(function(lib, *tensors))
    total = 0
    for output in outputs:
        if output.requires_grad:
            weights = np.cos(np.arange(np.prod(output.shape, dtype=int))).reshape(tuple(output.shape))
            total = total + (output * lib.from_numpy(np.asarray(weights))).sum()
    gradients = []
    if not isinstance(total, int):
        total.backward()
        gradients = [np.zeros(tuple(t.shape)) if t.grad is None else np.asarray(t.grad) for t in wanted]
    return [output.detach().numpy() for output in outputs], gradients


@pytest.fixture
def check_op() -> Check:
    """A function (function(lib, *tensors), *arrays, orders=2, twin=True) that checks an operation.

    `orders` says how many derivatives are compared with differences, `twin` whether PyTorch has it too.
    """

    def check(function: Callable[..., Any], *arrays: Any, orders: int = 2, twin: bool = True) -> None:
        operands = [np.asarray(array) for array in arrays]
        values, gradients = run(nbdl, function, operands)
        if twin and importlib.util.find_spec("torch") is not None:
            import torch

            expected, expected_gradients = run(torch, function, operands)
            assert len(values) == len(expected)
            for found, wanted in zip(values + gradients, expected + expected_gradients, strict=True):
                assert found.shape == wanted.shape
                assert found.dtype == wanted.dtype
                np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)
        tensors = [nbdl.tensor(array) for array in operands]
        for tensor in tensors:
            if is_float(tensor):
                tensor.requires_grad_()

        def outputs(*inputs: Any) -> tuple[Any, ...]:
            return tuple(y for y in flat(function(nbdl, *inputs)) if y.requires_grad)

        if orders >= 1:
            gradcheck(outputs, tensors, check_forward_ad=True)
        if orders >= 2:
            gradgradcheck(outputs, tensors)

    return check
