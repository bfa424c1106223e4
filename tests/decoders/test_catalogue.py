"""Tests which decoder is chosen for each space and request, also with broken files."""

import json
import logging
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safelight.decoders.catalogue import AUTO, WORDS, Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.files import decoder_file, read_cache, shipped
from safelight.decoders.files.decoder_file import write_decoder
from safelight.decoders.latents.identify import Evidence, identify, unknown
from safelight.decoders.latents.space import AUDIO, LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.registry import KINDS, KINDS_WITHOUT_WEIGHTS
from safelight.decoders.nets.taesd import Taesd, taesd
from safelight.decoders.ranking import LIGHT
from safelight.errors import AlteredFileError, ContradictionError, DecoderFileError, UnknownDecoderError
from safetensors.torch import save_file

DEFAULTS = json.loads((shipped.WEIGHTS / shipped.DEFAULTS_FILE).read_text("utf-8"))


def tiny_state(layers=None):
    """Returns weights under the keys of the published file: TAESD, or one with these layers."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Taesd(layers or taesd(4)).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {
        key.removeprefix("layers."): torch.randn(shape, generator=generator) * 0.02 for key, shape in shapes.items()
    }


def put(folder, name, state):
    path = folder / name
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path


def names(candidates):
    return [candidate.name for candidate in candidates]


def latents_of(space):
    shape = (1, space.channels, 8) if space.dims == AUDIO else (1, space.channels, 4, 6)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def installed(monkeypatch):
    """Returns a function that replaces the folder `weights`."""

    def install(folder):
        for name in ("shipped_cards", "open_shipped", "default_for"):
            # Each has a keyword argument `folder` with a default.
            patched = partial(getattr(shipped, name), folder=folder)
            monkeypatch.setattr(f"safelight.decoders.catalogue.{name}", patched)

    return install


# The automatic choice


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_default_of_a_space_comes_first_and_the_last_resort_last(space):
    candidates = Catalogue().candidates(space)
    if space.name in DEFAULTS:
        assert candidates[0].name == DEFAULTS[space.name]["decoder"]
        assert candidates[0].card.space == space.name
    generic = "timeline" if space.dims == AUDIO else "pixels" if space.name == "pixels" else "principal"
    assert candidates[-1].name == generic
    assert len(set(names(candidates))) == len(candidates)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_every_candidate_opens_and_decodes(space):
    plain = latents_of(space)
    if space.dims == AUDIO:
        plain = plain[:, :, None, :]
    for candidate in Catalogue().candidates(space):
        decoder = candidate.open()
        assert decoder.name == candidate.name
        rgb = decoder.decode(plain)
        assert rgb.shape[:2] == (1, 3)
        assert 0 <= rgb.min() <= rgb.max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 77])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_an_unknown_space_is_still_decoded(channels, dims):
    space = unknown(Evidence(host="comfyui", channels=channels, dims=dims))
    (candidate,) = Catalogue().candidates(space)
    shape = {1: (2, channels, 9), 2: (2, channels, 4, 5), 3: (2, channels, 3, 4, 5)}[dims]
    plain = space.unpack(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    rgb = candidate.open().decode(plain.transpose(1, 2).flatten(0, 1))
    assert torch.isfinite(rgb).all()
    assert rgb.std() > 0


def test_two_runs_never_share_a_decoder_with_state():
    (candidate,) = Catalogue().candidates(unknown(Evidence(host="comfyui", channels=5)))
    assert candidate.open().net is not candidate.open().net


def test_the_host_table_is_used_for_a_space_without_decoders():
    factors = [[0.1 * c, 0.2, -0.3] for c in range(6)]
    evidence = Evidence(host="comfyui", format_name="New", channels=6, factors=factors, bias=[0.05, 0.0, -0.05])
    space = unknown(evidence)
    candidates = Catalogue().candidates(space, evidence=evidence)
    assert names(candidates) == ["comfyui-table", "principal"]
    assert "New" in candidates[0].card.source
    assert candidates[0].card.parameters == 21
    latents = torch.rand(1, 6, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.2
    rgb = candidates[0].open().decode(latents)
    for y in range(2):
        for x in range(2):
            for channel in range(3):
                value = sum(latents[0, c, y, x].item() * factors[c][channel] for c in range(6))
                expected = (value + evidence.bias[channel] + 1) / 2
                assert rgb[0, channel, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_a_host_table_works_without_a_constant():
    evidence = Evidence(host="comfyui", channels=4, factors=[[1, 0, 0]] * 4)
    table, _ = Catalogue().candidates(unknown(evidence), evidence=evidence)
    assert torch.allclose(table.open().decode(torch.zeros(1, 4, 1, 1)), torch.full((1, 3, 1, 1), 0.5))
    assert table.card.parameters == 12


@pytest.mark.parametrize("factors", [[[1.0, 2.0]] * 6, [[1.0, 2.0, 3.0], [1.0]] * 3, [["a", "b", "c"]] * 6])
def test_an_invalid_host_table_does_not_prevent_the_other_decoders(factors):
    evidence = Evidence(host="comfyui", channels=6, factors=factors)
    table, generic = Catalogue().candidates(unknown(evidence), evidence=evidence)
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        table.open()
    assert generic.open().decode(torch.zeros(1, 6, 2, 2)).shape == (1, 3, 2, 2)


def test_a_host_table_with_other_channels_is_ignored():
    evidence = Evidence(host="comfyui", channels=6, factors=[[1.0, 1.0, 1.0]] * 5)
    assert names(Catalogue().candidates(unknown(evidence), evidence=evidence)) == ["principal"]


def test_a_shipped_decoder_has_priority_over_the_host_table():
    evidence = Evidence(host="comfyui", channels=16, factors=[[1.0, 1.0, 1.0]] * 16)
    assert "comfyui-table" not in names(Catalogue().candidates(SPACES["flux1"], evidence=evidence))


# The user's files


@pytest.mark.parametrize("name", ["taef2_decoder.safetensors", "taesd_decoder.pth", "anything.sft", "Ä b.safetensors"])
def test_a_file_whose_content_determines_its_space_may_have_any_name(tmp_path, name):
    put(tmp_path, name, tiny_state(taesd(32, pooled=1)))
    catalogue = Catalogue([tmp_path])
    assert name in names(catalogue.candidates(SPACES["flux2"]))
    others = [space for space in SPACES if space.channels == 32 and space.name != "flux2"]
    assert others
    assert not any(name in names(catalogue.candidates(space)) for space in others)


@pytest.mark.parametrize(
    ("name", "channels", "space"),
    [
        ("taesd_decoder.pth", 4, "sd1"),
        ("taesd_decoder.safetensors", 4, "sd1"),
        ("TAESDXL_decoder.pth", 4, "sdxl"),
        ("taesd3_decoder.safetensors", 16, "sd3"),
        ("taef1_decoder.safetensors", 16, "flux1"),
    ],
)
def test_the_published_file_name_decides_if_the_content_does_not(tmp_path, name, channels, space):
    put(tmp_path, name, tiny_state(taesd(channels)))
    catalogue = Catalogue([tmp_path])
    alike = [row for row in SPACES if row.channels == channels]
    assert [row.name for row in alike if name in names(catalogue.candidates(row))] == [space]


def test_a_file_that_fits_several_spaces_is_used_only_on_request(tmp_path):
    put(tmp_path, "my-favorite.safetensors", tiny_state())
    catalogue = Catalogue([tmp_path])
    alike = [space for space in SPACES if space.channels == 4]
    assert not any("my-favorite.safetensors" in names(catalogue.candidates(space)) for space in alike)
    for space in ("sd1", "sdxl"):
        candidates = catalogue.candidates(SPACES[space], "my-favorite.safetensors")
        assert candidates[0].name == "my-favorite.safetensors"
        assert candidates[0].open().decode(torch.zeros(1, 4, 2, 2)).shape == (1, 3, 16, 16)


def test_a_published_file_name_with_the_wrong_content_does_not_determine_the_space(tmp_path):
    put(tmp_path, "taesd_decoder.pth", tiny_state(taesd(16)))
    assert "taesd_decoder.pth" not in names(Catalogue([tmp_path]).candidates(SPACES["sd1"]))


def test_heavy_decoders_come_first_on_an_accelerator_and_second_on_a_cpu(tmp_path):
    put(tmp_path, "taesd_decoder.pth", tiny_state())
    catalogue = Catalogue([tmp_path])
    default = DEFAULTS["sd1"]["decoder"]
    assert names(catalogue.candidates(SPACES["sd1"])) == [default, "taesd_decoder.pth", "principal"]
    assert names(catalogue.candidates(SPACES["sd1"], accelerated=True)) == ["taesd_decoder.pth", default, "principal"]


def test_an_earlier_folder_has_priority_and_folders_are_searched_at_each_call(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    catalogue = Catalogue([first, second])
    put(second, "taesd_decoder.safetensors", tiny_state())
    assert "taesd_decoder.safetensors" in catalogue.names()
    first.mkdir()
    put(first, "taesd_decoder.safetensors", tiny_state(taesd(32, pooled=1)))
    assert catalogue.names().count("taesd_decoder.safetensors") == 1
    assert "taesd_decoder.safetensors" in names(catalogue.candidates(SPACES["flux2"]))
    assert "taesd_decoder.safetensors" not in names(catalogue.candidates(SPACES["sd1"]))


def test_a_decoder_file_for_any_number_of_channels_is_used_only_on_request(tmp_path):
    write_decoder(tmp_path / "p.safetensors", Card(name="p", space=None, kind="principal", source="a test"), {})
    catalogue = Catalogue([tmp_path])
    assert names(catalogue.candidates(SPACES["sd1"]))[0] == DEFAULTS["sd1"]["decoder"]
    assert catalogue.candidates(SPACES["sd1"], "p.safetensors")[0].card.kind == "principal"


BROKEN = {
    "empty": b"",
    "text": b"<html>404</html>",
    "header": (1 << 40).to_bytes(8, "little") + b"{}",
    "zip": b"PK\x03\x04" + bytes(100),
    "pickle": b"\x80\x02csystem\nexit\n.",
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_skipped_but_explained_when_requested_by_name(tmp_path, suffix, content):
    name = f"taesd_decoder{suffix}"
    (tmp_path / name).write_bytes(content)
    catalogue = Catalogue([tmp_path])
    assert names(catalogue.candidates(SPACES["sd1"])) == [DEFAULTS["sd1"]["decoder"], "principal"]
    assert name not in [card.name for card in catalogue.all()]
    assert name in catalogue.names()
    with pytest.raises(DecoderFileError, match=name):
        catalogue.candidates(SPACES["sd1"], name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_is_skipped(tmp_path, suffix):
    path = put(tmp_path, f"taesd_decoder{suffix}", {"1.weight": torch.zeros(2, 2), "1.bias": torch.zeros(2)})
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    catalogue = Catalogue([tmp_path])
    for _ in range(60):
        damaged = bytearray(whole)
        for at in torch.randint(len(whole), (4,), generator=generator).tolist():
            damaged[at] = int(torch.randint(256, (1,), generator=generator))
        cut = int(torch.randint(1, len(whole), (1,), generator=generator))
        path.write_bytes(damaged if cut % 2 else damaged[:cut])
        assert catalogue.candidates(SPACES["sd1"])[-1].name == "principal"


def test_other_files_in_the_folders_are_ignored(tmp_path):
    for name in ("notes.txt", "model.ckpt", "x.safetensors.part"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "folder.safetensors").mkdir()
    assert set(Catalogue([tmp_path, tmp_path / "nowhere", Path("\0")]).names()) == set(Catalogue().names())


# Requests


def test_names_lists_all_valid_requests():
    catalogue = Catalogue()
    assert catalogue.names()[0] == AUTO
    assert set(KINDS) <= set(catalogue.names())
    assert {card.name for card in catalogue.all()} <= set(catalogue.names())
    assert len(set(catalogue.names())) == len(catalogue.names())


@pytest.mark.parametrize("accelerated", [False, True])
def test_fast_is_the_choice_of_a_cpu_and_fine_that_of_an_accelerator_on_both(tmp_path, accelerated):
    put(tmp_path, "taesd_decoder.safetensors", tiny_state())
    catalogue, space = Catalogue([tmp_path]), SPACES["sd1"]
    chosen = {word: catalogue.candidates(space, word, accelerated=accelerated) for word in WORDS}
    assert names(chosen["fast"]) == names(catalogue.candidates(space, accelerated=False))
    assert names(chosen["fine"]) == names(catalogue.candidates(space, accelerated=True))
    assert chosen["fast"][0].name != chosen["fine"][0].name
    assert names(chosen[AUTO]) == names(chosen["fine" if accelerated else "fast"])


def test_the_words_count_before_the_decoder_that_the_settings_prefer(tmp_path):
    put(tmp_path, "taesd_decoder.safetensors", tiny_state())
    find = partial(Catalogue([tmp_path]).candidates_or_auto, SPACES["sd1"], notify=pytest.fail)
    fine = find("fine")[0].name
    assert find("fine", preferred="sd1-cubic")[0].name == fine == "taesd_decoder.safetensors"
    assert find(AUTO, preferred="sd1-cubic")[0].name == "sd1-cubic"
    assert find(AUTO, preferred="fine")[0].name == fine
    assert find("fast", accelerated=True)[0].name == DEFAULTS["sd1"]["decoder"]


def test_a_decoder_requested_by_name_comes_first_and_the_others_follow():
    catalogue = Catalogue()
    other = next(c.name for c in catalogue.all() if c.space == "sd1" and c.name != DEFAULTS["sd1"]["decoder"])
    candidates = catalogue.candidates(SPACES["sd1"], other)
    assert names(candidates) == [other, DEFAULTS["sd1"]["decoder"], "principal"]


def test_a_requested_decoder_is_listed_once_even_if_it_is_the_default():
    default = DEFAULTS["sd1"]["decoder"]
    assert names(Catalogue().candidates(SPACES["sd1"], default)) == [default, "principal"]


def test_a_kind_can_be_requested_by_name(tmp_path):
    put(tmp_path, "taesd_decoder.pth", tiny_state())
    catalogue = Catalogue([tmp_path])
    assert catalogue.candidates(SPACES["sd1"], "tiny")[0].name == "taesd_decoder.pth"
    first = catalogue.candidates(SPACES["sd1"], "polynomial")[0]
    assert first.card.kind == "polynomial"


@pytest.mark.parametrize("kind", [kind for kind in KINDS_WITHOUT_WEIGHTS if kind != "pixels"])
def test_kinds_without_weights_are_available_for_each_space(kind):
    for space in SPACES:
        assert Catalogue().candidates(space, kind)[0].name == kind


def test_the_kind_pixels_needs_three_channels():
    catalogue = Catalogue()
    assert catalogue.candidates(SPACES["pixels"], "pixels")[0].name == "pixels"
    with pytest.raises(UnknownDecoderError, match=r"3 channels as RGB.*have 4"):
        catalogue.candidates(SPACES["sd1"], "pixels")


def test_a_decoder_of_another_space_is_refused_and_the_available_ones_are_listed(tmp_path):
    default = DEFAULTS["sd1"]["decoder"]
    with pytest.raises(UnknownDecoderError) as refused:
        Catalogue([tmp_path]).candidates(SPACES["sd1"], DEFAULTS["flux2"]["decoder"])
    message = str(refused.value)
    assert f"decodes flux2 of 32 channels, not {SPACES['sd1'].title} (sd1) of 4" in message
    assert default in message
    assert str(tmp_path) in message


def test_a_user_file_of_another_space_is_refused(tmp_path):
    put(tmp_path, "a.safetensors", tiny_state(taesd(32, pooled=1)))
    with pytest.raises(UnknownDecoderError, match=r"decoder a\.safetensors decodes flux2 of 32 channels"):
        Catalogue([tmp_path]).candidates(SPACES["flux1"], "a.safetensors")
    put(tmp_path, "b.safetensors", tiny_state())
    with pytest.raises(UnknownDecoderError, match="decodes latents of 4 channels"):
        Catalogue([tmp_path]).candidates(SPACES["flux1"], "b.safetensors")


@pytest.mark.parametrize("wanted", ["no-such-decoder", "", "../sd1", "../weights/defaults.json", "\0"])
def test_an_unknown_decoder_name_is_refused_and_the_available_ones_are_listed(wanted):
    with pytest.raises(UnknownDecoderError, match=rf"no decoder is named .*{DEFAULTS['sd1']['decoder']}"):
        Catalogue().candidates(SPACES["sd1"], wanted)


def test_a_kind_without_a_decoder_for_the_space_is_refused_and_the_available_ones_are_listed():
    with pytest.raises(UnknownDecoderError, match=rf"no approx decoder for .*{DEFAULTS['sd1']['decoder']}"):
        Catalogue().candidates(SPACES["sd1"], "approx")


# A broken installation


def damage_nothing_there(folder):
    shutil.rmtree(folder)


def damage_no_manifest(folder):
    (folder / shipped.MANIFEST).unlink()


def damage_all_files(folder):
    for path in folder.glob("*.safetensors"):
        path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("damage", [damage_nothing_there, damage_no_manifest, damage_all_files])
def test_a_broken_installation_still_decodes_and_reports_the_reason(tmp_path, installed, caplog, damage):
    folder = tmp_path / "weights"
    shutil.copytree(shipped.WEIGHTS, folder)
    damage(folder)
    installed(folder)
    notes = []
    with caplog.at_level(logging.WARNING, "safelight.decoders"):
        for space in (SPACES["sd1"], SPACES["wan21"]):
            assert names(Catalogue().candidates(space, notify=notes.append)) == ["principal"]
    assert caplog.records
    assert len(notes) == 2, "one note per call"
    assert len(notes[0]) < 500
    assert Catalogue().names() == [*WORDS, *KINDS]
    with pytest.raises(UnknownDecoderError, match="Available decoders: none"):
        Catalogue().candidates(SPACES["sd1"], DEFAULTS["sd1"]["decoder"])


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'{"sd1": {}}', b'{"sd1": "?"}', b"\xff"])
def test_the_shipped_decoders_are_available_without_the_list_of_defaults(tmp_path, installed, content):
    folder = tmp_path / "weights"
    shutil.copytree(shipped.WEIGHTS, folder)
    (folder / shipped.DEFAULTS_FILE).unlink()
    if content is not None:
        (folder / shipped.DEFAULTS_FILE).write_bytes(content)
    installed(folder)
    candidates = Catalogue().candidates(SPACES["sd1"])
    assert candidates[0].card.space == "sd1"
    assert candidates[-1].name == "principal"


def test_one_altered_file_does_not_affect_the_others(tmp_path, installed):
    folder = tmp_path / "weights"
    shutil.copytree(shipped.WEIGHTS, folder)
    default = DEFAULTS["sd1"]["decoder"]
    (folder / f"{default}.safetensors").write_bytes(b"altered")
    installed(folder)
    notes = []
    chosen = names(Catalogue().candidates(SPACES["sd1"], notify=notes.append))
    assert [default in note for note in notes] == [True]
    assert default not in chosen
    assert chosen[0].startswith("sd1-")


# A requested decoder that is unavailable


def candidates_and_notes(catalogue, space, *args, **kwargs):
    notes = []
    return names(catalogue.candidates_or_auto(SPACES[space], *args, notify=notes.append, **kwargs)), notes


@pytest.mark.parametrize("wanted", ["missing.safetensors", "tiny", DEFAULTS["flux2"]["decoder"], "pixels"])
def test_an_unavailable_decoder_is_reported_and_replaced_by_the_automatic_choice(wanted):
    with pytest.raises(UnknownDecoderError) as error:
        Catalogue().candidates(SPACES["sd1"], wanted)
    chosen, notes = candidates_and_notes(Catalogue(), "sd1", wanted)
    assert chosen == names(Catalogue().candidates(SPACES["sd1"]))
    (note,) = notes
    assert note == f"decoder auto is used: {error.value}"


def test_a_broken_decoder_file_is_reported_and_replaced_by_the_automatic_choice(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    chosen, notes = candidates_and_notes(Catalogue([tmp_path]), "sd1", "broken.safetensors")
    assert chosen == names(Catalogue().candidates(SPACES["sd1"]))
    assert [f"{tmp_path / 'broken.safetensors'}" in note for note in notes] == [True]


@pytest.mark.parametrize("wanted", [AUTO, "principal", "polynomial", DEFAULTS["sd1"]["decoder"]])
def test_an_available_decoder_is_used_without_a_note(wanted):
    assert candidates_and_notes(Catalogue(), "sd1", wanted) == (
        names(Catalogue().candidates(SPACES["sd1"], wanted)),
        [],
    )


def test_the_preferred_decoder_replaces_only_auto():
    chosen, notes = candidates_and_notes(Catalogue(), "sd1", preferred="principal")
    assert (chosen[0], notes) == ("principal", [])
    default = DEFAULTS["sd1"]["decoder"]
    assert candidates_and_notes(Catalogue(), "sd1", default, preferred="principal")[0][0] == default


def test_an_unavailable_preferred_decoder_is_not_reported():
    automatic = names(Catalogue().candidates(SPACES["sd1"]))
    assert candidates_and_notes(Catalogue(), "sd1", preferred="missing.safetensors") == (automatic, [])


def test_the_automatic_choice_uses_the_evidence_and_the_device(tmp_path):
    evidence = host_table()
    chosen, _ = candidates_and_notes(Catalogue(), "cogvideox", "missing", evidence=evidence, accelerated=True)
    assert chosen == names(Catalogue().candidates(SPACES["cogvideox"], evidence=evidence, accelerated=True))


@pytest.mark.parametrize("wanted", [AUTO, "principal", DEFAULTS["sd1"]["decoder"]])
def test_a_damaged_installation_is_reported_once_whatever_was_requested(tmp_path, installed, wanted):
    folder = tmp_path / "weights"
    shutil.copytree(shipped.WEIGHTS, folder)
    damage_all_files(folder)
    installed(folder)
    chosen, notes = candidates_and_notes(Catalogue(), "sd1", wanted)
    assert chosen[-1] == "principal"
    assert sum("is not the file that shipped" in note for note in notes) == 1
    assert len(notes) == (2 if wanted == DEFAULTS["sd1"]["decoder"] else 1)


# Measured decoders


def measured(folder, name, db, beside=(), *, space="flux2", channels=32, kind="polynomial", row=None, **settings):
    """Writes a user's decoder with the score `db`, or without one if None, and the scores `beside` of others."""
    settings = {"channels": channels} | settings
    metrics = {} if db is None else {"psnr_full_db": db}
    metrics |= {"beside": {other: {"psnr_full_db": theirs} for other, theirs in dict(beside).items()}}
    card = Card(
        name=name, space=space, kind=kind, settings=settings, metrics=metrics, latent_space=row, source="a test"
    )
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in KINDS[kind](**settings).state_dict().items()}
    write_decoder(folder / f"{name}.safetensors", card, {key: torch.zeros(shape) for key, shape in shapes.items()})


