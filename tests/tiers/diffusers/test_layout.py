"""Latents of schedulers are rearranged as the pipelines themselves do it."""

import diffusers
import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import LatentsError
from safelight.hosts.diffusers.call_arguments import CallArguments, call_arguments
from safelight.hosts.diffusers.latent_layout import LatentLayout, axis_groups, nearest_grid, patch_side
from safelight.hosts.diffusers.pipeline_families import (
    COMMON_AXES,
    DEFAULT_FAMILY,
    FAMILIES,
    ROWS,
    PipelineFamily,
    family_named,
)


def no_note(*_):
    pytest.fail("unexpected note")


def layout(pipeline, channels, stride=1, note=no_note, **arguments):
    return LatentLayout(family_named(pipeline), CallArguments(**arguments), channels, stride, note)


def numbers(*shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)


def test_patches_of_flux_tokens_are_unpacked():
    latents = numbers(2, 16, 6, 10)
    # diffusers 0.42, FluxPipeline._pack_latents
    packed = latents.view(2, 16, 3, 2, 5, 2).permute(0, 2, 4, 1, 3, 5).reshape(2, 15, 64)
    plain = layout("FluxPipeline", 16, height=96, width=160).rearrange(packed)
    assert torch.equal(plain, latents.unsqueeze(2))


def test_patches_of_ideogram_tokens_are_unpacked_in_its_own_order():
    packed = numbers(2, 15, 128)
    # diffusers 0.42, Ideogram4Pipeline.__call__
    z = packed.view(2, 3, 5, 2, 2, 32).permute(0, 5, 1, 3, 2, 4).reshape(2, 32, 6, 10)
    plain = layout("Ideogram4Pipeline", 32, height=96, width=160).rearrange(packed)
    assert torch.equal(plain, z.unsqueeze(2))


@pytest.mark.parametrize(
    ("pipeline", "extra_first"), [("LTXConditionPipeline", True), ("LTX2ConditionPipeline", False)]
)
def test_extra_tokens_are_dropped(pipeline, extra_first):
    video, extra = numbers(1, 2 * 3 * 5, 8), torch.full((1, 7, 8), -1.0)
    packed = torch.cat([extra, video] if extra_first else [video, extra], dim=1)
    size = {"latent_frames": 2, "latent_height": 3, "latent_width": 5}
    plain = layout(pipeline, 8, **size).rearrange(packed)
    assert torch.equal(plain, video.view(1, 2, 3, 5, 8).permute(0, 4, 1, 2, 3))


def test_tokens_of_key_frames_after_the_video_are_dropped():
    """LTX2DFRPipeline states the size of a frame and the frames of the video, which its VAE compresses by eight."""
    video, key_frames = numbers(1, 3 * 15, 8), torch.full((1, 2 * 15, 8), -1.0)
    plain = layout("LTX2DFRPipeline", 8, stride=8, frames=17, latent_height=3, latent_width=5)
    expected = video.view(1, 3, 3, 5, 8).permute(0, 4, 1, 2, 3)
    assert torch.equal(plain.rearrange(torch.cat([video, key_frames], 1)), expected)


def test_the_number_of_tokens_decides_the_frames_of_a_window_of_a_long_video():
    plain = layout("LTXI2VLongMultiPromptPipeline", 8, latent_height=3, latent_width=5).rearrange(numbers(1, 60, 8))
    assert plain.shape == (1, 8, 4, 3, 5)


@pytest.mark.parametrize("pipeline", ["TextToVideoSDPipeline", "VideoToVideoSDPipeline", "I2VGenXLPipeline"])
def test_frames_that_are_folded_into_the_batch_are_unfolded(pipeline):
    video = numbers(2, 4, 5, 6, 8)
    # diffusers 0.42, TextToVideoSDPipeline.__call__
    folded = video.permute(0, 2, 1, 3, 4).reshape(2 * 5, 4, 6, 8)
    assert torch.equal(layout(pipeline, 4, frames=5).rearrange(folded), video)
    assert layout(pipeline, 4).rearrange(folded).shape == (1, 4, 10, 6, 8), "without their number, all are one video"


