"""Fits decoders on a real server: the files, the next run's decoder, and refusals."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.taesd import Taesd, taesd
from safelight.fitting.encoders import TaesdEncoder
from safelight.fitting.procedural_images import generate_images
from safetensors.torch import save_file

from ... import older

FIT, VAE, PICTURES, MODEL = "20", "21", "22", "1"
SMALL = {"height": 64, "width": 64}
GOOD = {"count": 12, "height": 256, "width": 256, "are": "good"}


@pytest.fixture(scope="module")
def server(own_server):
    own_server.inputs_of("SafelightFit")
    return own_server


@pytest.fixture
def folder(server):
    """The folder of the user's decoders, empty at first."""
    folder = server.models / "safelight"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@pytest.fixture
def graph(wire, folder):
    """Builds graphs that fit a decoder, each with its own seed, so that none is cached."""
    seeds = iter(range(1000))

    def make(latent_format="SDXL", *, pictures=GOOD, model=True, vae=None, wired=None, **choices):
        inputs = {"vae": [VAE, 0], "space": "from model", "kind": "affine", "name": "", "seed": next(seeds)}
        made = {
            VAE: {
                "class_type": "LabVae",
                "inputs": {"latent_format": latent_format, "step": 8, "broken": False, "encode_ms": 0.0, **(vae or {})},
            },
            FIT: {"class_type": "SafelightFit", "inputs": {**inputs, **choices}},
            "23": {"class_type": "LabTell", "inputs": {"text": [FIT, 1]}},
            "24": {"class_type": "SaveImage", "inputs": {"images": [FIT, 0], "filename_prefix": "fit/report"}},
        }
        if pictures:
            made[PICTURES] = {"class_type": "LabPictures", "inputs": {**GOOD, **pictures}}
            made[FIT]["inputs"]["images"] = [PICTURES, 0]
        if model:
            made[MODEL] = wire(latent_format, **(wired or {}))[MODEL]
            made[FIT]["inputs"]["model"] = [MODEL, 0]
        return made

    return make


def summary(played):
    assert played.ends == ["execution_success"], played.named("execution_error")
    return played.histories[0]["outputs"]["23"]["told"][0]


def refusal(played):
    assert played.ends == ["execution_error"]
    [error] = played.named("execution_error")
    assert error.data["node_id"] == FIT
    return error.data["exception_message"]


def shown(server, wire, latent_format, **model):
    """The decoder that Preview Steps uses for a run, and the run."""
    before = set((server.output / "fit").glob("run_*"))
    preview = {"write_intermediates": True, "filename_prefix": "fit/run"}
    played = server.play(wire(latent_format, preview=preview, **model))
    assert played.ends == ["execution_success"]
    [folder] = set((server.output / "fit").glob("run_*")) - before
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_the_nodes_inputs_have_their_names_and_order(server):
    inputs = server.inputs_of("SafelightFit")
    assert set(inputs) == {"vae", "images", "folder", "model", "space", "kind", "name", "seed", "train_on"}
    info = server.get("/object_info/SafelightFit").json()["SafelightFit"]
    assert (info["display_name"], info["category"]) == ("Fit Preview Decoder", "Safelight")
    assert (info["output"], info["output_name"], info["output_node"]) == (
        ["IMAGE", "STRING"],
        ["report", "summary"],
        True,
    )
    assert [name for name, (_, options) in inputs.items() if not options.get("tooltip")] == []


def test_the_next_run_uses_the_fitted_decoder(server, wire, graph, folder):
    before = shown(server, wire, "SDXL")
    played = server.play(graph(kind="neighbourhood"))
    text = summary(played)
    [path] = folder.glob("*.safetensors")
    card = read_card(path)
    assert (path.name, card.name, card.space, card.latent_space) == (
        "sdxl-neighbourhood.safetensors",
        "sdxl-neighbourhood",
        "sdxl",
        None,
    )
    assert "held back" in card.metrics["judged_on"]
    assert card.metrics["psnr_full_db"] > card.metrics["beside"][before["decoder"]["name"]]["psnr_full_db"] + 3
    assert "48 crops" not in card.fitted_on
    assert card.fitted_on.startswith("8 of 12 crops of 256 px from 12 pictures")
    assert "auto uses it from the next run on" in text
    assert str(path) in text
    assert shown(server, wire, "SDXL")["decoder"]["name"] == "sdxl-neighbourhood"


