"""Tests trials of decoder files on the finished latents of a run: bounds, verdicts and notes."""

import pytest
import torch
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import to_bytes
from safelight.decoders.files.decoder_file import read_card
from safelight.decoders.files.shipped import WEIGHTS, open_shipped
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.taesd import Taesd, taesd
from safelight.preview.decode import decoder_trial
from safelight.preview.decode.decoder_trial import DecoderTrial
from safetensors.torch import load_file, save_file

FLUX2 = SPACES["flux2"]
TINY = 1e-3  # SiLU is linear for small values: silu(x) is about x / 2


def latents(index=0):
    return load_file(WEIGHTS / "demo-flux2-latents.safetensors")["latents"][index : index + 1, :, None].float()


def put_table(folder, name, order=None):
    """Writes the published table of FLUX.2 as a file of another project; `order` shuffles its channels."""
    net = open_shipped("flux2-affine-comfyui").net
    weight, bias = net.weight[:, :, 0, 0], net.bias
    black_to_white = 2.0  # files of this kind give -1..1, ours 0..1
    rows = weight if order is None else weight[:, order.argsort()]  # as if it decoded `latents[:, order]`
    state = {
        "in_proj.weight": rows.contiguous() * TINY,
        "in_proj.bias": torch.zeros(3),
        "out_proj.weight": torch.eye(3) * 2 / TINY * black_to_white,
        "out_proj.bias": bias * black_to_white - 1,
    }
    save_file(state, folder / name)
    return folder / name


def put_taesd(folder, name, channels=32):
    state = {key.removeprefix("layers."): value for key, value in Taesd(taesd(channels, pooled=1)).state_dict().items()}
    save_file(state, folder / name)
    return folder / name


