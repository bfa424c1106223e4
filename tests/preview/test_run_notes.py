"""Notes of a run: one for each fault."""

import errno
import os

from safelight.errors import describe
from safelight.preview.missing_steps import MissingSteps
from safelight.preview.run import MAX_NOTES, Run
from safelight.preview.run_control import EarlyEnd
from safelight.preview.sinks.run_folder import RunFolder


def no_space(path):
    return describe(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)))


def test_what_happens_for_the_same_reason_shares_a_note():
    run = Run()
    run.note("page could not be opened", no_space("/a"))
    run.note("files failed", no_space("/b"))
    run.note("sheet failed", "ValueError: another reason")
    run.note("files failed", no_space("/c"))
    assert run.notes == [
        f"page could not be opened; files failed: {no_space('/a')}",
        "sheet failed: ValueError: another reason",
    ]


def test_a_note_at_the_first_missing_step_is_completed_at_the_end():
    run = Run()
    for step in (3, 4, 5):
        run.missing.fail(RunFolder, step, no_space(f"/step_{step}"))
        run.missing.lose(step + 10, "not shown: no memory")
    assert run.notes == [f"run.json failed: {no_space('/step_3')}", "step 13 not shown: no memory"]
    run.missing.summarize()
    run.missing.summarize()
    expected = [f"run.json: nothing was saved of steps 3-5: {no_space('/step_3')}", "steps 13-15 not shown: no memory"]
    assert run.notes == expected


def test_notes_without_a_reason_stay_apart_and_are_not_repeated():
    run = Run()
    for text in ("one", "two", "one"):
        run.note(text)
    assert run.notes == ["one", "two"]


def test_the_number_of_notes_is_limited_but_their_text_is_completed():
    run = Run()
    for number in range(2 * MAX_NOTES):
        run.note(f"place {number} failed", f"reason {number}")
    run.note("page failed", "reason 0")
    run.note("page failed", f"reason {MAX_NOTES}")
    assert len(run.notes) == MAX_NOTES
    assert run.notes[0] == "place 0 failed; page failed: reason 0"


def test_the_log_warns_of_a_fault_once(caplog):
    run = Run()
    missing = MissingSteps(run.note)
    missing.fail(RunFolder, 1, "OSError: disk full")
    missing.fail(RunFolder, 2, "OSError: disk full")
    missing.summarize()
    assert [record.levelname for record in caplog.records if record.name == "safelight.preview"] == ["WARNING"]


def test_a_run_that_a_rule_ended_says_when_and_why():
    run = Run()
    run.follow_rule(0.5, 3)
    run.keep_step(EarlyEnd(14, by_rule=True))
    assert run.notes == ["stopped by your rule at step 14: moved less than 0.5 % for 3 steps"]
    assert run.sampler == {"kept_step": 14, "stop_rule": {"below_percent": 0.5, "steps": 3, "step": 14}}


def test_a_run_that_a_person_ended_needs_no_note():
    run = Run()
    run.follow_rule(0.5, 3)
    run.keep_step(EarlyEnd(14, by_rule=False))
    assert (run.notes, run.sampler) == ([], {"kept_step": 14, "stop_rule": {"below_percent": 0.5, "steps": 3}})
