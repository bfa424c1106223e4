"""Tests how facts from a host identify a latent space, without guesses."""

import pytest
from safelight.decoders.latents.identify import UNKNOWN, Evidence, contradictions, identify
from safelight.decoders.latents.space import AUDIO, LatentSpace, Spaces
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import ContradictionError

COMFYUI = [(name, space.name) for space in SPACES for name in space.hosts.get("comfyui", ())]
INVOKEAI = [(name, space.name) for space in SPACES for name in space.hosts.get("invokeai", ()) if name != "wan"]


def comfyui(name, **more):
    return identify(Evidence(host="comfyui", format_name=name, **more), SPACES)


def diffusers(name, **more):
    return identify(Evidence(host="diffusers", format_name=name, **more), SPACES)


# By name


@pytest.mark.parametrize(("format_name", "expected"), COMFYUI)
def test_the_comfyui_name_alone_decides(format_name, expected):
    assert comfyui(format_name).name == expected


@pytest.mark.parametrize(("format_name", "expected"), COMFYUI)
def test_the_comfyui_name_decides_together_with_its_numbers(format_name, expected):
    space = SPACES[expected]
    found = comfyui(format_name, channels=space.packed_channels, dims=2, scale=space.scale, downscale=8)
    assert found.name == expected


@pytest.mark.parametrize(("base", "expected"), INVOKEAI)
def test_the_invokeai_base_model_alone_decides(base, expected):
    assert identify(Evidence(host="invokeai", format_name=base), SPACES).name == expected


@pytest.mark.parametrize(("channels", "expected"), [(16, "wan21"), (48, "wan22")])
def test_channels_decide_which_wan_invokeai_means(channels, expected):
    assert identify(Evidence(host="invokeai", format_name="wan", channels=channels), SPACES).name == expected


@pytest.mark.parametrize("channels", [32, 128])
def test_flux2_is_identified_packed_and_unpacked(channels):
    assert identify(Evidence(host="invokeai", format_name="flux2", channels=channels), SPACES).name == "flux2"
    assert comfyui("Flux2", channels=channels).name == "flux2"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"channels": 4, "scale": 0.18215}, "sd1"),
        ({"channels": 4, "scale": 0.13025}, "sdxl"),
        ({"channels": 4, "scale": 0.5}, "playground25"),
        ({"channels": 4, "scale": 0.08333}, "sd_x4"),
        ({"channels": 16, "scale": 1.5305, "shift": 0.0609}, "sd3"),
        ({"channels": 16, "scale": 0.3611, "shift": 0.1159}, "flux1"),
    ],
)
def test_numbers_decide_among_families_that_share_a_class(numbers, expected):
    assert diffusers("AutoencoderKL", **numbers).name == expected


@pytest.mark.parametrize(("scale", "expected"), [(1.15258426, "cogvideox"), (0.7, "cogvideox15")])
def test_the_scale_decides_which_cogvideox(scale, expected):
    assert diffusers("AutoencoderKLCogVideoX", channels=16, scale=scale).name == expected


@pytest.mark.parametrize(
    ("format_name", "expected"),
    [
        ("AutoencoderOobleck:StableAudio", "stable_audio1"),
        ("AutoencoderOobleck:AceStep", "ace_audio15"),
        ("AutoencoderKL:CogView4", "cogview4"),
    ],
)
def test_the_pipeline_name_decides_if_class_and_numbers_do_not(format_name, expected):
    assert diffusers(format_name).name == expected


def test_a_scale_rounded_to_single_precision_is_the_same_scale():
    assert diffusers("AutoencoderKL", channels=4, scale=0.18215000629425049).name == "sd1"


def test_the_name_of_another_host_identifies_nothing():
    assert identify(Evidence(host="invokeai", format_name="Flux", channels=16), SPACES).name == UNKNOWN


# Contradictions


def test_a_known_name_with_other_channels_is_a_contradiction():
    with pytest.raises(ContradictionError, match=r"'SDXL', but do not match it \(sdxl: channels 16 instead of 4\)"):
        comfyui("SDXL", channels=16)


