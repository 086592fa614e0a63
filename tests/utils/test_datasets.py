"""The readers, on small files of the true formats."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

import nbdl
from nbdl import datasets
from nbdl.utils.data import DataLoader

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


# -------------------------------------------------------------------------------------------------------- IDX
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("packed", [False, True])
def test_idx(dtype, packed, tmp_path):
    array = (np.arange(24).reshape(2, 3, 4) * 5 - 60).astype(dtype)
    content = idx(array)
    (tmp_path / "file").write_bytes(gzip.compress(content, mtime=0) if packed else content)
    found = datasets.read_idx(tmp_path / "file")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found.numpy(), array)
    found += 1  # memory of its own


def broken_idx():
    whole = idx(np.arange(6, dtype=np.int32).reshape(2, 3))
    packed = gzip.compress(whole, mtime=0)
    return [
        (b"", "no IDX file: it begins with nothing"),
        (b"\x01\x02\x03\x04", "no IDX file: it begins with 01020304"),
        (b"\0\0\x07\x01", "no IDX file"),
        (whole[:7], "truncated: 7 bytes, the header has 12"),
        (whole[:-1], r"truncated: 35 bytes, shape \(2, 3\) takes 36"),
        (whole + b"\0", "corrupt: 37 bytes"),
        (packed[:-4], "truncated or corrupt"),
        (packed[:20], "truncated or corrupt"),
        (packed[:12] + b"\xff\xff\xff" + packed[15:], "truncated or corrupt"),
    ]


@pytest.mark.parametrize(("content", "message"), broken_idx())
def test_broken_idx(content, message, tmp_path):
    (tmp_path / "broken-idx").write_bytes(content)
    with pytest.raises(RuntimeError, match=message) as raised:
        datasets.read_idx(tmp_path / "broken-idx")
    assert str(tmp_path / "broken-idx") in str(raised.value)


@pytest.mark.parametrize("kind", [datasets.MNIST, datasets.FashionMNIST])
@pytest.mark.parametrize(("folder", "packed"), [(".", True), ("{}/raw", False)])
def test_mnist(kind, folder, packed, tmp_path):
    images, labels = pixels(12, 28, 28), np.arange(12, dtype=np.uint8) % 10
    place = tmp_path / folder.format(kind.__name__)
    place.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", 12), ("t10k", 4)):
        for name, array in (("images-idx3", images[:n]), ("labels-idx1", labels[:n])):
            content = idx(array)
            path = place / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    dataset = kind(tmp_path)
    assert len(dataset) == 12
    assert len(kind(tmp_path, train=False)) == 4
    assert len(dataset.classes) == 10
    image, label = dataset[3]
    assert image.shape == (1, 28, 28)
    assert image.dtype == nbdl.float32
    np.testing.assert_allclose(image[0].numpy(), images[3] / 255, rtol=1e-6)
    assert label.item() == 3
    assert label.dtype == nbdl.int64
    (batch, targets), *_ = DataLoader(dataset, batch_size=5)
    np.testing.assert_allclose(batch[:, 0].numpy(), images[:5] / 255, rtol=1e-6)
    assert targets.tolist() == [0, 1, 2, 3, 4]
    changed = kind(tmp_path, transform=lambda x: x.mean(), target_transform=lambda y: y * 2)
    (batch, targets), *_ = DataLoader(changed, batch_size=5)
    np.testing.assert_allclose(batch.numpy(), images[:5].mean((1, 2)) / 255, rtol=1e-5)
    assert targets.tolist() == [0, 2, 4, 6, 8]


def test_mnist_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file train-images-idx3-ubyte \(or .*gz\) in "):
        datasets.MNIST(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(pixels(3, 28, 28)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(pixels(2)))
    with pytest.raises(ValueError, match="there are 3 images, but 2 labels"):
        datasets.MNIST(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(pixels(3, 1)))
    with pytest.raises(RuntimeError, match=r"labels-idx1-ubyte' holds uint8 of shape \(3, 1\), expected"):
        datasets.MNIST(tmp_path)


# ------------------------------------------------------------------------------------------------------ CIFAR
@pytest.mark.parametrize(
    ("kind", "folder", "labels"),
    [
        (datasets.CIFAR10, "cifar-10-batches-bin", [[3], [9]]),
        (datasets.CIFAR100, "cifar-100-binary", [[1, 99], [19, 0]]),
    ],
)
def test_cifar(kind, folder, labels, tmp_path):
    images = pixels(2, 3, 32, 32)
    records = b"".join(bytes(label) + image.tobytes() for label, image in zip(labels, images, strict=True))
    (tmp_path / folder).mkdir()
    for name in (*kind.train_files, *kind.test_files):
        (tmp_path / folder / name).write_bytes(records)
    dataset = kind(tmp_path)
    assert len(dataset) == 2 * len(kind.train_files)
    test = kind(tmp_path / folder, train=False)
    assert test.targets.tolist() == [label[-1] for label in labels]
    assert test.labels.tolist() == labels
    np.testing.assert_allclose(test[1][0].numpy(), images[1] / 255, rtol=1e-6)
    path = tmp_path / folder / kind.test_files[0]
    for content, message in (
        (records[:-1], "truncated or corrupt"),
        (b"", "truncated or corrupt: 0 bytes"),
        (records[: -3072 - kind.n_labels] + bytes([255] * (3072 + kind.n_labels)), "a label 255"),
    ):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match=message) as raised:
            kind(tmp_path, train=False)
        assert str(path) in str(raised.value)


def test_digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    dataset = datasets.Digits()
    theirs = sklearn.load_digits()
    assert len(dataset) == 1797
    np.testing.assert_allclose(dataset[7][0][0].numpy(), theirs.images[7] / 16, rtol=1e-6)
    assert dataset.targets.tolist() == theirs.target.tolist()


# -------------------------------------------------------------------------------------------------------- CSV
TABLES = [
    ("x,y\n1,2\n3,4.5\n", {}, ["x", "y"], [[1, 2], [3, 4.5]]),
    ("1,2\n3,4\n", {}, ["0", "1"], [[1, 2], [3, 4]]),
    ("1,2\n3,4\n", {"header": True}, ["1", "2"], [[3, 4]]),
    ("\ufeffx; y\r\n1;-2e3\r\n\r\n", {"delimiter": ";"}, ["x", "y"], [[1, -2000]]),
    ('"a, b","c ""d"""\n"1",2', {}, ["a, b", 'c "d"'], [[1, 2]]),
    ("x,y\n1,\n ,4\n", {"missing": -1.0}, ["x", "y"], [[1, -1], [-1, 4]]),
    (",2\n3,4\n", {"missing": 0.0}, ["0", "1"], [[0, 2], [3, 4]]),
    ("x\n", {}, ["x"], []),
    ("a,b\n1,2\n", {"dtype": nbdl.int64}, ["a", "b"], [[1, 2]]),
]


