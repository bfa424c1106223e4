"""Watching a node of InvokeAI, with loops and contexts that look like the host's and need nothing of it."""

import ast
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import safelight
import torch
from PIL import Image
from safelight.errors import SinkError, SpaceError
from safelight.hosts.invokeai import quick_decode
from safelight.hosts.invokeai.denoise_nodes import DENOISE_NODES
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.watch import watched
from safelight.hosts.invokeai.x0 import X0Estimates, caller
from safelight.preview.manifest import read_manifest

ROOT = Path(safelight.__file__).parent
KEPT = InvokeOptions(write_intermediates=True, filename_prefix="kept/run")


class CancelledError(Exception):
    pass


@dataclass
class State:
    """The host's PipelineIntermediateState."""

    step: int
    order: int
    total_steps: int
    timestep: int
    latents: torch.Tensor
    predicted_original: torch.Tensor | None = None


class HostUtil:
    """The host's UtilInterface: what was called of it."""

    def __init__(self, fails=False, cancel_at=None):
        self.own, self.signals = [], []
        self.fails, self.cancel_at, self.canceled = fails, cancel_at, False

    def is_canceled(self):
        return self.canceled

    def sd_step_callback(self, state, base_model):
        self._callback(state, base_model)

    def flux_step_callback(self, state):
        self._callback(state, "flux")

    def signal_progress(self, message, percentage=None, image=None, image_size=None):
        if self.fails and image is not None:
            raise RuntimeError("no client takes pictures")
        self.signals.append((message, percentage, image, image_size))

    def something_else(self):
        return "the host's"

    def _callback(self, state, base):
        if self.canceled:
            raise CancelledError
        self.own.append((state.step, base))

    @property
    def pictures(self):
        return [signal for signal in self.signals if signal[2] is not None]


@pytest.fixture
def host(tmp_path):
    def make(**util):
        config = SimpleNamespace(outputs_path=tmp_path / "outputs", root_path=tmp_path / "root")
        (tmp_path / "outputs").mkdir(exist_ok=True)
        return SimpleNamespace(util=HostUtil(**util), config=SimpleNamespace(get=lambda: config))

    return make


@pytest.fixture
def node():
    return SimpleNamespace(id="d", steps=6, seed=3, cfg_scale=4.0, scheduler="euler")


@pytest.fixture
def noise():
    return torch.randn((1, 16, 6, 8), generator=torch.Generator().manual_seed(1))


LEVELS = [1.0, 0.95, 0.8, 0.5, 0.3, 0.1, 0.0]


def velocity(x, sigma):
    return (x * 2 + sigma).sin()


def euler(context, x, base="sd-3", first=True, truth=None):
    """As SD3 and Qwen-Image sample."""
    timesteps = list(LEVELS)
    total = len(timesteps) - 1
    latents = x
    if first:
        context.util.sd_step_callback(State(0, 1, total, 1, latents), base)
    for i, (sigma, after) in enumerate(pairwise(timesteps)):
        noise_pred = velocity(latents, sigma)
        if truth is not None:
            truth.append(latents - sigma * noise_pred)
        latents = latents + (after - sigma) * noise_pred
        context.util.sd_step_callback(State(i + 1, 1, total, int(sigma), latents), base)
    return latents


def flux(context, x):
    """As FLUX samples: its states are x0, three-dimensional."""
    latents = x
    for i, (sigma, after) in enumerate(pairwise(LEVELS)):
        pred = velocity(latents, sigma)
        preview = latents - sigma * pred
        latents = latents + (after - sigma) * pred
        context.util.flux_step_callback(State(i + 1, 1, len(LEVELS) - 1, 0, preview[0]))
    return latents


def stable_diffusion(context, x, scheduler, base="sd-1"):
    """As Stable Diffusion samples."""
    scheduler.set_timesteps(6)
    latents = x
    total = len(scheduler.timesteps)
    context.util.sd_step_callback(State(0, scheduler.order, total, 1000, latents), base)
    for i, t in enumerate(scheduler.timesteps):
        result = scheduler.step((latents * 3).sin(), t, latents)
        latents = result.prev_sample
        said = getattr(result, "pred_original_sample", None)
        context.util.sd_step_callback(State(i + 1, scheduler.order, total, int(t), latents, said), base)
    return latents


