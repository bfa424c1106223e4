"""The options of `safelight gradio` are checked when it starts."""

import argparse
import shutil

import pytest
from safelight.cli.gradio import add_command, watch_options
from safelight.cli.main import main
from safelight.decoders.files.shipped import WEIGHTS
from safelight.errors import UnknownDecoderError


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    return parser.parse_args(["gradio", "--pipeline", "model", *arguments])


def test_a_decoder_file_is_found_with_its_folder(tmp_path):
    path = tmp_path / "mine.safetensors"
    shutil.copy(WEIGHTS / "sd1-conv-small.safetensors", path)
    options = watch_options(parse("--decoder", str(path)))
    assert (options["decoder"], options["decoder_folder"]) == ("mine.safetensors", tmp_path)


@pytest.mark.parametrize("decoder", ["auto", "tiny", "full", "flux2-conv-small"])
def test_a_name_or_a_kind_needs_no_folder(decoder):
    options = watch_options(parse("--decoder", decoder))
    assert options["decoder"] == decoder
    assert "decoder_folder" not in options


def test_a_decoder_that_does_not_exist_is_refused_before_anything_is_loaded(capsys):
    with pytest.raises(UnknownDecoderError, match="'purple': expected a name that `safelight decoders` lists"):
        watch_options(parse("--decoder", "purple"))
    assert main(["gradio", "--pipeline", "nowhere", "--decoder", "purple"]) == 2
    assert "purple" in capsys.readouterr().err


def test_a_value_out_of_range_is_refused_before_anything_is_loaded(capsys):
    assert main(["gradio", "--pipeline", "nowhere", "--every-n-steps", "0"]) == 2
    assert "every_n_steps: expected 1 to 10000, got 0" in capsys.readouterr().err
