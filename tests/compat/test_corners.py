"""Corners of the interface: each line has the same values, dtypes, texts and errors under both names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compat.rare_inputs import RARE

import nbdl


def hooked(torch: Any) -> list[Any]:
    """What a non-leaf keeps is its gradient after hooks, also those that are registered later."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    return [y.grad, x.grad]


def indexed_per_example(torch: Any) -> Any:
    """One class of every row, by vmap."""
    rows, classes = torch.arange(6.0).reshape(2, 3), torch.tensor([2, 0])
    return torch.vmap(lambda row, k: row.log_softmax(0).gather(0, k[None]))(rows, classes)


def printed(torch: Any) -> list[str]:
    """Texts that show no dtype, whose names differ."""
    wide = torch.arange(1200.0).reshape(2, 600)
    values = [
        torch.tensor(1.5), torch.tensor([True, False]), torch.zeros(0), torch.zeros(2, 0),
        torch.tensor([1.0, 2000.0]), torch.tensor([1.0, float("nan"), -float("inf")]),
        torch.tensor([1e-10, 1.0]), torch.arange(2000), wide, torch.arange(3.0) * 1j,
        torch.linspace(0, 1, 9, requires_grad=True), torch.arange(40), torch.zeros(3, 2, 1),
        torch.tensor([1e9]), torch.tensor([-0.5, 0.0]),
    ]  # fmt: skip
    texts = [repr(value) for value in values]
    torch.set_printoptions(precision=2, threshold=5, edgeitems=1, linewidth=30)
    texts += [repr(value) for value in values]
    torch.set_printoptions(profile="default")
    return [*texts, f"{values[0]} {torch.tensor(3)} {values[0]:.3f} {values[1]}"]


def without_count(torch: Any) -> list[Any]:
    """Statistics of batches that were saved before they were counted."""
    layer = torch.nn.BatchNorm1d(2)
    state = {name: value + 1 for name, value in layer.state_dict().items()}
    count = state.pop("num_batches_tracked")
    counted = torch.nn.BatchNorm1d(2).state_dict()
    del counted["num_batches_tracked"]
    keys = torch.nn.BatchNorm1d(2).load_state_dict(counted, strict=False)
    return [count, repr(layer.load_state_dict(state)), *layer.state_dict().values(), repr(keys)]


def assigned(torch: Any, value: Callable[[Any], Any]) -> Any:
    """A gradient that was assigned."""
    x = torch.ones(2, requires_grad=True)
    x.grad = value(torch)
    return x.grad


def deleted(torch: Any) -> bool:
    """``del`` takes the gradient away."""
    x = torch.ones(2, requires_grad=True)
    x.grad = torch.ones(2)
    del x.grad
    return x.grad is None


def resized(torch: Any, f: Callable[..., Any], *outs: Any) -> list[Any]:
    """Outputs of another shape take that of the result, with a warning."""
    with pytest.warns(UserWarning, match="resized"):
        f(out=outs if len(outs) > 1 else outs[0])
    return list(outs)