def wan_video(context, x, scheduler, truth):
    """As Wan samples a video: with a scheduler that reports nothing, and a state that is one frame."""
    scheduler.set_timesteps(6)
    latents = x
    for i, t in enumerate(scheduler.timesteps):
        noise_pred = velocity(latents, float(t) / 1000)
        truth.append((latents - float(scheduler.sigmas[i]) * noise_pred)[:, :, latents.shape[2] // 2])
        latents = scheduler.step(noise_pred, t, latents, return_dict=False)[0]
        state = State(i + 1, 1, len(scheduler.timesteps), int(t), latents[:, :, latents.shape[2] // 2])
        context.util.sd_step_callback(state, "wan")
    return latents


class Listening:
    """In place of the host's util: what is believed at each step."""

    def __init__(self, **settings):
        self.beliefs, self.heard = X0Estimates(**settings), []
        self.util = self

    def sd_step_callback(self, state, base):
        self.heard.append((state.step, self.beliefs.of(state, caller(0))))


# What is believed.


def test_x0_of_an_euler_flow_model_is_exact_from_the_first_step_on(noise):
    truth, listening = [], Listening(denoised=False)
    euler(listening, noise, truth=truth)
    believed = [one for step, one in listening.heard if step > 0]
    assert [one.sigma for one in believed] == LEVELS[:-1]
    for one, x0 in zip(believed, truth, strict=True):
        torch.testing.assert_close(one.x0, x0, rtol=1e-4, atol=1e-5)


def test_it_is_exact_too_where_the_host_shows_no_step_0(noise):
    truth, listening = [], Listening(denoised=False)
    euler(listening, noise, first=False, truth=truth)
    for (_, one), x0 in zip(listening.heard, truth, strict=True):
        torch.testing.assert_close(one.x0, x0, rtol=1e-4, atol=1e-5)


def halves(context, x, *, packed=False, picture=None, velocity_known=True, truth=None):
    """As SD3, CogView4, Z-Image and Qwen-Image sample in half precision, in twenty steps."""
    sigmas = [3 * s / (1 + 2 * s) for s in torch.linspace(1, 0, 21).tolist()]
    latents = x.bfloat16()
    mask = torch.zeros_like(latents)
    mask[..., :4] = 1 if picture is not None else 0

    def show(step):
        context.util.sd_step_callback(State(step, 1, 20, 0, latents), "sd-3")

    show(0)
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        predicted = velocity(latents.float(), sigma).bfloat16()
        truth.append(latents.float() - sigma * predicted.float())
        noise_pred = patched(predicted) if packed else predicted
        if not velocity_known:
            noise_pred = -noise_pred
        latents = (latents.float() + (after - sigma) * predicted).bfloat16()
        if picture is not None:
            put_over = picture * (1 - after) + x * after
            latents = (latents * (1 - mask) + put_over * mask).bfloat16()
            truth[-1] = truth[-1] * (1 - mask) + picture * mask
        show(i + 1)


def patched(latents):
    """As Qwen-Image packs."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def worst(truth, listening, part=slice(None)):
    """The largest root mean square error of x0 at a step."""
    believed = [one.x0.float() for step, one in listening.heard if step > 0]
    errors = [(a - b)[..., part].pow(2).mean().sqrt() for a, b in zip(believed, truth, strict=True)]
    return float(max(errors))


@pytest.mark.parametrize("packed", [False, True])
def test_states_of_half_precision_do_not_make_x0_grainy(noise, packed):
    truth, listening = [], Listening(denoised=False)
    halves(listening, noise, packed=packed, truth=truth)
    assert worst(truth, listening) < 0.01


def test_a_prediction_that_does_not_explain_the_step_is_not_believed(noise):
    truth, listening = [], Listening(denoised=False)
    halves(listening, noise, velocity_known=False, truth=truth)
    assert 0.05 < worst(truth, listening) < 0.2  # what two states alone tell


def test_where_inpainting_puts_a_picture_over_it_x0_is_that_picture(noise):
    truth, listening = [], Listening(denoised=False)
    picture = torch.rand(noise.shape, generator=torch.Generator().manual_seed(9))
    halves(listening, noise, picture=picture, truth=truth)
    assert worst(truth, listening, slice(4, None)) < 0.01
    assert worst(truth, listening, slice(4)) < 0.2


def test_of_a_video_the_x0_of_the_middle_frame_is_believed():
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    truth, listening = [], Listening(denoised=False)
    x = torch.randn((1, 16, 5, 4, 6), generator=torch.Generator().manual_seed(2))
    wan_video(listening, x, scheduler, truth)
    for (_, one), x0 in zip(listening.heard, truth, strict=True):
        torch.testing.assert_close(one.x0, x0, rtol=1e-4, atol=1e-4)
    listening.beliefs.close()
    assert "step" not in vars(scheduler)


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_reports_nothing_is_believed_all_the_same():
    scheduler = diffusers.DPMSolverMultistepScheduler()
    listening = Listening(denoised=False)
    end = stable_diffusion(listening, torch.randn(1, 4, 6, 8), scheduler)
    believed = [one for step, one in listening.heard if step > 0]
    assert all(one.x0 is not None for one in believed)
    torch.testing.assert_close(believed[-1].x0, end)  # it ends where it believed
    torch.testing.assert_close(believed[-1].x0, scheduler.model_outputs[-1])


def test_a_loop_that_tells_nothing_has_no_x0(noise):
    listening, x = Listening(denoised=False), noise
    for i in range(3):
        x = x * 0.5
        listening.sd_step_callback(State(i + 1, 1, 3, 0, x), "sd-3")
    assert all(one.x0 is None for _, one in listening.heard)


# What is done with it.


@pytest.mark.parametrize(
    "settings", [InvokeOptions(), InvokeOptions(write_intermediates=True, sheet=True, animation="webp")]
)
def test_the_result_is_the_same(host, node, noise, settings):
    context = host()
    plain = euler(host(), noise)
    assert torch.equal(watched(lambda c: euler(c, noise), context, node, settings), plain)


def test_every_step_but_the_noise_is_shown_in_order_by_us(host, node, noise):
    context = host()
    watched(lambda c: euler(c, noise), context, node, InvokeOptions(write_intermediates=True))
    assert context.util.own == []  # the host's picture would be of noise
    assert context.util.signals[0] == ("Denoising", 0.0, None, None)
    shown = context.util.pictures
    assert [round(signal[1], 3) for signal in shown] == [round(i / 6, 3) for i in range(1, 7)]
    assert {signal[3] for signal in shown} == {(64, 48)}
    assert all(signal[2].mode == "RGB" for signal in shown)


def test_files_are_as_in_other_hosts(host, node, noise, tmp_path):
    settings = InvokeOptions(
        write_intermediates=True, filename_prefix="a/b", every_n_steps=4, sheet=True, animation="webp"
    )
    watched(lambda c: euler(c, noise), host(), node, settings)
    folder = tmp_path / "outputs" / "a" / "b_00001"
    manifest = read_manifest(folder)
    assert [step["index"] for step in manifest["steps"]] == [1, 5, 6]
    assert [step["show"] for step in manifest["steps"]] == ["denoised"] * 3
    assert [step["sigma"] for step in manifest["steps"]] == [1.0, 0.3, 0.1]
    assert (manifest["state"], manifest["space"], manifest["host"]["name"]) == ("finished", "sd3", "invokeai")
    assert manifest["sampler"] | {"seed": 3, "cfg": 4.0, "name": "euler"} == manifest["sampler"]
    there = {path.name for path in folder.iterdir()}
    steps = {"step_0001.png", "step_0005.png", "step_0006.png"}
    assert there == steps | {"run.json", "index.html", "sheet.png", "steps.webp"}


def test_the_next_run_gets_a_folder_of_its_own(host, node, noise, tmp_path):
    for _ in range(2):
        watched(lambda c: euler(c, noise), host(), node, KEPT)
    assert sorted(path.name for path in (tmp_path / "outputs" / "kept").iterdir()) == ["run_00001", "run_00002"]


def test_flux_without_a_batch_is_shown(host, node, noise):
    context = host()
    watched(lambda c: flux(c, noise), context, node, InvokeOptions(write_intermediates=True))
    assert [signal[3] for signal in context.util.pictures] == [(64, 48)] * 6


def test_a_node_that_takes_fewer_steps_than_it_said_has_its_last_one_kept(host, node, noise, tmp_path):
    def short(context):
        for step in (1, 2, 3):
            context.util.sd_step_callback(State(step, 2, 10, 0, noise, noise), "sd-3")

    watched(short, host(), node, InvokeOptions(write_intermediates=True, every_n_steps=2))
    manifest = read_manifest(tmp_path / "outputs" / "safelight" / "steps_00001")
    assert [step["index"] for step in manifest["steps"]] == [1, 3]


def test_when_cancelled_the_hosts_callback_ends_the_node(host, node, noise, tmp_path):
    context = host()

    def invoke(ours):
        for i in range(1, 10):
            context.util.canceled = i == 4
            ours.util.sd_step_callback(State(i, 1, 9, 0, noise, noise), "sd-3")

    with pytest.raises(CancelledError):
        watched(invoke, context, node, KEPT)
    manifest = read_manifest(tmp_path / "outputs" / "kept" / "run_00001")
    assert manifest["state"] == "interrupted"
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3]


def test_a_node_that_fails_fails_as_it_would(host, node, noise, tmp_path):
    def invoke(context):
        context.util.sd_step_callback(State(1, 1, 3, 0, noise, noise), "sd-3")
        raise ValueError("of the core node")

    with pytest.raises(ValueError, match="of the core node"):
        watched(invoke, host(), node, KEPT)
    manifest = read_manifest(tmp_path / "outputs" / "kept" / "run_00001")
    assert manifest["state"] == "failed"
    assert "the node failed: ValueError: of the core node" in manifest["notes"]


def test_latents_that_are_not_the_models_leave_the_hosts_own_preview(host, node):
    context = host()
    odd = torch.randn(1, 16, 2, 2, 2, 2)
    watched(
        lambda c: c.util.sd_step_callback(State(1, 1, 2, 0, odd, odd), "sd-3"),
        context,
        node,
        InvokeOptions(),
    )
    assert context.util.own == [(1, "sd-3")]
    assert context.util.pictures == []


def test_a_screen_that_fails_leaves_the_hosts_own_preview(host, node, noise):
    context = host(fails=True)

    def invoke(ours):
        for i in range(1, 200):  # more than may wait to be written: the worker has to have failed by then
            ours.util.sd_step_callback(State(i, 1, 200, 0, noise, noise), "sd-3")
            if context.util.own:
                return "done"
        return "never"

    result = watched(invoke, context, node, InvokeOptions(write_intermediates=True))
    assert result == "done"


def test_what_is_no_callback_is_the_hosts(host, node):
    assert watched(lambda c: c.util.something_else(), host(), node, InvokeOptions()) == "the host's"


def test_the_hosts_context_is_not_changed(host, node):
    context = host()
    util = context.util
    watched(lambda c: None, context, node, InvokeOptions())
    assert context.util is util


@pytest.mark.parametrize("prefix", ["../out", "/elsewhere/x", "", "a/../../x", "."])
def test_a_prefix_that_leads_out_of_the_outputs_folder_is_refused_before_the_node_runs(host, node, prefix):
    settings = InvokeOptions(write_intermediates=True, filename_prefix=prefix)
    with pytest.raises(SinkError, match="inside the output folder"):
        watched(lambda _: pytest.fail("it ran"), host(), node, settings)


def test_a_prefix_below_a_file_is_refused(host, node, tmp_path):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "taken").write_text("")
    settings = InvokeOptions(write_intermediates=True, filename_prefix="taken/x")
    with pytest.raises(SinkError, match="is a file"):
        watched(lambda _: pytest.fail("it ran"), host(), node, settings)


def test_a_decoder_that_is_gone_costs_a_note(host, node, noise, tmp_path):
    settings = InvokeOptions(write_intermediates=True, decoder="gone.safetensors")
    watched(lambda c: euler(c, noise), host(), node, settings)
    manifest = read_manifest(tmp_path / "outputs" / "safelight" / "steps_00001")
    assert "gone.safetensors" in manifest["notes"][0]
    assert len(manifest["steps"]) == 6


def test_a_png_has_the_graph_inside_as_the_hosts_own_images_have(host, node, noise, tmp_path):
    context = host()
    graph = SimpleNamespace(model_dump_json=lambda: json.dumps({"nodes": {}}))
    item = SimpleNamespace(session_id="s-1", session=SimpleNamespace(graph=graph), workflow=None)
    context._data = SimpleNamespace(queue_item=item)
    watched(lambda c: euler(c, noise), context, node, KEPT)
    folder = tmp_path / "outputs" / "kept" / "run_00001"
    picture = Image.open(folder / "step_0003.png")
    assert json.loads(picture.text["invokeai_graph"]) == {"nodes": {}}
    assert read_manifest(folder)["host"]["prompt_id"] == "s-1"


# Drafts.


def test_a_draft_is_what_the_decoder_makes(noise, tmp_path):
    picture = quick_decode.quick_decode(noise, tmp_path, base="flux", enlarge="off")
    again = quick_decode.quick_decode(noise[0], tmp_path, base=None, space="flux1")
    assert np.array_equal(np.asarray(picture), np.asarray(again))
    assert quick_decode.quick_decode(noise, tmp_path, base="flux", enlarge="nearest").size == (64, 48)


def test_a_draft_of_nobodys_latents_asks_whose_they_are(noise, tmp_path):
    with pytest.raises(SpaceError, match="no model is connected"):
        quick_decode.quick_decode(noise, tmp_path, base=None)


def test_finished_latents_of_flux2_are_drafted_with_the_numbers_of_its_vae(tmp_path):
    """InvokeAI's denoise node hands them on without the batch norm that they were sampled with."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKLFlux2(
            latent_channels=32,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=8,
        ).eval()
    vae.bn.running_mean.copy_(torch.linspace(-1, 1, 128))
    vae.bn.running_var.copy_(torch.linspace(1, 3, 128))
    sampled = torch.randn((1, 32, 6, 8), generator=torch.Generator().manual_seed(8))
    packed = diffusers.Flux2Pipeline._patchify_latents(sampled)
    std = (vae.bn.running_var + vae.bn.eps).sqrt()
    undone = packed * std.view(1, -1, 1, 1) + vae.bn.running_mean.view(1, -1, 1, 1)
    handed_on = diffusers.Flux2Pipeline._unpatchify_latents(undone)
    with pytest.raises(SpaceError, match="connect the VAE as well"):
        quick_decode.quick_decode(handed_on, tmp_path, base="flux2")
    picture = quick_decode.quick_decode(handed_on, tmp_path, base="flux2", vae=lambda: nullcontext(vae))
    expected = quick_decode.quick_decode(sampled, tmp_path, base=None, space="flux2")
    assert np.abs(np.asarray(picture, np.int16) - np.asarray(expected, np.int16)).max() <= 1


def test_the_base_is_of_what_is_connected():
    unet = SimpleNamespace(unet=SimpleNamespace(base=SimpleNamespace(value="sdxl")))
    transformer = SimpleNamespace(transformer=SimpleNamespace(base="sd-3"))
    assert quick_decode.base_of(None, transformer) == "sd-3"
    assert quick_decode.base_of(unet, None) == "sdxl"
    assert quick_decode.base_of(None, None) is None


# How it is written.


@pytest.mark.parametrize("path", sorted((ROOT / "nodes" / "invokeai").glob("*.py")), ids=lambda path: path.name)
def test_a_file_with_nodes_has_annotations_that_are_not_strings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    futures = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert futures == []


def test_only_the_rooms_of_invokeai_import_it():
    rooms = [init.parent for init in ROOT.glob("[a-z]*/__init__.py")]
    paths = [*ROOT.glob("*.py"), *(path for room in rooms for path in room.rglob("*.py"))]
    elsewhere = [path for path in paths if "invokeai" not in path.relative_to(ROOT).parts]
    assert len(elsewhere) > 100
    for path in elsewhere:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
        names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert not [name for name in names if name.split(".")[0] == "invokeai"], path


def test_no_family_is_named_twice():
    assert len({family.name for family in DENOISE_NODES}) == len(DENOISE_NODES)


@pytest.mark.parametrize(
    ("there", "is_invokeai"),
    [
        ([], False),
        (["invokeai.app.invocations"], True),
        (["comfy", "folder_paths"], False),
        (["comfy", "folder_paths", "invokeai.app.invocations"], False),  # installed beside ComfyUI, and imported
    ],
)
def test_whose_import_it_is(monkeypatch, there, is_invokeai):
    for name in ("comfy", "folder_paths"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in there:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    assert safelight._is_in_invokeai() is is_invokeai


def test_importing_the_package_where_there_is_no_host_registers_nothing():
    assert os.environ.get("INVOKEAI_ROOT") is None
    assert not hasattr(safelight, "nodes") or not hasattr(safelight.nodes, "invokeai")
