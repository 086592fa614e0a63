"""Numbers and tables as text."""

from __future__ import annotations

from collections.abc import Sequence

_PREFIXES = {-3: "n", -2: "u", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}


def with_unit(value: float, unit: str) -> str:
    """A quantity with three digits and the prefix that suits it: ``1.25 ms``.

    Example:
        >>> from nbdl.utils.text import with_unit
        >>> with_unit(0.00125, "s"), with_unit(0, "B"), with_unit(123456, "B")
        ('1.25 ms', '0 B', '123 kB')
    """
    power = 0
    while value and abs(value) < 1 and power > -3:
        value, power = value * 1000, power - 1
    while abs(value) >= 999.5 and power < 4:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}{unit}"


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under a header: the first to the left, the others to the right.

    Example:
        >>> from nbdl.utils.text import as_table
        >>> as_table(("name", "n"), [("a", "10")]).splitlines()
        ['name   n', '--------', 'a     10']
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in enumerate(zip(row, widths))
        )
        for row in (header, *rows)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