def of_bytes(torch: Any) -> Any:
    """A condition of uint8 is taken, with a warning (PyTorch's comes once only)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.where(torch.tensor([1, 0], dtype=torch.uint8), torch.ones(2), torch.zeros(2))


OVERFLOWS = {
    "uint8": (300, -255, [256], [-300], [1.7, -1.2], 255),
    "int8": (200, -128, [-200], [float("nan")], 1.5),
    "int16": (100000, [[1, -40000]]),
    "int32": (2**40, -(2**31)),
}
CREATIONS = {
    "arange": (0, 10, 2), "empty": (2,), "eye": (2,), "full": ((2,), 3.0), "hann_window": (3,),
    "linspace": (0, 1, 3), "logspace": (0, 1, 3), "normal": (0.0, 0.0, (2,)), "ones": (2,),
    "rand": (2,), "randint": (1, (2,)), "randperm": (1,), "tril_indices": (2, 2), "zeros": (2,),
}  # fmt: skip
WITHOUT_OUT = ("hann_window", "tril_indices")
OVERFLOWING = (2**63, [1, 2**63], 2**64, -(2**63) - 1, [[2**70]])
OUTS = {
    "bitwise_not": "int32", "gelu": "float64", "quantile": "float64", "searchsorted": "int32",
    "msort": "float64", "round": "float64", "all": "float32", "maximum": "float64", "abs": "float32",
    "isin": "bool", "cumsum": "int64", "mean": "float64",
}  # fmt: skip


def created(name: str, *args: Any, **keywords: Any) -> Callable[[Any], Any]:
    """A new tensor with PyTorch's keywords, or only its size where its elements are random or not set."""

    def make(torch: Any) -> Any:
        given = {key: value(torch) for key, value in keywords.items()}
        made = getattr(torch, name)(*args, **given)
        return torch.zeros_like(made) if name in ("empty", "rand") else made

    return make


def filled_out(name: str, dtype: str) -> Callable[[Any], Any]:
    """The function's result in a tensor of a given dtype, where that may be."""

    def fill(torch: Any) -> Any:
        where = torch.nn.functional if name == "gelu" else torch
        x = torch.tensor([1, 2] if name == "bitwise_not" else [1.0, 2.5])
        more = {
            "quantile": (0.5,),
            "searchsorted": (x,),
            "maximum": (x,),
            "isin": (x,),
            "cumsum": (0,),
            "mean": (0,),
        }
        f = getattr(torch._C._nn if name == "gelu" and hasattr(torch, "_C") else where, name)
        return f(x, *more.get(name, ()), out=torch.zeros((), dtype=getattr(torch, dtype)).resize_(0))

    return fill


NO_NUMBERS = ("abs", "ceil", "floor", "round", "trunc", "median", "nanmedian")
NO_PAIRS_OF_NUMBERS = ("floor_divide", "fmod", "pow", "remainder")


def of_bools(name: str, count: int) -> Callable[[Any], Any]:
    """A function of as many bools."""
    return lambda torch: getattr(torch, name)(*[torch.tensor([True])] * count)


def as_integers(value: Any, dtype: str) -> Callable[[Any], Any]:
    """Numbers that may be too large."""
    return lambda torch: torch.tensor(value, dtype=getattr(torch, dtype))


def inferred(torch: Any, use: Callable[[Any, Any], Any]) -> Any:
    """What may be done with a tensor of inference mode afterwards."""
    with torch.inference_mode():
        x = torch.ones(2)
    assert x.is_inference()
    return use(torch, x)


