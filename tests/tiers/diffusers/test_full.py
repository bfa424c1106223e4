"""Pictures that the pipeline's own VAE decodes: the same as the pipeline's, and none if weights would be moved."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from safelight.hosts.diffusers import watch
from tiny_models import kl, unet
from tiny_pipelines import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore")
SD1 = FAMILIES["StableDiffusion"]


def decoded_by_vae(run):
    return [picture.decoder == "full" for picture in run.pictures]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_picture_is_the_image_of_the_pipeline(make, family, tmp_path):
    tiny, pipe = make(family)
    plain = np.asarray(tiny.run(pipe))
    with watch(pipe, tmp_path, screen="off", decoder="full", frames="animated") as run:
        result = np.asarray(tiny.run(pipe))
    assert np.array_equal(plain, result)
    last = run.pictures[-1]
    assert (last.decoder, run.notes) == ("full", [])
    frames = result if result.ndim == 5 else result[:, None]
    assert last.pixels.shape == frames.shape
    assert np.abs(last.pixels / 255 - frames).max() < 0.02
    assert decoded_by_vae(run)[:-1] == [False] * (len(run.pictures) - 1)
    assert run.manifest()["steps"][-1]["decoder"] == "full"


@pytest.mark.parametrize(
    ("every", "expected"),
    [(1, [True] * 6), (2, [False, True] * 3), (4, [False, False, False, True, False, True]), (0, [False] * 5 + [True])],
)
def test_the_vae_decodes_every_nth_picture_and_always_the_last(sd1, every, expected):
    with watch(sd1, screen="off", decoder="full", full_every_n_steps=every) as run:
        SD1.run(sd1, num_inference_steps=6)
    assert decoded_by_vae(run) == expected


def test_full_every_n_steps_counts_pictures_not_steps(sd1):
    with watch(sd1, screen="off", decoder="full", full_every_n_steps=2, every_n_steps=2) as run:
        SD1.run(sd1, num_inference_steps=8)
    assert [picture.index for picture in run.pictures] == [1, 3, 5, 7, 8]
    assert decoded_by_vae(run) == [False, True, False, True, True]


def test_each_picture_of_a_batch_is_the_image_of_the_pipeline(sd1):
    with watch(sd1, screen="off", decoder="full") as run:
        result = SD1.run(sd1, num_images_per_prompt=3)
    assert np.abs(run.pictures[-1].pixels[:, 0] / 255 - result).max() < 0.02


def test_the_first_frame_of_a_video_is_decoded_alone(make):
    tiny, pipe = make("Wan")
    with watch(pipe, screen="off", decoder="full") as run:
        frames = np.asarray(tiny.run(pipe))
    (first,) = run.pictures[-1].pixels[0]
    assert np.abs(first / 255 - frames[0, 0]).max() < 0.02
    assert run.pictures[-1].fps is None


def test_random_numbers_of_the_vae_do_not_change_those_of_the_sampler(sd1, monkeypatch):
    decode = sd1.vae.decode
    monkeypatch.setattr(sd1.vae, "decode", lambda *args, **kwargs: (torch.rand(5), decode(*args, **kwargs))[1])
    before = torch.get_rng_state()
    with watch(sd1, screen="off", decoder="full", full_every_n_steps=1) as run:
        SD1.run(sd1, output_type="latent")
    assert torch.equal(before, torch.get_rng_state())
    assert all(decoded_by_vae(run))


def test_a_vae_that_fails_is_not_used_again_and_noted_once(sd1, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of order")

    monkeypatch.setattr(sd1.vae, "decode", fail)
    with watch(sd1, screen="off", decoder="full", full_every_n_steps=1) as run:
        SD1.run(sd1, output_type="latent")
    assert decoded_by_vae(run) == [False] * len(run.pictures)
    assert run.notes == ["step 1: stopped using the VAE: RuntimeError: out of order"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda patch, pipe: patch.setattr(pipe.vae, "_hf_hook", object(), raising=False), "offloads its models"),
        (lambda patch, pipe: patch.setattr(type(pipe.vae), "device", torch.device("meta")), "the VAE is on meta"),
        (lambda patch, pipe: patch.setattr(type(pipe.vae), "dtype", torch.float16), "decodes to black in float16"),
        (
            lambda patch, pipe: patch.setattr(pipe.vae, "_internal_dict", _with_timestep(pipe.vae)),
            "denoises while it decodes",
        ),
    ],
)
def test_a_vae_that_would_be_moved_or_cannot_decode_is_skipped(sd1, monkeypatch, change, reason):
    with monkeypatch.context() as patch:
        change(patch, sd1)
        with watch(sd1, screen="off", decoder="full") as run:
            SD1.run(sd1, output_type="latent")
    assert decoded_by_vae(run) == [False] * len(run.pictures)
    (note,) = run.notes
    assert note.startswith("VAE preview skipped: ")
    assert reason in note


def _group_offload(pipe, kind):
    pipe.vae.enable_group_offload("cpu", offload_type=kind, **({"num_blocks_per_group": 1} if "block" in kind else {}))


def _sequential_offload(pipe):
    for module in (*pipe.vae.decoder.modules(), *pipe.vae.post_quant_conv.modules()):
        module._hf_hook = object()  # accelerate's mark on the modules that have weights


def _cast_layers(pipe):
    pipe.vae.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def _spread(pipe):
    pipe.vae.hf_device_map = {"encoder": "cpu", "decoder": 0}


def _quantize(pipe):
    pipe.vae.post_quant_conv.weight = torch.nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False)


def _quantize_by_subclass(pipe):
    class Quantized(torch.nn.Parameter):
        pass

    pipe.vae.post_quant_conv.weight = Quantized(pipe.vae.post_quant_conv.weight.data)


def _mark_quantized(pipe):
    pipe.vae.hf_quantizer = object()


def _move_a_part(pipe):
    pipe.vae.decoder.conv_out.to("meta")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pipe: _group_offload(pipe, "leaf_level"), "has hooks (group_offloading)"),
        (lambda pipe: _group_offload(pipe, "block_level"), "has hooks (group_offloading)"),
        (_cast_layers, "has hooks (layerwise_casting)"),
        (_sequential_offload, "offloads its models"),
        (_spread, "a device_map spreads the VAE over 0, cpu"),
        (_quantize, "is quantized"),
        (_quantize_by_subclass, "is quantized"),
        (_mark_quantized, "is quantized"),
        (_move_a_part, "a part of the VAE is on meta"),
    ],
)
def test_a_vae_whose_weights_move_or_are_converted_is_not_called(sd1, monkeypatch, change, reason):
    pipe = diffusers.StableDiffusionPipeline(**{**sd1.components, "vae": kl(4, 0.18215)}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    change(pipe)
    onloads = []
    onload = ModuleGroup.onload_
    monkeypatch.setattr(ModuleGroup, "onload_", lambda group: (onloads.append(group), onload(group)))
    monkeypatch.setattr(pipe.vae, "decode", lambda *_, **__: pytest.fail("the VAE decoded"))
    with watch(pipe, screen="off", decoder="full", full_every_n_steps=1) as run:
        SD1.run(pipe, output_type="latent")
    assert onloads == []
    (note,) = run.notes
    assert note.startswith("VAE preview skipped: ")
    assert reason in note


class Offloading:
    """Counts what accelerate moves."""

    def __init__(self, accelerate, monkeypatch):
        self.accelerate, self.moved = accelerate, 0
        self._count(monkeypatch, accelerate.hooks, "set_module_tensor_to_device")
        self._count(monkeypatch, accelerate.hooks.CpuOffload, "pre_forward")

    def _count(self, monkeypatch, owner, name):
        function = getattr(owner, name)

        def counted(*args, **kwargs):
            self.moved += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    def of_models(self, pipe, _):
        """As `enable_model_cpu_offload`: the VAE's hook moves the UNet away."""
        _, hook = self.accelerate.cpu_offload_with_hook(pipe.unet, CPU)
        self.accelerate.cpu_offload_with_hook(pipe.vae, CPU, prev_module_hook=hook)

    def sequential(self, pipe, _):
        """As `enable_sequential_cpu_offload`."""
        for model in (pipe.unet, pipe.vae):
            self.accelerate.cpu_offload(model, CPU)

    def to_disk(self, pipe, folder):
        places = {"encoder": "disk", "decoder": "disk", "quant_conv": "cpu", "post_quant_conv": "cpu"}
        self.accelerate.dispatch_model(pipe.vae, places, main_device="cpu", offload_dir=folder)

    def to_one_device(self, pipe, _):
        """As a device_map that puts all of the VAE on one device."""
        self.accelerate.dispatch_model(pipe.vae, {"": "cpu"}, force_hooks=True)

    def by_parts_to_one_device(self, pipe, _):
        places = dict.fromkeys(("encoder", "decoder", "quant_conv", "post_quant_conv"), "cpu")
        self.accelerate.dispatch_model(pipe.vae, places, force_hooks=True)


