"""nbdl.cuda: devices, streams, events and memory."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from gpu import standin_device

import nbdl
from nbdl import config
from nbdl.backend import registry
from nbdl.ops.dropout import Dropout


@pytest.mark.usefixtures("gpu")
class TestDevices:
    def test_what_there_is(self):
        assert nbdl.cuda.is_available()
        assert nbdl.cuda.device_count() >= 1
        assert nbdl.cuda.current_device() == 0
        assert nbdl.cuda.get_device_name()
        assert nbdl.cuda.get_device_name("cuda:0") == nbdl.cuda.get_device_name(0)
        assert nbdl.cuda.get_device_capability()[0] >= 5

    def test_a_device_that_does_not_exist(self):
        for use in (nbdl.cuda.set_device, nbdl.cuda.device, nbdl.cuda.synchronize, nbdl.cuda.Stream):
            with pytest.raises(RuntimeError, match=r"'cuda:99' does not exist: there (is|are)"):
                use(99)

    def test_the_cpu_is_no_gpu(self):
        for use in (nbdl.cuda.set_device, nbdl.cuda.memory_allocated, nbdl.cuda.current_stream):
            with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"):
                use("cpu")

    def test_seeds(self):
        nbdl.cuda.manual_seed(5)
        first = nbdl.rand(3).cpu().numpy()
        nbdl.cuda.manual_seed_all(5)
        np.testing.assert_array_equal(nbdl.rand(3).cpu().numpy(), first)


@pytest.mark.usefixtures("gpu")
class TestTwoDevices:
    @pytest.fixture(autouse=True)
    def _two(self, gpu):
        if nbdl.cuda.device_count() < 2:
            pytest.skip("there is one GPU")

    def test_new_tensors_are_where_they_are_asked_for(self):
        for make in (nbdl.zeros, nbdl.ones, nbdl.empty, nbdl.rand):
            assert make(3, device="cuda:1").device.index == 1
        assert nbdl.tensor([1.0], device="cuda:1").device.index == 1
        assert nbdl.cuda.current_device() == 0
        with nbdl.cuda.device(1):
            assert nbdl.cuda.current_device() == 1
            assert nbdl.zeros(3).device.index == 1
        assert nbdl.zeros(3).device.index == 0

    def test_results_and_gradients_stay_on_the_device_of_the_operands(self):
        x = nbdl.arange(6.0, device="cuda:1").reshape(2, 3).requires_grad_()
        y = nbdl.softmax(x @ x.T, 1).sum()
        y.backward()
        assert y.device.index == x.grad.device.index == 1
        assert nbdl.cuda.current_device() == 0

    @pytest.mark.parametrize("compiled", [False, True])
    def test_a_network_on_two_devices(self, compiled):
        """Gradients cross to where the operands are, and optimizers step on both."""
        nbdl.manual_seed(0)
        first, second = nbdl.nn.Linear(3, 4).to("cuda:0"), nbdl.nn.Linear(4, 1).to("cuda:1")
        halves = [nbdl.compile(half) if compiled else half for half in (first, second)]
        optimizer = nbdl.optim.Adam([*first.parameters(), *second.parameters()], lr=0.05)
        x, losses = nbdl.ones(5, 3, device="cuda:0"), []
        for _ in range(4):
            optimizer.zero_grad()
            loss = (halves[1](halves[0](x).tanh().to("cuda:1")) - 1).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert [p.grad.device.index for p in (first.weight, second.weight)] == [0, 1]
        assert losses[-1] < losses[0]
        assert nbdl.cuda.current_device() == 0

    def test_memory_and_streams_are_counted_by_device(self):
        before = [nbdl.cuda.memory_allocated(k) for k in (0, 1)]
        x = nbdl.zeros(1 << 12, device="cuda:1")
        assert [nbdl.cuda.memory_allocated(k) for k in (0, 1)] == [before[0], before[1] + x.nbytes]
        side = nbdl.cuda.Stream("cuda:1")
        with nbdl.cuda.stream(side):
            assert nbdl.cuda.current_device() == 1
            assert (nbdl.ones(3) + 1).device.index == 1
        assert nbdl.cuda.current_device() == 0

    def test_arrays_that_are_shared_stay_on_their_device(self):
        x = nbdl.arange(3.0, device="cuda:1")
        y = nbdl.from_dlpack(x)
        y += 1
        assert y.device.index == 1
        assert x.tolist() == [1, 2, 3]

    def test_moves(self):
        x = nbdl.arange(3.0, device="cuda:0")
        y = x.to("cuda:1")
        assert (y.device.index, y.to("cuda:1") is y) == (1, True)
        np.testing.assert_array_equal(y.cpu().numpy(), [0, 1, 2])

    def test_a_mixture_is_an_error(self):
        with pytest.raises(RuntimeError, match="found at least two devices: cuda:0 and cuda:1"):
            nbdl.zeros(3, device="cuda:0") + nbdl.zeros(3, device="cuda:1")

    def test_set_device(self):
        nbdl.cuda.set_device("cuda:1")
        try:
            assert nbdl.zeros(2).device.index == 1
        finally:
            nbdl.cuda.set_device(0)
        nbdl.cuda.set_device(None)
        assert nbdl.cuda.current_device() == 0


@pytest.mark.usefixtures("gpu")
class TestStreams:
    def test_work_in_a_stream(self):
        side, outer = nbdl.cuda.Stream(), nbdl.cuda.current_stream()
        assert outer == nbdl.cuda.default_stream()
        assert side != outer
        x = nbdl.ones(4)
        side.wait_stream(outer)
        with nbdl.cuda.stream(side):
            assert nbdl.cuda.current_stream() == side
            y = x + 1
        assert nbdl.cuda.current_stream() == outer
        outer.wait_stream(side)
        np.testing.assert_array_equal((y * 2).cpu().numpy(), 4)
        side.synchronize()
        assert side.query()
        with nbdl.cuda.stream(None):
            assert nbdl.cuda.current_stream() == outer

    def test_set_stream(self):
        side, outer = nbdl.cuda.Stream(), nbdl.cuda.current_stream()
        nbdl.cuda.set_stream(side)
        try:
            assert nbdl.cuda.current_stream() == side
        finally:
            nbdl.cuda.set_stream(outer)
        assert nbdl.cuda.current_stream().device == nbdl.device("cuda:0")

    def test_events_measure(self):
        start, end = (nbdl.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        nbdl.ones(1000).sum()
        end.record()
        end.synchronize()
        assert start.query()
        assert end.query()
        assert start.elapsed_time(end) > 0
        assert end.elapsed_time(start) < 0

    def test_a_stream_is_a_block(self):
        side, outer = nbdl.cuda.Stream(), nbdl.cuda.current_stream()
        with side as entered, side:
            assert entered == nbdl.cuda.current_stream() == side
        assert nbdl.cuda.current_stream() == outer

    def test_events_and_streams_of_two_devices(self):
        """An event is of the device where it is first recorded, and the default streams are two."""
        if nbdl.cuda.device_count() < 2:
            pytest.skip("there is one GPU")
        there, event = nbdl.cuda.default_stream("cuda:1"), nbdl.cuda.Event()
        event.record(there)
        event.wait(nbdl.cuda.Stream("cuda:0"))
        nbdl.cuda.Stream("cuda:0").wait_stream(there)
        there.synchronize()
        assert event.query()
        assert there.query()
        with pytest.raises(
            RuntimeError, match=r"Event\.record: the event belongs to cuda:1, the stream to cuda:0"
        ):
            event.record(nbdl.cuda.default_stream("cuda:0"))
        assert nbdl.cuda.current_device() == 0

    def test_an_event_that_nothing_recorded(self):
        event = nbdl.cuda.Event()
        assert event.query()
        event.wait()
        event.synchronize()

    @pytest.mark.parametrize(
        ("mistake", "error", "message"),
        [
            (lambda e, s: e.elapsed_time(e), RuntimeError, "elapsed_time: both events must be recorded"),
            (lambda e, s: e.record() or e.elapsed_time(e), RuntimeError, "made with enable_timing=True"),
            (lambda e, s: e.elapsed_time(3), TypeError, "end_event must be an nbdl.cuda.Event, got int"),
            (
                lambda e, s: e.record(3),
                TypeError,
                "Event.record: stream must be an nbdl.cuda.Stream, got int",
            ),
            (lambda e, s: e.wait("a"), TypeError, "Event.wait: stream must be an nbdl.cuda.Stream, got str"),
            (lambda e, s: s.wait_event(s), TypeError, "event must be an nbdl.cuda.Event, got Stream"),
            (lambda e, s: s.wait_stream(e), TypeError, "stream must be an nbdl.cuda.Stream, got Event"),
            (
                lambda e, s: nbdl.cuda.stream(1),
                TypeError,
                "stream must be an nbdl.cuda.Stream, got int",
            ),
            (
                lambda e, s: nbdl.cuda.set_stream(1),
                TypeError,
                "set_stream: stream must be",
            ),
        ],
    )
    def test_mistakes(self, mistake, error, message):
        with pytest.raises(error, match=message):
            mistake(nbdl.cuda.Event(), nbdl.cuda.Stream())

    def test_time_that_is_not_over(self, gpu, monkeypatch):
        if gpu != "standin":
            pytest.skip("what a stream has done is not to be steered")
        events = [nbdl.cuda.Event(enable_timing=True) for _ in range(2)]
        for event in events:
            event.record()
        monkeypatch.setattr(standin_device.Event, "done", False)
        with pytest.raises(RuntimeError, match=r"has not reached both events; call synchronize\(\) first"):
            events[0].elapsed_time(events[1])


# By the operation that is named: what fills the memory of rows and a column, and what it asks for.
FULL = {
    "multiply": (lambda a, b: a * b, "64.00 MiB"),
    "matmul": (lambda a, b: b @ a, "64.00 MiB"),
    "cumsum": (lambda a, b: a.expand(1 << 12, 1 << 12).cumsum(1), "64.00 MiB"),
    "index": (lambda a, b: a[nbdl.zeros(1 << 12, dtype=nbdl.int64)], "64.00 MiB"),
    "cat": (lambda a, b: nbdl.cat([a] * (1 << 12)), "64.00 MiB"),
    "softmax": (lambda a, b: a.expand(1 << 12, 1 << 12).softmax(1), "64.00 MiB"),
}


@pytest.mark.usefixtures("gpu")
class TestMemory:
    def test_what_tensors_take(self):
        nbdl.cuda.empty_cache()
        before, reserved = nbdl.cuda.memory_allocated(), nbdl.cuda.memory_reserved()
        x = nbdl.zeros(1 << 14)
        assert nbdl.cuda.memory_allocated() == before + (1 << 16)
        assert nbdl.cuda.memory_reserved() >= reserved + (1 << 16)
        del x
        assert nbdl.cuda.memory_allocated() == before
        assert nbdl.cuda.memory_stats()["inactive_split_bytes.all.current"] >= 1 << 16
        nbdl.cuda.empty_cache()
        assert nbdl.cuda.memory_reserved() == reserved

    def test_a_limit(self):
        free, total = nbdl.cuda.mem_get_info()
        assert 0 < free <= total
        nbdl.cuda.set_per_process_memory_fraction(0.25)
        try:
            assert nbdl.cuda.get_per_process_memory_fraction() == pytest.approx(0.25)
            assert nbdl.cuda.memory_stats()["limit_bytes"] == pytest.approx(total / 4)
        finally:
            nbdl.cuda.set_per_process_memory_fraction(1.0)
        assert nbdl.cuda.get_per_process_memory_fraction() == 1.0

    @pytest.mark.parametrize(("fraction", "error"), [(1, TypeError), (1.5, ValueError), (-0.5, ValueError)])
    def test_a_wrong_limit(self, fraction, error):
        with pytest.raises(error, match="set_per_process_memory_fraction: Invalid"):
            nbdl.cuda.set_per_process_memory_fraction(fraction)

    def test_what_programs_take(self):
        """The graphs of a program work in a pool of its own, which is counted until the program is gone."""
        gc.collect()
        before = nbdl.cuda.memory_stats()["program_bytes"]
        run, x = nbdl.compile(lambda x: x.t().cumsum(1).sort().values), nbdl.ones(64, 64)
        for _ in range(3):
            run(x)
        stats = nbdl.cuda.memory_stats()
        assert stats["program_bytes"] >= before + (1 << 14)
        assert stats["allocated_bytes.all.current"] >= stats["program_bytes"]
        nbdl.cuda.empty_cache()  # leaves what graphs need
        np.testing.assert_array_equal(run(x)[:, 63].cpu().numpy(), 64)
        del run
        gc.collect()
        assert nbdl.cuda.memory_stats()["program_bytes"] == before

    @pytest.mark.parametrize("name", FULL)
    def test_the_operation_is_named(self, name, gpu):
        """Under a limit each operation says what it asked for; what is there stays, and work goes on."""
        if gpu != "standin":
            pytest.skip("fills the memory of a small device")
        work, asked = FULL[name]
        rows, column = nbdl.ones(1, 1 << 12), nbdl.ones(1 << 12, 1)
        gc.collect()
        nbdl.cuda.empty_cache()
        nbdl.cuda.set_per_process_memory_fraction(0.25)
        try:
            before = nbdl.cuda.memory_allocated()
            for _ in range(2):
                full = pytest.raises(nbdl.cuda.OutOfMemoryError, match=rf"^{name}: CUDA out of memory")
                with full as caught:
                    work(rows, column)
                text = str(caught.value)
                assert f"Tried to allocate {asked} on cuda:0, which has 128.00 MiB" in text
                assert "it may take 32.00 MiB (nbdl.cuda.set_per_process_memory_fraction)" in text
                del caught, full
                gc.collect()
                assert nbdl.cuda.memory_allocated() == before
            assert (rows + 1).sum().item() == 2 << 12
        finally:
            nbdl.cuda.set_per_process_memory_fraction(1.0)

    def test_memory_that_is_full_while_a_program_is_captured(self, gpu):
        """The operation runs outside of the graphs, and says what is missing; a smaller program works."""
        if gpu != "standin":
            pytest.skip("fills the memory of a small device")
        run = nbdl.compile(lambda x: (x.reshape(-1, 1) @ x.reshape(1, -1)).sum())
        x = nbdl.ones(1 << 13)
        for _ in range(3):
            with pytest.raises(nbdl.cuda.OutOfMemoryError, match="CUDA out of memory"):
                run(x)
        assert [run(nbdl.ones(4)).item() for _ in range(3)] == [16.0] * 3

    @pytest.mark.parametrize("limited", [False, True])
    def test_a_program_for_whose_graphs_no_memory_is_left(self, limited, gpu):
        """Its capture fails as any operation would, under a limit too; with memory again, it works."""
        if gpu != "standin":
            pytest.skip("fills the memory of a small device")
        run = nbdl.compile(lambda x: x.t().cumsum(1).sort().values)
        x = nbdl.ones(64, 64)  # 16 KiB
        first = run(x)
        gc.collect()
        nbdl.cuda.empty_cache()
        free = 0 if limited else nbdl.cuda.mem_get_info()[0] - (3 << 13)
        filler = nbdl.empty(free, dtype=nbdl.uint8)
        try:
            if limited:
                nbdl.cuda.set_per_process_memory_fraction((nbdl.cuda.memory_allocated() + (3 << 13)) / 2**27)
            with pytest.raises(nbdl.cuda.OutOfMemoryError, match=r"^\w+: CUDA out of memory"):
                run(x)
        finally:
            nbdl.cuda.set_per_process_memory_fraction(1.0)
        del filler
        np.testing.assert_array_equal(run(x).cpu().numpy(), first.cpu().numpy())

    def test_memory_that_is_full_in_a_backward_pass(self, gpu):
        """Nothing of the pass is left, and the next one works."""
        if gpu != "standin":
            pytest.skip("fills the memory of a small device")
        x = nbdl.ones(64, 64, requires_grad=True)
        loss = x.square().sum()
        gc.collect()
        nbdl.cuda.empty_cache()
        before = nbdl.cuda.memory_allocated()
        nbdl.cuda.set_per_process_memory_fraction((before + (1 << 13)) / 2**27)
        try:
            with pytest.raises(nbdl.cuda.OutOfMemoryError, match=r"Tried to allocate 16\.00 KiB") as caught:
                loss.backward()
            del caught, loss
            gc.collect()
            assert x.grad is None
            assert nbdl.cuda.memory_allocated() <= before
            small = nbdl.ones(3, requires_grad=True)
            small.square().sum().backward()
            assert small.grad.tolist() == [2, 2, 2]
        finally:
            nbdl.cuda.set_per_process_memory_fraction(1.0)

    def test_full_memory(self):
        """The error names the operation and what was asked, used and free, and the program goes on."""
        count = nbdl.cuda.mem_get_info()[1] // 4 * 3 // 4  # float32 elements: three quarters of the memory
        x = nbdl.zeros(4)
        with pytest.raises(nbdl.cuda.OutOfMemoryError, match=r"^add: CUDA out of memory") as caught:
            x.reshape(4, 1).expand(4, count) + 1
        unit, size = ("GiB", 1 << 30) if count * 16 >= 1 << 30 else ("MiB", 1 << 20)
        asked = f"{count * 16 / size:.2f} {unit}"
        for text in (f"Tried to allocate {asked} on cuda:0", "are free", "tensors take", "batches"):
            assert text in str(caught.value)
        with pytest.raises(nbdl.cuda.OutOfMemoryError, match=r"^empty: CUDA out of memory"):
            nbdl.empty(4, count)
        np.testing.assert_array_equal((x + 1).cpu().numpy(), 1)


def dropped_at_a_rate_there(x):
    """By a primitive, whose rate is an array of the device."""
    draw = [np.array(k) for k in (1, 2)]
    registry.load("cupy").execute(Dropout.of(), [*draw, x.array, (x[0] / 2).array])


def packed_in_a_wide_layer(x):
    """Sequences of several lengths in a layer that is too wide for one kernel."""
    layer = nbdl.nn.RNN(1, 257).to(x.device)
    rows = x.reshape(3, 1, 1).expand(3, 2, 1)
    layer(nbdl.nn.utils.rnn.pack_padded_sequence(rows, nbdl.tensor([3, 1], device="cpu")))


@pytest.mark.usefixtures("gpu")
class TestWaiting:
    @pytest.fixture(autouse=True)
    def _mode(self):
        nbdl.cuda.set_sync_debug_mode("warn")
        yield
        config.SYNC_DEBUG.set(None)

    @pytest.mark.parametrize(
        ("what", "read"),
        [
            (r"item\(\)", lambda x: x.sum().item()),
            (r"item\(\)", lambda x: float(x.sum())),
            (r"tolist\(\)", lambda x: x.tolist()),
            ("the truth value", lambda x: bool(x.sum() > 0)),
            ("the text of a tensor", repr),
            (r"cpu\(\)", lambda x: x.cpu()),
            ("nonzero: the shape", lambda x: x.nonzero()),
            ("the rate of dropout", dropped_at_a_rate_there),
            (
                "legendre_polynomial_p: what is computed",
                lambda x: nbdl.special.legendre_polynomial_p(x, x + 1),
            ),
            ("recurrent: how many sequences", packed_in_a_wide_layer),
            ("synchronize", lambda x: nbdl.cuda.synchronize()),
            ("synchronize", lambda x: nbdl.cuda.current_stream().synchronize()),
        ],
    )
    def test_each_wait_is_reported_with_its_line(self, what, read):
        x = nbdl.ones(3)
        with pytest.warns(UserWarning, match=rf"waits for the GPU at .*test_cuda\.py:\d+ in .*{what}"):
            read(x)
        nbdl.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError, match=rf"waits for the GPU at .*{what}.*NBDL_SYNC_DEBUG=error"):
            read(x)
        nbdl.cuda.set_sync_debug_mode(0)
        read(x)

    def test_work_is_no_wait(self):
        x = nbdl.ones(3, 3, requires_grad=True)
        (x @ x).softmax(1).square().sum().backward()
        assert nbdl.cuda.get_sync_debug_mode() == 1

    def test_an_unknown_mode(self):
        for mode in ("loud", 3):
            with pytest.raises(RuntimeError, match="expected one of default, warn, error"):
                nbdl.cuda.set_sync_debug_mode(mode)
