"""Which words of a graph are a sampler's."""

from safelight.hosts.comfyui.prompt_text import MAX_CHARS, guiding_words


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


SIMPLE = {
    "1": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
    "2": node("CLIPTextEncode", text="an orange", clip=["1", 1]),
    "3": node("CLIPTextEncode", text="blurry", clip=["1", 1]),
    "4": node("KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0], sampler_name="euler", seed=1),
}


def test_the_positive_words_are_found_and_the_negative_ones_are_not():
    assert guiding_words(SIMPLE, "4") == "an orange"


def test_words_are_found_through_guiders_combined_conditionings_and_nodes_that_hold_text():
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
    assert guiding_words(graph, "6:8") == "tags\na sentence\nat night\na boat"


def test_the_same_words_are_told_once_and_very_many_are_cut():
    graph = SIMPLE | {
        "2": node("CLIPTextEncodeSDXL", text_g="same", text_l=" same ", clip=["1", 1]),
    }
    assert guiding_words(graph, "4") == "same"
    assert len(guiding_words(SIMPLE | {"2": node("X", text="x" * 9999)}, "4")) == MAX_CHARS


def test_where_nothing_is_known_nothing_is_told():
    assert guiding_words({}, None) is None
    assert guiding_words(SIMPLE, "77") is None
    assert guiding_words(SIMPLE | {"2": node("CLIPTextEncode", text="  ")}, "4") is None
    assert guiding_words({"4": {"class_type": "KSampler"}}, "4") is None


def test_a_graph_that_leads_in_a_circle_ends():
    assert (
        guiding_words({"1": node("A", positive=["2", 0]), "2": node("B", conditioning=["1", 0], text="x")}, "1") == "x"
    )
