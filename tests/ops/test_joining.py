"""cat, stack, split, pad, flip, roll, tile: values, derivatives, views, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl.ops.padding import pad, pad_constant

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4))
Y = RNG.standard_normal((2, 4))
Z = RNG.standard_normal((3, 2))
CUBE = RNG.standard_normal((2, 3, 4))
VECTOR = RNG.standard_normal(5)

CASES = {
    "cat": (lambda lib, x, y: lib.cat([x, y]), X, Y),
    "cat, last axis": (lambda lib, x, y: lib.cat((x, y, x), dim=-1), X, Z),
    "cat, one": (lambda lib, x: lib.cat([x]), X),
    "cat, empty": (lambda lib, x, y: lib.cat([x, y], 0), X, np.zeros((0, 4))),
    "cat, legacy empty": (lambda lib, x: lib.cat([lib.zeros(0, dtype=lib.float64), x], 1), X),
    "concat": (lambda lib, x, y: lib.concat([x, y], axis=0), X, Y),
    "stack": (lambda lib, x, y: lib.stack([x, y]), X, X[::-1].copy()),
    "stack, last axis": (lambda lib, x, y: lib.stack([x, y, x], -1), X, X[::-1].copy()),
    "stack, scalars": (lambda lib, x, y: lib.stack([x, y]), np.float64(2.0), np.float64(3.0)),
    "hstack": (lambda lib, x, y: lib.hstack([x, y]), X, Z),
    "hstack, vectors": (lambda lib, x: lib.hstack([x, x]), VECTOR),
    "vstack": (lambda lib, x, y: lib.vstack([x, y[0]]), X, Y),
    "dstack": (lambda lib, x: lib.dstack([x, 2 * x]), X),
    "dstack, vectors": (lambda lib, x: lib.dstack([x, 2 * x]), VECTOR),
    "split": (lambda lib, x: x.split(2, 1), CUBE),
    "split, shorter last": (lambda lib, x: x.split(3, -1), CUBE),
    "split, sizes": (lambda lib, x: lib.split(x, [1, 0, 3], 2), CUBE),
    "chunk": (lambda lib, x: x.chunk(2, 1), CUBE),
    "chunk, fewer": (lambda lib, x: x.chunk(3, 2), CUBE),
    "tensor_split": (lambda lib, x: x.tensor_split(3, 2), CUBE),
    "tensor_split, indices": (lambda lib, x: x.tensor_split((1, 3), 2), CUBE),
    "tensor_split, crossing": (lambda lib, x: x.tensor_split((3, 1, 9), 2), CUBE),
    "unbind": (lambda lib, x: x.unbind(1), CUBE),
    "unbind, one used": (lambda lib, x: x.unbind(1)[1], CUBE),
    "unbind, two used": (lambda lib, x: x.unbind(-1)[1::2], CUBE),
    "flip": (lambda lib, x: x.flip(0, 2), CUBE),
    "flip, tuple": (lambda lib, x: lib.flip(x, (-1,)), CUBE),
    "fliplr": (lambda lib, x: lib.fliplr(x), CUBE),
    "flipud": (lambda lib, x: lib.flipud(x), CUBE),
    "roll": (lambda lib, x: x.roll(1, 0), X),
    "roll, flat": (lambda lib, x: x.roll(5), X),
    "roll, two": (lambda lib, x: x.roll((-1, 7), (0, 1)), X),
    "rot90": (lambda lib, x: x.rot90(), X),
    "rot90, back": (lambda lib, x: x.rot90(-1, (1, 2)), CUBE),
    "rot90, half": (lambda lib, x: lib.rot90(x, 2, (0, 1)), X),
    "tile": (lambda lib, x: x.tile(2), X),
    "tile, more axes": (lambda lib, x: x.tile((2, 1, 3)), X),
    "repeat": (lambda lib, x: x.repeat(2, 1, 2), X),
    "repeat, none": (lambda lib, x: x.repeat(1, 1), X),
    "repeat, empty": (lambda lib, x: x.repeat(0, 2), X),
    "repeat_interleave": (lambda lib, x: x.repeat_interleave(2), X),
    "repeat_interleave, axis": (lambda lib, x: x.repeat_interleave(3, 1), X),
    "repeat_interleave, each": (lambda lib, x: x.repeat_interleave(lib.tensor([0, 2, 1]), 0), X),
    "meshgrid": (lambda lib, x, y: lib.meshgrid(x, y, indexing="ij"), VECTOR, X[0]),
    "meshgrid, xy": (lambda lib, x, y: lib.meshgrid(x, y, indexing="xy"), VECTOR, X[0]),
    "broadcast_tensors": (lambda lib, x, y: lib.broadcast_tensors(x, y), X, Y[:1]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str, check_op: Any, backend: str) -> None:
    function, *arrays = CASES[name]
    check_op(function, *arrays, orders=0 if "empty" in name else 2)


def test_dtypes_are_promoted() -> None:
    joined = nbdl.cat([nbdl.tensor([1, 2]), nbdl.tensor([1.5]), nbdl.tensor([True])])
    assert joined.dtype == np.float32
    assert joined.tolist() == [1.0, 2.0, 1.5, 1.0]
    assert nbdl.stack([nbdl.tensor(1), nbdl.tensor(2.5, dtype="float64")]).dtype == np.float64


def test_splitting_gives_views() -> None:
    x = nbdl.zeros(4, 2)
    first, second = x.split(2)
    first.fill_(1)
    x.unbind(1)[1].add_(5)
    second[0] = 9
    assert x.tolist() == [[1, 6], [1, 6], [9, 9], [0, 5]]


def test_history_of_a_piece_changed_in_place() -> None:
    x = nbdl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    pieces = y.unbind()
    pieces[1].mul_(10)
    assert y.tolist() == [2.0, 40.0, 6.0]
    (y.sum() + pieces[1]).backward()
    assert x.grad.tolist() == [2.0, 40.0, 2.0]


def test_base_changed_after_splitting() -> None:
    x = nbdl.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    a, b = y.split(1)
    y.mul_(3)
    (a * b).sum().backward()
    assert x.grad.tolist() == [18.0, 9.0]


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular", "symmetric"])
@pytest.mark.parametrize(
    "widths", [[(0, 0), (1, 2), (3, 1)], [(0, 0), (0, 0), (0, 0)], [(1, 0), (0, 2), (2, 2)]]
)
def test_pad(mode: str, widths: list[tuple[int, int]], check_op: Any) -> None:
    numpy_mode = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    found = pad(nbdl.from_numpy(CUBE), widths, mode)
    np.testing.assert_array_equal(found.numpy(), np.pad(CUBE, widths, mode=numpy_mode))
    check_op(lambda lib, x: pad(x, widths, mode), CUBE, twin=False)


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "replicate", "circular"])
def test_frames_are_batched_and_compiled(backend: str, mode: str) -> None:
    x = nbdl.from_numpy(CUBE)

    def framed(x: nbdl.Tensor) -> nbdl.Tensor:
        return pad(x, [(1, 0), (-1, 2)], mode)

    expected = nbdl.stack([framed(row) for row in x])
    assert nbdl.func.vmap(framed)(x).tolist() == expected.tolist()
    assert nbdl.compile(framed)(x[0]).tolist() == expected[0].tolist()
    gradients = nbdl.func.vmap(nbdl.func.grad(lambda x: framed(x).square().sum()))(x)
    one_by_one = nbdl.stack([nbdl.func.grad(lambda x: framed(x).square().sum())(row) for row in x])
    np.testing.assert_allclose(gradients.numpy(), one_by_one.numpy())


@pytest.mark.parametrize("value", [0, 2.5, float("-inf"), float("nan")])
def test_pad_value(value: float) -> None:
    found = pad_constant(nbdl.from_numpy(VECTOR), [(1, 2)], value).numpy()
    np.testing.assert_array_equal(found, np.pad(VECTOR, (1, 2), constant_values=value))


def test_negative_widths_crop(check_op: Any) -> None:
    for mode in ("constant", "reflect", "replicate", "circular"):
        found = pad(nbdl.from_numpy(CUBE), [(0, 0), (-1, 0), (1, -2)], mode)
        inner = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
        wanted = np.pad(CUBE[:, 1:], [(0, 0), (0, 0), (1, 0)], mode=inner)[:, :, :-2]
        np.testing.assert_array_equal(found.numpy(), wanted)
    check_op(lambda lib, x: pad_constant(x, [(0, 0), (-1, 0), (1, -2)]), CUBE, twin=False)


ERRORS = {
    "cat, nothing": (lambda x: nbdl.cat([]), ValueError, "cat: expected a non-empty"),
    "cat, one tensor": (lambda x: nbdl.cat(x), TypeError, "cat: argument 'tensors' must be a sequence"),
    "cat, no tensor": (lambda x: nbdl.cat([x, 1]), TypeError, "cat: .* element 1 .* int"),
    "cat, shapes": (
        lambda x: nbdl.cat([x, x[:, :2]]),
        RuntimeError,
        "cat: .*expected size 4 but got size 2 in dimension 1 of tensor number 1",
    ),
    "cat, ranks": (lambda x: nbdl.cat([x, x[0]]), RuntimeError, "cat: .*number of dimensions, got 2 and 1"),
    "cat, scalar": (lambda x: nbdl.cat([x.sum()]), RuntimeError, "zero-dimensional"),
    "cat, axis": (lambda x: nbdl.cat([x], 2), IndexError, "cat: Dimension out of range"),
    "stack, shapes": (
        lambda x: nbdl.stack([x, x[0]]),
        RuntimeError,
        r"stack: .*\[3, 4\] at entry 0 and \[4\] at entry 1",
    ),
    "split, sizes": (lambda x: x.split([1, 1]), RuntimeError, r"split: sections \[1, 1\] .* 3"),
    "split, zero": (lambda x: x.split(0), RuntimeError, "split: split_size must be positive, got 0"),
    "split, scalar": (lambda x: x.sum().split(1), RuntimeError, "split: .*0-dimensional"),
    "chunk": (lambda x: x.chunk(0), RuntimeError, "chunk: .*greater than 0, got 0"),
    "tensor_split": (lambda x: x.tensor_split(0), RuntimeError, "tensor_split: .*larger than 0"),
    "roll": (lambda x: x.roll((1, 2), 0), RuntimeError, "roll: shifts and dims must align"),
    "rot90": (lambda x: x.rot90(1, (0, 0)), RuntimeError, "rot90: rotation dims must be different"),
    "repeat": (lambda x: x.repeat(2), RuntimeError, r"repeat: number of repeats \(1\)"),
    "repeat_interleave": (
        lambda x: x.repeat_interleave(nbdl.tensor([1, 2]), 0),
        RuntimeError,
        "repeat_interleave: repeats must have 1 or 3",
    ),
    "repeat_interleave, negative": (
        lambda x: x.repeat_interleave(-1),
        RuntimeError,
        "repeat_interleave: .*negative",
    ),
    "meshgrid": (lambda x: nbdl.meshgrid(x, x), RuntimeError, "meshgrid: expected vectors"),
    "meshgrid, indexing": (
        lambda x: nbdl.meshgrid(x[0], indexing="yx"),
        ValueError,
        "meshgrid: indexing must be 'ij' or 'xy'",
    ),
    "broadcast_tensors": (
        lambda x: nbdl.broadcast_tensors(x, x[:2]),
        RuntimeError,
        "broadcast_tensors: .*axis -2",
    ),
    "fliplr": (lambda x: nbdl.fliplr(x[0]), RuntimeError, "fliplr: .*2-dimensional"),
    "pad, ranks": (
        lambda x: pad_constant(x, [(1, 1)]),
        RuntimeError,
        "pad: expected one .* pair for each of 2 axes",
    ),
    "pad, crop": (lambda x: pad_constant(x, [(-4, 0), (0, 0)]), RuntimeError, "pad: .*cut more off dim 0"),
    "pad, mode": (
        lambda x: pad(x, [(1, 1), (0, 0)], "mirror"),
        ValueError,
        "pad: mode must be constant, reflect",
    ),
    "pad, reflect": (
        lambda x: pad(x, [(3, 0), (0, 0)], "reflect"),
        RuntimeError,
        "pad: widths .* of mode 'reflect' .* dim 0 of size 3",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.from_numpy(X))


def test_iteration_is_one_operation() -> None:
    x = nbdl.tensor(X, requires_grad=True)
    rows = list(x)
    assert len({id(row.grad_fn) for row in rows}) == 1
    sum(k * row.sum() for k, row in enumerate(rows)).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[k] * 4 for k in range(3)])
