"""Links between the nodes of a prompt.

A graph is a mapping of nodes by id. It has the nodes that a client sends, and those that nodes create while they run
(node expansion): each later turn of a loop is a copy of the loop's nodes. Inputs of a created node may be any object.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is a mapping, else an empty one: a client may send anything."""
    return value if isinstance(value, Mapping) else {}


def inputs_of(graph: Mapping[str, Any], node: str | None) -> Mapping[str, Any]:
    """The inputs of a node: values and links; empty for an unknown node."""
    return graph.get(node or "", {}).get("inputs", {})


def linked_node(value: Any) -> str | None:
    """The node that an input is linked to; None if the input is a value."""
    match value:
        case [str() as source, int()]:
            return source
    return None


def chain(links: Mapping[str, str | None], node: str | None) -> tuple[str, ...]:
    """A node, the node that `links` names for it, and so on."""
    found: dict[str, None] = {}
    while node is not None and node not in found:
        found[node] = None
        node = links.get(node)
    return tuple(found)


def is_wired(
    graph: Mapping[str, Any], node: str | None, output: int, display_id: Callable[[str], str | None] = lambda node: node
) -> bool:
    """Whether an input is linked to this output of `node`, or of a copy of it.

    Args:
        graph: nodes by id.
        node: id of a node that the client sent.
        output: index of the output.
        display_id: function that returns for a copy of a node the node that the client sent.
    """
    for other in graph.values():
        for value in other.get("inputs", {}).values():
            source = linked_node(value)
            if source is not None and value[1] == output and display_id(source) == node:
                return True
    return False


def upstream(graph: Mapping[str, Any], node: str | None, name: str) -> Iterator[str]:
    """The nodes from which the value of input `name` of `node` comes, nearest first."""
    return _sources(graph, [inputs_of(graph, node).get(name)])


def nearest(graph: Mapping[str, Any], node: str | None) -> Iterator[str]:
    """All nodes that the inputs of `node` come from, directly or not, nearest first."""
    return _sources(graph, inputs_of(graph, node).values())


def signature(graph: Mapping[str, Any], node: str) -> str:
    """A digest of a node and of all that its inputs come from: classes and values. Equal nodes give equal results.

    Ids of nodes do not count, so that it is the same in each prompt. Of an input that is no JSON, only the type counts.
    """
    order = [node, *nearest(graph, node)]
    numbers = {each: number for number, each in enumerate(order)}
    facts = [
        [
            graph.get(each, {}).get("class_type"),
            {name: _value(value, numbers) for name, value in inputs_of(graph, each).items()},
        ]
        for each in order
    ]
    text = json.dumps(facts, sort_keys=True, default=lambda value: type(value).__name__)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _value(value: Any, numbers: Mapping[str, int]) -> Any:
    source = linked_node(value)
    return value if source is None else ["link", numbers.get(source), value[1]]


def between(graph: Mapping[str, Any], node: str | None, name: str, source: str) -> list[str]:
    """The nodes through which a value of `source` goes on its way to the input `name` of `node`."""
    return [
        each
        for each in upstream(graph, node, name)
        if each != source and source in _sources(graph, inputs_of(graph, each).values())
    ]


def _sources(graph: Mapping[str, Any], inputs: Iterable[Any]) -> Iterator[str]:
    """The nodes from which the values of `inputs` come, nearest first."""
    waiting, seen = deque(inputs), set[str]()
    while waiting:
        source = linked_node(waiting.popleft())
        if source is not None and source not in seen:
            seen.add(source)
            yield source
            waiting.extend(inputs_of(graph, source).values())
