"""Copies of values with only what JSON can express: hosts and samplers give NaN, tensors, bytes and more."""

import math
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
from torch import Tensor

MAX_LEVELS = 16  # of objects and lists, as in a manifest: no reader overflows its stack
MAX_VALUES = 100_000  # a list that holds the same list many times stays small in memory, but not as JSON
MIN_INT, MAX_INT = -(2**63), 2**64 - 1  # seeds have 64 bits
NOTHING = object()


def strict_json(value: Any, note: Callable[[str], None] = lambda _: None, name: str = "value") -> Any:
    """Returns a copy of `value` that strict JSON can express. What cannot be expressed becomes None; nothing raises.

    Numbers of NumPy and single numbers in tensors become Python's. Tuples become lists.

    Args:
        value: any value.
        note: function that receives a note for each entry of `value` that is left out, in whole or in part.
        name: name of `value` in the notes.
    """
    return _Copier(note).copy(value, (name,), ())


@final
class _Copier:
    def __init__(self, note: Callable[[str], None]) -> None:
        self._note, self._left = note, MAX_VALUES

    def copy(self, value: Any, path: tuple[str, ...], inside: tuple[int, ...]) -> Any:
        """Copies a value at `path`; `inside` are the ids of the objects and lists that contain it."""
        self._left -= 1
        try:
            number = _number(value)
            if number is not NOTHING:
                return number
            problem = self._problem(value, inside)
            if problem is None:
                inside = (*inside, id(value))
                if isinstance(value, Mapping):
                    return {
                        key: self.copy(item, (*path, key), inside)
                        for key, item in value.items()
                        if self._expect_text(key, path)
                    }
                return [self.copy(item, path, inside) for item in value]
        except Exception as error:  # an object of another package may raise whatever is done with it
            problem = f"a {type(value).__name__} that raises {type(error).__name__}"
        # One note for each entry of the whole, however many values in it are left out.
        self._note(f"{'.'.join(path[:2])} is incomplete: {problem} cannot be written as JSON")
        return None

    def _problem(self, value: Any, inside: tuple[int, ...]) -> str | None:
        """Why a value that is no number or text cannot be copied; None for an object or a list."""
        if isinstance(value, float):
            return "NaN or infinity"
        if isinstance(value, int):
            return "an integer of more than 64 bits"
        if not isinstance(value, Mapping | list | tuple):
            return f"a value of type {type(value).__name__}"
        if id(value) in inside:
            return "a value that contains itself"
        if len(inside) >= MAX_LEVELS:
            return f"a value of more than {MAX_LEVELS} levels"
        return f"more than {MAX_VALUES:,} values" if self._left < len(value) else None

    def _expect_text(self, key: Any, path: tuple[str, ...]) -> bool:
        if not isinstance(key, str):
            self._note(f"{'.'.join(path[:2])} is incomplete: a key of type {type(key).__name__} cannot be written")
        return isinstance(key, str)


def _number(value: Any) -> Any:
    """None, a text, or a number as Python's own; `NOTHING` for anything else, and for numbers that JSON lacks."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 0):
        item = value.item()
        return NOTHING if isinstance(item, np.generic) else _number(item)
    if isinstance(value, int):
        return int(value) if MIN_INT <= value <= MAX_INT else NOTHING
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else NOTHING
    return NOTHING