def chosen(*folders, space=SPACES["flux2"], **kwargs):
    return Catalogue(folders).candidates(space, **kwargs)[0].name


FLUX2 = DEFAULTS["flux2"]["decoder"]
FAST = chosen(accelerated=True)  # the shipped decoder for FLUX.2 on an accelerator
HEAVY = {"kind": "conv", "widths": [96, 96, 96]}


def test_a_user_decoder_that_was_measured_to_be_better_than_the_default_is_chosen(tmp_path):
    measured(tmp_path, "mine", 22.0, {FLUX2: 20.5})
    assert names(Catalogue([tmp_path]).candidates(SPACES["flux2"])) == ["mine", FAST, "principal"]


@pytest.mark.parametrize(("db", "beside"), [(20.0, {FLUX2: 20.5}), (20.5, {FLUX2: 20.5}), (99.0, {}), (None, {})])
def test_a_user_decoder_that_was_not_measured_to_be_better_is_not_chosen(tmp_path, db, beside):
    measured(tmp_path, "mine", db, beside)
    assert chosen(tmp_path) == FLUX2


def test_the_better_of_two_decoders_is_chosen_if_they_were_compared(tmp_path):
    measured(tmp_path, "first", 22.0, {FLUX2: 20.5})
    measured(tmp_path, "second", 23.0, {"first": 22.4})
    assert chosen(tmp_path) == "second"
    measured(tmp_path, "second", 22.0, {"first": 22.4})
    assert chosen(tmp_path) == "first"