CORNERS: dict[str, Callable[[Any], Any]] = {
    "gradient of another shape": lambda torch: assigned(torch, lambda torch: torch.ones(3)),
    "gradient of another dtype": lambda torch: assigned(
        torch, lambda torch: torch.ones(2, dtype=torch.float64)
    ),
    "gradient that is a number": lambda torch: assigned(torch, lambda torch: 1.0),
    "gradient that fits": lambda torch: assigned(torch, lambda torch: torch.ones(2)),
    "gradient deleted": deleted,
    "where of integers": lambda torch: torch.where(torch.tensor([1, 0]), 1.0, 0.0),
    "where of floats": lambda torch: torch.ones(2).where(torch.ones(2), 0),
    "where of bytes": of_bytes,
    "isclose of dtypes": lambda torch: torch.isclose(torch.ones(2), torch.ones(2, dtype=torch.float64)),
    "allclose of dtypes": lambda torch: torch.allclose(torch.ones(2), torch.ones(2, dtype=torch.int64)),
    "kthvalue of bools": lambda torch: torch.tensor([True, False]).kthvalue(1),
    **{f"{name} of bools": of_bools(name, 1) for name in NO_NUMBERS},
    **{f"{name} of bools": of_bools(name, 2) for name in NO_PAIRS_OF_NUMBERS},
    **{f"{n} as {dtype}": as_integers(n, dtype) for dtype, values in OVERFLOWS.items() for n in values},
    **{
        f"{name} strided": created(name, *args, layout=lambda t: t.strided)
        for name, args in CREATIONS.items()
    },
    **{
        f"{name} into out": created(name, *args, out=lambda t: t.zeros(0, dtype=t.float64))
        for name, args in CREATIONS.items()
        if name not in WITHOUT_OUT
    },
    "zeros of a size": created("zeros", size=lambda t: (2,), pin_memory=lambda t: False),
    "zeros of another layout": created("zeros", 2, layout=lambda t: "strided"),
    "zeros of another dtype": created("zeros", 2, dtype=lambda t: t.int64, out=lambda t: t.zeros(2)),
    "new zeros": lambda torch: torch.ones(2, dtype=torch.float64).new_zeros(
        size=(3,), layout=torch.strided, pin_memory=False
    ),
    "zeros like": lambda torch: torch.zeros_like(torch.ones(2), memory_format=torch.preserve_format),
    **{f"tensor of {n}": lambda torch, n=n: torch.tensor(n) for n in OVERFLOWING},
    **{f"full of {n}": lambda torch, n=n: torch.full((2,), n) for n in (2**63, [1], "1")},
    "uint64 of 2**63": lambda torch: torch.tensor(2**63, dtype=torch.uint64),
    "float64 of 2**63": lambda torch: torch.tensor(2**63, dtype=torch.float64),
    **{f"out of {name} {dtype}": filled_out(name, dtype) for name, dtype in OUTS.items()},
    "out overlapping": lambda torch: (lambda x: torch.add(x[1:], x[:-1], out=x[:-1]))(torch.arange(4.0)),
    "out overlapping in cat": lambda torch: (lambda x: torch.cat([x[:3], x[3:6]], out=x[1:7]))(
        torch.arange(9.0)
    ),
    "out itself": lambda torch: (lambda x: torch.add(x, x, out=x))(torch.arange(4.0)),
    "out of other elements": lambda torch: (lambda x: torch.add(x[:2], 1, out=x[2:]))(torch.arange(4.0)),
    "out of matmul": lambda torch: torch.mm(
        torch.ones(1, 1), torch.ones(1, 1), out=torch.ones(1, 1, dtype=torch.float64)
    ),
    "out of sqrt": lambda torch: torch.sqrt(torch.ones(1), out=torch.ones(1, dtype=torch.float64)),
    "out of sort": lambda torch: torch.sort(
        torch.ones(1), out=(torch.ones(1), torch.ones(1, dtype=torch.int32))
    ),
    "out resized": lambda torch: resized(
        torch, lambda out: torch.add(torch.ones(2), 1, out=out), torch.ones(3)
    ),
    "out of sort resized": lambda torch: resized(
        torch,
        lambda out: torch.sort(torch.tensor([3.0, 1.0]), out=out),
        torch.ones(3),
        torch.ones(1, dtype=torch.int64),
    ),
    "hooks": hooked,
    "print": printed,
    "vmap": indexed_per_example,
    "format of several": lambda torch: f"{torch.ones(2):.2f}",
    **{
        f"{element!r} in": lambda torch, element=element: element in torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        for element in (3, 3.5, True, 2 + 0j, "3", None)
    },
    "tensors in": lambda torch: [
        torch.tensor(row) in torch.tensor([[1.0, 2.0], [3.0, 4.0]]) for row in ([1.0, 9.0], [2.0, 1.0])
    ],
    "reversed": lambda torch: reversed(torch.arange(3.0)),
    "float of several": lambda torch: float(torch.ones(2)),
    "int of several": lambda torch: int(torch.ones(2)),
    "list of float64": lambda torch: torch.tensor([np.float64(1), 2]),
    "list of float32": lambda torch: torch.tensor([[np.float32(1)], [2]]),
    "list of complex128": lambda torch: torch.tensor([np.complex128(1j)]),
    "list of tensors": lambda torch: torch.tensor([torch.tensor(1), 1.5]),
    "list of float64 tensors": lambda torch: torch.as_tensor([torch.tensor(1.0, dtype=torch.float64), 1]),
    "bool minus": lambda torch: torch.tensor([True]) - torch.tensor([1.0]),
    "minus bool": lambda torch: 1 - torch.tensor([True]),
    "bits of floats": lambda torch: torch.tensor([1.0]) & 1,
    "complex order": lambda torch: torch.tensor([1j]) < 1,
    "complex remainder": lambda torch: torch.tensor([1j]) % 2,
    "complex sinc": lambda torch: torch.sinc(torch.tensor([0.5 + 1j, 0])),
    "complex logaddexp": lambda torch: torch.logaddexp(torch.tensor([1 + 9j, 2]), torch.tensor([3j, 2 + 1j])),
    "complex logcumsumexp": lambda torch: torch.tensor([[1 + 9j, 2, 5j]]).logcumsumexp(1),
    "truth of bytes": lambda torch: [
        getattr(torch.tensor([[0, 3]], dtype=torch.uint8), kind)(dim)
        for kind in ("any", "all")
        for dim in (0, 1)
    ],
    "sign of bools": lambda torch: [
        f(torch.tensor([True, False])) for f in (torch.sign, torch.sgn, torch.square)
    ],
    "product of bools": lambda torch: torch.tensor([[True]]) @ torch.tensor([[True]]),
    "integer softmax": lambda torch: torch.tensor([1, 2]).softmax(0),
    "integer logcumsumexp": lambda torch: torch.tensor([1, 2]).logcumsumexp(0),
    "integer relu6": lambda torch: torch.nn.functional.relu6(torch.tensor([-1, 3, 9])),
    "integer hardtanh": lambda torch: torch.nn.functional.hardtanh(torch.tensor([-3, 3]), -1.5, 1.5),
    "integer addmv": lambda torch: torch.tensor([1, 2]).addmv(
        torch.tensor([[1, 2], [3, 4]]), torch.tensor([1, 1]), beta=1.5, alpha=2.5
    ),
    "maximum of none": lambda torch: torch.zeros(0).amax(),
    "maximum of no rows": lambda torch: torch.zeros(0, 2).amax(0),
    "stack of none": lambda torch: torch.stack([]),
    "clamp without bounds": lambda torch: torch.ones(2).clamp(),
    "embedding of floats": lambda torch: torch.nn.Embedding(3, 2)(torch.tensor([1.0])),
    "margin loss of floats": lambda torch: torch.nn.functional.multi_margin_loss(
        torch.ones(2, 3), torch.ones(2)
    ),
    "margin loss without classes": lambda torch: torch.nn.functional.multi_margin_loss(
        torch.ones(2, 0), torch.tensor([0, 0])
    ),
    "adaptive pool of a matrix": lambda torch: torch.nn.functional.adaptive_max_pool2d(
        torch.ones(2, 2), (2, 2)
    ),
    "batches without count": without_count,
    "order of parameters": lambda torch: list(
        torch.nn.ParameterDict({"b": torch.ones(1), "a": torch.ones(1)}).state_dict()
    ),
    "tensors of several sizes": lambda torch: torch.utils.data.TensorDataset(torch.ones(2), torch.ones(3)),
    "inference changed": lambda torch: inferred(torch, lambda torch, x: x.add_(1)),
    "inference saved": lambda torch: inferred(torch, lambda torch, x: torch.ones(2, requires_grad=True) * x),
    "inference to grow": lambda torch: inferred(torch, lambda torch, x: x.requires_grad_()),
    "inference copied": lambda torch: inferred(torch, lambda torch, x: x.clone().requires_grad_().detach()),
    "is_inference": lambda torch: torch.ones(1).is_inference(),
    "keys": lambda torch: repr(
        torch.nn.Linear(1, 1).load_state_dict({"weight": torch.ones(1, 1), "x": torch.ones(1)}, strict=False)
    ),
    **RARE,
}


