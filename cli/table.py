"""Prints tables and texts to the terminal."""

from collections.abc import Iterable, Sequence
from typing import Any


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows below their column names. Columns of numbers are aligned to the right."""
    cells = [list(columns), *([printable(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    numeric = [all(row[i].replace(".", "").isdigit() for row in cells[1:]) for i in range(len(columns))]
    for row in cells:
        line = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        print("  ".join(line).rstrip())


def printable(value: Any) -> str:
    """Converts a value to text without control characters: a name may come from an untrusted file."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else repr(text)
