"""The words in a graph of ComfyUI that guide a sampler."""

from collections import deque
from collections.abc import Mapping
from typing import Any

# Inputs that hold words.
WORDS = (
    *("text", "text_g", "text_l", "clip_g", "clip_l", "t5xxl", "llama"),
    *("prompt", "tags", "value", "string", "string_a", "string_b"),
)
# Inputs that lead from a sampler to the nodes with words: neither to negative ones nor to models.
WAYS = (
    *("positive", "guider", "guidance", "conds"),
    *("conditioning", "conditioning_1", "conditioning_2", "conditioning_to", "conditioning_from"),
)
MAX_NODES, MAX_CHARS = 100, 4000


def guiding_words(graph: Mapping[str, Any], sampler: str | None) -> str | None:
    """The texts upstream of a sampler's positive input, a line each, nearest first; None if there are none.

    Args:
        graph: the nodes by id, as a client sends them.
        sampler: the id of its node.
    """
    found: dict[str, None] = {}
    waiting, seen = deque([sampler]), set[str | None]()
    while waiting and len(seen) < MAX_NODES:
        node = waiting.popleft()
        if node in seen:
            continue
        seen.add(node)
        for name, value in graph.get(node or "", {}).get("inputs", {}).items():
            match value:
                case [str() as source, int()] if name in WAYS or name in WORDS:
                    waiting.append(source)
                case str() if name in WORDS and value.strip():
                    found[value.strip()] = None
    return "\n".join(found)[:MAX_CHARS] or None
