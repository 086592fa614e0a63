"""save and load: round trips, the files of other writers, and files that are not what they should be."""

from __future__ import annotations

import io
import json
import math
import os
import struct
from collections import Counter, OrderedDict

import numpy as np
import pytest

import nbdl
from nbdl import nn
from nbdl.serialization import load_file, save_file

DTYPES = [
    nbdl.bool, nbdl.uint8, nbdl.int8, nbdl.int16, nbdl.int32, nbdl.int64, nbdl.float16, nbdl.float32,
    nbdl.float64, nbdl.complex64, nbdl.bfloat16,
]  # fmt: skip


def values(dtype, shape=(3, 4)):
    return nbdl.tensor(np.arange(math.prod(shape)).reshape(shape) % 2).to(dtype)


def round_trip(obj, **options):
    file = io.BytesIO()
    nbdl.save(obj, file)
    return nbdl.load(file, **options)


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, nbdl.Tensor):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.requires_grad == expected.requires_grad
        assert found.detach().array.tobytes() == np.ascontiguousarray(expected.detach().array).tobytes()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, strict=True)
    else:
        assert found == expected or (found != found and expected != expected)


NESTS = [
    None,
    3,
    -(2**70),
    0.1,
    float("inf"),
    -0.0,
    "text ümläut \n\0",
    True,
    [],
    {},
    (),
    (1, [2, (3.5, None)], {"a": {"b": "c"}}),
    {1: "int key", "1": "str key", (2, "x"): None, None: 0, 4.5: False},
    {1, 2, 3},
    frozenset({"a"}),
    Counter({3: 2, 7: 1}),
    OrderedDict(b=1, a=2),
    b"\x00\xff",
    1 + 2j,
    complex("nan+infj"),
    nbdl.float16,
    nbdl.bfloat16,
    nbdl.device("cuda:1"),
    nbdl.Size((2, 3)),
    np.float32(1.5),
    np.int64(7),
    np.arange(6).reshape(2, 3),
    nbdl.arange(5),
    nn.Parameter(nbdl.ones(2, 3)),
    nn.Parameter(nbdl.ones(2), requires_grad=False),
    nbdl.ones(2, requires_grad=True),
    nbdl.tensor(3.0),
    nbdl.zeros(0, 3),
    nbdl.arange(12).reshape(3, 4).T,
    nbdl.arange(10)[::2],
    nbdl.tensor([1 + 2j, 3j], dtype=nbdl.complex128),
    nbdl.tensor(2j, dtype=nbdl.complex128),
    {"a.b": nbdl.ones(1), "a": {"b": nbdl.zeros(2)}, "__metadata__": nbdl.ones(3), "": nbdl.ones(4)},
]


@pytest.mark.parametrize("obj", NESTS, ids=lambda obj: repr(obj)[:30])
def test_round_trip(obj):
    assert_same(round_trip(obj), obj)
    assert_same(round_trip([obj])[0], obj)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (), (0,), (1, 0, 2)], ids=str)
@pytest.mark.parametrize("mmap", [False, True])
def test_dtypes_and_shapes(dtype, shape, mmap, tmp_path):
    tensors = {"x": values(dtype, shape), "odd": values(nbdl.uint8, (3,)), "y": values(dtype, shape)}
    nbdl.save(tensors, tmp_path / "file")
    found = nbdl.load(tmp_path / "file", mmap=mmap)
    assert_same(found, tensors)
    found["x"] += found["x"]  # a copy: the file stays
    assert_same(nbdl.load(tmp_path / "file"), tensors)


def test_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    def steps(model, optimizer, scheduler, n):
        losses = []
        for _ in range(n):
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        return losses

    def parts():
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)).double()
        optimizer = nbdl.optim.AdamW(model.parameters(), lr=0.1, amsgrad=True)
        return model, optimizer, nbdl.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5], 0.3)

    x, y = nbdl.randn(20, 3, dtype=nbdl.float64), nbdl.randn(20, 1, dtype=nbdl.float64)
    first = parts()
    steps(*first, 3)
    names = ("model", "optimizer", "scheduler")
    nbdl.save(
        {name: part.state_dict() for name, part in zip(names, first, strict=True)}, tmp_path / "checkpoint"
    )
    state = nbdl.load(tmp_path / "checkpoint")
    second = parts()
    for name, part in zip(names, second, strict=True):
        part.load_state_dict(state[name])
    assert state["model"]._metadata == first[0].state_dict()._metadata
    assert steps(*first, 5) == steps(*second, 5)


