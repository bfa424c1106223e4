"""Tests the rows of latent spaces, the table, and the conversion between the VAE's values and model space."""

import importlib
import importlib.metadata
import inspect
import math

import pytest
import torch
from safelight.decoders.latents.identify import Evidence, identify
from safelight.decoders.latents.layouts import LAYOUTS
from safelight.decoders.latents.space import AUDIO, IMAGE, VIDEO, LatentSpace, Spaces
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import LatentsError, SpaceError, UnknownSpaceError

from ... import older

ALL = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)


def vae_latents(space, seed=0):
    trailing = {AUDIO: (6,), IMAGE: (3, 4), VIDEO: (2, 3, 4)}[space.dims]
    return torch.randn(2, space.channels, *trailing, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def row(**changes):
    return LatentSpace(**{"name": "x", "title": "X", "channels": 4, "source": "here"} | changes)


# A row


def test_a_row_without_a_source_is_refused():
    with pytest.raises(ValueError, match="latent space 'x' needs a source"):
        row(source="")
    with pytest.raises(TypeError, match="source"):
        LatentSpace(name="x", title="X", channels=4)


def test_a_row_with_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match=r"expected a layout among plain, patched, .*, got 'heap'"):
        row(layout="heap")


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_row_whose_mean_or_std_does_not_match_its_channels_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} has 3 values for 4 channels"):
        row(**{name: (1.0, 2.0, 3.0)})


@pytest.mark.parametrize("fps", [0, -24, math.inf, math.nan, 1e9, "24"])
def test_a_row_with_an_invalid_frame_rate_is_refused(fps):
    with pytest.raises(ValueError, match="expected fps above 0 up to 1000"):
        row(fps=fps)


def test_only_videos_have_a_frame_rate():
    assert {space.dims for space in SPACES if space.fps is not None} == {VIDEO}
    assert row(fps=12.5).facts()["fps"] == 12.5


def test_the_causal_flag_of_a_row_is_stored_and_must_be_a_bool():
    causal = row(dims=VIDEO, frame_stride=4, causal=True)
    assert causal.facts()["causal"] is True
    assert LatentSpace.from_facts(causal.facts()) == causal
    with pytest.raises(ValueError, match="expected causal as true or false, got 'yes'"):
        row(causal="yes")


def test_only_videos_with_a_frame_stride_have_a_causal_vae():
    causal = {space.name for space in SPACES if space.causal}
    assert all(SPACES[name].dims == VIDEO and SPACES[name].frame_stride > 1 for name in causal)
    assert causal >= {"wan21", "wan22", "hunyuan_video", "cogvideox", "cosmos1", "ltxv", "ltx2", "minimax_h3"}
    assert "allegro" not in causal, "its VAE sees the frames on both sides"


def test_a_row_cannot_be_changed():
    with pytest.raises(AttributeError):
        row().scale = 2.0


# Model space and the VAE's values


@ALL
def test_model_space_follows_the_formula(space):
    latents = vae_latents(space)
    model = space.to_model(latents)
    for c in range(space.channels):
        mean = space.mean[c] if space.mean else 0.0
        std = space.std[c] if space.std else 1.0
        expected = (latents[:, c] - space.shift - mean) * space.scale / std
        assert torch.allclose(model[:, c], expected, rtol=1e-12, atol=1e-12)


@ALL
def test_to_vae_undoes_to_model(space):
    latents = vae_latents(space)
    assert torch.allclose(space.to_vae(space.to_model(latents)), latents, rtol=1e-12, atol=1e-12)
    assert torch.allclose(space.to_model(space.to_vae(latents)), latents, rtol=1e-12, atol=1e-12)


@ALL
def test_conversions_do_not_write_to_their_input(space):
    latents = vae_latents(space)
    before, version = latents.clone(), latents._version
    space.to_model(latents)
    space.to_vae(latents)
    assert torch.equal(latents, before)
    assert latents._version == version


def test_half_precision_stays_half_precision():
    latents = vae_latents(SPACES["wan21"]).to(torch.bfloat16)
    assert SPACES["wan21"].to_model(latents).dtype == torch.bfloat16


# The sampler's tensor


def sampled(space):
    """Returns a tensor with the shape of the sampler's tensor in this space."""
    c = space.packed_channels
    return torch.randn(
        {
            "plain": (1, space.channels, 2, 3, 4) if space.dims == VIDEO else (1, space.channels, 3, 4),
            "patched": (1, c, 3, 4),
            "frame_pairs": (1, c, 2, 3, 4),
            "sequence": (1, c, 9),
            "bands": (1, c, 16, 9),
            "tokens": (1, 9, c),
        }[space.layout]
    )


@ALL
def test_a_sampler_tensor_unpacks_to_five_axes(space):
    bands = 16 if space.layout == "bands" else 1
    out = space.unpack(sampled(space))
    assert out.ndim == 5
    assert out.shape[1] == space.channels * bands
    if space.dims == AUDIO:
        assert out.shape[2:] == (1, 1, 9)
    if space.dims == IMAGE:
        assert out.shape[2] == 1


