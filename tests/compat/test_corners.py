"""Corners of the interface: each line has the same values, dtypes, texts and errors under both names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

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


CORNERS: dict[str, Callable[[Any], Any]] = {
    "hooks": hooked,
    "print": printed,
    "vmap": indexed_per_example,
    "format of several": lambda torch: f"{torch.ones(2):.2f}",
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
    "is_inference": lambda torch: torch.ones(1).is_inference(),
    "keys": lambda torch: repr(
        torch.nn.Linear(1, 1).load_state_dict({"weight": torch.ones(1, 1), "x": torch.ones(1)}, strict=False)
    ),
}


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
