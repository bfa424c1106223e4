"""Finds the model files and the LoRAs of a sampler in ComfyUI's graph."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from .graph import inputs_of, linked_node, mapping

MODEL_TYPES = ("MODEL", "GUIDER")  # of the links from a sampler to its loaders
FILE_SUFFIXES = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
LORA = "lora"  # in the names of inputs
# Inputs with the weight of a LoRA; a node with several LoRAs has a number behind the names.
WEIGHTS = ("strength_model", "strength", "model_weight", "lora_wt", "weight")
NUMBER = re.compile(r"_\d+$")
MAX_NODES_SEARCHED = 100


class Lora(NamedTuple):
    """The file of a LoRA as the user chose it, and its weight; None if the weight comes from another node."""

    name: str
    weight: float | None


class ModelLine(NamedTuple):
    """The files that the nodes on a sampler's model line name, the sampler's nearest last.

    `nodes` has for each node that names files their names. Some of them may be files of a VAE or a text encoder.
    """

    nodes: Sequence[Sequence[str]]
    loras: Sequence[Lora]


def model_line(
    graph: Mapping[str, Any], starts: Sequence[str | None], output_type: Callable[[str, int], str | None]
) -> ModelLine:
    """Follows the links with models and guiders upstream.

    Args:
        graph: nodes by id.
        starts: ids of nodes to begin with, such as the sampler.
        output_type: function that returns the type of an output of a class of nodes; None if unknown.
    """
    line = list(_upstream(graph, starts, output_type))[::-1]
    names = [tuple(_files(inputs_of(graph, node))) for node in line]
    loras = [lora for node in line for lora in _loras(inputs_of(graph, node))]
    return ModelLine([each for each in names if each], loras)


def _upstream(
    graph: Mapping[str, Any], starts: Sequence[str | None], output_type: Callable[[str, int], str | None]
) -> Iterator[str]:
    waiting, seen = deque(starts), set[str]()
    while waiting and len(seen) < MAX_NODES_SEARCHED:
        node = waiting.popleft()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        for value in inputs_of(graph, node).values():
            source = linked_node(value)
            kind = mapping(graph.get(source or "")).get("class_type")
            if isinstance(kind, str) and output_type(kind, value[1]) in MODEL_TYPES:
                waiting.append(source)


def _files(inputs: Mapping[str, Any]) -> Iterator[str]:
    return (value for name, value in inputs.items() if LORA not in name.lower() and _is_file(value))


def _loras(inputs: Mapping[str, Any]) -> Iterator[Lora]:
    """The LoRAs of a node: a name and a weight in inputs of their own, or all facts of one in one input."""
    for name, value in inputs.items():
        if LORA not in name.lower():
            continue
        if isinstance(value, Mapping):  # Power Lora Loader of rgthree
            found, weights, on = value.get(LORA), [value.get("strength")], value.get("on") is not False
        else:
            number = NUMBER.search(name)
            found, on = value, True
            weights = [inputs.get(f"{weight}{number[0] if number else ''}") for weight in WEIGHTS]
        weight = next((float(each) for each in weights if _is_number(each)), None)
        if on and _is_file(found) and weight != 0.0:
            yield Lora(found, weight)


def _is_file(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value.lower().endswith(FILE_SUFFIXES)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