def test_tied_tensors_are_one_again():
    weight = nn.Parameter(nbdl.randn(3, 3))
    file = io.BytesIO()
    nbdl.save({"a": weight, "b": weight, "c": weight.detach(), "row": weight.detach()[0]}, file)
    assert len(file.getvalue()) < 36 + 12 + 700
    found = nbdl.load(file)
    found["a"].detach().fill_(2.0)
    assert found["b"].tolist() == found["c"].tolist() == [[2.0] * 3] * 3
    assert found["row"].tolist() == weight[0].tolist()  # other memory: a window is a copy


@pytest.mark.parametrize(
    "bad",
    [object(), lambda: 0, nn.Linear(1, 1), np.array(["a"]), range(3)],
    ids=["object", "function", "module", "strings", "range"],
)
def test_what_code_would_have_to_bring_back_is_refused(bad, tmp_path):
    with pytest.raises(TypeError, match=r"save: obj\['a'\]\[0\] (is of type|has dtype)"):
        nbdl.save({"a": [bad]}, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------- map_location
def test_map_location():
    x = nbdl.arange(3)
    seen = []
    for location in (None, "cpu", nbdl.device("cpu"), {"cuda:0": "cpu"}, lambda t, where: seen.append(where)):
        assert round_trip(x, map_location=location).tolist() == [0, 1, 2]
    assert seen == ["cpu"]
    assert round_trip(x, map_location=lambda t, where: t + 1).tolist() == [1, 2, 3]
    with pytest.raises(RuntimeError, match=r"load: BytesIO has a tensor for 'cuda:99'.*map_location='cpu'"):
        round_trip(x, map_location="cuda:99")


# --------------------------------------------------------------------------------------------------- the disk
class Interrupted(Exception):
    pass


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    nbdl.save({"x": nbdl.zeros(3)}, path)

    def fail(descriptor):
        raise Interrupted

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Interrupted):
        nbdl.save({"x": nbdl.ones(3)}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert nbdl.load(path)["x"].tolist() == [0.0, 0.0, 0.0]


def test_the_data_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    nbdl.save(nbdl.ones(3), tmp_path / "file")
    assert calls[:2] == ["fsync", "replace"]


@pytest.mark.skipif(os.name == "nt", reason="links and modes are POSIX's")
def test_links_and_modes(tmp_path):
    (tmp_path / "folder").mkdir()
    link, target = tmp_path / "link", tmp_path / "folder" / "file"
    link.symlink_to(target)
    nbdl.save(1, link)
    assert link.is_symlink()
    assert nbdl.load(target) == 1
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


# ----------------------------------------------------------------------------------------------- broken files
def content():
    file = io.BytesIO()
    nbdl.save({"x": nbdl.arange(6).reshape(2, 3), "y": [1.5, nbdl.ones(3)]}, file)
    return file.getvalue()


def load_bytes(data, tmp_path, **options):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(data)
    return nbdl.load(path, **options)


def test_every_truncation_raises(tmp_path):
    whole = content()
    for size in range(len(whole)):
        with pytest.raises(RuntimeError, match=r"broken\.safetensors' is (truncated|corrupt)"):
            load_bytes(whole[:size], tmp_path)
    with pytest.raises(RuntimeError, match="bytes belong to no array"):
        load_bytes(whole + b"\0", tmp_path)


def test_every_changed_byte_is_noticed(tmp_path):
    whole = content()
    expected = nbdl.load(io.BytesIO(whole))
    for position in range(len(whole)):
        for change in (1, 0x80):
            changed = bytearray(whole)
            changed[position] ^= change
            try:
                found = load_bytes(bytes(changed), tmp_path)
            except RuntimeError as error:
                assert "broken.safetensors'" in str(error)  # noqa: PT017  (most of them raise, not all)
            else:  # the only harmless places: what the header is padded with
                assert_same(found, expected)


def with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(**changes):
    return {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


def structured(structure):
    return with_header({"__metadata__": {"nbdl": structure}})


BROKEN = [
    (b"", "truncated: it has 0 bytes"),
    (b"PK\x03\x04 torch", "is a pickle, as torch.save writes it"),
    (b"\x80\x02pickle", "is a pickle"),
    (b"\xff" * 20, "no safetensors file: its header would have"),
    (with_header(b"[1]"), "no JSON object"),
    (with_header(b"{]"), "its header: "),
    (with_header(b"\xff\xfe"), "its header: "),
    (with_header(b'{"a":' * 100_000), "its header: "),
    (with_header(b'{"x": 1, "x": 2}'), "a name occurs twice"),
    (with_header({"x": 3}), "lacks dtype, shape or data_offsets"),
    (with_header({"__metadata__": {"a": 1}}), "not a mapping of texts"),
    (with_header(one(dtype="F128"), bytes(8)), "the dtype of 'x' is 'F128'; known are BOOL"),
    (with_header(one(shape=[-2]), bytes(8)), "no whole numbers"),
    (with_header(one(shape=[True]), bytes(8)), "no whole numbers"),
    (with_header(one(shape=[3]), bytes(8)), "has 8 bytes"),
    (with_header(one(shape=[2**62, 0, 2**62], data_offsets=[0, 0])), "the shape of 'x'"),
    (with_header(one(data_offsets=[8, 16]), bytes(16)), "begins at byte 8, expected 0"),
    (with_header({**one(), "y": one()["x"]}, bytes(8)), "begins at byte 0, expected 8"),
    (with_header(one(), bytes(7)), "truncated: its arrays take 8 bytes, there are 7"),
    (with_header({**one(), "__metadata__": {"crc32": "0"}}, bytes(8)), "its checksum is"),
    (structured("{"), "its structure: "),
    (structured('{"tensor": "x"}'), "its structure: KeyError: 'x'"),
    (structured('{"os.system": "true"}'), "unknown kind 'os.system'"),
    (structured("{}"), "its structure: "),
    (structured('{"dict": [1]}'), "its structure: "),
    (structured('{"dtype": "no"}'), "its structure: "),
    (structured("[" * 100_000), "its structure: "),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), BROKEN, ids=[message[:25] for _, message in BROKEN])
def test_broken_files(data, message, tmp_path):
    for mmap in (False, True)[: 1 + ("checksum" not in message)]:
        with pytest.raises(RuntimeError, match=message) as raised:
            load_bytes(data, tmp_path, mmap=mmap)
        assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x4B50])