@pytest.mark.parametrize(("text", "options", "names", "values"), TABLES)
@pytest.mark.parametrize("packed", [False, True])
def test_csv(text, options, names, values, packed, tmp_path):
    content = text.encode()
    (tmp_path / "table.csv").write_bytes(gzip.compress(content, mtime=0) if packed else content)
    table = datasets.read_csv(tmp_path / "table.csv", **options)
    assert table.names == names
    assert table.values.tolist() == values
    assert table.values.dtype == options.get("dtype", nbdl.float32)
    assert table.values.shape == (len(values), len(names))


def test_columns(tmp_path):
    (tmp_path / "table.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    table = datasets.read_csv(tmp_path / "table.csv")
    assert table["b"].tolist() == [2, 5]
    assert table[["c", "a"]].tolist() == [[3, 1], [6, 4]]
    assert len(table) == 2
    with pytest.raises(KeyError, match="no column 'd'; there are a, b, c"):
        table["d"]


BAD_TABLES = [
    (b"", {}, "is empty"),
    (b"x,y\n1,2\n3", {}, r"line 3: 1 fields, the first row has 2 \(is it truncated\?\)"),
    (b"x,y\n1,two\n", {}, "line 2, column 'y': 'two' is no number"),
    (b"x,y\n1,\n", {}, "line 2, column 'y': '' is no number"),
    (b"x,y\n1,\xff\n", {}, "codec can't decode"),
    (b'x,y\n1,"2\n', {"header": True}, "unexpected end of data"),
]


@pytest.mark.parametrize(("content", "options", "message"), BAD_TABLES)
def test_broken_csv(content, options, message, tmp_path):
    (tmp_path / "broken.csv").write_bytes(content)
    with pytest.raises(RuntimeError, match=message) as raised:
        datasets.read_csv(tmp_path / "broken.csv", **options)
    assert str(tmp_path / "broken.csv") in str(raised.value)
