"""Tables of numbers in CSV files."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.datasets.idx import read_bytes
from nbdl.formula.dtypes import get_default_dtype
from nbdl.ops.creation import as_tensor


@dataclass(frozen=True)
class Table:
    """Numbers in named columns.

    Attributes:
        names: of the columns.
        values: (rows, columns).
    """

    names: list[str]
    values: Tensor

    def __getitem__(self, name: str | Sequence[str]) -> Tensor:
        """A column (rows,), or several ones (rows, columns).

        Raises:
            KeyError: there is no column of that name.
        """
        if isinstance(name, str):
            return self.values[:, self._position(name)]
        return self.values[:, [self._position(one) for one in name]]

    def __len__(self) -> int:
        return self.values.shape[0]

    def _position(self, name: str) -> int:
        if name not in self.names:
            raise KeyError(f"there is no column {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)


def read_csv(
    path: str | os.PathLike,
    delimiter: str = ",",
    header: bool | None = None,
    missing: float | None = None,
    dtype: Any = None,
) -> Table:
    r"""The numbers in a CSV file, packed by gzip or not.

    Args:
        path: of the file, in UTF-8.
        delimiter: what stands between fields.
        header: whether the first line holds the names of the columns; None: it does if one of its fields is
            no number. Without names, columns are called "0", "1" and so on.
        missing: the value of empty fields; None: they are an error.
        dtype: of the values; default: the default floating dtype.

    Raises:
        RuntimeError: a field is no number, a row has more or fewer fields than the first, or there are none;
            the message names file, row and column.

    Example:
        >>> import nbdl, tempfile, pathlib
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name) / "points.csv"
        >>> _ = path.write_text("x,y\n1,2\n3,4.5\n")
        >>> nbdl.datasets.read_csv(path)["y"]
        tensor([2.0000, 4.5000])
        >>> folder.cleanup()
    """
    label = f"read_csv: '{os.fspath(path)}'"
    try:
        text = io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")
        lines = csv.reader(text, delimiter=delimiter, strict=True)
        rows = [(lines.line_num, row) for row in lines if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise RuntimeError(f"{label}: {error}") from None
    if not rows:
        raise RuntimeError(f"{label} is empty")
    first = rows[0][1]
    if header is None:
        header = not all(_is_number(field) or not field.strip() for field in first)
    names = [field.strip() for field in first] if header else [str(k) for k in range(len(first))]
    values = np.empty((len(rows) - header, len(first)), np.float64 if dtype is None else np.dtype(dtype))
    for k, (line, row) in enumerate(rows[header:]):
        if len(row) != len(first):
            raise RuntimeError(
                f"{label}, line {line}: {len(row)} fields, the first row has {len(first)} (is it truncated?)"
            )
        try:
            values[k] = row
        except ValueError:
            values[k] = [
                _number(field, missing, f"{label}, line {line}, column {name!r}")
                for field, name in zip(row, names, strict=True)
            ]
    return Table(names, as_tensor(values, dtype=get_default_dtype() if dtype is None else dtype))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _number(field: str, missing: float | None, label: str) -> float:
    if missing is not None and not field.strip():
        return missing
    if not _is_number(field):
        raise RuntimeError(f"{label}: {field!r} is no number")
    return float(field)