def test_the_better_of_two_decoders_is_chosen_for_a_space_without_shipped_decoders(tmp_path):
    space = {"space": "cogvideox", "channels": 16}
    measured(tmp_path, "a", 18.0, **space)
    assert chosen(tmp_path, space=SPACES["cogvideox"]) == "a"
    measured(tmp_path, "b", 19.0, {"a": 18.0}, **space)
    assert chosen(tmp_path, space=SPACES["cogvideox"]) == "b"


def test_a_heavy_fitted_decoder_is_chosen_only_on_an_accelerator(tmp_path):
    measured(tmp_path, "mine", 30.0, {FLUX2: 20.5, FAST: 24.0}, **HEAVY)
    assert Catalogue([tmp_path]).all()[-1].cost > LIGHT
    assert chosen(tmp_path) == FLUX2
    assert chosen(tmp_path, accelerated=True) == "mine"


def test_a_heavy_decoder_that_was_measured_to_be_worse_is_not_chosen(tmp_path):
    measured(tmp_path, "mine", 19.0, {FLUX2: 20.5, FAST: 24.0}, **{**HEAVY, "widths": [400, 400]})
    assert chosen(tmp_path, accelerated=True) == FAST
    sd1 = DEFAULTS["sd1"]["decoder"]
    measured(tmp_path, "other", 19.0, {sd1: 20.5}, space="sd1", channels=4, **HEAVY)
    assert Catalogue([tmp_path]).candidates(SPACES["sd1"], "other")[0].card.cost > LIGHT
    assert names(Catalogue([tmp_path]).candidates(SPACES["sd1"], accelerated=True)) == [sd1, "principal"]


