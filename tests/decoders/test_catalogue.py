"""Which decoder is chosen: for every space, for everything one may ask for, whatever is broken."""

import json
import logging
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safelight.decoders import shipped
from safelight.decoders.catalogue import AUTO, WITHOUT_WEIGHTS, Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.errors import DecoderFileError, UnknownDecoderError
from safelight.decoders.files import write_decoder
from safelight.decoders.identify import Evidence, unknown
from safelight.decoders.kinds import KINDS
from safelight.decoders.space_table import SPACES
from safelight.decoders.spaces import AUDIO
from safelight.decoders.tiny import Tiny
from safetensors.torch import save_file

DEFAULTS = json.loads((shipped.WEIGHTS / shipped.DEFAULTS).read_text("utf-8"))


def tiny_state(architecture="taesd", channels=4):
    """Numbers under the keys of the published file."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Tiny(architecture, channels).state_dict().items()}
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
    """Puts another folder in the place of `weights`."""

    def install(folder):
        for name in ("shipped_cards", "open_shipped", "default_for"):
            # Each takes the folder by name, with a default.
            patched = partial(getattr(shipped, name), folder=folder)
            monkeypatch.setattr(f"safelight.decoders.catalogue.{name}", patched)

    return install


# Chosen automatically


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_default_of_a_space_comes_first_and_what_always_works_last(space):
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
def test_a_space_that_nobody_knows_is_shown_all_the_same(channels, dims):
    space = unknown(Evidence(host="comfyui", channels=channels, dims=dims))
    (candidate,) = Catalogue().candidates(space)
    shape = {1: (2, channels, 9), 2: (2, channels, 4, 5), 3: (2, channels, 3, 4, 5)}[dims]
    plain = space.unpack(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    rgb = candidate.open().decode(plain.transpose(1, 2).flatten(0, 1))
    assert torch.isfinite(rgb).all()
    assert rgb.std() > 0


def test_two_runs_never_share_a_decoder_that_remembers():
    (candidate,) = Catalogue().candidates(unknown(Evidence(host="comfyui", channels=5)))
    assert candidate.open().net is not candidate.open().net


def test_where_nothing_at_hand_decodes_a_space_the_host_s_own_table_does():
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


def test_the_host_s_table_need_not_have_a_constant():
    evidence = Evidence(host="comfyui", channels=4, factors=[[1, 0, 0]] * 4)
    table, _ = Catalogue().candidates(unknown(evidence), evidence=evidence)
    assert torch.allclose(table.open().decode(torch.zeros(1, 4, 1, 1)), torch.full((1, 3, 1, 1), 0.5))
    assert table.card.parameters == 12


@pytest.mark.parametrize("factors", [[[1.0, 2.0]] * 6, [[1.0, 2.0, 3.0], [1.0]] * 3, [["a", "b", "c"]] * 6])
def test_a_host_s_table_that_is_none_costs_nobody_the_other_decoders(factors):
    evidence = Evidence(host="comfyui", channels=6, factors=factors)
    table, generic = Catalogue().candidates(unknown(evidence), evidence=evidence)
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        table.open()
    assert generic.open().decode(torch.zeros(1, 6, 2, 2)).shape == (1, 3, 2, 2)


def test_a_host_s_table_of_other_latents_is_left_out():
    evidence = Evidence(host="comfyui", channels=6, factors=[[1.0, 1.0, 1.0]] * 5)
    assert names(Catalogue().candidates(unknown(evidence), evidence=evidence)) == ["principal"]


def test_a_shipped_decoder_is_preferred_to_the_host_s_table():
    evidence = Evidence(host="comfyui", channels=16, factors=[[1.0, 1.0, 1.0]] * 16)
    assert "comfyui-table" not in names(Catalogue().candidates(SPACES["flux1"], evidence=evidence))


# The user's files


@pytest.mark.parametrize("name", ["taef2_decoder.safetensors", "taesd_decoder.pth", "anything.sft", "Ä b.safetensors"])
def test_a_file_whose_content_says_its_space_is_found_under_any_name(tmp_path, name):
    put(tmp_path, name, tiny_state("taef2", 32))
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
def test_where_the_content_leaves_the_space_open_the_published_name_says_it(tmp_path, name, channels, space):
    put(tmp_path, name, tiny_state(channels=channels))
    catalogue = Catalogue([tmp_path])
    alike = [row for row in SPACES if row.channels == channels]
    assert [row.name for row in alike if name in names(catalogue.candidates(row))] == [space]


def test_a_file_that_could_be_of_several_spaces_is_used_only_when_it_is_asked_for(tmp_path):
    put(tmp_path, "my-favourite.safetensors", tiny_state())
    catalogue = Catalogue([tmp_path])
    alike = [space for space in SPACES if space.channels == 4]
    assert not any("my-favourite.safetensors" in names(catalogue.candidates(space)) for space in alike)
    for space in ("sd1", "sdxl"):
        candidates = catalogue.candidates(SPACES[space], "my-favourite.safetensors")
        assert candidates[0].name == "my-favourite.safetensors"
        assert candidates[0].open().decode(torch.zeros(1, 4, 2, 2)).shape == (1, 3, 16, 16)


def test_a_published_name_on_the_wrong_content_does_not_make_it_a_decoder_of_that_space(tmp_path):
    put(tmp_path, "taesd_decoder.pth", tiny_state(channels=16))
    assert "taesd_decoder.pth" not in names(Catalogue([tmp_path]).candidates(SPACES["sd1"]))


def test_heavy_decoders_come_first_where_they_pay_and_second_elsewhere(tmp_path):
    put(tmp_path, "taesd_decoder.pth", tiny_state())
    catalogue = Catalogue([tmp_path])
    default = DEFAULTS["sd1"]["decoder"]
    assert names(catalogue.candidates(SPACES["sd1"])) == [default, "taesd_decoder.pth", "principal"]
    assert names(catalogue.candidates(SPACES["sd1"], accelerated=True)) == ["taesd_decoder.pth", default, "principal"]


def test_an_earlier_folder_wins_and_folders_are_searched_anew(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    catalogue = Catalogue([first, second])
    put(second, "taesd_decoder.safetensors", tiny_state())
    assert "taesd_decoder.safetensors" in catalogue.names()
    first.mkdir()
    put(first, "taesd_decoder.safetensors", tiny_state("taef2", 32))
    assert catalogue.names().count("taesd_decoder.safetensors") == 1
    assert "taesd_decoder.safetensors" in names(catalogue.candidates(SPACES["flux2"]))
    assert "taesd_decoder.safetensors" not in names(catalogue.candidates(SPACES["sd1"]))


def test_a_decoder_of_our_own_format_without_any_number_of_channels_troubles_nobody(tmp_path):
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
def test_a_broken_file_is_passed_over_but_says_why_when_it_is_asked_for(tmp_path, suffix, content):
    name = f"taesd_decoder{suffix}"
    (tmp_path / name).write_bytes(content)
    catalogue = Catalogue([tmp_path])
    assert names(catalogue.candidates(SPACES["sd1"])) == [DEFAULTS["sd1"]["decoder"], "principal"]
    assert name not in [card.name for card in catalogue.all()]
    assert name in catalogue.names()
    with pytest.raises(DecoderFileError, match=name):
        catalogue.candidates(SPACES["sd1"], name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_with_any_damage_is_passed_over(tmp_path, suffix):
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


def test_what_is_no_decoder_file_is_not_looked_at(tmp_path):
    for name in ("notes.txt", "model.ckpt", "x.safetensors.part"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "folder.safetensors").mkdir()
    assert set(Catalogue([tmp_path, tmp_path / "nowhere", Path("\0")]).names()) == set(Catalogue().names())


# Asked for


def test_everything_one_may_ask_for_is_named():
    catalogue = Catalogue()
    assert catalogue.names()[0] == AUTO
    assert set(KINDS) <= set(catalogue.names())
    assert {card.name for card in catalogue.all()} <= set(catalogue.names())
    assert len(set(catalogue.names())) == len(catalogue.names())


def test_a_decoder_is_had_by_its_name_with_the_others_behind_it():
    catalogue = Catalogue()
    other = next(c.name for c in catalogue.all() if c.space == "sd1" and c.name != DEFAULTS["sd1"]["decoder"])
    candidates = catalogue.candidates(SPACES["sd1"], other)
    assert names(candidates) == [other, DEFAULTS["sd1"]["decoder"], "principal"]


def test_what_is_asked_for_is_tried_once_even_if_it_is_the_default():
    default = DEFAULTS["sd1"]["decoder"]
    assert names(Catalogue().candidates(SPACES["sd1"], default)) == [default, "principal"]


def test_a_kind_is_had_by_its_name(tmp_path):
    put(tmp_path, "taesd_decoder.pth", tiny_state())
    catalogue = Catalogue([tmp_path])
    assert catalogue.candidates(SPACES["sd1"], "tiny")[0].name == "taesd_decoder.pth"
    first = catalogue.candidates(SPACES["sd1"], "polynomial")[0]
    assert first.card.kind == "polynomial"


@pytest.mark.parametrize("kind", [kind for kind in WITHOUT_WEIGHTS if kind != "pixels"])
def test_what_needs_no_weights_is_had_for_every_space(kind):
    for space in SPACES:
        assert Catalogue().candidates(space, kind)[0].name == kind


def test_pixels_are_had_where_there_are_three_channels():
    catalogue = Catalogue()
    assert catalogue.candidates(SPACES["pixels"], "pixels")[0].name == "pixels"
    with pytest.raises(UnknownDecoderError, match=r"3 channels as they are.*have 4"):
        catalogue.candidates(SPACES["sd1"], "pixels")


def test_a_decoder_of_another_space_is_refused_with_what_is_at_hand(tmp_path):
    default = DEFAULTS["sd1"]["decoder"]
    with pytest.raises(UnknownDecoderError) as refused:
        Catalogue([tmp_path]).candidates(SPACES["sd1"], DEFAULTS["flux2"]["decoder"])
    message = str(refused.value)
    assert f"decodes flux2 of 32 channels, not {SPACES['sd1'].title} (sd1) of 4" in message
    assert default in message
    assert str(tmp_path) in message


def test_a_user_s_file_of_another_space_is_refused(tmp_path):
    put(tmp_path, "a.safetensors", tiny_state("taef2", 32))
    with pytest.raises(UnknownDecoderError, match=r"decoder a\.safetensors decodes flux2 of 32 channels"):
        Catalogue([tmp_path]).candidates(SPACES["flux1"], "a.safetensors")
    put(tmp_path, "b.safetensors", tiny_state())
    with pytest.raises(UnknownDecoderError, match="decodes latents of 4 channels"):
        Catalogue([tmp_path]).candidates(SPACES["flux1"], "b.safetensors")


@pytest.mark.parametrize("wanted", ["no-such-decoder", "", "../sd1", "../weights/defaults.json", "\0"])
def test_a_name_that_nothing_has_is_refused_with_what_is_at_hand(wanted):
    with pytest.raises(UnknownDecoderError, match=rf"no decoder is called .*{DEFAULTS['sd1']['decoder']}"):
        Catalogue().candidates(SPACES["sd1"], wanted)


def test_a_kind_that_a_space_has_none_of_is_refused_with_what_is_at_hand():
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
def test_a_broken_installation_still_shows_something_and_says_why(tmp_path, installed, caplog, damage):
    folder = tmp_path / "weights"
    shutil.copytree(shipped.WEIGHTS, folder)
    damage(folder)
    installed(folder)
    with caplog.at_level(logging.WARNING, "safelight.decoders"):
        for space in (SPACES["sd1"], SPACES["wan21"]):
            assert names(Catalogue().candidates(space)) == ["principal"]
    assert caplog.records
    assert Catalogue().names() == [AUTO, *KINDS]
    with pytest.raises(UnknownDecoderError, match="At hand for it: none"):
        Catalogue().candidates(SPACES["sd1"], DEFAULTS["sd1"]["decoder"])


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'{"sd1": {}}', b'{"sd1": "?"}', b"\xff"])
def test_without_a_list_of_defaults_the_decoders_are_there_all_the_same(tmp_path, installed, content):
    folder = tmp_path / "weights"
    shutil.copytree(shipped.WEIGHTS, folder)
    (folder / shipped.DEFAULTS).unlink()
    if content is not None:
        (folder / shipped.DEFAULTS).write_bytes(content)
    installed(folder)
    candidates = Catalogue().candidates(SPACES["sd1"])
    assert candidates[0].card.space == "sd1"
    assert candidates[-1].name == "principal"


def test_one_altered_file_costs_only_itself(tmp_path, installed):
    folder = tmp_path / "weights"
    shutil.copytree(shipped.WEIGHTS, folder)
    default = DEFAULTS["sd1"]["decoder"]
    (folder / f"{default}.safetensors").write_bytes(b"altered")
    installed(folder)
    chosen = names(Catalogue().candidates(SPACES["sd1"]))
    assert default not in chosen
    assert chosen[0].startswith("sd1-")
