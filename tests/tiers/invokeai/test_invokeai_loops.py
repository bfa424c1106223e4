"""The denoise loops of a real InvokeAI, on tiny random transformers."""

import pytest
from safelight.decoders.files.decoder_file import read_card
from safelight.preview.manifest import read_manifest

from ... import older

pytestmark = pytest.mark.timeout(1600)


@pytest.fixture(scope="session")
def loops(lab):
    return lab("loops")


@pytest.fixture(scope="session")
def seen(loops):
    return loops[0]


def test_latents_of_sd3_are_those_of_the_core_node(seen):
    assert seen["sd3"]["same"]


def test_x0_of_sd3_is_that_of_the_model(seen):
    assert max(seen["sd3"]["errors"]) < 1e-5
    assert seen["sd3"]["sigmas"] == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_x0_of_cogview4_is_that_of_the_model_in_half_precision(seen):
    assert seen["cogview4"]["same"]
    assert len(seen["cogview4"]["errors"]) == 20
    assert max(seen["cogview4"]["errors"]) < 0.02  # from two states alone, the error is ten times as large


def test_sd3_shows_every_step_without_the_noise(seen):
    assert seen["sd3"]["percentages"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert seen["sd3"]["shown"] == [None, *[[64, 64]] * 4]


@pytest.mark.parametrize(("scheduler", "steps"), [("euler", 4), ("heun", 3), ("lcm", 4)])
def test_latents_of_flux_are_those_of_the_core_node_and_every_step_is_shown(loops, scheduler, steps):
    older.expect(scheduler in loops[0]["flux"], "InvokeAI", loops[0]["version"], f"FLUX sampler {scheduler}")
    found = loops[0]["flux"][scheduler]
    assert found["same"]
    assert [size for size in found["shown"] if size] == [[64, 96]] * steps  # older versions have a step 0


@pytest.mark.parametrize(("kind", "space", "run", "steps"), [("sd3", "sd3", 1, 4), ("flux", "flux1", 2, 3)])
def test_each_step_is_on_disk(loops, kind, space, run, steps):
    older.expect(run == 1 or len(loops[0]["flux"]) > 1, "InvokeAI", loops[0]["version"], "further FLUX samplers")
    manifest = read_manifest(loops[1] / "root" / "outputs" / f"{kind}_denoise" / f"run_{run:05d}")
    assert (manifest["state"], manifest["space"], manifest["notes"]) == ("finished", space, [])
    assert [step["show"] for step in manifest["steps"]] == ["denoised"] * steps


def test_a_twin_of_each_denoise_node_is_registered(seen):
    assert {"safelight_denoise_latents", "safelight_flux_denoise", "safelight_sd3_denoise"} <= set(seen["twins"])
    assert {"safelight_quick_decode", "safelight_fit", "safelight_steps_sheet"} <= set(seen["twins"])


def test_a_decoder_is_fitted_to_invokeais_own_autoencoder_of_flux(loops):
    found = loops[0]["fit"]
    assert "Latent space: FLUX.1 (flux1)" in found["summary"]
    assert (found["image"], found["saved"]) == ("report", 1)
    assert found["shares"] == sorted(found["shares"])
    card = read_card(loops[1] / "root" / "safelight" / "flux1-affine.safetensors")
    assert card.space == "flux1"
    assert "encoded by AutoEncoder" in card.fitted_on


def test_x0_of_er_sde_is_what_it_computes_itself(seen):
    older.expect(seen["er_sde"] is not None, "InvokeAI", seen["version"], "er_sde")
    assert seen["er_sde"] < 1e-4


def test_latents_for_a_fit_are_those_of_invokeais_own_node(seen):
    older.expect(bool(seen["encodings"]), "InvokeAI", seen["version"], "node that encodes without drawing")
    assert seen["encodings"]["wan21"] < 1e-5