def host_table():
    return Evidence(host="comfyui", format_name="CogVideoX", channels=16, factors=[[0.1, 0.2, 0.3]] * 16)


@pytest.mark.parametrize(
    ("db", "beside", "expected"),
    [(20.0, {"comfyui-table": 15.0}, "mine"), (14.0, {"comfyui-table": 15.0}, "comfyui-table"), (None, {}, "mine")],
)
def test_the_host_table_is_used_until_a_decoder_is_measured_to_be_better(tmp_path, db, beside, expected):
    measured(tmp_path, "mine", db, beside, space="cogvideox", channels=16)
    candidates = Catalogue([tmp_path]).candidates(SPACES["cogvideox"], evidence=host_table())
    assert candidates[0].name == expected


@pytest.mark.parametrize("metrics", [{"psnr_full_db": "99"}, {"psnr_full_db": [99]}, {"beside": 7}, {"judged_on": 7}])
def test_invalid_metrics_do_not_affect_the_choice(tmp_path, metrics):
    card = Card(
        name="mine", space="flux2", kind="polynomial", settings={"channels": 32}, metrics=metrics, source="a test"
    )
    write_decoder(tmp_path / "mine.safetensors", card, {"weight": torch.zeros(3, 32, 1, 1), "bias": torch.zeros(3)})
    for accelerated in (False, True):
        assert Catalogue([tmp_path]).candidates(SPACES["flux2"], accelerated=accelerated)[0].card.name != "mine"


