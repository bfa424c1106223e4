"""Tests that trials, and not names, settle which latent space a user's file is for."""

import json

import pytest
import torch
from safelight.decoders.agreement import MAX_PICTURES, Agreement
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import write_decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.taesd import Taesd, taesd
from safelight.decoders.published_decoders import better_decoder
from safelight.decoders.trial_records import TRIALS_FILE, sha256_of
from safetensors.torch import save_file

AGREES, DISAGREES, OPEN = (Agreement(1, (value, 1.0, 1.0), (value, 1.0, 1.0)) for value in (0.9, 0.1, 0.5))
WAN21 = SPACES["wan21"]


def put(folder, name, channels=16, seed=0):
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Taesd(taesd(channels)).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    state = {key.removeprefix("layers."): torch.randn(s, generator=generator) * 0.02 for key, s in shapes.items()}
    save_file(state, folder / name)
    return folder / name


def tried(catalogue, path, space, agreement):
    size = path.stat().st_size
    catalogue.save_trials(lambda trials: trials.with_trial(sha256_of(path), path.name, size, space, agreement))


def names(candidates):
    return [candidate.name for candidate in candidates]


def users(catalogue, space):
    return [c.name for c in catalogue.of(SPACES[space]) if c.card.recognized]


def test_a_file_of_an_unknown_name_is_used_once_it_agreed(tmp_path):
    path, catalogue = put(tmp_path, "TAE_Krea2.safetensors"), Catalogue([tmp_path])
    assert users(catalogue, "wan21") == []
    tried(catalogue, path, "wan21", AGREES)
    assert users(catalogue, "wan21") == [path.name]
    assert names(catalogue.candidates(WAN21, accelerated=True))[0] == path.name
    assert users(catalogue, "flux1") == users(catalogue, "sd3") == []


def test_a_file_of_a_wrong_name_is_not_used_once_it_disagreed(tmp_path):
    path, catalogue = put(tmp_path, "taef1_decoder.safetensors"), Catalogue([tmp_path])
    assert users(catalogue, "flux1") == [path.name]
    tried(catalogue, path, "flux1", DISAGREES)
    assert users(catalogue, "flux1") == []
    (refused,) = catalogue.refused(SPACES["flux1"])
    assert (refused.file, catalogue.refused(WAN21)) == (path, [])
    assert refused.reason == (
        "tried on a picture of flux1: it agrees by 0.10 with what is known of the space, expected 0.6 or more"
    )


def test_the_name_decides_while_pictures_do_not(tmp_path):
    path, catalogue = put(tmp_path, "taef1_decoder.safetensors"), Catalogue([tmp_path])
    tried(catalogue, path, "flux1", OPEN)
    assert users(catalogue, "flux1") == [path.name]
    assert names(catalogue.unproven(SPACES["flux1"])) == [path.name]
    for _ in range(MAX_PICTURES - 1):
        tried(catalogue, path, "flux1", OPEN)
    assert users(catalogue, "flux1") == [path.name]
    assert catalogue.unproven(SPACES["flux1"]) == []


def test_a_file_with_the_sha256_of_a_tried_one_needs_no_trial(tmp_path):
    path, catalogue = put(tmp_path, "a.safetensors"), Catalogue([tmp_path])
    tried(catalogue, path, "wan21", AGREES)
    path.rename(tmp_path / "b.safetensors")
    assert users(catalogue, "wan21") == ["b.safetensors"]
    put(tmp_path, "b.safetensors", seed=1)
    assert users(catalogue, "wan21") == []


def test_a_file_is_tried_in_each_space_that_it_fits_until_that_is_settled(tmp_path):
    path, catalogue = put(tmp_path, "unknown.safetensors"), Catalogue([tmp_path])
    for space in ("wan21", "flux1", "sd3", "hunyuan_video"):
        assert names(catalogue.unproven(SPACES[space])) == [path.name]
    for space in ("sd1", "flux2", "qwen_image21"):
        assert catalogue.unproven(SPACES[space]) == []
    tried(catalogue, path, "flux1", DISAGREES)
    assert catalogue.unproven(SPACES["flux1"]) == []
    assert names(catalogue.unproven(WAN21)) == [path.name]


