"""What was learned is listed and removed; nothing else is."""

import errno
import os
import re
import threading

import pytest
import torch
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import read_card, write_decoder
from safelight.decoders.files.tensor_file import write_tensors
from safelight.decoders.nets.polynomial import Polynomial
from safelight.errors import FitError
from safelight.fitting.online import learned_files
from safelight.fitting.online.learned_files import LearnedFiles, forget_space, list_learned_files, list_learned_spaces
from safelight.fitting.online.state import EARLIER_STATE_FORMAT, ONLINE_SOURCE

OTHER_VAE = "0f1e2d3c4b5a"

pytestmark = pytest.mark.usefixtures("_one_thread")


def write_polynomial(path, source=ONLINE_SOURCE, space="sdxl", vae=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    card = Card(name=path.stem, space=space, kind="polynomial", settings={"channels": 4}, source=source, vae=vae)
    write_decoder(path, card, Polynomial(4).state_dict())


def write_earlier(folder, space="sdxl"):
    """The files of an earlier Safelight."""
    write_polynomial(folder / f"{space}-learned.safetensors", space=space)
    state = folder / "learned" / f"{space}.safetensors"
    state.parent.mkdir(exist_ok=True)
    write_tensors(state, {"a": torch.zeros(9)}, {"format": EARLIER_STATE_FORMAT})
    return {state, folder / f"{space}-learned.safetensors"}


def test_learned_spaces_are_listed_by_space_and_vae(files, learn):
    assert list_learned_spaces(files.folder) == []
    learn(files.folder, range(8))
    learn(files.folder, range(2), vae=OTHER_VAE)
    second, first = list_learned_spaces(files.folder)
    assert (first.space, first.vae, first.decoder, first.kind, first.problem) == (
        *("sdxl", files.vae, files.decoder, "polynomial", None),
    )
    assert (first.pairs, first.state.pictures, len(first.state.test_pairs)) == (6, 6, 2)
    assert first.learned_db == read_card(files.decoder).metrics["psnr_latent_db"]
    assert first.learned_db > first.state.comparison.in_use_db
    assert first.file_bytes == files.decoder.stat().st_size + sum(
        path.stat().st_size for path in files.parent.rglob("*") if path.is_file()
    )
    assert (second.vae, second.pairs, second.decoder, second.learned_db) == (OTHER_VAE, 1, None, None)


def test_a_space_is_removed_with_all_its_vaes(files, learn):
    learn(files.folder, range(8))
    learn(files.folder, range(2), vae=OTHER_VAE)
    other = LearnedFiles(files.folder, "sdxl", OTHER_VAE)
    assert set(forget_space(files.folder, "sdxl")) == {files.parent, files.decoder, other.parent}
    assert list_learned_spaces(files.folder) == []
    assert not list(files.folder.rglob("*.safetensors"))
    with pytest.raises(FitError, match="nothing was learned for 'sdxl'"):
        forget_space(files.folder, "sdxl")


def test_removing_a_space_leaves_others_and_files_of_other_programs(files, learn):
    learn(files.folder, range(2))
    write_polynomial(files.decoder, source="another program", vae=files.vae)
    sd1 = files.folder / "sd1-learned-a1b2c3.safetensors"
    write_polynomial(sd1, space="sd1", vae=files.vae)
    assert forget_space(files.folder, "sdxl") == [files.parent]
    assert files.decoder.exists()
    assert sd1.exists()


@pytest.mark.parametrize("name", ["../sdxl", "learned/sdxl", "", ".", "sdxl-a1b2c3d4e5f6"])
def test_a_name_that_is_no_learned_space_removes_nothing(files, learn, name):
    learn(files.folder / "models", range(2))
    write_polynomial(files.folder / "sdxl.safetensors")
    with pytest.raises(FitError, match="learned spaces: sdxl"):
        forget_space(files.folder / "models", name)
    assert (files.folder / "sdxl.safetensors").exists()
    assert (files.folder / "models" / "learned" / "sdxl-a1b2c3d4e5f6").is_dir()


@pytest.mark.parametrize(
    ("space", "vae"),
    [
        ("sdxl", "a1b2c3d4e5f6/../../../photos"),
        ("../../photos", ""),
        ("sdxl", "../photos"),
        ("..", "a1b2c3d4e5f6"),
        ("SDXL ", ""),
    ],
)
def test_a_card_cannot_lead_to_another_folder(tmp_path, learn, space, vae):
    """A decoder file of a stranger says that it was learned, from a VAE whose name is a path."""
    folder, photos = tmp_path / "models" / "safelight", tmp_path / "photos"
    for path in (photos, folder / "learned" / "photos", folder / "photos"):
        path.mkdir(parents=True)
        (path / "holiday.png").write_bytes(b"a photo")
    learn(folder, range(2))
    write_polynomial(folder / "gift-learned-1.safetensors", space=space, vae=vae)
    assert {(files.space, files.vae) for files in list_learned_files(folder)} == {
        ("sdxl", "a1b2c3d4e5f6"),
        ("photos", ""),
    }
    forget_space(folder, "sdxl")
    with pytest.raises(FitError, match="nothing was learned"):
        forget_space(folder, space)
    assert len(list(tmp_path.rglob("holiday.png"))) == 3


def test_a_link_in_place_of_a_learned_folder_is_not_followed(files, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.png").write_bytes(b"a photo")
    files.parent.parent.mkdir()
    files.parent.symlink_to(photos, target_is_directory=True)
    assert forget_space(files.folder, "sdxl") == [files.parent]
    assert not files.parent.is_symlink()
    assert (photos / "holiday.png").exists()


def in_thread(function):
    """Calls a function in a thread, and fails if it waits without end. Returns the error that it raised."""
    errors = []

    def call():
        try:
            function()
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return errors


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_in_place_of_a_file_does_not_hold_up_learning(files, learn):
    learn(files.folder, range(8))
    lock = files.parent.parent / ".lock"
    for path in (files.net, files.state, lock):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        assert in_thread(lambda: learn(files.folder, [90])) == []
    assert files.state.is_file()


def test_a_link_in_place_of_the_lock_creates_no_file_elsewhere(files, learn, tmp_path):
    files.parent.parent.mkdir()
    (files.parent.parent / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        learn(files.folder, [1])
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_looks_like_a_file_in_progress_does_not_end_learning(files, learn):
    (files.parent / ".state.part").mkdir(parents=True)
    learn(files.folder, range(2))
    assert files.state.is_file()


def test_a_damaged_state_is_listed_with_the_reason(files, learn):
    learn(files.folder, range(8))
    files.state.write_bytes(files.state.read_bytes()[:5000])
    (row,) = list_learned_spaces(files.folder)
    assert row.state is None
    assert "not a whole safetensors file" in row.problem
    assert row.decoder == files.decoder
    assert row.pairs == 6


def test_files_of_an_earlier_safelight_are_listed_until_they_are_removed(files, learn):
    earlier = write_earlier(files.folder)
    learn(files.folder, range(8))
    now, before = list_learned_spaces(files.folder)
    assert now.vae == files.vae
    assert (before.space, before.vae, before.state) == ("sdxl", None, None)
    assert before.decoder == files.folder / "sdxl-learned.safetensors"
    assert re.search("from an earlier Safelight, which mixed the VAEs of a space", before.problem)
    assert before.file_bytes == sum(path.stat().st_size for path in earlier)
    assert set(forget_space(files.folder, "sdxl")) == earlier | {files.parent, files.decoder}


def test_files_of_an_earlier_safelight_alone_can_be_removed(tmp_path):
    earlier = write_earlier(tmp_path)
    write_polynomial(tmp_path / "sd1-learned.safetensors", source="another program", space="sd1")
    assert [row.space for row in list_learned_spaces(tmp_path)] == ["sdxl"]
    assert set(forget_space(tmp_path, "sdxl")) == earlier
    assert (tmp_path / "sd1-learned.safetensors").exists()


def test_a_lock_that_windows_gives_up_after_ten_seconds_is_waited_for(tmp_path, monkeypatch):
    wait, tries = learned_files._wait_for_lock, []

    def wait_as_windows(file):
        tries.append(file)
        if len(tries) < 3:
            raise OSError(errno.EDEADLK, "Resource deadlock avoided")
        wait(file)

    monkeypatch.setattr(learned_files, "_wait_for_lock", wait_as_windows)
    with learned_files.learning_locked(tmp_path):
        assert len(tries) == 3


def test_a_file_system_without_locks_is_tried_once(tmp_path, monkeypatch):
    tries = []

    def refuse(file):
        tries.append(file)
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(learned_files, "_wait_for_lock", refuse)
    with learned_files.learning_locked(tmp_path):
        assert len(tries) == 1
