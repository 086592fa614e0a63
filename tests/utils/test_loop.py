"""The loop, its callbacks, and the event files."""

from __future__ import annotations

import io
import math
import struct
import sys

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.utils import Callback, callbacks, data, fit
from nbdl.utils.tensorboard import SummaryWriter


class Log(Callback):
    def __init__(self):
        self.calls = []

    def on_start(self, run):
        self.calls.append("start")

    def on_epoch_start(self, run):
        self.calls.append(("epoch", run.epoch))

    def on_step(self, run):
        self.calls.append(("step", run.step, run.values["loss"]))

    def on_epoch_end(self, run):
        self.calls.append(("metrics", run.metrics))

    def on_end(self, run):
        self.calls.append("end")


def test_order_of_calls():
    log = Log()
    run = fit(lambda batch: batch, [1.0, 3.0], 2, [log], evaluate=lambda: {"accuracy": nbdl.tensor(0.5)})
    epoch = {"loss": 2.0, "accuracy": 0.5}
    assert log.calls == [
        "start",
        ("epoch", 0), ("step", 1, 1.0), ("step", 2, 3.0), ("metrics", epoch),
        ("epoch", 1), ("step", 3, 1.0), ("step", 4, 3.0), ("metrics", epoch),
        "end",
    ]  # fmt: skip
    assert run.history == [epoch, epoch]
    assert (run.n_batches, run.step, run.epoch) == (2, 4, 1)


def test_the_end_is_told_after_an_error():
    log = Log()
    with pytest.raises(ZeroDivisionError):
        fit(lambda batch: 1 / 0, [1], 2, [log])
    assert log.calls == ["start", ("epoch", 0), "end"]
    with pytest.raises(TypeError, match="more than once, got list_iterator"):
        fit(lambda batch: 1.0, iter([1]), 2)
    assert fit(lambda batch: {"a": 1, "b": nbdl.tensor(2)}, (), 1).history == [{}]