def test_a_user_file_with_the_name_of_a_shipped_decoder_does_not_replace_it(tmp_path):
    measured(tmp_path, FLUX2, None, kind="conv", widths=[400, 400])
    (candidate,) = (c for c in Catalogue([tmp_path]).candidates(SPACES["flux2"]) if c.name == FLUX2)
    assert candidate.card.source != "a test"


def test_a_fitted_decoder_is_found_by_the_name_in_its_card_and_by_its_file_name(tmp_path):
    measured(tmp_path, "mine", None)
    (tmp_path / "mine.safetensors").rename(tmp_path / "renamed.safetensors")
    for wanted in ("mine", "renamed.safetensors"):
        assert chosen(tmp_path, wanted=wanted) == "mine"


def test_a_file_with_a_known_space_name_and_other_channels_is_skipped(tmp_path):
    measured(tmp_path, "mine", 99.0, {FLUX2: 1.0}, channels=4)
    assert chosen(tmp_path) == FLUX2


@pytest.mark.parametrize("channels", [4, 5])
def test_no_file_is_a_decoder_of_the_unknown_space(tmp_path, channels):
    measured(tmp_path, "mine", 99.0, space="unknown", channels=channels)
    space = unknown(Evidence(host="comfyui", channels=4))
    assert names(Catalogue([tmp_path]).candidates(space)) == ["principal"]