@ALL
def test_the_error_for_a_tensor_of_another_space_names_the_space(space):
    wrong = torch.zeros(
        *(5 if size in (space.channels, space.packed_channels) else size for size in sampled(space).shape)
    )
    with pytest.raises(
        LatentsError, match=r"latents of .*: expected \[.*\] with C = \d+, got \[.*\]\. Choose the latent space"
    ):
        space.unpack(wrong)


def test_the_error_has_the_title_and_the_name_of_the_space():
    with pytest.raises(LatentsError, match=r"latents of FLUX\.2 \(flux2\): expected .* C = 32, got \[1, 16, 8, 8\]\."):
        SPACES["flux2"].unpack(torch.zeros(1, 16, 8, 8))


def test_flux2_unpacks_packed_and_unpacked_latents():
    packed = torch.randn(1, 128, 4, 4)
    unpacked = torch.nn.functional.pixel_shuffle(packed, 2)
    assert torch.equal(SPACES["flux2"].unpack(packed), SPACES["flux2"].unpack(unpacked))


# The table


FIXED_NAMES = """
    sd1 sdxl playground25 sd_x4 cascade_prior cascade_b sd3 flux1 flux2 sana stable_audio1 stable_audio3 mochi ltxv ltx2
    minimax_h3 hunyuan_video hunyuan_video15 hunyuan_image21 hunyuan_image21_refiner cosmos1 wan21 wan22 cogvideox
    cogvideox15 seedvr2 ace_audio ace_audio15 minimax_music3 hunyuan3d2 hunyuan3d2_1 hunyuan3d2_mini triposplat trellis2
    trellis2_shape trellis2_texture pixels
""".split()  # noqa: SIM905 - a paragraph of names reads better than a column


@pytest.mark.parametrize("name", FIXED_NAMES)
def test_the_names_that_users_type_exist(name):
    assert name in SPACES
    assert SPACES[name].name == name


def test_the_error_for_an_unknown_space_lists_the_known_ones():
    with pytest.raises(UnknownSpaceError, match=r"no latent space is named 'sd9'; there are: sd1, sdxl") as caught:
        SPACES["sd9"]
    assert isinstance(caught.value, SpaceError)


def test_two_rows_cannot_share_a_name():
    with pytest.raises(ValueError, match="share a name"):
        Spaces((row(), row()))


def test_no_two_rows_share_a_title():
    titles = [space.title for space in SPACES]
    assert len(titles) == len(set(titles))


@ALL
def test_a_row_is_consistent(space):
    assert space.name == space.name.lower()
    assert space.channels > 0
    assert space.dims in (AUDIO, IMAGE, VIDEO)
    assert space.downscale >= 1
    assert space.frame_stride == 1 or space.dims == VIDEO
    assert (space.downscale == 1) or space.dims != AUDIO
    assert (space.dims == AUDIO) == (space.layout in ("sequence", "bands", "tokens"))
    assert math.isfinite(space.scale)
    assert space.scale > 0
    assert (space.mean is None) == (space.std is None)
    assert space.std is None or min(space.std) > 0
    assert any(space.hosts.values())


@ALL
def test_a_source_is_a_repository_a_revision_and_a_path(space):
    repository, rest = space.source.split("@")
    revision, path = rest.split(":")
    assert repository.count("/") == 1
    assert len(revision) == 40 or revision.startswith("v")
    assert path.endswith(".py")


@ALL
def test_packed_channels_follow_from_the_layout(space):
    times = {"patched": 4, "frame_pairs": 2}.get(space.layout)
    if times:
        assert space.packed == space.channels * times
    elif space.packed:
        assert space.name == "minimax_h3"  # video and audio share a tensor, and audio has more channels


def test_each_layout_is_used():
    assert {space.layout for space in SPACES} == LAYOUTS.keys()


def test_each_latent_format_of_comfyui_is_named_once():
    names = [name for space in SPACES for name in space.hosts.get("comfyui", ())]
    assert len(names) == len(set(names)) == 45


def test_each_base_model_of_invokeai_with_previews_is_named():
    bases = {
        "sd-1": "sd1",
        "sd-2": "sd1",
        "sd-3": "sd3",
        "sdxl": "sdxl",
        "sdxl-refiner": "sdxl",
        "flux": "flux1",
        "flux2": "flux2",
        "cogview4": "cogview4",
        "z-image": "flux1",
        "ernie-image": "flux2",
        "qwen-image": "wan21",
        "anima": "wan21",
        "krea-2": "wan21",
    }
    named = {base: [space.name for space in SPACES if base in space.hosts.get("invokeai", ())] for base in bases}
    assert named == {base: [name] for base, name in bases.items()}
    assert [space.name for space in SPACES if "wan" in space.hosts.get("invokeai", ())] == ["wan21", "wan22"]


def test_no_two_spaces_share_a_file_name():
    names = [(name, space.name) for space in SPACES for name in space.files]
    for name, owner in names:
        assert [other for start, other in names if name.startswith(start)] == [owner]


