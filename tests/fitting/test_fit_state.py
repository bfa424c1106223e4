"""A fit that was interrupted goes on where it stopped."""

import hashlib
import json
import math
import os
from dataclasses import replace

import pytest
import torch
from safelight.decoders.files.tensor_file import write_tensors
from safelight.decoders.nets.conv import Conv
from safelight.fitting import train
from safelight.fitting.fit_state import STATE_FORMAT, FitState, fit_key
from safelight.fitting.train import Recipe, train_net

pytestmark = pytest.mark.usefixtures("_one_thread")
RECIPE = Recipe(steps=12, batch=4, lr=5e-3)


def net():
    return Conv(4, (6, 6), subpixel=2, overall=True)


def test_a_training_in_two_parts_equals_one_in_one_part(toy_pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "VALIDATION_STEPS", 4)
    pairs, validation = toy_pairs(12), toy_pairs(3, seed=1)
    whole = net()
    db = train_net(whole, pairs, validation, RECIPE)

    def stop(step):
        if step.step == 6:
            raise KeyboardInterrupt

    first = FitState(tmp_path / "mine", "key")
    train_net(net(), pairs, validation, RECIPE, stop, on_state=lambda state: first.save_training("conv", state))
    training = FitState(tmp_path / "mine", "key").training("conv")
    assert training.step == 6
    second, steps = net(), []
    assert train_net(second, pairs, validation, RECIPE, steps.append, earlier=training) == db
    assert [step.step for step in steps] == list(range(7, 13))
    assert not any(math.isnan(step.validation_db) for step in steps)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], tensor)


def test_finished_presets_are_not_fitted_again(tmp_path):
    settings = {"channels": 4, "widths": (6, 6), "subpixel": 2, "overall": True}
    done = net()
    FitState(tmp_path / "mine", "key").finish("conv", done, 21.5)
    found, db = FitState(tmp_path / "mine", "key").finished("conv", "conv", settings)
    assert db == 21.5
    assert all(torch.equal(found.state_dict()[key], value) for key, value in done.state_dict().items())
    assert FitState(tmp_path / "mine", "key").finished("mlp", "mlp", {}) is None


def test_other_inputs_start_again_with_a_line(tmp_path):
    first = FitState(tmp_path / "mine", "key")
    first.finish("conv", net(), 21.5)
    assert not first.notes
    assert "the fit goes on where it stopped" in FitState(tmp_path / "mine", "key").notes[0]
    other = FitState(tmp_path / "mine", "another key")
    assert "of other options or other pictures; the fit starts again" in other.notes[0]
    assert other.finished("conv", "conv", {}) is None


def test_other_pairs_start_again_with_a_line(tmp_path):
    first = FitState(tmp_path / "mine", "key")
    first.expect_dataset("these pairs")
    first.finish("conv", net(), 21.5)
    again = FitState(tmp_path / "mine", "key")
    again.expect_dataset("other pairs")
    assert again.finished("conv", "conv", {}) is None
    assert "the training or validation pictures are others than before" in again.notes[-1]


@pytest.mark.parametrize("damage", ["text", "format", "facts", "parts"])
def test_a_damaged_state_starts_again(tmp_path, damage):
    path = tmp_path / "mine.fit-state"
    if damage == "text":
        path.write_text("no state")
    else:
        key = hashlib.sha256(b"key").hexdigest()
        facts = "[]" if damage == "facts" else json.dumps({"key": key, "finished": [], "written": {}})
        write_tensors(
            path,
            {"a": torch.zeros(1)},
            {"format": STATE_FORMAT[:-1] if damage == "format" else STATE_FORMAT, "facts": facts},
        )
    state = FitState(tmp_path / "mine", "key")
    assert "cannot be read" in state.notes[0]
    assert state.training("conv") is None


def test_a_pipe_in_the_place_of_the_state_holds_up_nothing(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes in folders")
    os.mkfifo(tmp_path / "mine.fit-state")
    assert "cannot be read" in FitState(tmp_path / "mine", "key").notes[0]


def test_a_state_that_cannot_be_written_does_not_stop_the_fit(tmp_path):
    (tmp_path / "file").touch()
    state = FitState(tmp_path / "file" / "mine", "key")
    state.finish("conv", net(), 21.5)
    state.finish("mlp", net(), 21.5)
    assert len(state.notes) == 1
    assert "an interrupted fit would start again" in state.notes[0]


def test_encoded_pairs_are_reused_only_for_the_same_inputs(tmp_path, toy_pairs):
    pairs, calls = replace(toy_pairs(3), image_ids=tuple(f"{i:012x}" for i in range(1, 4))), []

    def encode():
        calls.append(1)
        return pairs

    FitState(tmp_path / "mine", "key").pairs(encode)
    again = FitState(tmp_path / "mine", "key").pairs(encode)
    assert len(calls) == 1
    assert torch.equal(again.latents, pairs.latents)
    assert again.image_ids == pairs.image_ids
    state = FitState(tmp_path / "mine", "other")
    state.pairs(encode)
    assert len(calls) == 2
    state.remove()
    assert not list(tmp_path.iterdir())


def test_only_unchanged_files_of_the_interrupted_fit_are_removed(tmp_path):
    ours, changed = tmp_path / "ours.safetensors", tmp_path / "changed.safetensors"
    for path in (ours, changed):
        path.write_bytes(b"decoder")
    FitState(tmp_path / "mine", "key").written([ours, changed])
    changed.write_bytes(b"another one")
    FitState(tmp_path / "mine", "key").remove_written()
    assert not ours.exists()
    assert changed.exists()


def test_the_key_changes_with_options_and_files(tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(b"one")
    first = fit_key({"steps": 3}, [tmp_path])
    assert fit_key({"steps": 3}, [tmp_path]) == first
    assert fit_key({"steps": 4}, [tmp_path]) != first
    file.write_bytes(b"other")
    assert fit_key({"steps": 3}, [tmp_path]) != first
