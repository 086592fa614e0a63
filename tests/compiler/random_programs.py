"""Random functions of tensors, for comparing a compiled run with an eager one.

A function is a list of numbers: each chooses an operation and its operands among the values made so far. It
also changes a tensor from outside in place, so that a replay which repeats or forgets a write is seen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import nbdl

ROWS, COLUMNS = 6, 5


def _views(x: Any) -> list[Callable[[], Any]]:
    return [
        lambda: x.t().contiguous().t(),
        lambda: x.reshape(COLUMNS, ROWS).t(),
        lambda: x.reshape(-1).reshape(ROWS, COLUMNS),
        lambda: x.flip(0),
        lambda: nbdl.cat([x[2:], x[:2]]),
    ]


F = nbdl.nn.functional


@functools.cache
def _places(device: nbdl.device) -> Any:
    """Rows for each element, some of them twice; made once, so that a program reads it from outside."""
    rows = [[k * (j + 2) % ROWS for j in range(COLUMNS)] for k in range(ROWS)]
    return nbdl.tensor(rows, device=device)


def _extrema(x: Any) -> Any:
    """Both results of operations that have two."""
    values, places = x.sort(1)
    greatest, first = x.max(1, keepdim=True)
    return values * greatest + 0.1 * (places + first).to(x.dtype)


def _pooled(x: Any) -> Any:
    """Windows that share no element, and windows that do."""
    image = x.reshape(1, 1, ROWS, COLUMNS)
    small = F.max_pool2d(image.tanh(), 2)
    return (F.pad(small, (1, 2, 0, 3)) + F.avg_pool2d(image, 3, 1, 1))[0, 0]


def _convolved(x: Any, y: Any) -> Any:
    """Convolution, bias, relu and max-pool, as in a network."""
    image, filters = x.reshape(1, 1, ROWS, COLUMNS), y[:2, :4].reshape(2, 1, 2, 2)
    hidden = F.conv2d(image, filters, y[0, :2], padding=1).relu()
    return F.max_pool2d(hidden, 2, 1)[0].sum(0) * 0.2


UNARY: list[Callable[[Any], Any]] = [
    lambda x: x.tanh(),
    lambda x: x.relu(),
    lambda x: x.sigmoid() * 2 - 0.5,
    lambda x: (x * x + 1).sqrt(),
    lambda x: nbdl.where(x > 0, x, -0.3 * x),
    lambda x: x - x.mean(1, keepdim=True),
    lambda x: nbdl.softmax(x, 1),
    lambda x: x.clone(),
    lambda x: (x.sin() + x.cos()).clamp(-0.9, 0.9),
    lambda x: x.sum(0).expand(ROWS, COLUMNS) * 0.1,
    lambda x: (x @ x.t()) @ x * 0.05,
    lambda x: nbdl.where((x > -1) & ~(x > 0.5), x, 0.1),
    lambda x: x.clone().copy_(x[1].clone()) + x.clone().copy_(x[:, :1].clone()),
    lambda x: x.gather(0, _places(x.device)) - x[_places(x.device)[:, 1]],
    lambda x: nbdl.zeros_like(x).scatter_add(0, _places(x.device), x),
    lambda x: F.layer_norm(x, (COLUMNS,)) + nbdl.log_softmax(x, 0) * 0.1,
    lambda x: x.cumsum(1) * 0.3 + nbdl.logsumexp(x, 0),
    lambda x: x * x.var(0) + x.amax(1, keepdim=True),
    lambda x: nbdl.cat(x.chunk(2)[::-1]) + F.cross_entropy(x, _places(x.device)[:, 0] % COLUMNS),
    _extrema,
    _pooled,
    lambda x: x.to(nbdl.float16).to(x.dtype) + (x * 3).to(nbdl.int8).to(x.dtype),
]
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x - 0.5 * y,
    lambda x, y: nbdl.maximum(x, y),
    lambda x, y: x + y.sum(1, keepdim=True),
    lambda x, y: x + y[0],
    lambda x, y: (x @ y.t()).tanh() @ x + y[0],
    lambda x, y: nbdl.where(x > y, x, y * y),
    lambda x, y: y + ((x @ y.t()).relu() @ x) * 0.1,
    lambda x, y: nbdl.where(y > 0, x @ x.t() @ y * 0.1, 0),
    lambda x, y: F.mse_loss(x, y) * x + (x * y).mean(0),
    lambda x, y: x.tanh().index_add(0, _places(x.device)[:3, 1], y[:3]),
    _convolved,
]


def run(code: Sequence[int], inputs: Sequence[Any], state: Any) -> Any:
    """The values that the program ``code`` makes of ``inputs``; ``state`` is overwritten on the way."""
    values = [*inputs, state * 1.0]
    for number in code:
        kind, rest = number % 7, number // 7
        x = values[rest % len(values)]
        y = values[rest // 3 % len(values)]
        if kind <= 1:
            values.append(UNARY[rest % len(UNARY)](x))
        elif kind <= 3:
            values.append(BINARY[rest % len(BINARY)](x, y))
        elif kind == 4:
            views = _views(x)
            values.append(views[rest % len(views)]())
        elif kind == 5:
            with nbdl.no_grad():
                fresh = x.detach() * 0.5
                fresh[1:3] = y.detach()[2:4]
                fresh.add_(y.detach(), alpha=0.25)
            values.append(fresh + x)
        else:
            with nbdl.no_grad():
                state.mul_(0.5).add_(x.detach().clamp(-1, 1))
            values.append(state.clone())
    return sum_of(values)


def sum_of(values: Sequence[Any]) -> Any:
    """All values added up, each bounded so that nothing overflows."""
    total = values[0].tanh()
    for value in values[1:]:
        total = total + value.tanh()
    return total


def step_of(code: Sequence[int], state: Any, order: int) -> Callable[..., Any]:
    """A function of two matrices that runs ``code``; it returns derivatives up to ``order``, too."""

    def step(x: Any, y: Any) -> Any:
        if order == 0:
            return run(code, (x, y), state)
        a, b = x.detach().requires_grad_(), y.detach().requires_grad_()
        results = [run(code, (a, b), state)]
        for k in range(order):
            bounded = sum((result * result).mean().tanh() for result in results)
            found = nbdl.autograd.grad(bounded, (a, b), create_graph=k + 1 < order, materialize_grads=True)
            results += found
        return [result.detach() for result in results]

    return step


def outer_step_of(code: Sequence[int], state: Any, transform: Any) -> Callable[..., Any]:
    """The same with gradients, where ``transform`` gets the function without its backward pass."""
    inner = transform(lambda a, b: run(code, (a, b), state))

    def step(x: Any, y: Any) -> Any:
        a, b = x.detach().requires_grad_(), y.detach().requires_grad_()
        out = inner(a * 1.0, b * 1.0)
        gradients = nbdl.autograd.grad((out * out).sum(), (a, b), allow_unused=True, materialize_grads=True)
        return out.detach(), list(gradients)

    return step


def compare_backward_outside(code: Sequence[int], dtype: Any) -> None:
    """As :func:`compare`, the backward pass starting outside of the compiled function."""
    states = [nbdl.zeros(ROWS, COLUMNS, dtype=dtype) for _ in range(2)]
    eager = outer_step_of(code, states[0], lambda function: function)
    _compare_steps(eager, outer_step_of(code, states[1], nbdl.compile), states, len(code))


def compare(code: Sequence[int], dtype: Any, order: int, without: Sequence[str] = ()) -> None:
    """Run four steps, compiled and eager, with fresh data each time."""
    states = [nbdl.zeros(ROWS, COLUMNS, dtype=dtype) for _ in range(2)]
    eager = step_of(code, states[0], order)
    compiled = nbdl.compile(step_of(code, states[1], order), without=without)
    _compare_steps(eager, compiled, states, len(code))


def _compare_steps(eager: Any, compiled: Any, states: Sequence[Any], seed: int) -> None:
    rng, dtype = np.random.default_rng(seed), states[0].dtype
    tolerance = 1e-10 if dtype == nbdl.float64 else 2e-3
    for _ in range(4):
        x, y = (nbdl.tensor(rng.normal(size=(ROWS, COLUMNS)), dtype=dtype) for _ in range(2))
        expected, given = leaves(eager(x, y)), leaves(compiled(x, y))
        assert len(expected) == len(given)
        for want, got in zip((*expected, states[0]), (*given, states[1]), strict=True):
            np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=tolerance, atol=tolerance)


def leaves(result: Any) -> list[Any]:
    """The tensors of a result, detached."""
    if isinstance(result, nbdl.Tensor):
        return [result.detach()]
    return [leaf for entry in result for leaf in leaves(entry)]
