"""The options of a run: every row is complete, and every value is checked."""

import numpy as np
import pytest
import torch
from safelight.errors import OptionError, SinkError
from safelight.preview.options import RunOptions, row, rows
from safelight.preview.snapshot import GivenFrames

WRONG = {str: 3, int: 1.5, float: "fast", bool: 1}


def test_every_option_has_help_a_default_that_is_allowed_and_a_range_or_choices():
    assert len(rows()) >= 20
    for each in rows():
        assert each.help.endswith("."), each.name
        assert each.help[0].isupper(), each.name
        RunOptions(**{each.name: each.default})
        if each.type in (int, float):
            assert each.minimum <= each.default <= each.maximum, each.name
        for needed in each.needs:
            assert row(needed) in rows()


@pytest.mark.parametrize("each", rows(), ids=lambda each: each.name)
def test_a_value_of_another_type_is_refused_by_name(each):
    with pytest.raises(OptionError, match=rf"^{each.name}: expected "):
        RunOptions(**{each.name: WRONG[each.type]})
    with pytest.raises(ValueError, match=each.name):
        RunOptions(**{each.name: None})


@pytest.mark.parametrize("each", [row for row in rows() if row.choices], ids=lambda each: each.name)
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(each):
    with pytest.raises(OptionError, match=f"expected one of {', '.join(each.choices)}, got 'purple'"):
        RunOptions(**{each.name: "purple"})


@pytest.mark.parametrize("each", [row for row in rows() if row.type in (int, float)], ids=lambda each: each.name)
def test_a_number_out_of_range_is_refused(each):
    beyond = [each.minimum - 1, each.maximum + 1]
    if each.type is float:
        beyond += [float("nan"), float("inf")]
    for value in beyond:
        with pytest.raises(OptionError, match=f"{each.name}: expected {each.minimum:g} to {each.maximum:g}"):
            RunOptions(**{each.name: each.type(value)})


def test_a_bool_is_no_number():
    with pytest.raises(OptionError, match="every_n_steps: expected a whole number, got True"):
        RunOptions(every_n_steps=True)


def test_the_choices_of_animation_include_off_and_each_format():
    assert row("animation").choices == ("off", "webp", "gif", "mp4")


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(OptionError, match="decoder full decodes finished latents, not noise"):
        RunOptions(decoder="full", show="noisy")
    with pytest.raises(OptionError, match="from step 9 to step 3 has no frames; let it end at a later step, or at 0"):
        RunOptions(animation="webp", animation_from_step=9, animation_to_step=3)
    RunOptions(animation="off", animation_from_step=9, animation_to_step=3)


def test_an_mp4_is_refused_before_the_run_if_pyav_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SinkError, match="needs PyAV"):
        RunOptions(animation="mp4")


def test_options_are_built_from_a_hosts_inputs_and_ignore_its_own():
    options = RunOptions.of({"model": object(), "every_n_steps": 3}, write_intermediates=True)
    assert (options.every_n_steps, options.write_intermediates) == (3, True)


def test_the_vae_decodes_some_steps_and_auto_the_others():
    assert RunOptions(decoder="full").step_decoder == "auto"
    assert RunOptions(decoder="tiny").step_decoder == "tiny"


def test_the_shown_part_of_the_latents_follows_batch_and_frames():
    assert RunOptions(batch="first", frames="all files").selection(16).items == 1
    assert RunOptions(frames="all files").selection(16).frames == "animated"
    assert RunOptions(frames="middle").selection(None).items is None


@pytest.mark.parametrize("frames", ["first", "middle", "animated", "all files"])
def test_the_decoder_learns_which_frames_the_selection_copies(frames):
    options = RunOptions(frames=frames)
    shown = options.selection()(torch.zeros(1, 16, 7, 2, 2)).shape[2]
    assert (shown, options.given_frames()) == {
        "first": (1, GivenFrames.ALL),
        "middle": (2, GivenFrames.FIRST_AND_SHOWN),
        "animated": (7, GivenFrames.ALL),
        "all files": (7, GivenFrames.ALL),
    }[frames]


@pytest.mark.parametrize("value", [2.0, np.int64(2), np.float32(2), torch.tensor(2)], ids=repr)
def test_a_whole_number_of_another_type_is_an_integer(value):
    options = RunOptions(every_n_steps=value)
    assert (options.every_n_steps, type(options.every_n_steps)) == (2, int)


@pytest.mark.parametrize("value", [2.5, float("nan"), np.float32("inf"), torch.zeros(2), "2", None, [2], np.bool_(1)])
def test_a_value_that_is_no_whole_number_is_refused(value):
    with pytest.raises(OptionError, match="every_n_steps: expected a whole number"):
        RunOptions(every_n_steps=value)


def test_the_help_of_the_class_describes_every_option():
    for each in rows():
        assert f"{each.name}: {each.help}" in RunOptions.__doc__
