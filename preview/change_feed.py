"""Answers what has changed in a list of runs since a browser last asked, so that 5,000 runs are sent once."""

import secrets
from collections import deque
from collections.abc import Mapping
from typing import Any, final

MAX_REMEMBERED = 2000  # removed runs; a browser that missed more gets the whole list


@final
class ChangeFeed:
    """The runs of a list by id, with the number of the update that last changed each of them."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)  # of this object: the numbers of another one say nothing
        self._number = 0
        self._items: Mapping[str, Mapping[str, Any]] = {}
        self._changed: dict[str, int] = {}
        self._removed: deque[tuple[int, str]] = deque(maxlen=MAX_REMEMBERED)
        self._complete_since = 0  # removals after this update are remembered

    def update(self, items: Mapping[str, Mapping[str, Any]]) -> None:
        """Compares the list with the one before.

        Args:
            items: all runs by id, newest first. An item that is the same object has not changed.
        """
        changed = [key for key, item in items.items() if (old := self._items.get(key)) is not item and old != item]
        removed = [key for key in self._items if key not in items]
        if changed or removed:
            self._number += 1
        self._changed.update(dict.fromkeys(changed, self._number))
        for key in removed:
            del self._changed[key]
            if len(self._removed) == MAX_REMEMBERED:
                self._complete_since = self._removed[0][0]
            self._removed.append((self._number, key))
        self._items = items

    def answer(self, since: str | None, limit: int | None = None) -> dict[str, Any]:
        """The runs that changed since a version, or all.

        Args:
            since: `version` of an earlier answer; None or an unknown one for the whole list.
            limit: number of runs from the begin of the whole list; None for all.

        Returns:
            `version` of the list, null for a part of it; `total`, its length; `runs`; `removed`, ids of runs that are
            gone; `whole`: whether `runs` replaces what the browser has.
        """
        number = self._number_of(since)
        items = list(self._items.values())
        if number is None:
            is_part = limit is not None and limit < len(items)
            return self._answer(items[:limit], [], whole=True, version=None if is_part else self._version)
        runs = [item for key, item in self._items.items() if self._changed[key] > number]
        removed = [key for at, key in self._removed if at > number and key not in self._items]
        return self._answer(runs, removed, whole=False, version=self._version)

    def _answer(
        self, runs: list[Mapping[str, Any]], removed: list[str], *, whole: bool, version: str | None
    ) -> dict[str, Any]:
        return {"version": version, "total": len(self._items), "whole": whole, "runs": runs, "removed": removed}

    @property
    def _version(self) -> str:
        return f"{self._epoch}-{self._number}"

    def _number_of(self, version: str | None) -> int | None:
        epoch, _, digits = (version or "").partition("-")
        if epoch != self._epoch or not digits.isdecimal() or len(digits) > 12:
            return None
        number = int(digits)
        return number if self._complete_since <= number <= self._number else None
