"""Messages are one line of printable text, whatever names they contain."""

import logging
import os
from pathlib import Path

import pytest
from safelight.cli.main import main
from safelight.errors import ManifestError, brief, describe, printable
from safelight.fitting.image_crops import read_crops
from safelight.preview.run import Run
from safelight.preview.run_library import RunLibrary

HOSTILE = [
    "\x1b[2J\x1b]0;title\x07",
    "two\nsafelight: all is well",
    "return\rline",
    "next\x85line\u2028separator",
    "exe.\u202egnp",
    "\ud800",
    "\x9b31m",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_message_with_a_name_of_others_is_one_printable_line(name):
    run = Run()
    run.note(f"decoder {name} failed", f"OSError: {name}")
    for text in (
        printable(name),
        describe(ValueError(f"a {name}")),
        brief(ValueError(name)),
        brief(Path(f"a{name}")),
        str(ManifestError(f"{name}: expected a run")),
        *run.notes,
    ):
        assert text.isprintable(), text


def test_text_without_such_characters_stays_as_it_is():
    for text in ("", "a name_with *marks* $x$ <b>, é 中 \N{SLIGHTLY SMILING FACE} and \\n", "step 3 / 20 · σ 0.5"):
        assert printable(text) == text


def test_a_note_that_completes_another_one_still_finds_it():
    run = Run()
    run.note("step 1 is lost\x1b")
    run.note("steps 1-2 are lost\x1b", replaces="step 1 is lost\x1b")
    assert run.notes == [r"steps 1-2 are lost\x1b"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
class TestNamesOfFiles:
    NAME = "a\x1b[2J\nsafelight: all is well"

    def test_a_run_that_is_skipped_is_one_line_in_the_log(self, tmp_path, caplog):
        folder = tmp_path / self.NAME
        folder.mkdir()
        (folder / "run.json").write_text("no manifest")
        with caplog.at_level(logging.WARNING, "safelight.view"):
            assert RunLibrary(tmp_path).runs() == {}
        (record,) = caplog.records
        assert record.getMessage().isprintable()

    def test_an_image_that_is_skipped_is_one_line_in_the_log(self, tmp_path, caplog):
        path = tmp_path / f"{self.NAME}.png"
        path.write_text("no picture")
        with caplog.at_level(logging.WARNING, "safelight.fitting"):
            assert list(read_crops([path], 32, 1, seed=0)) == []
        (record,) = caplog.records
        assert record.getMessage().isprintable()

    def test_the_command_line_prints_no_terminal_sequence(self, tmp_path, capsys):
        path = tmp_path / f"{self.NAME}.safetensors"
        path.write_text("no latents")
        assert main(["decode", str(path), "--out", str(tmp_path)]) == 2
        assert main(["view", str(tmp_path / self.NAME), "--no-open"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert all(line.isprintable() for line in lines)
