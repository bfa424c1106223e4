"""What schedulers step, laid out, beside the pipelines' own lines that do it."""

import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import LatentsError
from safelight.hosts.diffusers.call_arguments import CallArguments, call_arguments
from safelight.hosts.diffusers.facts import evidence_of, space_of
from safelight.hosts.diffusers.latent_layout import LatentLayout, groups_of, nearest, patch_of
from safelight.hosts.diffusers.pipeline_families import ANY, FAMILIES, PLAIN, family_of


def told(*_):
    pytest.fail("nothing is to be told")


def layout(pipeline, channels, stride=1, tell=told, **asked):
    return LatentLayout(family_of(pipeline), CallArguments(**asked), channels, stride, tell)


def numbers(*shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)


def test_flux_packs_patches_as_channels_of_tokens():
    latents = numbers(2, 16, 6, 10)
    # diffusers 0.42, FluxPipeline._pack_latents
    packed = latents.view(2, 16, 3, 2, 5, 2).permute(0, 2, 4, 1, 3, 5).reshape(2, 15, 64)
    plain = layout("FluxPipeline", 16, height=96, width=160).plain(packed)
    assert torch.equal(plain, latents.unsqueeze(2))


def test_ideogram_packs_them_the_other_way_round():
    packed = numbers(2, 15, 128)
    # diffusers 0.42, Ideogram4Pipeline.__call__
    z = packed.view(2, 3, 5, 2, 2, 32).permute(0, 5, 1, 3, 2, 4).reshape(2, 32, 6, 10)
    plain = layout("Ideogram4Pipeline", 32, height=96, width=160).plain(packed)
    assert torch.equal(plain, z.unsqueeze(2))


@pytest.mark.parametrize(
    ("pipeline", "guests_first"), [("LTXConditionPipeline", True), ("LTX2ConditionPipeline", False)]
)
def test_tokens_that_are_no_part_of_the_video_are_left_out(pipeline, guests_first):
    video, guests = numbers(1, 2 * 3 * 5, 8), torch.full((1, 7, 8), -1.0)
    packed = torch.cat([guests, video] if guests_first else [video, guests], dim=1)
    asked = {"latent_frames": 2, "latent_height": 3, "latent_width": 5}
    plain = layout(pipeline, 8, **asked).plain(packed)
    assert torch.equal(plain, video.view(1, 2, 3, 5, 8).permute(0, 4, 1, 2, 3))


def test_a_window_of_a_long_video_has_as_many_frames_as_there_are_tokens():
    plain = layout("LTXI2VLongMultiPromptPipeline", 8, latent_height=3, latent_width=5).plain(numbers(1, 60, 8))
    assert plain.shape == (1, 8, 4, 3, 5)


def test_layers_are_frames_the_first_of_which_is_all_of_them():
    plain = layout("QwenImageLayeredPipeline", 16, height=96, width=160, layers=3).plain(numbers(1, 4 * 15, 64))
    assert plain.shape == (1, 16, 4, 6, 10)


def test_a_video_of_tokens_has_the_frames_of_its_vae():
    plain = layout("FluxPipeline", 16, stride=4, height=48, width=80, frames=9).plain(numbers(1, 3 * 15, 16))
    assert plain.shape == (1, 16, 3, 3, 5)


@pytest.mark.parametrize(
    ("pipeline", "shape", "expected"),
    [
        ("StableDiffusionPipeline", (2, 4, 6, 8), (2, 4, 6, 8)),
        ("WanPipeline", (1, 16, 3, 6, 8), (1, 16, 3, 6, 8)),
        ("CogVideoXPipeline", (1, 3, 16, 6, 8), (1, 16, 3, 6, 8)),
        ("StableVideoDiffusionPipeline", (1, 3, 4, 6, 8), (1, 4, 3, 6, 8)),
        ("Kandinsky5T2VPipeline", (1, 3, 6, 8, 16), (1, 16, 3, 6, 8)),
        ("JoyImageEditPipeline", (1, 1, 16, 3, 6, 8), (1, 16, 3, 6, 8)),
    ],
)
def test_axes_come_in_order_without_a_copy(pipeline, shape, expected):
    latents = numbers(*shape)
    plain = layout(pipeline, 16).plain(latents)
    assert plain.shape == expected
    assert plain.data_ptr() == latents.data_ptr()
    assert set(plain.flatten().tolist()) == set(latents.flatten().tolist())


@pytest.mark.parametrize("shape", [(1, 768), (1, 2, 3, 4, 5, 6, 7)])
def test_what_nobody_knows_is_told(shape):
    with pytest.raises(LatentsError, match=r"expected latents B \(T H W\) \(C p q\), B C H W, B C T H W, got"):
        layout("FluxPipeline", 16).plain(numbers(*shape))


