"""Tokens in filename prefixes, the same in all hosts: `%date:yyyy-MM-dd%`, `%seed%`."""

import re
from collections.abc import Callable
from datetime import datetime

TOKEN = re.compile(r"%([^%]+)%")
DATE = "date:"
# As in ComfyUI: equal letters in a row are one part of a date.
DATE_PARTS = re.compile("dd?|MM?|hh?|mm?|ss?|yyy?y?")
PARTS = {"d": "day", "M": "month", "h": "hour", "m": "minute", "s": "second"}
NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')


def replace_tokens(prefix: str, value_of: Callable[[str], str | float | None], now: datetime) -> str:
    """Replaces the tokens of a prefix. `%date:yyyy-MM-dd hhmmss%` is the time; unknown tokens stay.

    Source of the format of dates: ComfyUI_frontend `src/utils/formatUtil.ts`, `formatDate`.

    Args:
        prefix: text that the user typed.
        value_of: function that returns the value of another token, without its percent signs; None if it has none.
        now: time of the run.
    """

    def replacement(token: re.Match[str]) -> str:
        text = token[1]
        if text.startswith(DATE):
            return _date(text.removeprefix(DATE), now)
        value = value_of(text)
        if value is None:
            return token[0]
        return _within_part(_as_name(value), before=prefix[: token.start()], after=prefix[token.end() :])

    return TOKEN.sub(replacement, prefix)


def _as_name(value: str | float) -> str:
    """The value without characters that lead to another folder or that a system cannot hold."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # A name of dots only would be a parent folder.
    return NOT_IN_NAMES.sub("_", text) if text.strip(".") else "_" * len(text)


def _within_part(value: str, *, before: str, after: str) -> str:
    """`value` where it stands in a path: no part of it becomes hidden, or ends in what Windows cuts off."""
    if not before or before[-1] in "/\\":
        value = re.sub(r"^\.", "_", value)
    if not after or after[0] in "/\\":
        value = re.sub(r"[ .]+$", lambda end: "_" * len(end[0]), value)
    return value


def _date(text: str, now: datetime) -> str:
    def part(found: re.Match[str]) -> str:
        letters = found[0]
        if letters[0] == "y":
            return {2: f"{now.year % 100:02d}", 4: f"{now.year:04d}"}.get(len(letters), letters)
        return f"{getattr(now, PARTS[letters[0]]):0{len(letters)}d}"

    return DATE_PARTS.sub(part, text)
