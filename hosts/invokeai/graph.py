"""Where a node of InvokeAI stands in its graph."""

from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

SHEET = "safelight_steps_sheet"  # type of the node that makes a contact sheet of a run


def watched_before(context: Any, node: Any) -> Any:
    """The nearest watched denoise node that what `node` is given comes from, as it ran; None if there is none."""
    graph = _session(context).execution_graph
    before = (graph.nodes[name] for name in _along(graph, node.id, back=True))
    return next((one for one in before if is_watched(one)), None)


def leads_to_sheet(context: Any, node: Any) -> bool:
    """Whether a contact sheet is to be made of the run of `node`, a watched denoise node."""
    session = _session(context)
    name = session.prepared_source_mapping.get(node.id, node.id)
    return any(session.graph.nodes[after].type == SHEET for after in _along(session.graph, name, back=False))


def is_watched(node: Any) -> bool:
    """Whether this is one of our denoise nodes."""
    return hasattr(node, "write_intermediates")


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
    """The host's; an empty one where its context has none that we know."""
    nothing = SimpleNamespace(nodes={}, edges=[])
    empty = SimpleNamespace(graph=nothing, execution_graph=nothing, prepared_source_mapping={})
    item = getattr(getattr(context, "_data", None), "queue_item", None)
    return getattr(item, "session", None) or empty