def test_the_report_is_a_picture(server, graph):
    played = server.play(graph(kind="affine"))
    outputs = played.histories[0]["outputs"]
    [saved] = outputs["24"]["images"]
    report = np.asarray(Image.open(io.BytesIO((server.output / saved["subfolder"] / saved["filename"]).read_bytes())))
    assert report.shape[0] > 600
    assert report.shape[1] > 600
    assert report.std() > 20
    [on_node] = outputs[FIT]["images"]
    assert on_node["type"] == "temp"
    assert np.array_equal(report, np.asarray(Image.open(server.temp / on_node["subfolder"] / on_node["filename"])))


def test_a_fitted_decoder_decodes_the_samplers_latents(server, graph, folder):
    """The encoder's latents in model space, shown in their true colors."""
    summary(server.play(graph("Flux", kind="affine")))
    [path] = folder.iterdir()
    assert read_card(path).metrics["psnr_latent_db"] > 25
    summary(server.play(graph("Flux", kind="affine", model=False, space="flux1")))
    both = [read_decoder(path).net.state_dict() for path in sorted(folder.iterdir())]
    assert len(both) == 2
    for key, tensor in both[0].items():
        assert torch.allclose(tensor, both[1][key], rtol=0.05, atol=0.01), key  # the space has ComfyUI's numbers


def test_a_video_vae_encodes_images_one_by_one(server, graph, folder):
    summary(server.play(graph("Wan21", kind="affine")))
    [path] = folder.iterdir()
    assert read_card(path).metrics["psnr_latent_db"] > 20


def test_packed_latents_are_unpacked(server, graph, folder):
    formats = server.inputs_of("LabModel")["latent_format"][0]
    older.expect("Flux2" in formats, "ComfyUI", server.version, "latent format Flux2")
    text = summary(server.play(graph("Flux2", kind="affine", vae={"step": 16})))
    [path] = folder.iterdir()
    assert read_card(path).channels == SPACES["flux2"].channels == 32
    assert "flux2-affine-2" in path.name  # a shipped decoder has this name
    assert "flux2-conv-small" in text


def test_an_unknown_format_is_recognized_by_its_facts_afterwards(server, wire, graph, folder):
    before = shown(server, wire, "NeverSeen")
    assert before["space"] == "unknown"
    summary(server.play(graph("NeverSeen", kind="neighbourhood")))
    [path] = folder.iterdir()
    row = read_card(path).latent_space
    assert (row.name, row.channels, row.scale, row.downscale, row.hosts) == (
        "neverseen",
        6,
        0.7,
        8,
        {"comfyui": ("NeverSeen",)},
    )
    after = shown(server, wire, "NeverSeen")
    assert (after["space"], after["decoder"]["name"]) == ("neverseen", "neverseen-neighbourhood")
    summary(server.play(graph("NeverSeen", kind="neighbourhood")))
    assert {path.name for path in folder.iterdir()} == {
        "neverseen-neighbourhood.safetensors",
        "neverseen-neighbourhood-2.safetensors",
    }


def test_the_user_can_name_an_unknown_format(server, wire, graph, folder):
    summary(server.play(graph("NeverSeen", name="mine")))
    assert [path.name for path in folder.iterdir()] == ["mine-affine.safetensors"]
    assert shown(server, wire, "NeverSeen")["space"] == "mine"