def test_decoders_that_safelight_made_and_shipped_ones_are_not_tried(tmp_path):
    net = Taesd(taesd(16))
    card = Card(name="mine", space="wan21", kind="tiny", settings={"layers": taesd(16)}, source="a test")
    write_decoder(tmp_path / "mine.safetensors", card, net.state_dict())
    assert Catalogue([tmp_path]).unproven(WAN21) == []


def test_the_reference_is_the_best_light_decoder_that_is_known(tmp_path):
    path, catalogue = put(tmp_path, "taew2_1.safetensors"), Catalogue([tmp_path])
    assert catalogue.reference(WAN21).name == "wan21-affine-comfyui"
    tried(catalogue, path, "wan21", AGREES)  # too heavy
    assert catalogue.reference(WAN21).name == "wan21-affine-comfyui"
    assert catalogue.reference(SPACES["kvae"]) is None


def test_the_fingerprint_of_auto_changes_with_a_trial(tmp_path):
    path, catalogue = put(tmp_path, "a.safetensors"), Catalogue([tmp_path])
    before = catalogue.fingerprint("auto")
    tried(catalogue, path, "wan21", AGREES)
    assert catalogue.fingerprint("auto") != before


def test_choices_say_what_trials_found_and_where_a_file_is_still_tried(tmp_path):
    path, catalogue = put(tmp_path, "unknown.safetensors"), Catalogue([tmp_path])
    tried(catalogue, path, "flux1", DISAGREES)
    (why,) = [choice.why for choice in catalogue.choices() if choice.card.recognized]
    assert why.startswith("tried on a picture of flux1: it agrees by 0.10 with")
    assert "; a run in one of these latent spaces tries it: " in why
    assert "wan21" in why
    assert "flux1," not in why


# Files that decode nothing


def test_unreadable_files_are_listed_with_the_reason_and_encoders_are_marked(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    save_file({"lora.weight": torch.zeros(3)}, tmp_path / "lora.safetensors")
    save_file({"0.weight": torch.zeros(8, 3, 3, 3), "1.weight": torch.zeros(4, 8, 3, 3)}, tmp_path / "enc.safetensors")
    put(tmp_path, "fine.safetensors")
    (tmp_path / "text.txt").write_text("no decoder")
    found = {unusable.file.name: unusable for unusable in Catalogue([tmp_path]).unusable()}
    assert {name: unusable.is_encoder for name, unusable in found.items()} == {
        "broken.safetensors": False,
        "lora.safetensors": False,
        "enc.safetensors": True,
    }
    assert "not a whole safetensors file" in found["broken.safetensors"].reason
    assert "an encoder is not a decoder" in found["enc.safetensors"].reason


def test_a_file_that_fits_no_space_or_was_refused_in_all_is_listed(tmp_path):
    odd, catalogue = put(tmp_path, "odd.safetensors", channels=7), Catalogue([tmp_path])
    (found,) = catalogue.unusable()
    assert found.file == odd
    assert found.reason == "no latent space with a known decoder has 7 channels at 1/8 of the image size"
    odd.unlink()

    path = put(tmp_path, "pretty.safetensors", channels=12)
    assert catalogue.unusable() == []
    tried(catalogue, path, "mochi", DISAGREES)
    (found,) = catalogue.unusable()
    assert "tried on a picture of mochi" in found.reason


@pytest.mark.parametrize("folders", [0, 1])
def test_without_trials_nothing_is_written(tmp_path, folders):
    catalogue = Catalogue([tmp_path][:folders])
    assert (catalogue.unproven(WAN21), catalogue.unusable(), list(tmp_path.iterdir())) == ([], [], [])
    catalogue.save_trials(lambda trials: trials.with_noted(["a"]))
    assert [path.name for path in tmp_path.iterdir()] == [TRIALS_FILE][:folders]
    if folders:
        assert json.loads((tmp_path / TRIALS_FILE).read_text())["noted"] == ["a"]


# Published decoders


def test_a_published_decoder_is_better_while_the_user_has_none_for_the_space(tmp_path):
    catalogue = Catalogue([tmp_path])
    assert better_decoder(catalogue, WAN21).name == "taew2_1"
    assert better_decoder(catalogue, SPACES["kvae"]) is None
    path = put(tmp_path, "unknown.safetensors")
    assert better_decoder(catalogue, WAN21).name == "taew2_1"
    tried(catalogue, path, "wan21", AGREES)
    assert better_decoder(catalogue, WAN21) is None
    assert better_decoder(catalogue, SPACES["flux1"]).name == "taef1"
