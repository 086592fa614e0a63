"""The compiled kernels of attention against the NumPy backend: sizes, layouts, masks, dropout, threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nbdl.backend.numpy import NumpyBackend

numba_backend = pytest.importorskip("nbdl.backend.numba.backend")
from nbdl.backend.numba import attention as planners  # noqa: E402
from nbdl.backend.numba.launch import launch  # noqa: E402

SPECIFICATION = NumpyBackend()
EPSILON = {"float32": 1.2e-7, "float64": 2.3e-16}
DROPOUT = tuple(np.array(value) for value in (12345, 7, 0.3))  # seed, number of the draw, p


# ---- Operands ----


def rows_adjacent(x: np.ndarray) -> np.ndarray:
    return x


def heads_inside(x: np.ndarray) -> np.ndarray:
    """(batch, heads, length, width), in memory (batch, length, heads, width)."""
    return np.ascontiguousarray(x.swapaxes(-2, -3)).swapaxes(-2, -3) if x.ndim > 2 else x


def between_others(x: np.ndarray) -> np.ndarray:
    """Rows that are parts of longer ones, as those of a projection to query, key and value."""
    wide = np.full((*x.shape[:-1], x.shape[-1] + 7), 99.0, x.dtype)
    wide[..., 3:-4] = x
    return wide[..., 3:-4]


def reversed_rows(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :]


LAYOUTS = [rows_adjacent, heads_inside, between_others, reversed_rows]

# shapes of query, key and value
SIZES = {
    "one of each": ((1, 1), (1, 1), (1, 1)),
    "one query": ((2, 1, 8), (2, 300, 8), (2, 300, 8)),
    "one key": ((2, 70, 8), (2, 1, 8), (2, 1, 8)),
    "no batch": ((17, 5), (31, 5), (31, 3)),
    "odd": ((2, 3, 17, 9), (2, 3, 31, 9), (2, 3, 31, 33)),
    "whole blocks": ((1, 2, 128, 32), (1, 2, 256, 32), (1, 2, 256, 32)),
    "more queries": ((3, 200, 16), (3, 20, 16), (3, 20, 16)),
    "more keys": ((3, 20, 16), (3, 200, 16), (3, 200, 16)),
    "wide": ((1, 65, 256), (1, 130, 256), (1, 130, 129)),
    "keys shared by queries": ((2, 3, 2, 9, 8), (2, 3, 1, 12, 8), (2, 3, 1, 12, 8)),
    "queries shared by keys": ((9, 8), (2, 3, 12, 8), (3, 12, 8)),
}


def normal(shape: tuple[int, ...], dtype: Any, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def operands(case: str, dtype: Any, layout: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    return [layout(normal(shape, dtype, seed)) for seed, shape in enumerate(SIZES[case])]


def score_shape(arrays: list[np.ndarray]) -> tuple[int, ...]:
    batch = np.broadcast_shapes(*[x.shape[:-2] for x in arrays])
    return (*batch, arrays[0].shape[-2], arrays[1].shape[-2])


def mask_of_bools(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.random.default_rng(9).random(shape) > 0.3


def mask_of_keys(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The same for all queries and heads."""
    return mask_of_bools((*shape[:1], *[1] * (len(shape) - 2), shape[-1]), dtype)


