"""Tokens in filename prefixes of ComfyUI: `%date:yyyy-MM-dd%`, `%KSampler.seed%`."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..filename_tokens import replace_tokens
from .graph import inputs_of, mapping


def expand(prefix: str, graph: Mapping[str, Any], workflow: Mapping[str, Any] | None, now: datetime) -> str:
    """Replaces the tokens that ComfyUI's page replaces before it sends a prompt, but only for ComfyUI's own nodes.

    `%date:yyyy-MM-dd hhmmss%` is the time. `%Node.input%` is the value that is typed into an input of the first node
    with that *Node name for S&R*, type or title. Unknown tokens stay, and so do the server's own `%width%`, `%height%`
    and `%year%`.

    Source: ComfyUI_frontend `src/utils/searchAndReplace.ts`.

    Args:
        prefix: text that the user typed.
        graph: nodes of the prompt by id.
        workflow: the client's workflow; None if it sent none.
        now: time of the run.
    """

    def value_of(token: str) -> str | float | None:
        match token.split("."):
            case [node, name]:
                return next(_values(node, name, graph, workflow), None)
        return None

    return replace_tokens(prefix, value_of, now)


def _values(
    node_name: str, name: str, graph: Mapping[str, Any], workflow: Mapping[str, Any] | None
) -> Iterator[str | float]:
    for node in _nodes_named(node_name, graph, workflow):
        value = inputs_of(graph, node).get(name)
        if isinstance(value, str | int | float):
            yield value


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