def test_a_length_that_looks_like_a_pickle(length):
    data = with_header(json.dumps(one()).encode().ljust(length), struct.pack("<2f", 1, 2))
    assert nbdl.load(io.BytesIO(data))["x"].tolist() == [1.0, 2.0]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        nbdl.load(tmp_path / "nowhere.safetensors")


# ---------------------------------------------------------------------------------------------- other writers
def test_named_tensors(tmp_path):
    tensors = {"a": nbdl.randn(3), "b": nbdl.arange(4)}
    save_file(tensors, tmp_path / "file", {"format": "pt"})
    assert_same({key: load_file(tmp_path / "file")[key] for key in tensors}, tensors)
    assert set(nbdl.load(tmp_path / "file")) == {"a", "b"}
    with pytest.raises(TypeError, match="'a' must be a tensor, got int"):
        save_file({"a": 1}, tmp_path / "file")
    with pytest.raises(TypeError, match="'a' has dtype complex128"):
        save_file({"a": nbdl.ones(1, dtype=nbdl.complex128)}, tmp_path / "file")


@pytest.mark.torch
def test_files_of_safetensors_torch(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    library.save_file(theirs.state_dict(), tmp_path / "theirs")
    assert repr(ours.load_state_dict(nbdl.load(tmp_path / "theirs"))) == "<All keys matched successfully>"
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        ours(nbdl.tensor(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    ours[0].weight.data.fill_(0.5)
    nbdl.save(ours.state_dict(), tmp_path / "ours")
    theirs.load_state_dict(library.load_file(tmp_path / "ours"))
    assert theirs[0].weight.tolist() == ours[0].weight.tolist()
    for name in ("bool", "uint8", "int16", "int64", "float16", "bfloat16", "float32", "float64", "complex64"):
        tensors = {"x": torch.arange(6).reshape(2, 3).to(getattr(torch, name)), "n": torch.tensor(1)}
        library.save_file(tensors, tmp_path / "theirs", {"format": "pt"})
        found = nbdl.load(tmp_path / "theirs")
        assert found["x"].dtype == getattr(nbdl, name)
        nbdl.save(found, tmp_path / "ours")
        again = library.load_file(tmp_path / "ours")
        assert again["x"].dtype == tensors["x"].dtype
        assert torch.equal(again["x"], tensors["x"])
        assert torch.equal(again["n"], tensors["n"])


@pytest.mark.torch
@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("0.bias"),
        lambda state: state.update(extra=state["0.bias"], also=state["0.bias"]),
        lambda state: state.update({"2.weight": state.pop("0.weight")}),
        lambda state: state.update({"0.bias": state["0.weight"]}),
        lambda state: state.clear(),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_state_dict_reports_as_pytorch(change, strict):
    torch = pytest.importorskip("torch")
    reports = []
    for module in (nn, torch.nn):
        net = module.Sequential(module.Linear(3, 4), module.BatchNorm1d(4))
        state = net.state_dict()
        change(state)
        try:
            keys = net.load_state_dict(state, strict=strict)
            reports.append((list(keys.missing_keys), list(keys.unexpected_keys)))
        except RuntimeError as error:
            reports.append(str(error).replace("torch.Size", "nbdl.Size"))
    assert reports[0] == reports[1]