def mask_of_numbers(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    numbers = normal(shape, dtype, 8)
    numbers[..., ::5] = -np.inf
    return numbers


def mask_of_rows(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """One matrix for the whole batch, its columns no neighbours in memory; one query sees nothing."""
    numbers = np.asfortranarray(normal(shape[-2:], dtype, 8))
    numbers[shape[-2] // 2] = -np.inf
    return numbers


MASKS = {f.__name__: f for f in (mask_of_bools, mask_of_keys, mask_of_numbers, mask_of_rows)}


# ---- Comparison ----


def run(name: str, *arrays: Any, **params: Any) -> tuple[Any, ...]:
    """What the kernel computes; that there is one is part of the test."""
    plan = numba_backend.PLANNERS[name](arrays, None, **params)
    assert plan is not None, f"{name} is left to NumPy"
    results = plan.allocate()
    for result in results:
        result[...] = 99  # must be overwritten
    launch(plan.block, *arrays, *results)
    return results


def assert_close(found: tuple[Any, ...], expected: tuple[Any, ...], terms: int) -> None:
    for got, wanted in zip(found, expected, strict=True):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
        tolerance = 30 * EPSILON[wanted.dtype.name] * terms**0.5
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * largest)


def check(arrays: list[np.ndarray], *rest: Any, **params: Any) -> None:
    """Both directions agree with the specification up to the rounding of their sums."""
    params = {"scale": 0.3, "is_causal": False, "has_mask": False, **params}
    expected = SPECIFICATION.attention(*arrays, *rest, **params)
    terms = max(arrays[0].shape[-1], *[x.shape[-2] for x in arrays])
    assert_close(run("attention", *arrays, *rest, **params), expected, terms)
    g = normal(expected[0].shape, expected[0].dtype, 5)
    backward = (g, *arrays, *expected, *rest)
    assert_close(
        run("attention_input", *backward, **params),
        SPECIFICATION.attention_input(*backward, **params),
        terms,
    )


@pytest.mark.parametrize("is_causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SIZES)
def test_sizes_and_layouts(case, layout, is_causal, dtype, num_threads):
    check(operands(case, dtype, layout), is_causal=is_causal)


@pytest.mark.parametrize("is_causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("case", ["odd", "no batch", "more keys", "keys shared by queries"])
def test_masks(case, mask, is_causal, dtype, num_threads):
    arrays = operands(case, dtype, heads_inside)
    check(arrays, MASKS[mask](score_shape(arrays), dtype), is_causal=is_causal, has_mask=True)


@pytest.mark.parametrize("case", ["odd", "no batch", "more keys", "queries shared by keys"])
def test_dropout_draws_as_numpy_does(case, dtype, num_threads):
    arrays = operands(case, dtype, rows_adjacent)
    check(arrays, *DROPOUT)
    check(arrays, mask_of_bools(score_shape(arrays), dtype), *DROPOUT, is_causal=True, has_mask=True)


def test_everything_dropped():
    arrays = operands("odd", "float32", rows_adjacent)
    y, _ = run("attention", *arrays, *DROPOUT[:2], np.array(1.0), scale=1.0, is_causal=False, has_mask=False)
    np.testing.assert_array_equal(y, 0)


def test_scores_beyond_the_range_of_exponentials(dtype):
    q, k, v = operands("odd", dtype, rows_adjacent)
    q *= dtype.type(1e4)
    params = {"scale": 1.0, "is_causal": False, "has_mask": False}
    y, log_sum = run("attention", q, k, v, **params)
    best = np.argmax(q @ k.swapaxes(-1, -2), -1)
    nearest = np.take_along_axis(v, best[..., None], -2)
    assert (np.abs(y - nearest).max(-1) < 1e-3).mean() > 0.95  # nearly all weight is on the best key
    assert np.isfinite(log_sum).all()
    assert all(np.isfinite(x).all() for x in run("attention_input", y, q, k, v, y, log_sum, **params))


def test_a_nan_reaches_its_row_only(dtype):
    q, k, v = operands("odd", dtype, rows_adjacent)
    q[0, 1, 5, 2] = np.nan
    y, log_sum = run("attention", q, k, v, scale=1.0, is_causal=False, has_mask=False)
    assert np.isnan(y[0, 1, 5]).all()
    assert np.isnan(log_sum[0, 1, 5])
    assert np.isnan(y).sum() == v.shape[-1]


def test_results_are_laid_out_as_the_operands():
    q, k, v = operands("odd", "float32", heads_inside)
    params = {"scale": 1.0, "is_causal": False, "has_mask": False}
    y, log_sum = run("attention", q, k, v, **params)
    assert y.swapaxes(1, 2).flags.c_contiguous
    for x in run("attention_input", y, q, k, v, y, log_sum, **params):
        assert x.swapaxes(1, 2).flags.c_contiguous


def test_results_into_given_arrays(dtype, num_threads):
    arrays = operands("odd", dtype, heads_inside)
    params = {"scale": 0.3, "is_causal": True, "has_mask": False}
    expected = SPECIFICATION.attention(*arrays, **params)
    outs = (between_others(np.zeros_like(expected[0])), np.zeros_like(expected[1]))
    plan = planners.plan_attention(arrays, outs, **params)
    launch(plan.block, *arrays, *outs)
    assert_close(outs, expected, 31)
    backward = (expected[0], *arrays, *expected)
    gradients = tuple(between_others(np.zeros(x.shape, dtype)) for x in arrays)
    plan = planners.plan_attention_input(backward, gradients, **params)
    launch(plan.block, *backward, *gradients)
    assert_close(gradients, SPECIFICATION.attention_input(*backward, **params), 31)


def test_what_kernels_leave_to_numpy():
    q, k, v = operands("odd", "float32", rows_adjacent)
    params = {"scale": 1.0, "is_causal": False, "has_mask": False}
    half = [x.astype(np.float16) for x in (q, k, v)]
    assert planners.plan_attention(half, None, **params) is None
    assert planners.plan_attention([q[:0], k[:0], v[:0]], None, **params) is None
    assert planners.plan_attention([q[..., ::2], k[..., ::2], v], None, **params) is None
