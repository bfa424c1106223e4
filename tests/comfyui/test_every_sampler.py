"""Every sampler that the host lists, and every way to ask for one: watched to its last step, its result untouched."""

import json

import pytest
from safetensors import safe_open

STEPS = 4
SAMPLER = "4"
MODEL = {"eps": ("SD15", False), "flow": ("Flux", True)}
BOTH = {"negative": ["1", 1], "positive": ["1", 1]}
TWO = {"cond1": ["1", 1], "cond2": ["1", 1], "negative": ["1", 1], "cfg_conds": 3.0, "cfg_cond2_negative": 2.0}
GUIDERS = {
    "BasicGuider": {"conditioning": ["1", 1]},
    "CFGGuider": {**BOTH, "cfg": 3.0},
    "DualCFGGuider": {**TWO, "style": "regular"},
}
ADAPTIVE = {"order": 3, "rtol": 0.05, "atol": 0.0078, "h_init": 0.05, "pcoeff": 0.0, "icoeff": 1.0, "dcoeff": 0.0}
CHOSEN = {
    "euler": ("KSamplerSelect", {"sampler_name": "euler"}),
    "heun": ("KSamplerSelect", {"sampler_name": "heun"}),
    "dpmpp_sde": ("KSamplerSelect", {"sampler_name": "dpmpp_sde"}),
    "adaptive": ("SamplerDPMAdaptative", {**ADAPTIVE, "accept_safety": 0.81, "eta": 0.0, "s_noise": 1.0}),
}


def what_is_wrong(server, wire, name, graph):
    """In words, of a graph that `watching` watches; nothing if all is as it should be."""
    watched = server.play(graph)
    bare = server.play(wire.without_preview(graph))
    if not watched.ends == bare.ends == ["execution_success"]:
        return [f"{name}: {watched.named('execution_error') or bare.named('execution_error')}"]
    with safe_open(server.output / "spied" / f"{name}_1.safetensors", framework="pt") as file:
        told = [step + 1 for step, _ in json.loads(file.metadata()["steps"])]
    manifest = json.loads((server.output / "every" / f"{name}_00001" / "run.json").read_text())
    kept = [step["index"] for step in manifest["steps"] if step["files"]]
    announced = [event.data["index"] for event in watched.named("safelight.step")]
    checks = {
        "other latents than without the node": watched.digest == bare.digest,
        f"the sampler told of {told}, kept are {kept}": kept == sorted(set(told)),
        f"the client was told of {announced}, the last one is {told[-1]}": announced[-1:] == told[-1:],
        f"{manifest['state']}, {manifest['notes']}": (manifest["state"], manifest["notes"]) == ("finished", []),
        "other previews by the host": len(watched.previews) == len(bare.previews) > 0,
    }
    return [f"{name}: {words}" for words, good in checks.items() if not good]


@pytest.fixture
def watching(server, wire):
    """Makes a graph whose sampler is watched, seen by a LabSpy."""

    def watching(name, kind, **settings):
        latent_format, flow = MODEL[kind]
        preview = {"write_intermediates": True, "filename_prefix": f"every/{name}"}
        model = {"flow": flow, "height": 8, "width": 8}
        return wire(latent_format, steps=STEPS, preview=preview, spy=f"spied/{name}", **model, **settings)

    server.inputs_of("SafelightPreview")
    return watching


@pytest.mark.timeout(400)  # some forty samplers, twice each
@pytest.mark.parametrize("kind", MODEL)
def test_each_sampler_is_watched_to_its_last_step_and_changes_no_bit(server, wire, watching, kind):
    names = server.inputs_of("KSampler")["sampler_name"][0]
    assert {"euler", "dpm_adaptive", "uni_pc", "ddim"} <= set(names)
    wrong = []
    for name in names:
        wrong += what_is_wrong(server, wire, f"{name}_{kind}", watching(f"{name}_{kind}", kind, sampler=name))
    assert wrong == []


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize("way", ["SamplerCustom", *GUIDERS])
def test_each_way_to_ask_for_a_sampler_is_watched(server, wire, watching, way, chosen):
    graph = watching(f"{way}_{chosen}", "eps")
    stock = graph[SAMPLER]["inputs"]
    model, latents = stock["model"], stock["latent_image"]
    nodes = {
        "10": ("RandomNoise", {"noise_seed": stock["seed"]}),
        "12": CHOSEN[chosen],
        "13": ("BasicScheduler", {"model": model, "scheduler": "karras", "steps": STEPS, "denoise": 1.0}),
    }
    inputs = {"sampler": ["12", 0], "sigmas": ["13", 0], "latent_image": latents}
    if way == "SamplerCustom":
        inputs |= {"model": model, "add_noise": True, "noise_seed": stock["seed"], "cfg": 3.0, **BOTH}
        nodes[SAMPLER] = (way, inputs)
    else:
        nodes["11"] = (way, {"model": model, **GUIDERS[way]})
        nodes[SAMPLER] = ("SamplerCustomAdvanced", {**inputs, "noise": ["10", 0], "guider": ["11", 0]})
    graph |= {key: {"class_type": name, "inputs": inputs} for key, (name, inputs) in nodes.items()}
    assert what_is_wrong(server, wire, f"{way}_{chosen}", graph) == []
