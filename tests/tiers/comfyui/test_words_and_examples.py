"""Texts, help pages and example workflows against the nodes of a real server."""

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ... import older
from .conftest import FOLDER

ROOT = Path(__file__).resolve().parents[3]
WORDS = json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8"))
EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
SEEDS = ("seed", "noise_seed")
LAB, VAE = "lab", "vae"
# Replacements of nodes that need model files: the source of each output.
STAND_INS = {
    "CheckpointLoaderSimple": [[LAB, 0], None, [VAE, 0]],
    "UNETLoader": [[LAB, 0]],
    "CLIPLoader": [None],
    "DualCLIPLoader": [None],
    "VAELoader": [[VAE, 0]],
    "CLIPTextEncode": [[LAB, 1]],
    **{name: [[LAB, 2]] for name in ("EmptyLatentImage", "EmptySD3LatentImage", "EmptyFlux2LatentImage")},
    "EmptyHunyuanLatentVideo": [[LAB, 2]],
    "LTXAVTextEncoderLoader": [None],
    "LTXVConcatAVLatent": [[LAB, 2]],
    # Audio nodes that need an audio VAE.
    **{name: [None] for name in ("LTXVAudioVAELoader", "LTXVEmptyLatentAudio", "EmptyLTXVLatentVideo")},
    **{name: [None] for name in ("LTXVAudioVAEDecode", "SaveAudio")},
}

TEXT_ENCODERS = ("CLIPLoader", "DualCLIPLoader")
# Latent format by the type of the text encoder.
FORMATS = {"wan": "Wan21", "qwen_image": "Wan21", "flux": "Flux", "lumina2": "Flux", "flux2": "Flux2"}


def ours(server):
    """The server's facts about the nodes of this pack."""
    info = server.get("/object_info").json()
    return {name: node for name, node in info.items() if node["category"] == "Safelight"}


def inputs_of(node):
    return node["input"].get("required", {}) | node["input"].get("optional", {})


# Texts


def test_there_are_texts_for_each_node_and_no_other(server):
    assert set(WORDS) == set(ours(server))


@pytest.mark.parametrize("name", WORDS)
def test_the_texts_of_a_node_equal_the_translation_file(server, name):
    info, words = ours(server)[name], WORDS[name]
    assert (words["display_name"], words["description"]) == (info["display_name"], info["description"])
    tips = {name: kind[1]["tooltip"] for name, kind in inputs_of(info).items()}
    assert {name: entry["tooltip"] for name, entry in words["inputs"].items()} == tips
    assert [name for name, entry in words["inputs"].items() if entry["name"] != name] == []
    assert list(words["outputs"]) == [str(index) for index in range(len(info["output"]))]
    assert [entry["name"] for entry in words["outputs"].values()] == info["output_name"]
    assert [entry["tooltip"] for entry in words["outputs"].values()] == info["output_tooltips"]


