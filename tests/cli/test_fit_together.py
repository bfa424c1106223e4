"""`fit` in several processes, which are threads here; tests/tiers/reliability has real ones."""

import threading
from contextlib import nullcontext

import pytest
import torch
from safelight.cli import fit
from safelight.cli.main import main
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safelight.errors import FitError, LostProcessError
from safelight.fitting.pairs import Pairs
from safelight.fitting.processes import ONE_PROCESS, OneProcess

from ..fitting.thread_processes import run_together


@pytest.fixture
def pairs(tmp_path):
    """Saves 36 pairs whose first channels are the image's colors."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((36, 3, 8, 8), generator=generator)
    pixels = small.mul(255).byte().repeat_interleave(2, 2).repeat_interleave(2, 3)
    path = tmp_path / "pairs.safetensors"
    Pairs(torch.cat([small.sqrt(), small[:, :1]], dim=1), pixels, tuple(f"{i:012x}" for i in range(1, 37))).save(path)
    return path


@pytest.fixture
def fit_together(monkeypatch):
    """A function that runs the command in two threads and returns their exit codes."""
    own = threading.local()
    monkeypatch.setattr(fit, "joined_processes", lambda _: nullcontext(getattr(own, "processes", ONE_PROCESS)))

    def run(arguments):
        def work(processes):
            own.processes = processes
            code = main(arguments)
            if code:
                processes.leave()
            return code

        return run_together(2, work)

    return run


def command(pairs, out, *options):
    space = ["--space", "toy", "--channels", "4", "--downscale", "2"]
    return ["fit", *space, "--pairs", str(pairs), "--crops", "1", "--kind", "quadratic", "--out", str(out), *options]


def test_one_process_prints_and_writes_what_all_have_fitted(tmp_path, pairs, fit_together, capsys):
    assert main(command(pairs, tmp_path / "one")) == 0
    alone = capsys.readouterr().out
    assert fit_together(command(pairs, tmp_path / "two")) == [0, 0]
    printed = capsys.readouterr().out
    assert printed.count("toy-quadratic: ") == alone.count("toy-quadratic: ") == 1
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["toy-quadratic.safetensors"]
    one, two = (tmp_path / name / "toy-quadratic.safetensors" for name in ("one", "two"))
    for key, tensor in read_decoder(one).net.state_dict().items():
        torch.testing.assert_close(read_decoder(two).net.state_dict()[key], tensor, rtol=1e-6, atol=1e-7)
    assert read_card(two).fitted_on == read_card(one).fitted_on == "24 of 36 pairs of pairs.safetensors"
    assert read_card(two).image_ids == read_card(one).image_ids


def test_a_fit_that_lost_a_process_leaves_no_decoder(tmp_path, pairs, capsys, monkeypatch):
    def lose_at_the_end(_, text):
        if text == fit.FINISHED:
            assert list((tmp_path / "out").glob("*.safetensors"))
            raise LostProcessError("another process ended")
        return text

    monkeypatch.setattr(OneProcess, "text_of_first", lose_at_the_end)
    assert main(command(pairs, tmp_path / "out")) != 0
    assert "safelight: another process ended" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.safetensors"))
    monkeypatch.undo()
    assert main(command(pairs, tmp_path / "out")) == 0
    assert "the fit goes on where it stopped" in capsys.readouterr().err


def test_an_error_of_another_process_has_its_number(tmp_path, pairs, fit_together, capsys, monkeypatch):
    load = fit.named_pairs

    def fail(arguments, space, state, processes):
        if processes.rank == 1:
            raise FitError("no such folder")
        return load(arguments, space, state, processes)

    monkeypatch.setattr(fit, "named_pairs", fail)
    assert 0 not in fit_together(command(pairs, tmp_path / "out"))
    assert "safelight: process 2 of 2: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_statistics_need_one_process(tmp_path, pairs, fit_together, capsys):
    arguments = command(pairs, tmp_path / "out", "--statistics", str(tmp_path / "sums.safetensors"))
    assert 0 not in fit_together(arguments)
    assert "--statistics: expected one process; fit without torchrun" in capsys.readouterr().err


def test_pairs_are_written_in_shares(tmp_path, pairs, fit_together, capsys):
    out = tmp_path / "more.safetensors"
    assert fit_together(["pairs", "--space", "sd1", "--pairs", str(pairs), "--out", str(out)]) == [0, 0]
    parts = [Pairs.load(tmp_path / f"more-{i}-of-2.safetensors") for i in (1, 2)]
    whole = Pairs.load(pairs)
    assert torch.equal(torch.cat([part.latents for part in parts]), whole.latents)
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
    assert "share 2-of-2 of 36 pairs" in capsys.readouterr().out
    assert not out.exists()
