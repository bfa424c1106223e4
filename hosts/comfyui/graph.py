"""How the nodes of a prompt hang together."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any


def is_wired(graph: Mapping[str, Any], node: str | None, output: int) -> bool:
    """Whether any node of a prompt takes this output of a node."""
    return any(value == [node, output] for other in graph.values() for value in other.get("inputs", {}).values())


def upstream(graph: Mapping[str, Any], node: str | None, name: str) -> Iterator[str]:
    """The nodes that an input of a node comes from by its `name`, nearest first."""
    waiting: deque[Any] = deque([graph.get(node or "", {}).get("inputs", {}).get(name)])
    seen = set[str]()
    while waiting:
        match waiting.popleft():
            case [str() as source, int()] if source not in seen:
                seen.add(source)
                yield source
                waiting.extend(graph.get(source, {}).get("inputs", {}).values())