# Reasons


def test_choices_say_for_each_decoder_whether_it_is_chosen_and_why(tmp_path):
    measured(tmp_path, "better", 22.0, {FLUX2: 20.5})
    measured(tmp_path, "worse", 19.0, {"better": 22.0})
    measured(tmp_path, "unmeasured", None)
    measured(tmp_path, "heavy", None, **HEAVY)
    measured(tmp_path, "stray", None, space="nowhere")
    put(tmp_path, "my-favorite.safetensors", tiny_state())
    choices = {choice.card.name: choice for choice in Catalogue([tmp_path]).choices()}
    assert choices.keys() == {card.name for card in Catalogue([tmp_path]).all()}
    assert choices["better"][1:3] == (True, False)
    assert choices["better"].why == f"1.5 dB more than {FLUX2} on the same images (22.0 and 20.5)"
    assert choices[FLUX2].why == "1.5 dB less than better on the same images (20.5 and 22.0)"
    assert choices["worse"].why.startswith("3.0 dB less than better")
    assert choices["unmeasured"].why == "not compared with better"
    assert choices["heavy"].why.startswith(f"too heavy for a CPU; not compared with {FAST}")
    assert choices[FAST].auto_accelerated
    assert f"dB more than {FLUX2} on the same images" in choices[FAST].why
    assert "'nowhere'" in choices["stray"].why
    assert choices["my-favorite.safetensors"].why == (
        "a run in one of these latent spaces tries it: sd1, sdxl, playground25; or select it by name"
    )
    assert choices[DEFAULTS["sd1"]["decoder"]].why == DEFAULTS["sd1"]["why"]