def test_a_known_name_with_another_scale_and_shift_is_a_contradiction():
    with pytest.raises(
        ContradictionError, match=r"flux1: scale 1\.5305 instead of 0\.3611, shift 0\.0609 instead of 0\.1159"
    ):
        comfyui("Flux", channels=16, scale=1.5305, shift=0.0609)


def test_a_contradiction_names_packed_and_unpacked_channels():
    with pytest.raises(ContradictionError, match=r"flux2: channels 16 instead of 32 or 128"):
        comfyui("Flux2", channels=16)


def test_each_row_with_a_shared_name_is_reported():
    with pytest.raises(ContradictionError, match=r"wan21: channels 20 instead of 16; wan22: channels 20 instead of 48"):
        identify(Evidence(host="invokeai", format_name="wan", channels=20), SPACES)


def test_a_contradiction_is_reported_with_all_the_evidence():
    evidence = Evidence(
        host="comfyui",
        format_name="SD15",
        channels=7,
        dims=2,
        scale=0.25,
        shift=0.125,
        downscale=24,
        model_type="EPS",
        factors=[[0.5, 0.25, 0.75]],
        bias=[0.1, 0.2, 0.3],
    )
    with pytest.raises(ContradictionError) as caught:
        identify(evidence, SPACES)
    message = str(caught.value)
    assert message.endswith(
        "comfyui gives: 7 channels, 2 dimensions, scale 0.25, shift 0.125, downscale 24, model EPS, "
        "factors to RGB for 1 channels"
    )
    assert "Evidence(" not in message


def test_a_missing_fact_contradicts_nothing():
    assert contradictions(Evidence(host="comfyui"), SPACES["flux2"]) == []


# Without a name


def test_a_scale_of_only_one_space_identifies_it_under_any_name():
    assert comfyui("MyFormat", channels=16, scale=0.3611, shift=0.1159).name == "flux1"
    assert identify(Evidence(host="comfyui", scale=0.13025), SPACES).name == "sdxl"


def test_a_known_scale_with_other_channels_identifies_nothing():
    assert comfyui("MyFormat", channels=64, scale=0.3611).name == UNKNOWN


def test_a_scale_of_two_spaces_identifies_neither_unless_channels_decide():
    assert comfyui("MyFormat", channels=32, scale=1.03682).name == UNKNOWN
    assert comfyui("MyFormat", channels=64, scale=1.03682).name == "hunyuan_image21_refiner"


@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("channels", [4, 16, 48, 128])
def test_channels_alone_identify_nothing(channels, scale):
    assert comfyui("MyFormat", channels=channels, scale=scale).name == UNKNOWN


@pytest.mark.parametrize(
    ("format_name", "numbers"),
    [("AutoencoderKL", {"channels": 16}), ("AutoencoderKLWan", {}), ("AutoencoderOobleck", {"channels": 64})],
)
def test_a_shared_class_whose_numbers_do_not_decide_is_unknown(format_name, numbers):
    assert diffusers(format_name, **numbers).name == UNKNOWN


def test_the_space_of_an_unknown_format_has_the_numbers_of_the_host():
    space = comfyui("MyFormat", channels=24, dims=3, scale=0.9, shift=0.25, downscale=16)
    assert (space.name, space.title) == (UNKNOWN, "unknown (MyFormat)")
    assert (space.channels, space.dims, space.scale, space.shift, space.downscale) == (24, 3, 0.9, 0.25, 16)
    assert space.layout == "plain"
    assert space.source == "facts from comfyui"


def test_an_unknown_format_of_one_dimension_is_a_sequence():
    space = comfyui("MyAudio", channels=24, dims=1)
    assert (space.dims, space.layout) == (AUDIO, "sequence")


def test_evidence_without_facts_still_gives_a_space():
    space = identify(Evidence(host="diffusers"), SPACES)
    assert (space.name, space.title, space.channels) == (UNKNOWN, "unknown (unnamed)", 4)


def test_identification_knows_only_the_spaces_it_is_given():
    only = Spaces(
        (LatentSpace(name="mine", title="Mine", channels=5, scale=0.2, hosts={"comfyui": ("Mine",)}, source="here"),)
    )
    assert identify(Evidence(host="comfyui", format_name="Mine"), only).name == "mine"
    assert identify(Evidence(host="comfyui", format_name="SDXL"), only).name == UNKNOWN