def test_a_size_that_nobody_tells_is_guessed_and_told_of_once():
    notes = []
    one = layout("FluxPipeline", 16, tell=notes.append)
    assert one.plain(numbers(1, 16, 64)).shape == (1, 16, 1, 8, 8)
    assert one.plain(numbers(1, 15, 64)).shape[-2:] in {(6, 10), (10, 6)}
    assert notes == ["the pipeline does not say how high and how wide its picture is: it is shown as if square"]


@pytest.mark.parametrize("unit", [8, 16, 32])
def test_every_size_is_found_from_its_tokens_whatever_a_token_is(unit):
    sizes = range(256, 1600, 56)
    for height, width in ((h, w) for h in sizes for w in sizes):
        grid = height // unit, width // unit
        assert nearest(grid[0] * grid[1], height / width) == grid


@pytest.mark.parametrize(("packed", "channels", "side"), [(64, 16, 2), (16, 16, 1), (144, 16, 3), (48, 16, 1)])
def test_a_patch_is_a_square_or_none(packed, channels, side):
    assert patch_of(packed, channels) == side
    assert patch_of(packed, None) == 1


def test_the_longest_name_that_fits_is_the_familys():
    assert family_of("StableDiffusionPipeline").space == "sd1"
    assert family_of("StableDiffusionXLImg2ImgPipeline").space == "sdxl"
    assert family_of("Flux2KleinPipeline").space == "flux2"
    assert family_of("SanaVideoPipeline").space is None
    assert family_of("SomethingElse") is ANY


def test_every_row_is_sound():
    names = [name for row in FAMILIES for name in row.pipelines]
    assert len(names) == len(set(names))
    for row in FAMILIES:
        assert row.space is None or row.space in SPACES
        for axes in (*PLAIN, *row.axes):
            letters = [letter for group in groups_of(axes) for letter in group]
            assert {"B", "C", "H", "W"} <= set(letters) <= set("BCTHWpq1")


def test_the_names_of_the_rows_are_those_of_pipelines():
    import diffusers

    known = dir(diffusers)
    missing = [name for row in FAMILIES for name in row.pipelines if not any(one.startswith(name) for one in known)]
    if missing:  # an older diffusers; of a newer one the rows are to be looked through
        pytest.skip(f"diffusers {diffusers.__version__} has no {', '.join(missing)}")


def test_a_call_is_read_from_the_pipelines_own_variables():
    class Pipe:
        def __call__(self, height, width, num_frames=None, prompt="a cat", guidance_scale=2.5, layers=None):
            timesteps = torch.arange(7)
            generator = [torch.Generator().manual_seed(9), torch.Generator()]
            assert len(timesteps) == 7
            assert len(generator) == 2
            return self.deep()

        def deep(self):
            return call_arguments(self)

    call = Pipe()(32, 48, num_frames=9)
    assert call == CallArguments(height=32, width=48, frames=9, timesteps=7, seed=9, cfg=2.5, prompt="a cat")
    assert Pipe()(None, "wide") == CallArguments(timesteps=7, seed=9, cfg=2.5, prompt="a cat")
    assert call_arguments(Pipe()) == CallArguments()


class Config(dict):
    __getattr__ = dict.__getitem__


def pipe_of(name, vae=None, **config):
    autoencoder = None if vae is None else type(vae, (), {"config": Config(config)})()
    return type(name, (), {"vae": autoencoder})()


@pytest.mark.parametrize(
    ("pipe", "channels", "space"),
    [
        (pipe_of("StableDiffusionPipeline", "AutoencoderKL", latent_channels=4, scaling_factor=0.18215), 4, "sd1"),
        (pipe_of("PixArtSigmaPipeline", "AutoencoderKL", latent_channels=4, scaling_factor=0.13025), 4, "sdxl"),
        (pipe_of("CogView4Pipeline", "AutoencoderKL", latent_channels=16, scaling_factor=1.0), 16, "cogview4"),
        (pipe_of("WanPipeline", "AutoencoderKLWan", z_dim=16), 16, "wan21"),
        (pipe_of("WanPipeline", "AutoencoderKLWan", z_dim=48), 48, "wan22"),
        (pipe_of("CosmosPipeline", "AutoencoderKLWan", z_dim=16), None, "wan21"),
        (pipe_of("CogVideoXPipeline", "AutoencoderKLCogVideoX", z_dim=16, scaling_factor=0.7), 16, "cogvideox15"),
        (pipe_of("FluxPipeline", "AutoencoderTiny", latent_channels=16, scaling_factor=1.0), None, "flux1"),
        (pipe_of("HunyuanVideo15Pipeline"), None, "hunyuan_video15"),
        (pipe_of("DDIMPipeline"), 3, "pixels"),
        (pipe_of("DDIMPipeline"), 5, "unknown"),
    ],
)
def test_the_vae_tells_the_space_and_else_the_pipeline(pipe, channels, space):
    name = type(pipe).__name__
    assert space_of(pipe, family_of(name), evidence_of(pipe, SPACES, channels), SPACES).name == space
