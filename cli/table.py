"""Prints tables and texts to the terminal."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import printable


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows below their column names. Columns of numbers are aligned to the right."""
    cells = [list(columns), *(["" if value is None else printable(str(value)) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    numeric = [all(row[i].replace(".", "").isdigit() for row in cells[1:]) for i in range(len(columns))]
    for row in cells:
        line = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        print("  ".join(line).rstrip())


def print_lines(*lines: str) -> None:
    """Prints lines to stdout. A name in them may contain line breaks and terminal sequences: they become escapes."""
    print("\n".join(map(printable, lines)), flush=True)


def warn(line: str) -> None:
    """Prints a line to stderr, as `print_lines` does."""
    print(printable(line), file=sys.stderr)
