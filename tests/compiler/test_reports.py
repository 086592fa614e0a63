"""nbdl.compile: what a program says about itself, and the memory that it needs."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import nbdl
from nbdl.backend.numba import threads


def test_programs_do_not_keep_arguments_alive(backend):
    double = nbdl.compile(lambda x: x * 2)
    x = nbdl.ones(1000)
    watched = weakref.ref(x.array)
    double(x)
    double(x)
    del x
    gc.collect()
    assert watched() is None


def test_report(backend):
    @nbdl.compile
    def function(x):
        return ((x * 2 + 1).tanh() * x).sum()

    text = str(function.program(nbdl.ones(100, 100)))
    assert "recorded: " in text and "improved on " + backend in text
    report = function.program(nbdl.ones(100, 100))
    assert len(report.improved.operations) == 1 < len(report.recorded.operations)
    assert report.planned_bytes == 0 < report.recorded_bytes
    assert report.flops >= 5 * 100 * 100


def test_a_report_names_what_tells_operations_apart(backend):
    weight = nbdl.ones(5, 7, requires_grad=True)

    def function(x, image, kernel):
        scores = nbdl.softmax(x @ weight, 0)
        (gradient,) = nbdl.autograd.grad(scores.sum(0)[0], weight)
        return gradient, nbdl.nn.functional.conv2d(image, kernel, padding=1, stride=2)

    operands = nbdl.ones(6, 5), nbdl.ones(1, 2, 6, 6), nbdl.ones(3, 2, 3, 3)
    text = str(nbdl.compile(function).program(*operands)).split("improved on")[0]
    assert "matmul[transpose_a](i0:float32[6, 5], " in text
    assert "softmax[axis=0](" in text
    assert "sum[axes=(0,)](" in text
    assert "convolution[stride=(2, 2), padding=((1, 1), (1, 1))](" in text


def test_long_formulas_are_written_once(backend):
    weights = [nbdl.ones(3, requires_grad=True), nbdl.ones(4, requires_grad=True)]
    optimizer = nbdl.optim.Adam(weights, lr=0.1)

    @nbdl.compile
    def step(x):
        optimizer.zero_grad()
        sum((weight * x).sum() for weight in weights).backward()
        optimizer.step()

    recorded = str(step.program(nbdl.ones(1))).split("improved on")[0]
    adams = [line for line in recorded.splitlines() if "adam(" in line]
    assert ["{as above}" in line for line in adams] == [False, True]


def test_profile(backend):
    weight = nbdl.full((50, 50), 100.0, requires_grad=True)
    optimizer = nbdl.optim.SGD([weight], lr=0.1, momentum=0.9)

    @nbdl.compile(without=["epilogues"])  # a row for every operation
    def step(x):
        optimizer.zero_grad()
        loss = (x @ weight).relu().sum()
        loss.backward()
        optimizer.step()
        return loss

    x = nbdl.ones(30, 50)
    for _ in range(2):
        step(x)
    expected = weight.detach().numpy() - 0.1 * (30 + 0.9 * (0.9 * 30 + 30))  # of the one run of the function
    profile = step.profile(x, runs=3)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-5)
    assert [row.flops for row in profile.rows if row.name == "matmul"] == [2 * 30 * 50 * 50] * 2
    assert len(profile.rows) == len(step.program(x).improved.operations)
    for row in profile.rows:
        bounds = row.flops / profile.peak_flops, row.nbytes / profile.peak_bytes
        assert row.roofline == pytest.approx(max(bounds) / row.seconds)
    assert profile.seconds == sum(row.seconds for row in profile.rows) > 0
    table = str(profile).splitlines()
    assert len(table) == len(profile.rows) + 3
    assert "of roofline" in table[0] and any(line.startswith("matmul") for line in table)
    with pytest.raises(ValueError, match="runs must be 1 or more, got 0"):
        step.profile(x, runs=0)


def test_profile_counts_parallel_regions():
    x = nbdl.ones(512, 512)
    with nbdl.use_backend("numba"):
        before = threads.get_num_threads()
        threads.set_num_threads(2)
        try:
            parallel = nbdl.compile(lambda x: x @ x).profile(x, runs=1)
        finally:
            threads.set_num_threads(before)
        serial = nbdl.compile(lambda x: x[:8, :8] @ x[:8, :8]).profile(x, runs=1)
    assert parallel.regions == 1
    assert parallel.region_seconds > 0
    assert "1 parallel regions of" in str(parallel)
    assert serial.regions == 0
    assert "parallel" not in str(serial)


def test_memory_is_shared_by_temporaries(backend):
    def chain(x):
        for _ in range(10):
            x = (x @ x).tanh()
        return x

    report = nbdl.compile(chain).program(nbdl.ones(64, 64))
    one = 64 * 64 * 4
    assert report.recorded_bytes >= 19 * one
    assert report.planned_bytes <= 3 * one


def test_a_recording_that_computes_keeps_no_array_alive() -> None:
    @nbdl.compile
    def function(x):
        alive: list[weakref.ref] = []
        for _ in range(5):
            x = x + 1
            alive.append(weakref.ref(x.array))
            assert sum(ref() is not None for ref in alive) <= 2
        return x

    with nbdl.no_grad(), nbdl.use_backend("numpy"):
        for _ in range(2):
            np.testing.assert_array_equal(function(nbdl.zeros(3)).numpy(), 5)


def test_what_a_recording_saw_is_freed_without_the_garbage_collector(backend: str) -> None:
    weight = nbdl.ones(3, requires_grad=True)
    optimizer = nbdl.optim.SGD([weight], lr=0.1, momentum=0.9)

    @nbdl.compile
    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()

    gc.collect()
    gc.disable()
    try:
        step(nbdl.ones(3))  # records, and once more below, since the optimizer has made its state
        first = weakref.ref(weight.grad.array)
        step(nbdl.ones(3))
        assert first() is None
    finally:
        gc.enable()