@pytest.mark.parametrize("accelerated", [False, True])
def test_the_choices_are_the_first_candidates(tmp_path, accelerated):
    measured(tmp_path, "better", 22.0, {FLUX2: 20.5})
    put(tmp_path, "taesd_decoder.pth", tiny_state())
    catalogue = Catalogue([tmp_path])
    explained = {c.card.space or "sd1": c.card.name for c in catalogue.choices() if c[1 + accelerated]}
    first = {
        space.name: card.name
        for space in SPACES
        if (card := catalogue.candidates(space, accelerated=accelerated)[0].card).parameters
    }
    assert explained == first


# Latent spaces from files


def row(**changes):
    facts = {
        "name": "mine",
        "title": "Mine",
        "channels": 5,
        "scale": 0.7,
        "hosts": {"comfyui": ("MyFormat",)},
        "source": "here",
    }
    return LatentSpace(**facts | changes)


def evidence(**changes):
    return Evidence(**{"host": "comfyui", "format_name": "MyFormat", "channels": 5, "scale": 0.7} | changes)


def add_space(folder, file="fit", **changes):
    space = row(**changes)
    measured(folder, file, None, space=space.name, channels=space.channels, row=space)
    return space


def test_a_space_from_a_file_is_identified_by_its_evidence_and_decoded_by_the_file(tmp_path):
    space = add_space(tmp_path, mean=(0.0, 0.1, 0.2, 0.3, 0.4))
    catalogue = Catalogue([tmp_path])
    found = identify(evidence(), catalogue.spaces())
    assert found == space
    assert names(catalogue.candidates(found)) == ["fit", "principal"]
    assert {known.name for known in catalogue.spaces()} == {known.name for known in SPACES} | {"mine"}
    assert identify(evidence(), Catalogue().spaces()).name == "unknown"


def test_a_row_from_a_file_that_contradicts_the_host_is_reported(tmp_path):
    add_space(tmp_path)
    with pytest.raises(ContradictionError, match=r"scale 0\.5 instead of 0\.7"):
        identify(evidence(scale=0.5), Catalogue([tmp_path]).spaces())


def test_a_row_from_a_file_does_not_replace_a_known_space(tmp_path):
    measured(tmp_path, "false", None, space="sd1", channels=4, row=row(name="sd1", channels=4))
    catalogue = Catalogue([tmp_path])
    assert catalogue.spaces()["sd1"] is SPACES["sd1"]
    assert "false" not in names(catalogue.of(SPACES["sd1"]))
    assert {c.card.name: c.why for c in catalogue.choices()}["false"].startswith("its numbers do not match")


CLAIMS = [
    {"hosts": {"comfyui": ("Flux",)}, "channels": 16, "scale": 0.3611, "shift": 0.1159},
    {"hosts": {"comfyui": ("SD15", "MyFormat")}, "channels": 4, "scale": 0.18215},
    {
        "hosts": {"comfyui": ("SD15",)},
        "channels": 4,
        "scale": 0.18215,
        "shift": 0.5,
    },  # SD15 gives no shift, so both spaces match
    {"hosts": {"comfyui": ("Flux2",)}, "channels": 32, "scale": 1.0},
    {"hosts": {"comfyui": ("Flux2",)}, "channels": 128, "scale": 1.0},
    {"hosts": {"invokeai": ("flux2",)}, "channels": 32, "scale": 0.5},
    {"hosts": {"diffusers": ("AutoencoderKLWan",)}, "channels": 16, "scale": 0.5},
]


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_a_row_that_could_be_confused_with_a_known_space_is_ignored(tmp_path, claim):
    add_space(tmp_path, **claim)
    assert "mine" not in Catalogue([tmp_path]).spaces()