def listed_names(page):
    """The names of inputs and outputs that a help page lists, in its order."""
    rows = re.findall(r"^\* (`\w+`(?:, `\w+`)*): ", page, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


@pytest.mark.parametrize("name", WORDS)
def test_the_help_page_of_a_node_names_each_input_and_output(server, name):
    info = ours(server)[name]
    page = (ROOT / f"web/docs/{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {info['display_name']}\n")
    plain = [output for output, kind in zip(info["output_name"], info["output"], strict=True) if output != kind]
    assert [name for name in (*inputs_of(info), *plain) if f"`{name}`" not in page] == []
    assert "\n|" not in page, "a table does not fit into ComfyUI's help panel"
    assert [name for name in listed_names(page) if name not in (*inputs_of(info), *info["output_name"])] == []


@pytest.mark.parametrize("name", WORDS)
def test_the_picture_of_a_help_page_is_served(server, name):
    page = (ROOT / f"web/docs/{name}.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"!\[[^\]]+\]\((\S+)\)", page)
    # Source: ComfyUI_frontend `src/workbench/utils/nodeHelpUtil.ts`: relative paths start at the page.
    answer = server.get(f"/extensions/{FOLDER}/docs/{shown}")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert len(answer.body) < 60_000
    with Image.open(io.BytesIO(answer.body)) as image:
        assert max(image.size) <= 720


@pytest.mark.parametrize("language", ["de", "en", "xx"])
def test_the_help_page_is_served_for_every_language(server, language):
    answer = server.get(f"/extensions/{FOLDER}/docs/SafelightPreview/{language}.md")
    page = "SafelightPreview/de.md" if language == "de" else "SafelightPreview.md"
    assert (answer.status, answer.body) == (200, (ROOT / "web/docs" / page).read_bytes())
    assert server.get(f"/extensions/{FOLDER}/docs/Nothing/{language}.md").status == 404


def test_comfyui_has_the_texts_of_each_language(server):
    languages = [path.name for path in (ROOT / "locales").iterdir()]
    translations = json.loads(server.get("/i18n").body)
    for name in languages:
        words = json.loads((ROOT / f"locales/{name}/nodeDefs.json").read_text(encoding="utf-8"))
        assert translations[name]["nodeDefs"].items() >= words.items()


def test_the_viewer_gets_its_texts_in_each_language_but_english(server):
    german = json.loads(server.get("/safelight/texts/de").body)
    assert (german["language"], german["texts"]["All runs"]) == ("de", "Alle Läufe")
    assert server.get("/safelight/texts/en").status == 404


def test_the_help_page_of_preview_steps_lists_its_inputs_in_their_order(server):
    page = (ROOT / "web/docs/SafelightPreview.md").read_text(encoding="utf-8")
    inputs = list(inputs_of(ours(server)["SafelightPreview"]))
    assert [name for name in listed_names(page) if name in inputs] == inputs


def test_the_texts_of_the_settings_equal_the_translation_file(server):
    script = (ROOT / "web/comfy.js").read_text(encoding="utf-8")
    setting = r'id: "(Safelight[\w.]+)",\s*category: (\[.+?\]),\s*name: "(.+?)",\s*tooltip: "(.+?)"'
    info = re.findall(setting, script)
    assert len(info) == script.count('id: "Safelight.')
    words = server.get("/i18n").json()["en"]
    # Source: ComfyUI_frontend `src/utils/formatUtil.ts`, `normalizeI18nKey`.
    assert words["settings"] == {
        name.replace(".", "_"): {"name": title, "tooltip": tip} for name, _, title, tip in info
    }
    categories = {category for _, path, *_ in info for category in json.loads(path)}
    assert words["settingsCategories"] == {category: category for category in categories}
    assert words["nodeCategories"] == {"Safelight": "Safelight"}


# Examples


def drawn(server, path):
    """The prompt that ComfyUI's page would send for a workflow; fails if the workflow is inconsistent."""
    drawing = json.loads(path.read_text(encoding="utf-8"))
    links = {link[0]: link for link in drawing["links"]}
    graph = {}
    known = server.get("/object_info").json()
    for node in drawing["nodes"]:
        older.expect(node["type"] in known, "ComfyUI", server.version, f"node {node['type']}")
        asked = server.inputs_of(node["type"])
        values = iter(node.get("widgets_values") or [])
        given = graph.setdefault(str(node["id"]), {"class_type": node["type"], "inputs": {}})["inputs"]
        for at, slot in enumerate(node["inputs"]):
            name = slot["name"]
            assert name in asked, f"{node['type']} has no input {name}"
            if "widget" in slot:
                given[name] = next(values)
                if name in SEEDS and asked[name][1].get("control_after_generate"):
                    assert next(values) in ("fixed", "randomize")
            if slot["link"] is not None:
                _, source, output, target, place, kind = links.pop(slot["link"])
                assert (target, place) == (node["id"], at)
                assert slot["type"] in (kind, "*")
                given[name] = [str(source), output]
        assert list(values) == [], f"{node['type']} has more values than inputs"
        if node["type"].startswith("Safelight"):
            assert {slot["name"] for slot in node["inputs"]} == set(asked), "an input is missing"
    assert links == {}, "a link leads nowhere"
    return graph


def complaints(server, graph):
    """The server's errors for each node of a prompt, by type."""
    answer = server.post("/prompt", {"prompt": graph, "client_id": "example"}).json()
    errors = answer.get("node_errors") or {}
    return {(graph[node]["class_type"], wrong["type"]) for node, info in errors.items() for wrong in info["errors"]}


def played_in_the_lab(graph):
    """The same prompt with a model and a VAE that need no files."""
    kinds = {node["class_type"] for node in graph.values()}
    sound = "LTXVConcatAVLatent" in kinds
    video = "EmptyHunyuanLatentVideo" in kinds or sound
    encoders = [node["inputs"]["type"] for node in graph.values() if node["class_type"] in TEXT_ENCODERS]
    batch = [node["inputs"]["batch_size"] for node in graph.values() if "batch_size" in node["inputs"]]
    kept = {key: node for key, node in graph.items() if node["class_type"] not in STAND_INS}
    for node in kept.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in graph.keys() - kept.keys():
                node["inputs"][name] = STAND_INS[graph[value[0]]["class_type"]][value[1]]
    latent_format = FORMATS[encoders[0]] if encoders else "LTXAV" if sound else "SDXL"
    shape = {"frames": 3 if video else 1, "sound": 5 if sound else 0}
    model = {"latent_format": latent_format, "flow": latent_format != "SDXL", **shape}
    size = {"height": 16, "width": 24, "batch": batch[0] if batch else 1, "step_ms": 0.0, "fail_at": 0}
    kept[LAB] = {"class_type": "LabModel", "inputs": {**model, **size, "targets_file": "", "again": 0}}
    kept[VAE] = {"class_type": "LabDecoder", "inputs": {"tiny": latent_format == "SDXL", "broken": False}}
    return kept


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_lacks_only_model_files(server, path):
    files = {(name, "value_not_in_list") for name in STAND_INS if "Loader" in name}
    assert complaints(server, drawn(server, path)) <= files


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(server, wire, path):
    graph = played_in_the_lab(drawn(server, path))
    if path.stem == "09 Open a saved run":
        assert server.play(wire(preview={"write_intermediates": True})).ends == ["execution_success"]
    if path.stem == "11 Fit a preview decoder":  # the quickest kind: this is not a test of fitting
        graph[VAE] = {
            "class_type": "LabVae",
            "inputs": {"latent_format": "SDXL", "step": 8, "broken": False, "encode_ms": 0.0},
        }
        [fit] = [node for node in graph.values() if node["class_type"] == "SafelightFit"]
        fit["inputs"]["kind"] = "affine"
    for node in graph.values():
        if node["class_type"] == "SafelightChoose":
            node["inputs"]["time_limit_s"] = 1  # no answer comes here
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.named("execution_error")
    shown = [event.data["state"] for event in played.named("safelight.run")]
    assert shown[-1:] == ["finished"] * any(node["class_type"] == "SafelightPreview" for node in graph.values())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_small_picture(path):
    picture = path.with_suffix(".jpg")
    assert picture.stat().st_size < 200_000
    with Image.open(picture) as image:
        assert image.format == "JPEG"


def test_each_node_of_the_pack_has_an_example(server):
    drawings = [json.loads(path.read_text(encoding="utf-8")) for path in EXAMPLES]
    assert {node["type"] for drawing in drawings for node in drawing["nodes"]} >= set(ours(server))


# Older workflows

FIRST = ("model", "decoder", "show", "every_n_steps", "max_side_px", "write_intermediates", "filename_prefix")
FIRST = (*FIRST, "file_format", "enlarge")


def test_a_prompt_without_the_newer_inputs_samples_as_before(server, wire):
    graph = wire(preview={})
    node = graph["2"]["inputs"]
    graph["2"]["inputs"] = {name: node[name] for name in FIRST}
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.refusal
    assert server.play(wire.without_preview(graph)).digest == played.digest
    required = server.get("/object_info/SafelightPreview").json()["SafelightPreview"]["input"]["required"]
    assert tuple(required) == FIRST, "inputs that older workflows do not have must be optional and come last"
