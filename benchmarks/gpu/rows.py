"""The rows of the table, and the verdict."""

from collections.abc import Iterable
from typing import Any, NamedTuple

NOT_MEASURED = "failed"


class Row(NamedTuple):
    """A measured value.

    Args:
        part: part of the script that measured it.
        what: name of the value, with its unit.
        value: number or text.
        target: what it has to be, in words; empty if it is only shown.
        met: whether it is; None without a target.
    """

    part: str
    what: str
    value: Any
    target: str = ""
    met: bool | None = None


def at_most(part: str, what: str, value: float, limit: float) -> Row:
    """A row whose value may be as large as `limit`."""
    return Row(part, what, value, f"at most {limit:g}", value <= limit)


def equal(part: str, what: str, value: Any, expected: Any) -> Row:
    """A row whose value has to be `expected`."""
    return Row(part, what, value, f"{expected}", value == expected)


def failed(part: str, reason: str) -> Row:
    """The row of a part that could not be measured."""
    return Row(part, NOT_MEASURED, reason, "measured", met=False)


def unmet(rows: Iterable[Row]) -> list[Row]:
    """The rows whose target is not met."""
    return [row for row in rows if row.met is False]


def as_table(rows: Iterable[Row]) -> str:
    """One Markdown table."""
    cells = [("part", "value of", "value", "target", "met")]
    cells += [(row.part, row.what, _text(row.value), row.target, _met(row)) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return " ".join(str(value).split()).replace("|", "/")


def _met(row: Row) -> str:
    return "" if row.met is None else "yes" if row.met else "NO"
