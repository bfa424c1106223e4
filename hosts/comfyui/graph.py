"""Links between the nodes of a prompt."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any


def is_wired(graph: Mapping[str, Any], node: str | None, output: int) -> bool:
    """Whether an input of another node is linked to this output of `node`."""
    return any(value == [node, output] for other in graph.values() for value in other.get("inputs", {}).values())


def upstream(graph: Mapping[str, Any], node: str | None, name: str) -> Iterator[str]:
    """The nodes from which the value of input `name` of `node` comes, nearest first."""
    waiting: deque[Any] = deque([graph.get(node or "", {}).get("inputs", {}).get(name)])
    seen = set[str]()
    while waiting:
        match waiting.popleft():
            case [str() as source, int()] if source not in seen:
                seen.add(source)
                yield source
                waiting.extend(graph.get(source, {}).get("inputs", {}).values())