def test_a_fit_is_not_repeated_at_every_run(server, graph, folder):
    """Frontends choose another seed after each run unless the input says otherwise."""
    assert server.inputs_of("SafelightFit")["seed"][1]["control_after_generate"] is False
    made = graph()
    for _ in range(2):
        summary(server.play(made))
    assert len(list(folder.iterdir())) == 1


@pytest.mark.timeout(400)
def test_auto_saves_the_best_and_the_bar_moves(server, wire, graph, folder):
    vae = {"encode_ms": 20.0}
    played = server.play(graph("NeverSeen", kind="auto", vae=vae, pictures={**SMALL, "count": 18}))
    text = summary(played)
    [path] = folder.glob("*.safetensors")  # decoders that auto would not use are not saved
    assert shown(server, wire, "NeverSeen")["decoder"]["name"] == path.stem
    assert f"{path.stem}: auto uses it" in text
    assert text.count("auto uses it") == 1
    others = {name for name in read_card(path).metrics["beside"] if name.startswith("neverseen-")}
    assert len(others - {path.stem}) == 2
    values = [event.data["value"] for event in played.named("progress") if event.data["node"] == FIT]
    assert values == sorted(values)
    assert len([value for value in values if value < 300]) >= 2  # while it encodes
    assert len([value for value in values if value > 500]) >= 5  # while it trains
    assert values[-1] == 1000


def save_images(folder, sizes):
    """Saves generated images of the given widths and heights, some of them in a folder of the folder."""
    for i, (size, pixels) in enumerate(zip(sizes, generate_images(len(sizes), 400, seed=3), strict=True)):
        path = folder / ("deeper" if i % 2 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).crop((0, 0, *size)).save(path)


def test_a_list_of_images_is_one_dataset(server, graph, folder):
    """Nodes that read a folder give a list. ComfyUI runs a node once for each item unless it takes lists."""
    listed = graph(kind="affine")
    listed["30"] = {"class_type": "RebatchImages", "inputs": {"images": [PICTURES, 0], "batch_size": 1}}
    listed[FIT]["inputs"]["images"] = ["30", 0]
    text = summary(server.play(listed))
    [path] = folder.glob("*.safetensors")
    assert read_card(path).fitted_on.startswith("8 of 12 crops of 256 px from 12 pictures")
    assert str(path) in text


def test_a_folder_with_images_of_any_sizes_is_fitted(server, graph, folder, tmp_path):
    save_images(tmp_path, [(256, 256), (400, 300), (300, 400), (256, 320)] * 3)
    (tmp_path / "notes.txt").write_text("no image")
    summary(server.play(graph(kind="affine", pictures=None, folder=str(tmp_path))))
    [path] = folder.glob("*.safetensors")
    assert "from 12 pictures" in read_card(path).fitted_on


def test_a_folder_adds_to_the_images_of_the_input(server, graph, folder, tmp_path):
    save_images(tmp_path, [(256, 320)] * 4)
    summary(server.play(graph(kind="affine", folder=str(tmp_path))))
    [path] = folder.glob("*.safetensors")
    assert "from 16 pictures" in read_card(path).fitted_on


def test_a_folder_without_images_is_refused(server, graph, folder, tmp_path):
    assert str(tmp_path) in refusal(server.play(graph(pictures=None, folder=str(tmp_path))))
    assert not folder.exists()


def test_without_images_generated_ones_are_used(server, graph, folder):
    summary(server.play(graph(pictures=None)))
    [path] = folder.iterdir()
    assert "procedural pictures" in read_card(path).fitted_on