CPU = torch.device("cpu")


@pytest.fixture
def offloading(monkeypatch):
    return Offloading(pytest.importorskip("accelerate"), monkeypatch)


@pytest.mark.parametrize(
    ("how", "moves", "decodes"),
    [
        ("of_models", True, False),
        ("sequential", True, False),
        ("to_disk", True, False),
        ("to_one_device", False, True),
        ("by_parts_to_one_device", False, True),
    ],
)
def test_full_moves_no_weights_of_accelerate(sd1, tmp_path, offloading, how, moves, decodes):
    """With accelerate's own hooks. A VAE whose weights stay where they are decodes."""
    parts = {**sd1.components, "vae": kl(4, 0.18215), "unet": unet()}
    pipe = diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    getattr(offloading, how)(pipe, tmp_path)
    offloading.moved = 0
    plain = SD1.run(pipe)
    alone, offloading.moved = offloading.moved, 0
    with watch(pipe, screen="off", decoder="full", full_every_n_steps=1) as run:
        result = SD1.run(pipe)
    assert np.array_equal(plain, result)
    assert (offloading.moved, alone > 0) == (alone, moves)
    assert set(decoded_by_vae(run)) == {decodes}
    assert len(run.notes) == (not decodes)


def _with_timestep(vae):
    return type(vae.config)({**vae.config, "timestep_conditioning": True})


def test_the_middle_frame_of_a_video_is_not_decoded_by_the_vae(make):
    tiny, pipe = make("Wan")
    with watch(pipe, screen="off", decoder="full", frames="middle") as run:
        tiny.run(pipe)
    assert decoded_by_vae(run) == [False] * len(run.pictures)
    assert run.notes == ["VAE preview skipped: a VAE decodes no middle frame alone; set frames to first or animated"]


def test_full_with_noisy_latents_is_refused(sd1):
    with (
        pytest.raises(ValueError, match="decodes finished latents, not noise: set show to denoised"),
        watch(sd1, decoder="full", show="noisy"),
    ):
        pytest.fail("watch() accepted the options")
