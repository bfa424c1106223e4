"""Scores on the user's own pictures count before all others."""

from dataclasses import replace

import pytest
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.measured_scores import (
    MEASURED_FILE,
    MeasuredScores,
    learned_folder,
    measured_text,
    read_measured,
)
from safelight.decoders.ranking import compare_scores

SD1 = SPACES["sd1"]


def measure(folder, scores, vae="a1", space="sd1"):
    parent = learned_folder(folder, space, vae)
    parent.mkdir(parents=True, exist_ok=True)
    scores = MeasuredScores(vae=vae, judged_on="41 pictures", pictures=41, psnr_latent_db=scores)
    (parent / MEASURED_FILE).write_text(measured_text(scores), encoding="utf-8")
    return scores


def test_scores_survive_the_file(tmp_path):
    scores = measure(tmp_path, {"a": 20.5, "b": 19.0})
    assert read_measured(tmp_path, "sd1", "a1") == scores
    assert read_measured(tmp_path, "sd1", None) == scores
    assert read_measured(tmp_path, "sd1", "other") is None
    assert read_measured(tmp_path, "sd", None) is None


def test_auto_leaves_a_shipped_decoder_that_is_worse_on_the_users_vae(tmp_path):
    before = Catalogue([tmp_path]).candidates(SD1)[0].name
    other = next(c.name for c in Catalogue().of(SD1) if c.name != before and c.card.cost < 5000)
    measure(tmp_path, {c.name: 15.0 for c in Catalogue().of(SD1)} | {other: 18.0})
    assert Catalogue([tmp_path]).candidates(SD1)[0].name == other
    assert Catalogue([tmp_path]).candidates(SD1, vae="b2")[0].name == before
    choice = next(choice for choice in Catalogue([tmp_path]).choices() if choice.card.name == other)
    assert choice.auto
    assert choice.card.measured["pictures"] == 41
    assert "3.0 dB more" in choice.why


def test_scores_of_other_pictures_are_not_compared(tmp_path):
    first, second, *_ = Catalogue().of(SD1)
    a = replace(first.card, measured={"psnr_latent_db": 10.0, "judged_on": "x"})
    b = replace(second.card, metrics={}, measured={"psnr_latent_db": 30.0, "judged_on": "y"})
    unmeasured = compare_scores(first.card, replace(second.card, metrics={}))
    assert compare_scores(a, b) == unmeasured


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "safelight.measured/2"}',
        '{"format": "safelight.measured/1", "vae": "a", "judged_on": "x", "pictures": 1, "psnr_latent_db": {"a": NaN}}',
        '{"format": "safelight.measured/1", "vae": "a", "judged_on": "x", "pictures": Infinity, "psnr_latent_db": {}}',
        '{"format": "safelight.measured/1", "vae": "a", "judged_on": "x", "pictures": 1, "psnr_latent_db": {"a": 1%s}}'
        % ("0" * 400),
    ],
)
def test_a_damaged_file_counts_as_missing(tmp_path, content):
    measure(tmp_path, {"a": 1.0})
    (learned_folder(tmp_path, "sd1", "a1") / MEASURED_FILE).write_text(content, encoding="utf-8")
    assert read_measured(tmp_path, "sd1", "a1") is None
    assert Catalogue([tmp_path]).candidates(SD1)
