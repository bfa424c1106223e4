"""Finds a node's neighbors in the graph that InvokeAI runs."""

from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

SHEET = "safelight_steps_sheet"  # type of the node that creates a contact sheet of a run
POSITIVE = "positive"  # beginning of the inputs of denoise nodes for their conditioning
PROMPT = "prompt"  # input of the nodes that encode words


def watched_before(context: Any, node: Any) -> Any:
    """The nearest watched denoise node before `node`, as it ran; None if there is none."""
    graph = _session(context).execution_graph
    before = (graph.nodes[name] for name in _along(graph, node.id, back=True))
    return next((node for node in before if is_watched(node)), None)


def leads_to_sheet(context: Any, node: Any) -> bool:
    """Whether a Steps Sheet node gets its latents from `node`, a watched denoise node."""
    session = _session(context)
    name = session.prepared_source_mapping.get(node.id, node.id)
    return any(session.graph.nodes[after].type == SHEET for after in _along(session.graph, name, back=False))


def prompt_before(context: Any, node: Any) -> str | None:
    """The words that the positive conditioning of `node` comes from, one prompt on each line; None if there are none.

    The nodes before it have run, so an input that came over a link has its value.
    """
    graph = _session(context).execution_graph
    starts = [
        edge.source.node_id
        for edge in graph.edges
        if edge.destination.node_id == node.id and edge.destination.field.startswith(POSITIVE)
    ]
    prompts: dict[str, None] = {}  # in order, each once
    for start in starts:
        nodes = (graph.nodes[name] for name in (start, *_along(graph, start, back=True)) if name in graph.nodes)
        found = (text for node in nodes if isinstance(text := getattr(node, PROMPT, None), str) and text)
        prompts |= dict.fromkeys(found)
    return "\n".join(prompts) or None


def is_watched(node: Any) -> bool:
    """Whether this is a Denoise (Safelight) node."""
    return hasattr(node, "write_intermediates")


def queue_item(context: Any) -> Any:
    """The item of InvokeAI's queue that runs; None if the context has none."""
    return getattr(getattr(context, "_data", None), "queue_item", None)


def _along(graph: Any, name: str, *, back: bool) -> Iterator[str]:
    """The nodes before or after a node, nearest first; none beyond a watched one."""
    waiting, seen = deque([name]), {name}
    while waiting:
        here = waiting.popleft()
        for edge in graph.edges:
            end, start = (edge.destination, edge.source) if back else (edge.source, edge.destination)
            there = start.node_id
            if end.node_id != here or there in seen or there not in graph.nodes:
                continue
            seen.add(there)
            yield there
            if not is_watched(graph.nodes[there]):
                waiting.append(there)


def _session(context: Any) -> Any:
    """InvokeAI's session; an empty one if the context has none."""
    no_graph = SimpleNamespace(nodes={}, edges=[])
    no_session = SimpleNamespace(graph=no_graph, execution_graph=no_graph, prepared_source_mapping={})
    return getattr(queue_item(context), "session", None) or no_session