def pooled(label: str, *args: Any, **keywords: Any) -> Callable[[Any, Any], Any]:
    """A function of ``nn.functional`` on (1, 1, *size)."""
    return lambda torch, x: getattr(torch.nn.functional, label)(x, *args, **keywords)


CONSTANT_SLOPES: dict[str, tuple[tuple[int, ...], Callable[[Any, Any], Any]]] = {
    "max": ((6,), pooled("max_pool1d", 2)),
    "max of planes": ((4, 4), pooled("max_pool2d", 2)),
    "avg": ((6,), pooled("avg_pool1d", 2)),
    "avg of volumes": ((2, 2, 2), pooled("avg_pool3d", 2)),
    "adaptive max": ((4,), pooled("adaptive_max_pool1d", 2)),
    "adaptive avg": ((4, 4), pooled("adaptive_avg_pool2d", 2)),
    "fractional max": ((4, 4), pooled("fractional_max_pool2d", 2, output_size=2)),
    "reflect": ((4,), pooled("pad", (1, 1), mode="reflect")),
    "replicate": ((3, 3), pooled("pad", (1, 1, 1, 1), mode="replicate")),
    "circular": ((4,), pooled("pad", (1, 1), mode="circular")),
    "zeros": ((4,), pooled("pad", (1, 1))),
}


