"""The prompt text of a sampler in a graph."""

import json

import pytest
from safelight.hosts.comfyui.prompt_text import MAX_PROMPT_CHARS, prompt_text, saved_prompt


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


SIMPLE = {
    "1": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
    "2": node("CLIPTextEncode", text="an orange", clip=["1", 1]),
    "3": node("CLIPTextEncode", text="blurry", clip=["1", 1]),
    "4": node("KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0], sampler_name="euler", seed=1),
}


def test_the_positive_prompt_is_found_and_the_negative_one_is_not():
    assert prompt_text(SIMPLE, "4") == "an orange"


def test_text_is_found_through_guiders_combined_conditionings_and_text_nodes():
    graph = {
        "1": node("PrimitiveString", value="a boat"),
        "2": node("StringConcatenate", string_a=["1", 0], string_b="at night", delimiter=", "),
        "3": node("CLIPTextEncode", text=["2", 0], clip=["9", 0]),
        "4": node("CLIPTextEncodeFlux", clip_l="tags", t5xxl="a sentence", guidance=3.5, clip=["9", 0]),
        "5": node("ConditioningCombine", conditioning_1=["3", 0], conditioning_2=["4", 0]),
        "6": node("FluxGuidance", conditioning=["5", 0], guidance=3.5),
        "7": node("BasicGuider", conditioning=["6", 0], model=["9", 0]),
        "6:8": node("SamplerCustomAdvanced", guider=["7", 0], noise=["9", 0]),
        "9": node("Loader", text="not a prompt", value="nor this"),
    }
    assert prompt_text(graph, "6:8") == "tags\na sentence\nat night\na boat"


def test_equal_texts_are_returned_once_and_long_texts_are_cut():
    graph = SIMPLE | {
        "2": node("CLIPTextEncodeSDXL", text_g="same", text_l=" same ", clip=["1", 1]),
    }
    assert prompt_text(graph, "4") == "same"
    assert len(prompt_text(SIMPLE | {"2": node("X", text="x" * 9999)}, "4")) == MAX_PROMPT_CHARS


def test_without_a_text_none_is_returned():
    assert prompt_text({}, None) is None
    assert prompt_text(SIMPLE, "77") is None
    assert prompt_text(SIMPLE | {"2": node("CLIPTextEncode", text="  ")}, "4") is None
    assert prompt_text({"4": {"class_type": "KSampler"}}, "4") is None


def test_the_search_ends_in_a_graph_with_a_cycle():
    assert prompt_text({"1": node("A", positive=["2", 0]), "2": node("B", conditioning=["1", 0], text="x")}, "1") == "x"


# In saved pictures

SAVED = {
    "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0]}},
    "4": {"class_type": "KSampler", "inputs": {"positive": ["7", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "first"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "second"}},
}


@pytest.mark.parametrize(("sampler", "found"), [("4", "second"), ("3", "first"), (None, "first"), ("9", "first")])
def test_the_prompt_of_a_picture_is_that_of_its_sampler_or_of_the_first(sampler, found):
    assert saved_prompt({"prompt": json.dumps(SAVED)}, sampler) == found


@pytest.mark.parametrize(
    "graph",
    [
        *("", "no JSON", "[]", "5", "null", "{}", "[" * 100_000, '{"3": 5}', '{"3": {}}', '{"3": {"inputs": 5}}'),
        '{"3": {"inputs": {"positive": ["9", 0]}}}',
        '{"3": {"inputs": {"positive": ["3", 0]}}}',
        '{"3": {"inputs": {"positive": [["3"], 0], "text": {"a": 1}}}}',
    ],
)
def test_a_picture_with_an_odd_graph_has_no_prompt(graph):
    assert saved_prompt({"prompt": graph}, "3") is None
    assert saved_prompt({}, None) is None
