"""Every line of the op table: values, dtypes, strides, first and second derivatives, on every backend."""

from __future__ import annotations

import pathlib
import re
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from op_samples import Op, leaves, rebuilt
from op_table import OTHERS, TABLE

import nbdl
from nbdl.autograd import gradcheck, gradgradcheck

# Relative to the largest element; float64 against PyTorch, the others against float64.
TOLERANCE = {"float64": 1e-11, "float32": 2e-6, "float16": 4e-3}

every_op = pytest.mark.parametrize("entry", TABLE, ids=[f"{entry.name}-{k}" for k, entry in enumerate(TABLE)])


def tensors(entry: Op, dtype: Any = np.float64, strided: bool = False) -> list[Any]:
    """The arguments of an entry as tensors; `strided`: with reversed memory order."""
    made = []
    for value in leaves(entry.arrays(dtype)):
        if isinstance(value, np.ndarray):
            value = nbdl.from_numpy(np.array(value.T.copy().T if strided else value, order="K"))
        made.append(value)
    return rebuilt(entry.args, iter(made))


def results(value: Any) -> list[np.ndarray]:
    """What an operation returned, as arrays."""
    return [y.detach().numpy() for y in (value if isinstance(value, (tuple, list)) else (value,))]


def assert_close(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        size = np.abs(b[np.isfinite(b)]).max(initial=1.0) if b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=0, atol=tolerance * size)


def public_functions(module: Any) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and not name.startswith("_")
    }


def test_every_operation_is_in_the_table():
    """Or has tests of its own: in-place methods, and functions of networks with unusual arguments."""
    public = public_functions(nbdl.ops.functions) | {
        f"F.{name}" for name in public_functions(nbdl.nn.functional)
    }
    covered = {entry.name.lstrip(".") for entry in TABLE} | OTHERS
    covered |= {f"F.{name}" for name in covered}
    folder = pathlib.Path(__file__).parent
    texts = [
        (folder / name).read_text() for name in ("functional_cases_rest.py", "nn/test_functional_rest.py")
    ]
    covered |= {f"F.{name}" for name in re.findall(r"\w+", "\n".join(texts))}
    assert sorted(name for name in public - covered if not name.endswith("_")) == []


@every_op
def test_values(entry: Op, backend: str) -> None:
    """Single and half precision agree with double, and so do other strides."""
    function = entry.function()
    reference = results(function(*tensors(entry), **entry.kwargs))
    if entry.strided:
        assert_close(
            results(function(*tensors(entry, strided=True), **entry.kwargs)), reference, TOLERANCE["float64"]
        )
    if any(entry.differentiable()):
        for dtype in ("float32", "float16") if entry.half else ("float32",):
            arguments = tensors(entry, dtype)
            # The operands are rounded, so the exact result is that of the rounded operands.
            exact = [
                x.to(np.float64) if isinstance(x, nbdl.Tensor) and x.is_floating_point() else x
                for x in leaves(arguments)
            ]
            expected = results(function(*rebuilt(entry.args, iter(exact)), **entry.kwargs))
            found = results(function(*arguments, **entry.kwargs))
            for a, b in zip(found, expected, strict=True):
                assert a.dtype == (dtype if b.dtype == np.float64 else b.dtype)
            assert_close(found, expected, TOLERANCE[dtype] * entry.scale)


@pytest.mark.torch
@every_op
def test_values_against_torch(entry: Op, backend: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if entry.twin is None:
        pytest.skip("PyTorch has no such function")
    arrays = entry.arrays()
    twins = [torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x for x in leaves(arrays)]
    expected = entry.torch_function()(*rebuilt(entry.args, iter(twins)), **entry.kwargs)
    expected = [y.numpy() for y in (expected if isinstance(expected, (tuple, list)) else (expected,))]
    found = results(entry.function()(*tensors(entry), **entry.kwargs))
    assert [y.dtype for y in found] == [y.dtype for y in expected]
    assert_close(found, expected, TOLERANCE["float64"])


def differentiable(entry: Op) -> tuple[Any, list[Any]]:
    """A function of the leaves among the arguments, and the leaves with those that need a gradient marked."""
    values = leaves(tensors(entry))
    for value, wanted in zip(values, entry.differentiable(), strict=True):
        if wanted:
            value.requires_grad_()

    def function(*changed: Any) -> Any:
        out = entry.function()(*rebuilt(entry.args, iter(changed)), **entry.kwargs)
        return tuple(out) if isinstance(out, list) else out

    return function, values


@every_op
def test_first_derivatives(entry: Op, backend: str) -> None:
    if entry.orders < 1:
        pytest.skip("no derivative")
    function, values = differentiable(entry)
    # Rules of forward mode are the same on every backend, and compiling their kernels takes the most time
    # here.
    forward = backend == "numpy"
    assert gradcheck(
        function,
        values,
        fast_mode=True,
        check_forward_ad=forward,
        check_grad_dtypes=True,
        rtol=1e-5,
        atol=1e-6,
    )


@every_op
def test_second_derivatives(entry: Op, backend: str) -> None:
    if entry.orders < 2:
        pytest.skip("no second derivative")
    function, values = differentiable(entry)
    forward = backend == "numpy"
    assert gradgradcheck(function, values, fast_mode=True, check_fwd_over_rev=forward, rtol=1e-4, atol=1e-6)