# Defaults of diffusers

CHANNEL_DEFAULTS = (
    "latent_channels",
    "z_dim",
    "z_channels",
    "codebook_dim",
    "encoder_hidden_size",
    "vocoder_input_dim",
)
# Exports that need no row, with the reason.
WITHOUT_ROW = {
    "AutoencoderTiny": "decodes the space of another autoencoder",
    "VQModel": "belongs to several models, with a codebook",
    "MMAudioVocoder": "turns spectrograms into sound, it has no latents",
    "RFD4ProteinaAutoencoder": "describes molecules, which have no picture",
}


def defaults_of(class_name):
    autoencoders = pytest.importorskip("diffusers.models.autoencoders", reason="diffusers is not installed")
    older.expect(hasattr(autoencoders, class_name), "diffusers", importlib.metadata.version("diffusers"), class_name)
    parameters = inspect.signature(getattr(autoencoders, class_name).__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("AutoencoderKL", "sd1"),
        ("AsymmetricAutoencoderKL", "sd1"),
        ("AutoencoderKLTemporalDecoder", "sd1"),
        ("ConsistencyDecoderVAE", "sd1"),
        ("AutoencoderKLFlux2", "flux2"),
        ("AutoencoderKLHunyuanImageRefiner", "hunyuan_image21_refiner"),
        ("AutoencoderKLQwenImage21", "qwen_image21"),
        ("AutoencoderKLKVAE", "kvae"),
        ("AutoencoderKLKVAEVideo", "kvae_video"),
        ("AutoencoderKLKVAEAudio", "kvae_audio"),
        ("AutoencoderVidTok", "vidtok"),
        ("AutoencoderRAE", "rae"),
        ("AutoencoderKLMiniMaxH3Audio", "minimax_h3_audio"),
        ("Cosmos3AVAEAudioTokenizer", "cosmos3_audio"),
        ("AutoencoderKLMochi", "mochi"),
        ("AutoencoderKLLTXVideo", "ltxv"),
        ("AutoencoderKLLTX2Video", "ltx2"),
        ("AutoencoderKLMiniMaxH3", "minimax_h3"),
        ("AutoencoderKLHunyuanVideo", "hunyuan_video"),
        ("AutoencoderKLHunyuanVideo15", "hunyuan_video15"),
        ("AutoencoderKLCosmos", "cosmos1"),
        ("AutoencoderKLWan", "wan21"),
        ("AutoencoderKLQwenImage", "wan21"),
        ("AutoencoderKLCogVideoX", "cogvideox"),
        ("AutoencoderKLAllegro", "allegro"),
        ("AutoencoderKLMagvit", "easyanimate"),
        ("Kandinsky6SRVAE", "kandinsky6_sr"),
        ("MiniMaxMusic3Vocoder", "minimax_music3"),
        ("MMAudioVAE", "mmaudio"),
    ],
)
def test_a_row_agrees_with_the_defaults_of_diffusers(class_name, name):
    defaults, space = defaults_of(class_name), SPACES[name]
    assert class_name in space.hosts.get("diffusers", ())
    assert next(defaults[key] for key in CHANNEL_DEFAULTS if key in defaults) == space.channels
    assert defaults.get("scaling_factor", 1.0) == space.scale
    if space.mean:
        assert tuple(defaults["latents_mean"]) == space.mean
        assert tuple(defaults["latents_std"]) == space.std
    if isinstance(stride := defaults.get("temporal_compression_ratio"), int):
        assert stride == space.frame_stride
    if isinstance(downscale := defaults.get("spatial_compression_ratio"), int):
        assert downscale == space.downscale


@pytest.mark.parametrize(
    "class_name", sorted({name.split(":")[0] for space in SPACES for name in space.hosts.get("diffusers", ())})
)
def test_diffusers_has_every_class_that_a_row_names(class_name):
    autoencoders = pytest.importorskip("diffusers.models.autoencoders", reason="diffusers is not installed")
    older.expect(hasattr(autoencoders, class_name), "diffusers", importlib.metadata.version("diffusers"), class_name)
    assert inspect.isclass(getattr(autoencoders, class_name))


def test_every_autoencoder_of_diffusers_is_named_by_a_row():
    autoencoders = pytest.importorskip("diffusers.models.autoencoders", reason="diffusers is not installed")
    models = {name for name, kind in vars(autoencoders).items() if inspect.isclass(kind)}
    named = {name.partition(":")[0] for space in SPACES for name in space.hosts.get("diffusers", ())}
    assert len(models) > 10
    assert models - named - WITHOUT_ROW.keys() == set()
    assert named & WITHOUT_ROW.keys() == set()


def test_views_that_are_packed_like_frames_are_latents_of_their_space():
    evidence = Evidence(host="comfyui", format_name="Hunyuan3Dv2_1Paint", channels=4, dims=3, scale=0.18215)
    views = torch.randn(1, 4, 12, 3, 4)
    assert identify(evidence, SPACES) is SPACES["sd1"]
    assert SPACES["sd1"].unpack(views).shape == views.shape
