"""Names of folders with what a prompt says in them: `%date:yyyy-MM-dd%`, `%KSampler.seed%`."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

TOKEN = re.compile(r"%([^%]+)%")
DATE = "date:"
# The host's own: a run of the same letter is one part of a date.
DATE_PARTS = re.compile("dd?|MM?|hh?|mm?|ss?|yyy?y?")
PARTS = {"d": "day", "M": "month", "h": "hour", "m": "minute", "s": "second"}
NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')


def expand(prefix: str, graph: Mapping[str, Any], workflow: Mapping[str, Any] | None, now: datetime) -> str:
    """`prefix` with the tokens in it that ComfyUI's page replaces, for its own nodes alone, before it sends a prompt.

    `%date:yyyy-MM-dd hhmmss%` is the time, `%Node.input%` what is typed into the input of the first node that has that
    name for search and replace, type or title. What means nothing stays as it is, as do the server's own `%width%`,
    `%height%` and `%year%`.

    Source: ComfyUI_frontend `src/utils/searchAndReplace.ts` and `formatUtil.ts`, `formatDate`.

    Args:
        prefix: as the user typed it.
        graph: the prompt, nodes by id.
        workflow: the client's own drawing of it, if there is one.
        now: the time.
    """

    def value_of(token: re.Match[str]) -> str:
        text = token[1]
        if text.startswith(DATE):
            return _date(text.removeprefix(DATE), now)
        match text.split("."):
            case [name, wanted]:
                return next(_values(name, wanted, graph, workflow), token[0])
        return token[0]

    return TOKEN.sub(value_of, prefix)


def _values(name: str, wanted: str, graph: Mapping[str, Any], workflow: Mapping[str, Any] | None) -> Iterator[str]:
    for node in _called(name, graph, workflow):
        value = graph.get(node, {}).get("inputs", {}).get(wanted)
        if isinstance(value, str | int | float):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            # Of dots alone it would be a folder above.
            yield NOT_IN_NAMES.sub("_", text) if text.strip(".") else "_" * len(text)


def _called(name: str, graph: Mapping[str, Any], workflow: Mapping[str, Any] | None) -> Iterator[str]:
    """Ids of the nodes of this name, those that were given it first."""
    drawn = [node for node in (workflow or {}).get("nodes") or () if isinstance(node, Mapping)]
    yield from (str(node.get("id")) for node in drawn if _property(node) == name)
    yield from (node for node, told in graph.items() if told.get("class_type") == name)
    yield from (str(node.get("id")) for node in drawn if node.get("title") == name)
    yield from (node for node, told in graph.items() if (told.get("_meta") or {}).get("title") == name)


def _property(node: Mapping[str, Any]) -> Any:
    return (node.get("properties") or {}).get("Node name for S&R")


def _date(text: str, now: datetime) -> str:
    def part(found: re.Match[str]) -> str:
        letters = found[0]
        if letters[0] == "y":
            return {2: f"{now.year % 100:02d}", 4: f"{now.year:04d}"}.get(len(letters), letters)
        return f"{getattr(now, PARTS[letters[0]]):0{len(letters)}d}"

    return DATE_PARTS.sub(part, text)
