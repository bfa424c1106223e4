"""The model files and the LoRAs of a sampler in a graph."""

from safelight.hosts.comfyui.model_line import Lora, ModelLine, model_line

TYPES = {
    "Checkpoint": ("MODEL", "CLIP", "VAE"),
    "Unet": ("MODEL",),
    "Clip": ("CLIP",),
    "Lora": ("MODEL", "CLIP"),
    "Merge": ("MODEL",),
    "Guider": ("GUIDER",),
    "Encode": ("CONDITIONING",),
    "Bundle": ("PIPE",),
    "Preview": ("MODEL", "STEPS"),
}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def output_type(kind, output):
    types = TYPES.get(kind, ())
    return types[output] if output < len(types) else None


def line(graph, *starts):
    return model_line(graph, starts or ("sampler",), output_type)


def test_the_checkpoint_and_the_loras_are_found_in_the_order_in_which_they_are_applied():
    graph = {
        "1": node("Checkpoint", ckpt_name="xl/base.safetensors"),
        "2": node("Lora", model=["1", 0], clip=["1", 1], lora_name="first.safetensors", strength_model=0.8),
        "3": node("Lora", model=["2", 0], clip=["2", 1], lora_name="second.safetensors", strength_model=1),
        "4": node("Preview", model=["3", 0]),
        "5": node("Encode", clip=["6", 0], text="a.safetensors"),
        "6": node("Clip", clip_name="clip.safetensors"),
        "sampler": node("KSampler", model=["4", 0], positive=["5", 0], sampler_name="euler"),
    }
    loras = [Lora("first.safetensors", 0.8), Lora("second.safetensors", 1.0)]
    assert line(graph) == ModelLine([("xl/base.safetensors",)], loras)


def test_guiders_and_mergers_are_followed():
    graph = {
        "1": node("Unet", unet_name="flux.gguf", weight_dtype="default"),
        "2": node("Unet", unet_name="other.sft"),
        "3": node("Merge", model1=["1", 0], model2=["2", 0], ratio=0.5),
        "4": node("Guider", model=["3", 0], conditioning=["9", 0]),
        "sampler": node("SamplerCustomAdvanced", guider=["4", 0]),
    }
    assert sorted(line(graph).nodes) == [("flux.gguf",), ("other.sft",)]


def test_loras_of_one_node_have_their_own_weights_and_those_without_effect_are_left_out():
    stack = node(
        "Lora",
        model=["1", 0],
        lora_name_1="a.safetensors",
        model_weight_1=0.5,
        lora_name_2="None",
        model_weight_2=1.0,
        lora_name_3="c.safetensors",
        model_weight_3=0.0,
        lora_name_4="d.safetensors",
        model_weight_4=["8", 0],
    )
    power = node(
        "Lora",
        model=["2", 0],
        lora_1={"on": True, "lora": "e.safetensors", "strength": 0.7},
        lora_2={"on": False, "lora": "f.safetensors", "strength": 1.0},
        lora_3={"on": True, "lora": None, "strength": "1"},
    )
    graph = {"1": node("Unet", unet_name="m.pt"), "2": stack, "sampler": node("KSampler", model=["3", 0]), "3": power}
    assert line(graph).loras == [Lora("a.safetensors", 0.5), Lora("d.safetensors", None), Lora("e.safetensors", 0.7)]


def test_a_sampler_that_gets_a_bundle_is_searched_from_the_second_start():
    graph = {
        "1": node("Checkpoint", ckpt_name="a.ckpt", vae_name="b.pt"),
        "2": node("Preview", model=["1", 0]),
        "3": node("Bundle", model=["2", 0]),
        "sampler": node("PipeSampler", pipe=["3", 0]),
    }
    assert line(graph).nodes == []
    assert line(graph, "sampler", "2").nodes == [("a.ckpt", "b.pt")]
    assert line(graph, "sampler", "2", "1").nodes == [("a.ckpt", "b.pt")]


def test_loops_missing_nodes_and_odd_values_end_the_search():
    graph = {
        "1": node("Merge", model1=["sampler", 0], model2=["9", 0], ckpt_name=7, lora_name=["x"], lora_2=None),
        "2": {"class_type": ["odd"], "inputs": {}},
        "sampler": node("KSampler", model=["1", 0], other=["2", 0], more=["1", 99]),
    }
    assert line(graph) == ModelLine([], [])
    assert line(graph, None, "nowhere") == ModelLine([], [])