def test_frames_in_the_batch_of_an_unknown_pipeline_are_unfolded_if_their_number_fits():
    video = numbers(2, 4, 5, 6, 8)
    folded = video.permute(0, 2, 1, 3, 4).reshape(2 * 5, 4, 6, 8)
    assert torch.equal(layout("OddVideoPipeline", 4, frames=5).rearrange(folded), video)
    for frames in (None, 1, 3, 20):
        assert torch.equal(layout("OddVideoPipeline", 4, frames=frames).rearrange(folded), folded)


def test_layers_are_shown_as_frames_after_the_complete_picture():
    plain = layout("QwenImageLayeredPipeline", 16, height=96, width=160, layers=3).rearrange(numbers(1, 4 * 15, 64))
    assert plain.shape == (1, 16, 4, 6, 10)


def test_a_video_of_tokens_has_the_latent_frames_of_its_vae():
    plain = layout("FluxPipeline", 16, stride=4, height=48, width=80, frames=9).rearrange(numbers(1, 3 * 15, 16))
    assert plain.shape == (1, 16, 3, 3, 5)


@pytest.mark.parametrize(
    ("pipeline", "shape", "expected"),
    [
        ("StableDiffusionPipeline", (2, 4, 6, 8), (2, 4, 6, 8)),
        ("WanPipeline", (1, 16, 3, 6, 8), (1, 16, 3, 6, 8)),
        ("CogVideoXPipeline", (1, 3, 16, 6, 8), (1, 16, 3, 6, 8)),
        ("AnyFlowPipeline", (1, 3, 16, 6, 8), (1, 16, 3, 6, 8)),
        ("StableVideoDiffusionPipeline", (1, 3, 4, 6, 8), (1, 4, 3, 6, 8)),
        ("Kandinsky5T2VPipeline", (1, 3, 6, 8, 16), (1, 16, 3, 6, 8)),
        ("JoyImageEditPipeline", (1, 1, 16, 3, 6, 8), (1, 16, 3, 6, 8)),
    ],
)
def test_axes_are_reordered_without_a_copy(pipeline, shape, expected):
    latents = numbers(*shape)
    plain = layout(pipeline, 16).rearrange(latents)
    assert plain.shape == expected
    assert plain.data_ptr() == latents.data_ptr()
    assert set(plain.flatten().tolist()) == set(latents.flatten().tolist())


def test_of_given_pictures_and_the_sampled_one_the_last_is_shown():
    latents = numbers(1, 2, 16, 1, 6, 8)  # a reference and the image of JoyImageEditPipeline
    assert torch.equal(layout("JoyImageEditPipeline", 16).rearrange(latents), latents[:, 1])


def test_the_patches_of_reference_pictures_are_dropped():
    image, reference = numbers(1, 16, 6, 10), torch.full((1, 7, 16, 1, 2, 2), -1.0)
    # diffusers 0.42, JoyImageEditPlusPipeline.__call__, the other way around
    patches = image.view(1, 16, 3, 2, 5, 2).permute(0, 2, 4, 1, 3, 5).reshape(1, 15, 16, 1, 2, 2)
    plain = layout("JoyImageEditPlusPipeline", 16, latent_frames=1, latent_height=3, latent_width=5)
    assert torch.equal(plain.rearrange(torch.cat([patches, reference], 1)), image.unsqueeze(2))


def test_pictures_side_by_side_in_the_channels_are_frames():
    pictures = numbers(1, 3, 4, 6, 8)
    plain = layout("MarigoldIntrinsicsPipeline", 4).rearrange(pictures.flatten(1, 2))
    assert torch.equal(plain, pictures.transpose(1, 2))


@pytest.mark.parametrize("shape", [(1, 768), (1, 2, 3, 4, 5, 6, 7)])
def test_an_unknown_number_of_axes_is_an_error(shape):
    with pytest.raises(LatentsError, match=r"expected latents B \(T H W\) \(C p q\), B C H W, B C T H W, got"):
        layout("FluxPipeline", 16).rearrange(numbers(*shape))