def second(torch: Any, size: tuple[int, ...], f: Callable[[Any, Any], Any], inner: bool) -> Any:
    """The gradient of a gradient that is the same everywhere, of a leaf or of what was made of it."""
    x = torch.arange(float(np.prod(size))).reshape(1, 1, *size).requires_grad_()
    y = f(torch, x * x if inner else x)
    (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    return h


def outcome(corner: Callable[[Any], Any], torch: Any) -> Any:
    """The result, or the error."""
    try:
        return corner(torch)
    except Exception as error:  # whatever it is, the other name has to raise the same
        return error


def compare(actual: Any, expected: Any) -> None:
    """Values to rounding, dtypes, texts, and classes of errors."""
    if isinstance(expected, Exception):
        assert isinstance(actual, Exception)
        assert type(actual) is type(expected)
    elif isinstance(expected, (list, tuple)):
        for a, b in zip(actual, expected, strict=True):
            compare(a, b)
    elif isinstance(expected, (str, bool)):
        assert actual == expected
    else:
        assert str(actual.dtype) == str(expected.dtype).removeprefix("torch.")
        assert tuple(actual.shape) == tuple(expected.shape)
        np.testing.assert_allclose(actual.detach().numpy(), expected.detach().numpy(), rtol=1e-6)


@pytest.mark.torch
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", CORNERS)
def test_same_outcome(name: str) -> None:
    import torch

    compare(outcome(CORNERS[name], nbdl), outcome(CORNERS[name], torch))


@pytest.mark.torch
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("name", CONSTANT_SLOPES)
def test_second_derivatives_that_are_zero(name: str, inner: bool) -> None:
    import torch

    size, f = CONSTANT_SLOPES[name]
    if name == "fractional max":  # draws where its windows are
        assert second(nbdl, size, f, inner).shape == (1, 1, *size)
        return
    compare(
        outcome(lambda torch: second(torch, size, f, inner), nbdl),
        outcome(lambda torch: second(torch, size, f, inner), torch),
    )


def test_a_condition_of_bytes_warns() -> None:
    with pytest.warns(UserWarning, match="uint8"):
        nbdl.where(nbdl.ones(2, dtype="uint8"), 1.0, 0.0)
