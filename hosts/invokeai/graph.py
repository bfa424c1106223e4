"""Finds a node's neighbors in the graph that InvokeAI runs."""

from collections import deque
from collections.abc import Container, Iterator
from types import SimpleNamespace
from typing import Any

SHEET = "safelight_steps_sheet"  # type of the node that creates a contact sheet of a run
POSITIVE = "positive"  # beginning of the inputs of denoise nodes for their conditioning
VAE, VAE_TO_LOAD = "vae", "vae_model"  # input of decode nodes, and of the node that loads only a VAE
PROMPT = "prompt"  # input of the nodes that encode words


def watched_before(context: Any, node: Any) -> Any:
    """The nearest watched denoise node before `node`, as it ran; None if there is none."""
    graph = session_of(context).execution_graph
    before = (graph.nodes[name] for name in _along(graph, node.id, back=True))
    return next((node for node in before if is_watched(node)), None)


def leads_to_sheet(context: Any, node: Any) -> bool:
    """Whether a Steps Sheet node gets its latents from `node`, a watched denoise node."""
    session = session_of(context)
    name = session.prepared_source_mapping.get(node.id, node.id)
    return any(session.graph.nodes[after].type == SHEET for after in _along(session.graph, name, back=False))


def is_connected(context: Any, node: Any, field: str) -> bool:
    """Whether another node gets the output `field` of `node`."""
    session = session_of(context)
    name = session.prepared_source_mapping.get(node.id, node.id)
    return any(edge.source.node_id == name and edge.source.field == field for edge in session.graph.edges)


def nodes_with(context: Any, node: Any, field: str, as_input: str) -> Iterator[tuple[Any, set[str]]]:
    """The nodes that get the output `field` of `node` as `as_input`, each with its inputs that are connected."""
    session = session_of(context)
    name = session.prepared_source_mapping.get(node.id, node.id)
    for edge in session.graph.edges:
        if edge.source.node_id == name and edge.source.field == field and edge.destination.field == as_input:
            there = edge.destination.node_id
            inputs = {each.destination.field for each in session.graph.edges if each.destination.node_id == there}
            yield session.graph.nodes[there], inputs


def nodes_before(context: Any, node: Any, field: str) -> Iterator[Any]:
    """The nodes that an input of `node` comes from, as they ran, nearest first.

    Args:
        context: InvokeAI's `InvocationContext`.
        node: the invocation.
        field: beginning of the name of the input. Of several inputs, one comes after the other.
    """
    graph = session_of(context).execution_graph
    starts = [
        edge.source.node_id
        for edge in graph.edges
        if edge.destination.node_id == node.id and edge.destination.field.startswith(field)
    ]
    for start in starts:
        names = (start, *_along(graph, start, back=True))
        yield from (graph.nodes[name] for name in names if name in graph.nodes)


def prompt_before(context: Any, node: Any) -> str | None:
    """The words that the positive conditioning of `node` comes from, one prompt on each line; None if there are none.

    The nodes before it have run, so an input that came over a link has its value.
    """
    before = nodes_before(context, node, POSITIVE)
    found = (text for each in before if isinstance(text := getattr(each, PROMPT, None), str) and text)
    return "\n".join(dict.fromkeys(found)) or None  # in order, each once


def vae_after(context: Any, node: Any, decode_nodes: Container[str]) -> Any | None:
    """The VAE that will decode the latents of `node`, as InvokeAI's `ModelIdentifierField`; None if it is unknown.

    Args:
        context: InvokeAI's `InvocationContext`.
        node: the invocation.
        decode_nodes: names of the classes of nodes that decode.
    """
    session = session_of(context)
    name = session.prepared_source_mapping.get(node.id, node.id)
    after = (session.graph.nodes[each] for each in _along(session.graph, name, back=False))
    decoding = next((each for each in after if type(each).__name__ in decode_nodes), None)
    if decoding is None:
        return None
    values = (_sent(session, edge) for edge in session.graph.edges if _leads_to(edge, decoding.id, VAE))
    field = next(values, getattr(decoding, VAE, None))
    return getattr(field, VAE, field)


def _leads_to(edge: Any, name: str, field: str) -> bool:
    return edge.destination.node_id == name and edge.destination.field == field


def _sent(session: Any, edge: Any) -> Any | None:
    """The value that goes over an edge; of a loader that has not run yet, the VAE that it will load."""
    source, field = edge.source.node_id, edge.source.field
    results = (session.results.get(name) for name in session.source_prepared_mapping.get(source, ()))
    found = (getattr(result, field, None) for result in results if result is not None)
    return next(found, getattr(session.graph.nodes.get(source), VAE_TO_LOAD, None))


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


def session_of(context: Any) -> Any:
    """InvokeAI's session; an empty one if the context has none."""
    no_graph = SimpleNamespace(nodes={}, edges=[])
    no_session = SimpleNamespace(graph=no_graph, execution_graph=no_graph, prepared_source_mapping={})
    return getattr(queue_item(context), "session", None) or no_session
