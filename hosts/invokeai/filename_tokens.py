"""Tokens in filename prefixes of InvokeAI: `%date:yyyy-MM-dd%`, `%seed%`, `%Noise.seed%`."""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ...errors import SinkError, brief
from ..filename_tokens import replace_tokens
from .graph import queue_item, session_of

MAX_LISTED = 8  # names in a message
OF_EVERY_NODE = {"id", "type", "is_intermediate", "use_cache", "workflow", "metadata", "board"}  # not listed

log = logging.getLogger("safelight.invokeai")


def expand(context: Any, prefix: str, facts: Mapping[str, Any], now: datetime) -> str:
    """Replaces the tokens of a prefix.

    `%date:yyyy-MM-dd hhmmss%` is the time. `%name%` is one of `facts`. `%Node.input%` is the value of an input of the
    first node with that id, label, type or title, in this order; of a model, its name.

    Args:
        context: InvokeAI's `InvocationContext`.
        prefix: text that the user typed.
        facts: facts about the run, by the name of their token.
        now: time of the run.

    Raises:
        SinkError: a token has no value.
    """
    missing: list[str] = []

    def value_of(token: str) -> str | float | None:
        node, _, name = token.rpartition(".")
        try:
            value = next(_values(context, node, name), None) if node else facts.get(token)
            reason = _reason(context, token, node, name, facts) if value is None else ""
        except Exception:  # a graph of a version with another form
            log.debug("the graph could not be read", exc_info=True)
            value, reason = None, f"%{token}%: this version of InvokeAI does not say the values of its nodes"
        if value is None:
            missing.append(reason)
        return value

    text = replace_tokens(prefix, value_of, now)
    if missing:
        raise SinkError(f"filename_prefix {brief(prefix)}: {'; '.join(missing)}")
    return text


def _reason(context: Any, token: str, node: str, name: str, facts: Mapping[str, Any]) -> str:
    """Why a token has no value, and what to do."""
    if not node:
        known = ", ".join(f"%{fact}%" for fact in facts)
        return f"%{token}% has no value; expected %date:yyyy-MM-dd%, {known} or %Node.input%"
    nodes = [of_graph for _, of_graph in _nodes_named(context, node)]
    if not nodes:
        return f"%{token}%: no node of this workflow has the id, label, type or title {brief(node)}"
    known = {field for each in nodes for field in _fields(each) if _plain(getattr(each, field)) is not None}
    inputs = sorted(known - OF_EVERY_NODE)
    listed = ", ".join(inputs[:MAX_LISTED]) or "none"
    return f"%{token}%: {brief(node)} has no text or number in the input {brief(name)}; inputs with one: {listed}"


def _values(context: Any, node: str, name: str) -> Iterator[str | float]:
    for source, of_graph in _nodes_named(context, node):
        for each in (*_as_they_ran(context, source), of_graph):
            if name in _fields(each) and (value := _plain(getattr(each, name))) is not None:
                yield value


def _nodes_named(context: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The nodes of the workflow with this id, label, type or title, each with its id."""
    nodes = session_of(context).graph.nodes
    labels = _labels(context)
    if name in nodes:
        yield name, nodes[name]
    yield from ((source, node) for source, node in nodes.items() if labels.get(source) == name)
    yield from ((source, node) for source, node in nodes.items() if getattr(node, "type", None) == name)
    yield from ((source, node) for source, node in nodes.items() if _title(node) == name)


def _as_they_ran(context: Any, source: str) -> Iterator[Any]:
    """The copies of a node that InvokeAI runs, the newest first: their inputs over links have values."""
    session = session_of(context)
    copies = [copied for copied, of in session.prepared_source_mapping.items() if of == source]
    return (
        session.execution_graph.nodes[copied] for copied in reversed(copies) if copied in session.execution_graph.nodes
    )


def _labels(context: Any) -> dict[str, str]:
    """The labels that the user gave to nodes, by the id of the node; InvokeAI has them in the workflow only."""
    nodes = getattr(getattr(queue_item(context), "workflow", None), "nodes", None)
    data = [node.get("data") for node in nodes or () if isinstance(node, Mapping)]
    pairs = [(each.get("id"), each.get("label")) for each in data if isinstance(each, Mapping)]
    return {source: label for source, label in pairs if isinstance(source, str) and isinstance(label, str) and label}


def _title(node: Any) -> str | None:
    return getattr(getattr(type(node), "UIConfig", None), "title", None)


def _fields(node: Any) -> Iterator[str]:
    """The names of a node's inputs."""
    return iter(getattr(type(node), "model_fields", None) or vars(node))


def _plain(value: Any) -> str | float | None:
    """The value of an input as it may stand in a name; None for what no name can say, such as latents."""
    value = getattr(value, "name", value)  # of a model
    value = getattr(value, "value", value)  # of a choice
    return value if isinstance(value, str | int | float) and value != "" else None
