"""`torchrun ... safelight fit` with two real processes: one result, and an end with words if one of them dies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safelight.cli.main import main
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safelight.fitting.encoders import TaesdEncoder
from safetensors.torch import save_file

STEPS = 8
LIMIT_S = 900  # of one fit on a busy machine, most of it for the imports
PROCESS = Path(__file__).with_name("fit_process.py")

pytestmark = pytest.mark.timeout(4 * LIMIT_S)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Saves a tiny VAE's encoder with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TaesdEncoder("taesd", 4)
    path = tmp_path_factory.mktemp("encoder") / "taesd_encoder.safetensors"
    save_file({key.removeprefix("layers."): tensor for key, tensor in net.state_dict().items()}, path)
    return path


@pytest.fixture
def fit(tmp_path, encoder):
    """A function that fits with two processes, and returns the exit code and what they printed."""

    def fit(*options, fault="none", rank=0, step=0, out="two"):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += [str(PROCESS), fault, str(rank), str(step), *arguments(encoder, *options, out=tmp_path / out)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=LIMIT_S, cwd=tmp_path
        )
        return done.returncode, done.stdout, done.stderr

    return fit


def arguments(encoder, *options, out):
    images = ["--procedural", "26", "--size", "64"]
    return ["fit", "--space", "toy", "--channels", "4", "--encoder", str(encoder), *images, *options, "--out", str(out)]


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def assert_same_weights(path, other, **tolerance):
    state, expected = (read_decoder(each).net.state_dict() for each in (path, other))
    for key, tensor in expected.items():
        torch.testing.assert_close(state[key], tensor, **tolerance)


def test_two_processes_have_the_closed_form_of_one(tmp_path, fit, encoder, capsys):
    assert main(arguments(encoder, "--kind", "neighbourhood", out=tmp_path / "one")) == 0
    alone = capsys.readouterr().out
    code, printed, errors = fit("--kind", "neighbourhood")
    assert code == 0, errors
    assert files(tmp_path / "two") == files(tmp_path / "one") == ["toy-neighbourhood.safetensors"]
    one, two = (tmp_path / name / "toy-neighbourhood.safetensors" for name in ("one", "two"))
    assert_same_weights(two, one, rtol=1e-5, atol=1e-6)
    assert read_card(two).fitted_on == read_card(one).fitted_on
    assert read_card(two).image_ids == read_card(one).image_ids
    assert printed.count("toy-neighbourhood:") == alone.count("toy-neighbourhood:") == 1  # one process prints


def test_an_interrupted_training_of_two_processes_goes_on(tmp_path, fit):
    """torchrun passes SIGTERM on to all processes, which end at one step."""
    options = ("--kind", "conv", "--steps", str(STEPS))
    code, _, errors = fit(*options, out="whole")
    assert code == 0, errors
    code, printed, errors = fit(*options, fault="interrupt", rank=1, step=3)
    assert "the same command goes on where this one was interrupted" in printed, errors
    assert "the best until then" in read_card(tmp_path / "two" / "toy-conv.safetensors").notes
    assert "toy-conv.fit-state" in files(tmp_path / "two")
    code, _, errors = fit(*options)
    assert code == 0, errors
    assert "the fit goes on where it stopped" in errors
    assert files(tmp_path / "two") == files(tmp_path / "whole") == ["toy-conv.safetensors"]
    assert_same_weights(tmp_path / "two" / "toy-conv.safetensors", tmp_path / "whole" / "toy-conv.safetensors")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fault", ["die", "stop"])
def test_a_lost_process_ends_the_fit_with_words_and_without_a_decoder(tmp_path, fit, fault, rank):
    code, printed, errors = fit("--kind", "conv", "--steps", str(STEPS), fault=fault, rank=rank, step=3)
    assert code != 0
    assert "safelight: another process of this command ended or does not answer" in errors
    assert "toy-conv" not in printed
    assert not list((tmp_path / "two").glob("*.safetensors"))


def test_finished_decoders_of_a_lost_fit_are_removed_and_fitted_no_second_time(tmp_path, fit):
    options = ("--kind", "auto", "--steps", str(STEPS), "--keep-all")
    code, _, errors = fit(*options, fault="die", rank=1, step=3)
    assert code != 0, errors
    assert not list((tmp_path / "two").glob("*.safetensors"))
    code, _, errors = fit(*options)
    assert code == 0, errors
    assert "the fit goes on where it stopped" in errors
    assert "subpixel" not in errors  # its progress bar
    assert "toy-conv.safetensors" in files(tmp_path / "two")


def test_too_few_images_for_two_processes_are_refused(fit):
    code, _, errors = fit("--kind", "affine", "--procedural", "3")
    assert code != 0
    assert "safelight: expected training and validation images in the share of each process" in errors


def test_an_error_in_one_process_ends_the_fit_and_names_the_process(tmp_path, fit):
    code, _, errors = fit("--kind", "affine", fault="fail", rank=1)
    assert code != 0
    assert "safelight: process 2 of 2: no such folder" in errors
    assert not list((tmp_path / "two").glob("*.safetensors"))
