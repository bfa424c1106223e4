"""Tests comparisons of two decoders: only scores on the same images count."""

import json
import math

import pytest
from safelight.decoders.decoder import Card
from safelight.decoders.ranking import ScoreGap, compare_scores, gain_db


def card(name, **metrics):
    return Card(name=name, space="flux2", kind="polynomial", metrics=metrics)


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


def test_scores_of_one_comparison_are_found_from_both_cards():
    fit = card("fit", psnr_full_db=22.0, beside={"table": {"psnr_full_db": 20.5}})
    table = card("table")
    assert gain_db(fit, table) == pytest.approx(1.5)
    assert gain_db(table, fit) == pytest.approx(-1.5)


def test_scores_on_the_same_images_are_compared():
    one, two = (card(str(db), judged_on="68 images", psnr_latent_db=db) for db in (20.0, 17.5))
    assert gain_db(one, two) == pytest.approx(2.5)
    assert gain_db(two, one) == pytest.approx(-2.5)


def test_scores_on_different_images_are_not_compared():
    assert gain_db(card("a", judged_on="mine", psnr_full_db=40), card("b", judged_on="yours", psnr_full_db=10)) is None


@pytest.mark.parametrize("judged_on", [None, "", 0, [], ["a"], {"a": 1}, True])
def test_unnamed_test_images_are_not_the_same(judged_on):
    one, two = (card(str(db), judged_on=judged_on, psnr_full_db=db) for db in (20.0, 10.0))
    assert gain_db(one, two) is None
    assert gain_db(card("a", psnr_full_db=20.0), card("b", psnr_full_db=10.0)) is None


def test_both_scores_count_if_both_decoders_have_them():
    one = card("one", judged_on="x", psnr_full_db=20.0, psnr_latent_db=30.0)
    two = card("two", judged_on="x", psnr_full_db=23.0, psnr_latent_db=29.0)
    assert gain_db(one, two) == pytest.approx(-1.0)
    assert compare_scores(one, two) == ScoreGap(25.0, 26.0)


def test_a_little_detail_does_not_outweigh_correct_colors():
    """Scores for FLUX.2: sub-pixels by least squares, small convolutions at latent size."""
    subpixel = card("subpixel", judged_on="x", psnr_full_db=20.7, psnr_latent_db=23.6)
    conv = card("conv", judged_on="x", psnr_full_db=20.6, psnr_latent_db=29.3)
    assert gain_db(subpixel, conv) < 0


def test_the_latent_size_decides_if_only_one_decoder_has_the_full_size_score():
    one = card("one", judged_on="x", psnr_full_db=20.0, psnr_latent_db=30.0)
    two = card("two", judged_on="x", psnr_latent_db=29.0)
    assert compare_scores(one, two) == ScoreGap(30.0, 29.0)


def test_equal_scores_are_a_gain_of_zero():
    one, two = (card(name, judged_on="x", psnr_full_db=20) for name in "ab")
    assert gain_db(one, two) == 0


def test_scores_from_one_comparison_have_priority_over_scores_on_the_same_images():
    one = card("one", judged_on="x", psnr_full_db=20.0, beside={"two": {"psnr_full_db": 25.0}})
    two = card("two", judged_on="x", psnr_full_db=10.0)
    assert gain_db(one, two) == pytest.approx(-5.0)


def test_a_gap_is_described_in_words_with_its_scores():
    assert ScoreGap(19.35, 20.56).against("x") == "1.2 dB less than x on the same images (19.4 and 20.6)"
    assert ScoreGap(30.0, 28.0).against("x").startswith("2.0 dB more than x")


HOSTILE = [
    None,
    True,
    False,
    "30",
    "",
    [],
    [30.0],
    {},
    {"psnr_full_db": 30.0},
    math.nan,
    math.inf,
    -math.inf,
    1e300,
    10**400,
    -(10**400),
    nested(900),
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_an_invalid_score_is_not_compared(value):
    other = card("other", judged_on="x", psnr_full_db=20.0)
    for broken in (
        card("broken", judged_on="x", psnr_full_db=value),
        card("broken", psnr_full_db=value, beside={"other": {"psnr_full_db": 10.0}}),
        card("broken", psnr_full_db=10.0, beside={"other": {"psnr_full_db": value}}),
    ):
        assert gain_db(broken, other) is None
        assert gain_db(other, broken) is None


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_invalid_comparisons_never_raise(value):
    other = card("other", psnr_full_db=20.0, judged_on=value, beside=value)
    for broken in (
        card("broken", psnr_full_db=10.0, beside=value),
        card("broken", psnr_full_db=10.0, beside={"other": value}),
        card("broken", psnr_full_db=10.0, judged_on=value),
    ):
        for pair in ((broken, other), (other, broken)):
            gain = gain_db(*pair)
            assert gain is None or math.isfinite(gain)


def test_a_gain_is_none_or_a_finite_number():
    one = card("one", judged_on="x", psnr_full_db=math.nan, psnr_latent_db=20.0)
    two = card("two", judged_on="x", psnr_full_db=30.0, psnr_latent_db=19.0)
    assert gain_db(one, two) == pytest.approx(1.0)