SHUFFLED = torch.randperm(32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def notes():
    return []


@pytest.fixture
def trial(tmp_path, notes):
    """A function that tries the files on the latents of one run, and returns what is known then, by file."""

    def run(*indices, clock=lambda: 0.0):
        for index in indices or (0,):
            trial = DecoderTrial(Catalogue([tmp_path]), FLUX2, notes.append, clock=clock)
            trial.take(latents(index))
            trial.run()
        return {file.name: file.spaces for file in Catalogue([tmp_path]).trials().files.values()}

    return run


def used(folder, space=FLUX2):
    return [c.name for c in Catalogue([folder]).of(space) if c.card.recognized]


def test_the_right_file_is_taken_and_the_wrong_one_is_refused_whatever_they_are_called(tmp_path, trial):
    put_table(tmp_path, "unknown.safetensors")
    put_table(tmp_path, "taef2_decoder.safetensors", SHUFFLED)
    assert used(tmp_path) == ["taef2_decoder.safetensors"]
    found = trial(0)
    assert found["unknown.safetensors"]["flux2"].value > 0.8
    assert found["taef2_decoder.safetensors"]["flux2"].value < 0.1
    assert used(tmp_path) == ["unknown.safetensors"]


def test_a_file_that_one_picture_does_not_settle_is_tried_again_until_it_is(tmp_path, trial):
    put_table(tmp_path, "unknown.safetensors")
    assert trial(2)["unknown.safetensors"]["flux2"].is_of_space is None
    assert used(tmp_path) == []
    found = trial(3, 1)["unknown.safetensors"]["flux2"]
    assert (found.pictures, found.is_of_space) == (3, True)
    assert trial(0)["unknown.safetensors"]["flux2"].pictures == 3


def test_the_vaes_picture_decides_where_there_is_one(tmp_path, trial, notes):
    put_table(tmp_path, "unknown.safetensors", SHUFFLED)
    z = latents()
    by_vae = to_bytes(open_shipped("flux2-affine-comfyui").decode(z[:, SHUFFLED, 0]))[0].numpy()
    trial = DecoderTrial(Catalogue([tmp_path]), FLUX2, notes.append)
    trial.take(z, by_vae.repeat(8, 0).repeat(8, 1))
    trial.run()
    assert used(tmp_path) == ["unknown.safetensors"]


def test_the_middle_of_large_latents_is_decoded(tmp_path, monkeypatch, trial):
    monkeypatch.setattr(decoder_trial, "MAX_SIDE", 32)
    sizes = []
    compare = decoder_trial.compare_pictures
    monkeypatch.setattr(
        decoder_trial, "compare_pictures", lambda rgb, known, size: sizes.append(size) or compare(rgb, known, size)
    )
    put_table(tmp_path, "unknown.safetensors")
    assert trial(0)["unknown.safetensors"]["flux2"].is_of_space is True
    assert sizes == [(32, 32)]


def test_a_heavy_decoder_decodes_a_small_part_within_the_bounds(tmp_path, monkeypatch, trial):
    path = put_taesd(tmp_path, "heavy.safetensors")
    cost = read_card(path).cost
    sizes = []
    monkeypatch.setattr(decoder_trial, "compare_pictures", lambda rgb, known, size: sizes.append(size))
    monkeypatch.setattr(decoder_trial, "MAX_MULTIPLICATIONS", cost * 12**2)
    trial()
    monkeypatch.setattr(decoder_trial, "MAX_MULTIPLICATIONS", cost * 4)
    trial()
    monkeypatch.setattr(decoder_trial, "MAX_MULTIPLICATIONS", cost * 12**2)
    monkeypatch.setattr(decoder_trial, "MAX_BYTES", 1000)
    trial()
    assert sizes == [(12, 12)]


def test_no_further_file_is_tried_when_the_time_is_over(tmp_path, trial):
    for name in "abc":
        put_table(tmp_path, f"{name}.safetensors", torch.roll(SHUFFLED, ord(name)))
    times = iter([0.0, 0.1, decoder_trial.MAX_SECONDS + 0.1])
    assert len(trial(clock=lambda: next(times))) == 1
    assert len(trial()) == 3


def test_a_decoder_that_fails_is_refused(tmp_path, monkeypatch, trial):
    put_table(tmp_path, "taef2_decoder.safetensors")
    monkeypatch.setattr(
        "safelight.decoders.nets.mlp.Mlp.forward", lambda *_: (_ for _ in ()).throw(RuntimeError("a fault"))
    )
    assert trial()["taef2_decoder.safetensors"]["flux2"].is_of_space is False
    assert used(tmp_path) == []


def test_a_file_that_changes_while_it_is_tried_is_forgotten(tmp_path, monkeypatch, trial):
    put_table(tmp_path, "unknown.safetensors")

    def swap(path):
        put_table(tmp_path, "unknown.safetensors", SHUFFLED)
        return "0" * 64

    monkeypatch.setattr(decoder_trial, "sha256_of", swap)
    assert trial() == {}


@pytest.mark.parametrize("space", ["kvae", "stable_audio1"])
def test_without_a_known_decoder_or_a_picture_nothing_is_tried(tmp_path, notes, space):
    put_taesd(tmp_path, "unknown.safetensors", channels=SPACES[space].channels)
    trial = DecoderTrial(Catalogue([tmp_path]), SPACES[space], notes.append)
    trial.take(torch.randn(1, SPACES[space].channels, 1, 8, 8))
    trial.run()
    assert [path.name for path in tmp_path.iterdir()] == ["unknown.safetensors"]


def test_latents_that_are_not_finite_prove_nothing(tmp_path, notes):
    put_table(tmp_path, "unknown.safetensors")
    trial = DecoderTrial(Catalogue([tmp_path]), FLUX2, notes.append)
    trial.run()
    broken = latents()
    broken[0, 3, 0, 32, 32] = float("nan")
    trial.take(broken)
    trial.run()
    assert [path.name for path in tmp_path.iterdir()] == ["unknown.safetensors"]


def test_files_that_are_not_used_are_noted_once(tmp_path, notes, trial):
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    save_file({"0.weight": torch.zeros(8, 3, 3, 3), "1.weight": torch.zeros(4, 8, 3, 3)}, tmp_path / "enc.safetensors")
    put_table(tmp_path, "taef2_decoder.safetensors", SHUFFLED)
    for _ in range(2):
        DecoderTrial(Catalogue([tmp_path]), FLUX2, notes.append).note_unusable()
    assert len(notes) == 1
    assert notes[0].startswith("the decoder file broken.safetensors is not used. ")
    trial()
    for _ in range(2):
        DecoderTrial(Catalogue([tmp_path]), FLUX2, notes.append).note_unusable()
    assert len(notes) == 2
    assert notes[1].startswith("the decoder file taef2_decoder.safetensors is not used. tried on a picture of flux2")


def test_files_in_a_folder_that_cannot_be_written_are_not_noted_again_and_again(tmp_path, notes, monkeypatch):
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(Catalogue, "save_trials", refuse)
    DecoderTrial(Catalogue([tmp_path]), FLUX2, notes.append).note_unusable()
    assert notes == []