def test_an_unknown_size_is_guessed_and_noted_once():
    notes = []
    unsized = layout("FluxPipeline", 16, note=notes.append)
    assert unsized.rearrange(numbers(1, 16, 64)).shape == (1, 16, 1, 8, 8)
    assert unsized.rearrange(numbers(1, 15, 64)).shape[-2:] in {(6, 10), (10, 6)}
    assert notes == ["the height and width of the picture are not stated: it is shown as a square"]


@pytest.mark.parametrize("unit", [8, 16, 32])
def test_the_grid_of_every_size_is_found_for_every_token_size(unit):
    sizes = range(256, 1600, 56)
    for height, width in ((h, w) for h in sizes for w in sizes):
        grid = height // unit, width // unit
        assert nearest_grid(grid[0] * grid[1], height / width) == grid


@pytest.mark.parametrize(("packed", "channels", "side"), [(64, 16, 2), (16, 16, 1), (144, 16, 3), (48, 16, 1)])
def test_a_patch_is_a_square_or_a_single_pixel(packed, channels, side):
    assert patch_side(packed, channels) == side
    assert patch_side(packed, None) == 1


def test_the_longest_matching_name_decides_the_family():
    assert family_named("StableDiffusionPipeline").space == "sd1"
    assert family_named("StableDiffusionXLImg2ImgPipeline").space == "sdxl"
    assert family_named("Flux2KleinPipeline").space == "flux2"
    assert family_named("SanaVideoPipeline").space is None
    assert family_named("SomethingElse") is DEFAULT_FAMILY


def test_every_row_of_the_families_is_valid():
    names = [name for row in FAMILIES for name in row.pipelines]
    assert len(names) == len(set(names))
    for row in FAMILIES:
        assert row.space is None or row.space in SPACES
        for axes in (*COMMON_AXES, *row.axes):
            letters = [letter for group in axis_groups(axes) for letter in group]
            assert {"C", "H", "W"} <= set(letters) <= set("BCTHWpq1")
            assert "B" in letters or axes == ROWS


def test_the_names_in_the_rows_are_names_of_pipelines():
    known = dir(diffusers)
    missing = [
        name for row in FAMILIES for name in row.pipelines if not any(pipeline.startswith(name) for pipeline in known)
    ]
    if tuple(map(int, diffusers.__version__.split(".")[:2])) < (0, 42):
        pytest.skip(f"diffusers {diffusers.__version__} is older than the table")
    assert not missing


def test_arguments_are_read_from_the_variables_of_the_call():
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


def test_sizes_with_other_names_are_read_from_the_variables_of_the_call():
    class Pipe:
        def __call__(self):
            calculated_height, calculated_width = 32, 48
            shape_list = [[(1, 2, 3), (1, 8, 8)]]
            assert (calculated_height, calculated_width, len(shape_list)) == (32, 48, 1)
            return call_arguments(self)

    assert Pipe()() == CallArguments(height=32, width=48, latent_frames=1, latent_height=2, latent_width=3)


def test_the_size_in_tokens_follows_from_the_sides_of_the_pipeline():
    class LTX2Pipe:
        vae_spatial_compression_ratio, transformer_spatial_patch_size = 32, 1

        def __call__(self, height, width):
            return call_arguments(self)

    assert LTX2Pipe()(64, 96) == CallArguments(height=64, width=96, latent_height=2, latent_width=3)


def test_tokens_without_a_batch_are_those_of_one_item():
    row = PipelineFamily(pipelines=("X",), axes=(ROWS,))
    latents = torch.arange(2 * 3 * 4 * 2.0).view(1, 2, 1, 6, 4)  # C T H W
    rows = latents[0].view(2, 1, 3, 2, 2, 2).permute(1, 2, 4, 0, 3, 5).reshape(6, 8)
    layout = LatentLayout(row, CallArguments(height=6, width=4), 2, 1, [].append)
    assert torch.equal(layout.rearrange(rows), latents)
