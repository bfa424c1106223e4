"""Tokens in filename prefixes: `%date:yyyy-MM-dd%`, `%KSampler.seed%`."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .graph import inputs_of, mapping

TOKEN = re.compile(r"%([^%]+)%")
DATE = "date:"
# As in ComfyUI: equal letters in a row are one part of a date.
DATE_PARTS = re.compile("dd?|MM?|hh?|mm?|ss?|yyy?y?")
PARTS = {"d": "day", "M": "month", "h": "hour", "m": "minute", "s": "second"}
NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1F\x7F]')


def expand(prefix: str, graph: Mapping[str, Any], workflow: Mapping[str, Any] | None, now: datetime) -> str:
    """Replaces the tokens that ComfyUI's page replaces before it sends a prompt, but only for ComfyUI's own nodes.

    `%date:yyyy-MM-dd hhmmss%` is the time. `%Node.input%` is the value that is typed into an input of the first node
    with that *Node name for S&R*, type or title. Unknown tokens stay, and so do the server's own `%width%`, `%height%`
    and `%year%`.

    Source: ComfyUI_frontend `src/utils/searchAndReplace.ts` and `formatUtil.ts`, `formatDate`.

    Args:
        prefix: text that the user typed.
        graph: nodes of the prompt by id.
        workflow: the client's workflow; None if it sent none.
        now: time of the run.
    """

    def replacement(token: re.Match[str]) -> str:
        text = token[1]
        if text.startswith(DATE):
            return _date(text.removeprefix(DATE), now)
        match text.split("."):
            case [node, name]:
                value = next(_values(node, name, graph, workflow), token[0])
                return _within_part(value, before=prefix[: token.start()], after=prefix[token.end() :])
        return token[0]

    return TOKEN.sub(replacement, prefix)


def _values(node_name: str, name: str, graph: Mapping[str, Any], workflow: Mapping[str, Any] | None) -> Iterator[str]:
    for node in _nodes_named(node_name, graph, workflow):
        value = inputs_of(graph, node).get(name)
        if isinstance(value, str | int | float):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            # A name of dots only would be a parent folder.
            yield NOT_IN_NAMES.sub("_", text) if text.strip(".") else "_" * len(text)


def _within_part(value: str, *, before: str, after: str) -> str:
    """`value` where it stands in a path: no part of it becomes hidden, or ends in what Windows cuts off."""
    if not before or before[-1] in "/\\":
        value = re.sub(r"^\.", "_", value)
    if not after or after[0] in "/\\":
        value = re.sub(r"[ .]+$", lambda end: "_" * len(end[0]), value)
    return value


def _nodes_named(name: str, graph: Mapping[str, Any], workflow: Mapping[str, Any] | None) -> Iterator[str]:
    """Ids of the nodes with this name: by *Node name for S&R* first, then by type, then by title."""
    nodes = mapping(workflow).get("nodes")
    drawn = [node for node in nodes if isinstance(node, Mapping)] if isinstance(nodes, list) else []
    yield from (str(node.get("id")) for node in drawn if _property(node) == name)
    yield from (node for node, facts in graph.items() if facts.get("class_type") == name)
    yield from (str(node.get("id")) for node in drawn if node.get("title") == name)
    yield from (node for node, facts in graph.items() if mapping(facts.get("_meta")).get("title") == name)


def _property(node: Mapping[str, Any]) -> Any:
    return mapping(node.get("properties")).get("Node name for S&R")


def _date(text: str, now: datetime) -> str:
    def part(found: re.Match[str]) -> str:
        letters = found[0]
        if letters[0] == "y":
            return {2: f"{now.year % 100:02d}", 4: f"{now.year:04d}"}.get(len(letters), letters)
        return f"{getattr(now, PARTS[letters[0]]):0{len(letters)}d}"

    return DATE_PARTS.sub(part, text)
