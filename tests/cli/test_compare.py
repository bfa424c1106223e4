"""The `compare` command."""

from dataclasses import replace

import pytest
import torch
from safelight.cli import compare
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.decoder_file import read_card, read_decoder, write_decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.fitting.pairs import Pairs

IDS = tuple(f"{i:012x}" for i in range(1, 11))


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Ten pairs of SD1's shape, whose first channels are the colors."""
    monkeypatch.setattr("safelight.fitting.fit.require_known_scores", lambda *_: None)
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((10, 3, 12, 12), generator=generator)
    pixels = small.mul(255).to(torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    path = tmp_path / "pairs.safetensors"
    Pairs(torch.cat([small * 2 - 1, small[:, :1] ** 2], dim=1), pixels, IDS).save(path)
    return path


@pytest.fixture
def mine(tmp_path, pairs):
    out = tmp_path / "mine.safetensors"
    assert main(["fit", "--space", "sd1", "--pairs", str(pairs), "--kind", "affine", "--out", str(out)]) == 0
    return out


def test_pairs_that_a_decoder_was_fitted_on_do_not_score_it(tmp_path, pairs, mine, capsys):
    loaded = Pairs.load(pairs)
    unseen = loaded.select([image not in read_card(mine).image_ids for image in loaded.image_ids])
    assert len(unseen) == 1
    other = replace(loaded[:5], latents=loaded.latents[:5].flip(0), image_ids=tuple(f"a{i:011x}" for i in range(5)))
    more = tmp_path / "more.safetensors"
    (unseen + other + loaded[:2]).save(more)
    arguments = ["compare", "--space", "sd1", "--pairs", str(more), "--decoder", str(mine)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "of 8 pairs are left out: mine, fitted on their images" in printed
    assert "| mine" in printed


def test_a_decoder_that_was_fitted_on_the_images_is_not_scored(pairs, mine, capsys):
    assert main(["compare", "--space", "sd1", "--pairs", str(pairs), "--decoder", str(mine)]) == 0
    printed = capsys.readouterr().out
    assert "not scored: mine, fitted on images of these pairs; give other images to score it" in printed
    assert "| mine" not in printed
    assert "sd1-linear-comfyui" in printed


def test_files_of_an_earlier_version_are_compared_with_a_line(tmp_path, pairs, mine, capsys):
    old = tmp_path / "old.safetensors"
    decoder = read_decoder(mine)
    write_decoder(old, replace(decoder.card, name="old", image_ids=None), decoder.net.state_dict())
    loaded = Pairs.load(pairs)
    Pairs(loaded.latents, loaded.pixels).save(pairs)
    assert main(["compare", "--space", "sd1", "--pairs", str(pairs), "--decoder", str(old)]) == 0
    printed = capsys.readouterr().out
    assert "no image ids in pairs.safetensors: whether decoders were fitted on its images cannot be checked" in printed
    assert "no image ids in old: whether it was fitted on images that score it here cannot be checked" in printed
    assert "| old" in printed


def test_rows_are_printed_and_written_as_they_are_known(tmp_path, pairs, capsys, monkeypatch):
    report, known = tmp_path / "report", []

    def interrupted(row):
        known.append((capsys.readouterr().out, report.joinpath("table.md").read_text(encoding="utf-8")))
        raise KeyboardInterrupt

    score = compare.score_decoders
    monkeypatch.setattr(
        compare,
        "score_decoders",
        lambda *pairs, on_scored, on_part: score(
            *pairs, on_part=on_part, on_scored=lambda row: (on_scored(row), interrupted(row))
        ),
    )
    assert main(["compare", "--space", "sd1", "--pairs", str(pairs), "--out", str(report)]) == 130
    [(printed, table)] = known
    assert len(table.splitlines()) == 3
    assert table.strip() in printed


def test_the_first_row_is_the_decoder_that_auto_uses_and_others_are_compared_with_it(pairs, capsys):
    assert main(["compare", "--space", "sd1", "--pairs", str(pairs)]) == 0
    _, _, first, *others = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line[:1] == "|"
    )
    assert first[0] == Catalogue().candidates(SPACES["sd1"])[0].name
    assert first[6] == ""
    for other in others:
        assert float(other[6]) == pytest.approx(float(other[5]) - float(first[5]), abs=0.011)