def test_rows_from_files_do_not_change_how_known_formats_are_identified(tmp_path):
    for i, claim in enumerate(CLAIMS):
        add_space(tmp_path, f"fit{i}", **{**claim, "name": f"mine{i}"})
    spaces = Catalogue([tmp_path]).spaces()
    for space in SPACES:
        for name in space.hosts.get("comfyui", ()):
            for channels in {space.channels, space.packed_channels}:
                facts = Evidence(host="comfyui", format_name=name, channels=channels, scale=space.scale)
                for shift in {space.shift, space.shift or None}:
                    assert identify(replace(facts, shift=shift), spaces) is space


def test_a_known_format_name_with_other_numbers_is_another_space(tmp_path):
    space = add_space(tmp_path, hosts={"comfyui": ("SD15",)}, channels=4, scale=0.5)
    spaces = Catalogue([tmp_path]).spaces()
    facts = Evidence(host="comfyui", format_name="SD15", channels=4, scale=0.5)
    assert identify(facts, spaces) == space
    assert identify(replace(facts, scale=0.18215), spaces) is SPACES["sd1"]


def test_the_first_of_two_rows_for_one_format_is_used(tmp_path):
    add_space(tmp_path, "a", name="first")
    add_space(tmp_path, "b", name="second")
    catalogue = Catalogue([tmp_path])
    assert identify(evidence(), catalogue.spaces()).name == "first"
    assert "second" not in catalogue.spaces()


def test_the_first_of_two_rows_with_one_name_is_used_without_the_decoder_of_the_second(tmp_path):
    add_space(tmp_path, "a", scale=0.7)
    add_space(tmp_path, "b", scale=0.9)
    catalogue = Catalogue([tmp_path])
    assert catalogue.spaces()["mine"].scale == 0.7
    assert names(catalogue.of(catalogue.spaces()["mine"])) == ["a"]


def test_a_file_cannot_define_the_unknown_space(tmp_path):
    measured(tmp_path, "u", None, space="unknown", channels=5, row=row(name="unknown"))
    assert "unknown" not in Catalogue([tmp_path]).spaces()


# Caching


@pytest.fixture
def reads(monkeypatch):
    """Lists the opened files, with a clock far beyond all writes of a test."""
    seen = []
    real_ns, real_open = read_cache.time_ns, decoder_file.open_tensors
    monkeypatch.setattr(read_cache, "time_ns", lambda: real_ns() + 10 * read_cache.SETTLED_NS)
    for module in (decoder_file, shipped):
        monkeypatch.setattr(
            module, "open_tensors", lambda path, *args, **kwargs: seen.append(path) or real_open(path, *args, **kwargs)
        )
    return seen


def test_a_second_call_opens_no_file(tmp_path, reads):
    put(tmp_path, "taesd_decoder.pth", tiny_state())
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04" + bytes(100))
    add_space(tmp_path)
    for ask in (lambda c: c.candidates(SPACES["sd1"]), Catalogue.spaces, Catalogue.all, Catalogue.choices):
        ask(Catalogue([tmp_path]))
        del reads[:]
        ask(Catalogue([tmp_path]))
        assert reads == []


def test_a_pickled_file_is_not_read_to_find_a_space_row(tmp_path, reads):
    put(tmp_path, "taesd_decoder.pth", tiny_state())
    add_space(tmp_path)
    assert "mine" in Catalogue([tmp_path]).spaces()
    assert [path.suffix for path in reads] == [".safetensors"]


def test_the_fingerprint_changes_when_a_user_file_is_added_changed_or_removed(tmp_path):
    catalogue = Catalogue([tmp_path])
    seen = [catalogue.fingerprint(AUTO)]
    for value in (None, 1.0):
        measured(tmp_path, "mine", value)
        seen.append(catalogue.fingerprint(AUTO))
    assert seen[-1] == catalogue.fingerprint(AUTO)
    assert len(set(seen)) == 3
    (tmp_path / "mine.safetensors").unlink()
    assert catalogue.fingerprint(AUTO) == seen[0]
    assert catalogue.fingerprint(FLUX2) == Catalogue().fingerprint(FLUX2)


def test_a_changed_file_is_noticed_at_the_next_call(tmp_path):
    measured(tmp_path, "mine", 22.0, {FLUX2: 20.5})
    assert chosen(tmp_path) == "mine"
    measured(tmp_path, "mine", 19.0, {FLUX2: 20.5})
    assert chosen(tmp_path) == FLUX2
    measured(tmp_path, "mine", 22.0, {FLUX2: 20.5})
    assert chosen(tmp_path) == "mine"
    (tmp_path / "mine.safetensors").unlink()
    assert chosen(tmp_path) == FLUX2


def test_a_shipped_file_that_changes_after_it_was_listed_is_not_opened(tmp_path, installed):
    folder = tmp_path / "weights"
    shutil.copytree(shipped.WEIGHTS, folder)
    installed(folder)
    candidate = Catalogue().candidates(SPACES["flux2"])[0]
    path = folder / f"{candidate.name}.safetensors"
    facts = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(AlteredFileError):
        candidate.open()
