"""Finds the prompt text of a sampler in ComfyUI's graph."""

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from .graph import inputs_of, linked_node, mapping

# Inputs that contain text.
TEXT_INPUTS = (
    *("text", "text_g", "text_l", "clip_g", "clip_l", "t5xxl", "llama"),
    *("prompt", "tags", "value", "string", "string_a", "string_b"),
)
# Inputs that lead from a sampler to nodes with text, but not to negative prompts or models.
LINK_INPUTS = (
    *("positive", "guider", "guidance", "conds"),
    *("conditioning", "conditioning_1", "conditioning_2", "conditioning_to", "conditioning_from"),
)
MAX_NODES_SEARCHED, MAX_PROMPT_CHARS = 100, 4000


def prompt_text(graph: Mapping[str, Any], sampler: str | None) -> str | None:
    """Returns the texts upstream of a sampler's positive input, one a line, nearest first; None if there are none.

    Args:
        graph: nodes by id.
        sampler: id of the sampler's node.
    """
    found: dict[str, None] = {}
    waiting, seen = deque([sampler]), set[str | None]()
    while waiting and len(seen) < MAX_NODES_SEARCHED:
        node = waiting.popleft()
        if node in seen:
            continue
        seen.add(node)
        for name, value in inputs_of(graph, node).items():
            source = linked_node(value)
            if source is not None and name in (*LINK_INPUTS, *TEXT_INPUTS):
                waiting.append(source)
            elif isinstance(value, str) and name in TEXT_INPUTS and value.strip():
                found[value.strip()] = None
    return "\n".join(found)[:MAX_PROMPT_CHARS] or None


def saved_prompt(texts: Mapping[str, str], sampler: str | None) -> str | None:
    """The prompt in the texts of a picture that ComfyUI saved, which may come from anywhere; None if there is none.

    Args:
        texts: texts by name, of which `prompt` is the graph as JSON.
        sampler: id of the sampler's node; None, or one that the graph does not have, for any sampler.
    """
    try:
        found = json.loads(texts.get("prompt", ""))
    except (ValueError, RecursionError):
        return None
    nodes = {name: node for name, node in mapping(found).items() if isinstance(mapping(node).get("inputs"), Mapping)}
    first = next((name for name, node in nodes.items() if "positive" in node["inputs"]), None)
    return prompt_text(nodes, sampler if sampler in nodes else first)
