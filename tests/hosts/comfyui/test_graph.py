"""Links in a prompt whose nodes may be copies that a loop created, with any object as an input."""

import pytest
import torch
from safelight.hosts.comfyui.graph import chain, inputs_of, is_wired, linked_node, upstream

GRAPH = {
    "1": {"class_type": "Model", "inputs": {}},
    "2": {"class_type": "Preview", "inputs": {"model": ["1", 0], "text": "a"}},
    "4": {
        "class_type": "Sampler",
        "inputs": {"model": ["2", 0], "latent": torch.zeros(2), "list": ["1"], "sigmas": [1, 2]},
    },
    "6": {"class_type": "Steps", "inputs": {"steps": ["9.2", 1], "after_sampling": ["4", 0]}},
    "7": {"class_type": "Bare"},
}


@pytest.mark.parametrize("value", ["text", 3, None, ["1"], ["1", "0"], [1, 0], [1, 2, 3], torch.zeros(2), {"1": 0}])
def test_a_value_is_no_link(value):
    assert linked_node(value) is None


def test_inputs_of_an_unknown_node_are_empty():
    assert (inputs_of(GRAPH, "nobody"), inputs_of(GRAPH, None), inputs_of(GRAPH, "7")) == ({}, {}, {})


def test_upstream_nodes_are_the_nearest_first():
    assert list(upstream(GRAPH, "6", "after_sampling")) == ["4", "2", "1"]
    assert list(upstream(GRAPH, "6", "nothing")) == []


def test_an_output_is_wired_if_an_input_is_linked_to_it_or_to_a_copy():
    copies = {"9.2": "2"}
    assert is_wired(GRAPH, "2", 0)
    assert not is_wired(GRAPH, "2", 1)
    assert is_wired(GRAPH, "2", 1, lambda node: copies.get(node, node))
    assert not is_wired(GRAPH, None, 0)


def test_a_chain_ends_and_a_circle_too():
    links = {"a": "b", "b": "c", "x": "y", "y": "x"}
    assert chain(links, "a") == ("a", "b", "c")
    assert chain(links, "c") == ("c",)
    assert chain(links, "x") == ("x", "y")
    assert chain(links, None) == ()
