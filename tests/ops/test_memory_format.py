"""Memory formats, and results that go into tensors that are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl


def test_channels_last_orders_memory_and_keeps_values(backend: str) -> None:
    x = nbdl.tensor(np.arange(24.0).reshape(1, 2, 3, 4), requires_grad=True)
    for y in (
        x.contiguous(memory_format=nbdl.channels_last),
        x.to(memory_format=nbdl.channels_last),
        x.clone(memory_format=nbdl.channels_last),
    ):
        assert y.stride() == (24, 1, 8, 2)
        assert y.is_contiguous(memory_format=nbdl.channels_last)
        assert not y.is_contiguous()
        np.testing.assert_array_equal(y.detach().numpy(), x.detach().numpy())
        (gradient,) = nbdl.autograd.grad((y * y).sum(), x)
        np.testing.assert_array_equal(gradient.numpy(), 2 * x.detach().numpy())
    assert x.contiguous() is x
    assert x.to(memory_format=nbdl.preserve_format) is x
    assert y.contiguous(memory_format=nbdl.contiguous_format).is_contiguous()


def test_formats_refuse_other_ranks() -> None:
    with pytest.raises(RuntimeError, match=r"required rank 4 tensor to use nbdl.channels_last.*\[2, 3\]"):
        nbdl.ones(2, 3).to(memory_format=nbdl.channels_last)
    with pytest.raises(TypeError, match="clone: memory_format must be one of"):
        nbdl.ones(2).clone(memory_format="channels_last")


OUT: dict[str, Callable[..., Any]] = {
    "unary": lambda a, out: nbdl.exp(a, out=out),
    "binary": lambda a, out: nbdl.multiply(a, 2.0, out=out),
    "power": lambda a, out: nbdl.pow(a, 2, out=out),
    "add": lambda a, out: nbdl.add(a, a, alpha=2, out=out),
    "subtract": lambda a, out: nbdl.sub(a, 1.0, out=out),
    "divide": lambda a, out: nbdl.div(a, 2.0, rounding_mode="floor", out=out),
    "matmul": lambda a, out: nbdl.matmul(a, a, out=out),
    "reduction": lambda a, out: nbdl.sum(a, dim=0, keepdim=True, out=out),
    "joining": lambda a, out: nbdl.cat([a, a], out=out),
    "linalg": lambda a, out: nbdl.linalg.inv(a, out=out),
}


@pytest.mark.parametrize("name", OUT)
def test_out_takes_the_result(name: str, backend: str) -> None:
    a = nbdl.tensor([[2.0, 1.0], [1.0, 3.0]])
    expected = OUT[name](a, None)
    outs = [nbdl.empty(0), nbdl.full(expected.shape, 7.0)]
    if name not in ("matmul", "linalg"):  # they take no other dtype
        outs.append(nbdl.full(expected.shape, 7.0, dtype="float64"))
    for out in outs:
        assert OUT[name](a, out) is out
        np.testing.assert_array_equal(out.numpy(), expected.numpy().astype(out.dtype))


def test_out_takes_several_results(backend: str) -> None:
    values, indices = nbdl.empty(0), nbdl.empty(0, dtype="int64")
    nbdl.sort(nbdl.tensor([3.0, 1.0, 2.0]), out=(values, indices))
    assert values.tolist() == [1.0, 2.0, 3.0]
    assert indices.tolist() == [1, 2, 0]


BAD_OUT: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "product": (lambda a: nbdl.mm(a[None], a[:, None], out=nbdl.ones(1, 1).double()), RuntimeError, "dtype"),
    "dtype": (lambda a: nbdl.exp(a, out=nbdl.ones(2, dtype="int64")), RuntimeError, "can't be cast"),
    "gradient": (
        lambda a: nbdl.exp(a.clone().requires_grad_(), out=nbdl.ones(2)), RuntimeError, "automatic diff"
    ),
    "no tensor": (lambda a: nbdl.exp(a, out=3), TypeError, r"'out' must be 1 tensor\(s\), got 3"),
    "count": (lambda a: nbdl.max(a, 0, out=nbdl.ones(())), TypeError, r"'out' must be 2 tensor\(s\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_OUT)
def test_bad_out(name: str) -> None:
    call, error, message = BAD_OUT[name]
    with pytest.raises(error, match=message):
        call(nbdl.ones(2))


def test_an_output_of_another_shape_is_resized() -> None:
    out = nbdl.ones(3)
    with pytest.warns(UserWarning, match=r"add\(\): An output .* was resized since it had shape \[3\]"):
        assert nbdl.add(nbdl.ones(2), 1, out=out) is out
    assert out.tolist() == [2, 2]
