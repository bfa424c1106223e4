"""Parses JSON that may come from anywhere, within limits."""

import json
import math
from typing import Any

MAX_DIGITS = 18  # of an integer: with 19 it may need more than 64 bits


def read_json(content: bytes, max_values: int) -> Any:
    """The value in `content`. A number that is not finite becomes None, a very long integer a float.

    Args:
        content: JSON in UTF-8.
        max_values: largest number of values. Empty lists need thirty times the memory that they have in the file.

    Raises:
        ValueError: it is not JSON, or has too many values; it is not parsed then.
        RecursionError: it has too many levels.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > max_values:  # each value has one of them before it
        raise ValueError(f"more than {max_values:,} values")
    return json.loads(content.decode(), parse_int=_parse_int, parse_float=_parse_float, parse_constant=_parse_float)


def _parse_int(digits: str) -> int | float | None:
    return int(digits) if len(digits) <= MAX_DIGITS else _parse_float(digits)


def _parse_float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None