@pytest.mark.parametrize(("at", "saved"), [(1, []), (500, ["neverseen-conv"])])
def test_a_fit_that_is_cancelled_keeps_what_was_fitted(server, wire, graph, folder, at, saved):
    def cancel(event):
        if event.name == "progress" and event.data["node"] == FIT and event.data["value"] >= at:
            server.post("/interrupt", {})

    played = server.play(graph("NeverSeen", kind="conv", pictures=SMALL), on_event=cancel)
    assert played.ends == ["execution_interrupted"]
    assert [path.stem for path in folder.glob("*.safetensors")] == saved
    assert (shown(server, wire, "NeverSeen")["decoder"]["name"] in saved) == bool(saved)
    assert [event.data["value"] for event in played.named("progress") if event.data["node"] == FIT][-1] < 1000
    summary(server.play(graph("NeverSeen")))  # the server can still fit


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"pictures": {"are": "grey"}}, "images in color"),
        ({"pictures": {"are": "flat"}}, "at least one image with some content"),
        ({"pictures": {"are": "broken"}}, "expected finite images, got NaN or infinity"),
        ({"pictures": {"count": 1}}, "at least 3 images"),
        ({"pictures": {"height": 24, "width": 80}}, "at least 32 pixels a side"),
        ({"pictures": {"count": 3, "height": 64, "width": 64}, "kind": "neighbourhood"}, "too few"),
        ({"vae": {"broken": True}}, "the encoder gave NaN"),
        ({"vae": {"latent_format": "Flux"}}, "C = 4"),
        ({"vae": {"step": 16}}, "is it the VAE of this model"),
        ({"latent_format": "SD15"}, "Is this the VAE of the model?"),  # decoders of SD1 cannot decode these latents
        ({"model": False}, "connect the model"),
        ({"model": False, "space": "nothing"}, "no latent space is named 'nothing'"),
        ({"space": "flux1"}, "space is flux1"),
        ({"latent_format": "StableAudio1"}, "are audio"),
        ({"latent_format": "NeverSeen", "name": "sd1"}, "choose another name"),
        ({"latent_format": "NeverSeen", "name": "My Space"}, "lower case letters, digits and _"),
    ],
    ids=str,
)
def test_impossible_inputs_are_refused_and_nothing_is_written(server, graph, folder, asked, text):
    assert text in refusal(server.play(graph(**asked)))
    assert not folder.exists()


def test_a_full_disk_is_reported(server, graph, folder):
    folder.write_text("no folder")  # like a full or write-protected disk
    try:
        assert "the decoder cannot be written" in refusal(server.play(graph()))
    finally:
        folder.unlink()


@torch.no_grad()
def passes_colors_on(net, offset=0.0):
    """Sets the weights of a net in TAESD's shape, so that its first three channels carry the colors to the end.

    Args:
        net: net, whose blocks then change nothing that is positive.
        offset: added in the first convolution and subtracted in the last, because nets cut negative numbers off.
    """
    for parameter in net.parameters():
        parameter.zero_()
    convs = [layer for layer in net.layers if isinstance(layer, torch.nn.Conv2d)]
    for conv in convs:
        colors = range(3)
        if conv.stride == (1, 1):
            conv.weight[colors, colors, 1, 1] = 1.0
        else:
            conv.weight[colors, colors] = 1 / 9
    convs[0].bias[:3] = offset
    convs[-1].bias[:3] = -offset
    return {key.removeprefix("layers."): tensor for key, tensor in net.state_dict().items()}


def test_the_hosts_own_vae_is_fitted(server, graph, folder):
    """A file for the stock Load VAE, in TAESD's shape, so that ComfyUI's whole encode and decode run."""
    parts = {
        "taesd_encoder": passes_colors_on(TaesdEncoder("taesd", 4)),
        "taesd_decoder": passes_colors_on(Taesd(taesd(4, 0)), offset=1.0),
    }
    tensors = {f"{part}.{key}": tensor for part, state in parts.items() for key, tensor in state.items()}
    (server.models / "vae").mkdir(exist_ok=True)
    save_file(tensors, server.models / "vae" / "drawn.safetensors")
    made = graph(kind="affine", pictures={"count": 6, "height": 128, "width": 128})
    made[VAE] = {"class_type": "VAELoader", "inputs": {"vae_name": "drawn.safetensors"}}
    summary(server.play(made))
    [path] = folder.glob("*.safetensors")
    assert "encoded by TAESD" in read_card(path).fitted_on