def test_early_stopping():
    values = iter([3.0, 2.0, math.nan, 2.5, 1.0, 1.5, 0.999, 1.2, 1.1])
    model = nn.Linear(1, 1)

    def step(batch):
        value = next(values)
        model.weight.data.fill_(value)
        return value

    stopping = callbacks.EarlyStopping(patience=3, min_delta=0.01, restore=model)
    run = fit(step, [None], 20, [stopping])
    assert (len(run.history), stopping.best, stopping.best_epoch) == (8, 1.0, 4)
    assert model.weight.item() == 1.0
    stopping = callbacks.EarlyStopping("accuracy", patience=1, mode="max")
    grades = iter([0.1, 0.5, 0.5])
    run = fit(lambda batch: 0.0, [None], 9, [stopping], lambda: {"accuracy": next(grades)})
    assert (len(run.history), stopping.best) == (3, 0.5)
    with pytest.raises(KeyError, match="no metric 'f1'; there are loss"):
        fit(lambda batch: 0.0, [None], 1, [callbacks.EarlyStopping("f1")])


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    x, y = nbdl.randn(32, 3, dtype=nbdl.float64), nbdl.randn(32, 1, dtype=nbdl.float64)

    def training(path, epochs):
        nbdl.manual_seed(0)
        model = nn.Linear(3, 1).double()
        optimizer = nbdl.optim.Adam(model.parameters(), lr=0.1)
        loader = data.DataLoader(data.TensorDataset(x, y), batch_size=8, shuffle=True)
        checkpoint = callbacks.Checkpoint(path, {"model": model, "optimizer": optimizer})

        def step(batch):
            optimizer.zero_grad()
            loss = ((model(batch[0]) - batch[1]) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return fit(step, loader, epochs, [checkpoint], start=checkpoint.resume()).history

    whole = training(tmp_path / "whole", 5)
    assert training(tmp_path / "parts", 2) == whole[:2]
    assert training(tmp_path / "parts", 5) == whole
    assert whole[-1]["loss"] < whole[0]["loss"]
    assert training(tmp_path / "parts", 5) == whole
    nbdl.save({"epoch": 1}, tmp_path / "other")
    with pytest.raises(RuntimeError, match=r"other' is no checkpoint of model, optimizer"):
        training(tmp_path / "other", 5)


def test_a_resumed_run_stops_early_where_it_would_have(tmp_path):
    losses = [3.0, 1.0, 2.0, 2.5, 0.5]

    def training(path, epochs):
        model = nn.Linear(1, 1)
        stopping = callbacks.EarlyStopping(patience=2, restore=model)
        checkpoint = callbacks.Checkpoint(path, {"model": model, "stopping": stopping})
        done = checkpoint.resume()
        remaining = iter(losses[done:])

        def step(batch):
            value = next(remaining)
            model.weight.data.fill_(value)
            return value

        run = fit(step, [None], epochs, [stopping, checkpoint], start=done)
        return [metrics["loss"] for metrics in run.history], model.weight.item(), stopping.best_epoch

    whole = training(tmp_path / "whole", 5)
    assert whole == ([3.0, 1.0, 2.0, 2.5], 1.0, 1)
    for epochs in (1, 3, 5, 5):
        found = training(tmp_path / "parts", epochs)
    assert found == whole


def test_checkpoints_of_the_best_and_now_and_then(tmp_path):
    losses = iter([3.0, 1.0, 2.0, 4.0, 0.5])
    part = nn.Linear(1, 1)
    best = callbacks.Checkpoint(tmp_path / "best", {"model": part}, monitor="loss")
    some = callbacks.Checkpoint(tmp_path / "some", {"model": part}, every=2)
    fit(lambda batch: next(losses), [None], 4, [best, some])
    assert nbdl.load(tmp_path / "best")["epoch"] == 1
    assert nbdl.load(tmp_path / "some")["epoch"] == 3
    fit(lambda batch: 0.0, [None], 3, [some])
    assert nbdl.load(tmp_path / "some")["epoch"] == 2
    again = callbacks.Checkpoint(tmp_path / "best", {"model": part}, monitor="loss")
    assert again.resume() == 2
    assert again._best.value == 1.0


@pytest.mark.parametrize("kind", ["line", "tqdm", "plain"])
def test_progress(kind, monkeypatch):
    if kind == "tqdm":
        pytest.importorskip("tqdm")
    elif kind == "plain":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    file = io.StringIO()
    fit(lambda batch: 0.25, [1, 2], 2, [callbacks.Progress(file, kind != "line")])
    text = file.getvalue()
    assert "epoch 2/2" in text
    assert "loss 0.25" in text
    last = {"line": "epoch 2/2: loss 0.25", "tqdm": "4/4 [", "plain": f"[{'#' * 30}] 4/4 loss 0.25"}[kind]
    assert last in text
    assert ("4/4" in text) == (kind != "line")


def test_progress_of_a_resumed_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    file = io.StringIO()
    fit(lambda batch: 0.5, [1, 2], 5, [callbacks.Progress(file, True)], start=4)
    assert "epoch 5/5 [###########################...] 9/10" in file.getvalue()
    file = io.StringIO()
    fit(lambda batch: 0.5, iter([1, 2]), 1, [callbacks.Progress(file, True)])
    assert file.getvalue().endswith("epoch 1/1 2 loss 0.5\n")


BAD = [
    lambda: callbacks.EarlyStopping(patience=0),
    lambda: callbacks.EarlyStopping(mode="low"),
    lambda: callbacks.EarlyStopping(min_delta=-1),
    lambda: callbacks.Checkpoint("file", {}, every=0),
    lambda: callbacks.TensorBoard("folder", every=-1),
    lambda: fit(len, [[]], epochs=-1),
    lambda: fit(len, [[]], epochs=1, start=-1),
]


@pytest.mark.parametrize("action", BAD)
def test_bad_options(action):
    with pytest.raises(ValueError, match=r"must be .*, got"):
        action()


# ------------------------------------------------------------------------------------------------ event files
def crc32c(content):
    """Bit by bit: no table that could be wrong in the same way."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def unmask(masked):
    rotated = (masked - 0xA282EAD8) % 2**32
    return (rotated >> 17 | rotated << 15) % 2**32


def varint(content, position):
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def message(content):
    """The fields of a protocol buffer message, by number."""
    fields, position = {}, 0
    while position < len(content):
        key, position = varint(content, position)
        if key & 7 == 0:
            value, position = varint(content, position)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, position = varint(content, position)
            value, position = content[position : position + size], position + size
        fields[key >> 3] = value
    return fields


def events(folder):
    (path,) = folder.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    content, position = path.read_bytes(), 0
    while position < len(content):
        (size,) = struct.unpack_from("<Q", content, position)
        body = content[position + 12 : position + 12 + size]
        for part, at in ((content[position : position + 8], 8), (body, 12 + size)):
            assert unmask(struct.unpack_from("<I", content, position + at)[0]) == crc32c(part)
        yield message(body)
        position += 16 + size


def values(folder):
    first, *rest = events(folder)
    assert first[3] == b"brain.Event:2"
    for event in rest:
        value = message(message(event[5])[1])
        yield value[1].decode(), event.get(2), value


def test_checksum_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4


def test_scalars(tmp_path):
    steps = [callbacks.TensorBoard(tmp_path / "logs", every=2)]
    fit(lambda batch: nbdl.tensor(float(batch)), [1, 2, 3], 2, steps)
    found = [(tag, step, struct.unpack("<f", value[2])[0]) for tag, step, value in values(tmp_path / "logs")]
    assert found == [
        ("step/loss", 2, 2.0), ("epoch/loss", 0, 2.0),
        ("step/loss", 4, 1.0), ("step/loss", 6, 3.0), ("epoch/loss", 1, 2.0),
    ]  # fmt: skip


def test_histograms_texts_and_images(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    with SummaryWriter(tmp_path) as writer:
        writer.add_histogram("weights", nbdl.tensor([1.0, 2.0, 2.0, 5.0]), 300, bins=4)
        writer.add_text("note", "**hello**", 1)
        writer.add_image("image", image, 2)
        writer.add_image("image", nbdl.tensor(image[:1] / 255), 3)
        with pytest.raises(ValueError, match="finite values"):
            writer.add_histogram("weights", [math.nan])
        with pytest.raises(ValueError, match=r"got shape \[2, 2, 2\]"):
            writer.add_image("image", np.zeros((2, 2, 2)))
    histogram, note, colour, grey = values(tmp_path)
    assert histogram[:2] == ("weights", 300)
    fields = message(histogram[2][5])
    assert [struct.unpack("<d", fields[k])[0] for k in range(1, 6)] == [1, 5, 4, 10, 34]
    assert np.frombuffer(fields[6]).tolist() == [2, 3, 4, 5]
    assert np.frombuffer(fields[7]).tolist() == [1, 2, 0, 1]
    assert note[0] == "note/text_summary"
    assert message(note[2][8])[8] == b"**hello**"
    assert message(message(note[2][9])[1])[1] == b"text"
    for (_, _, value), pixels in ((colour, image), (grey, image[:1])):
        fields = message(value[4])
        assert [fields[k] for k in (1, 2, 3)] == [4, 5, len(pixels)]
        matplotlib_image = pytest.importorskip("matplotlib.image")
        shown = matplotlib_image.imread(io.BytesIO(fields[4]), format="png")
        expected = pixels.transpose(1, 2, 0) / 255
        np.testing.assert_allclose(shown, expected if len(pixels) == 3 else expected[..., 0], atol=1e-6)
