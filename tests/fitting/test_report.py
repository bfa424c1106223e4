"""Reports: the lines of the table, the pixels of the sheet, the positions in the chart."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor, ImageDraw
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.nets.polynomial import Polynomial
from safelight.decoders.ranking import compare_scores
from safelight.errors import FitError, LatentsError
from safelight.fitting import report
from safelight.fitting.presets import measure_net
from safelight.fitting.report import (
    COLORS,
    TIMING_ROUNDS,
    ScoredDecoder,
    image_sheet,
    score_chart,
    score_decoders,
    score_table,
    scoring_parts,
)


def row(name, parameters=99, latent=20.0, full=18.0, ssim=0.5, ms=1.0):
    scores = {"psnr_latent_db": latent, "psnr_full_db": full, "ssim_full": ssim}
    return ScoredDecoder(
        name=name, kind="polynomial", parameters=parameters, weight_bytes=4 * parameters, scores=scores, decode_ms=ms
    )


def decoder(name, gain, channels=4, **settings):
    net = Polynomial(channels, **settings)
    torch.nn.init.constant_(net.weight, gain)
    return Decoder(Card(name=name, space="sd1", kind="polynomial", settings=settings), net)


# Scores.


def test_decoders_are_scored_on_the_same_pairs_and_timed_in_turns(toy_pairs):
    pairs, ticks = toy_pairs(10), []
    decoders = [decoder("a", 0.1), decoder("b", 0.2, degree=2)]
    durations = iter([3.0, 5.0, 2.0, 6.0] + [4.0, 7.0] * (TIMING_ROUNDS - 2))
    now = 0.0

    def clock():
        nonlocal now
        ticks.append(now)
        if len(ticks) % 2 == 0:
            now += next(durations)
            ticks[-1] = now
        return now

    found = score_decoders(decoders, pairs, clock)
    assert [each.name for each in found] == ["a", "b"]
    assert [each.decode_ms for each in found] == [250.0, 625.0]  # of a batch of 8
    assert [each.scores for each in found] == [measure_net(each.net, pairs) for each in decoders]
    assert [(each.parameters, each.weight_bytes) for each in found] == [(15, 60), (45, 180)]


def test_pairs_of_another_space_are_not_scored(toy_pairs):
    with pytest.raises(LatentsError, match=r"decoder wide expects latents \[B, 16, H, W\]"):
        score_decoders([decoder("wide", 0.1, channels=16)], toy_pairs(2))


# The table.


HEAD_OF_SCORES = " full size, dB | mean, dB | gain, dB |  SSIM | ms per image |"
RULE_OF_SCORES = " ------------: | -------: | -------: | ----: | -----------: |"
SCORES_OF_PUBLISHED = "         18.00 |    19.00 |          | 0.500 |         1.00 |"
SCORES_OF_CONV = "         22.46 |    26.29 |    +7.29 | 0.679 |        12.50 |"


def test_a_table_lists_scores_sizes_and_times():
    rows = [row("published"), row("conv", 28_146, 30.123, 22.456, 0.6789, 12.5)]
    assert [line.split(" |", 4) for line in score_table(rows).splitlines()] == [
        ["| decoder  ", " parameters", "      bytes", " latent size, dB", HEAD_OF_SCORES],
        ["| ---------", " ---------:", " ---------:", " --------------:", RULE_OF_SCORES],
        ["| published", "         99", "        396", "           20.00", SCORES_OF_PUBLISHED],
        ["| conv     ", "     28,146", "    112,584", "           30.12", SCORES_OF_CONV],
    ]


def test_rows_and_parts_are_reported_as_they_are_known(toy_pairs):
    pairs, decoders, events = toy_pairs(20), [decoder("a", 0.1), decoder("b", 0.2)], []
    rows = score_decoders(decoders, pairs, on_part=lambda: events.append("part"), on_scored=events.append)
    assert events.count("part") == scoring_parts(decoders, pairs) == 2 * (TIMING_ROUNDS + 2)
    assert [event for event in events if event != "part"] == rows
    assert events.index(rows[0]) < events.index(rows[1]) - 1


def test_the_mean_of_a_row_is_the_score_that_auto_goes_by():
    first, second = row("first", latent=28.0, full=20.0), row("second", latent=30.0, full=21.0)
    cards = [
        Card(name=r.name, space="sd1", kind="x", metrics={**r.scores, "judged_on": "toys"}) for r in (first, second)
    ]
    gap = compare_scores(cards[1], cards[0])
    assert (gap.own_db, gap.other_db) == (second.mean_db, first.mean_db)


def test_a_name_with_a_bar_stays_in_one_cell():
    assert score_table([row("a|b"), row("c")]).splitlines()[2].startswith("| a\\|b ")


@pytest.mark.parametrize("report_function", [score_table, score_chart])
def test_a_report_without_decoders_is_refused(report_function):
    with pytest.raises(FitError, match="at least one decoder to report on"):
        report_function([])


# The sheet.


def flat(*values, size=(32, 48)):
    return torch.stack([torch.full((3, *size), value) for value in values])


def test_a_sheet_has_a_row_per_image_and_the_original_first():
    truth, other = flat(0.2, 0.4), flat(0.6, 0.8, size=(4, 6))
    image = np.asarray(image_sheet(truth, {"other": other}, cell_px=48))
    gap, head = 6, image.shape[0] - 2 * (32 + 6)
    assert image.shape[1] == 2 * (48 + gap) + gap
    for line, column, value in [(0, 0, 51), (1, 0, 102), (0, 1, 153), (1, 1, 204)]:
        top, left = head + line * (32 + gap), gap + column * (48 + gap)
        assert (image[top : top + 32, left : left + 48] == value).all()
        assert (image[top : top + 32, left + 48 : left + 48 + gap] == 255).all()


def test_decoded_images_are_resized_to_the_originals():
    image = image_sheet(
        flat(0.5, size=(512, 256)), {"small": flat(0.5, size=(8, 4)), "large": flat(0.5, size=(1024, 512))}
    )
    assert image.width == 3 * (96 + 6) + 6
    assert image.height > 192 + 6


def drawn_texts(monkeypatch):
    """Records every drawn text and its box."""
    texts, draw = [], ImageDraw.ImageDraw.text

    def spy(self, xy, text, fill=None, font=None, anchor=None, **kwargs):
        texts.append((text, self.textbbox(xy, text, font, anchor)))
        return draw(self, xy, text, fill, font, anchor, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    return texts


def test_names_are_above_their_columns_and_long_names_are_shortened_in_the_middle(monkeypatch):
    texts = drawn_texts(monkeypatch)
    long = "flux2-affine-over-five-by-five-latent-pixels-in-sub-pixels-comfyui"
    image = image_sheet(flat(0.2), {"short": flat(0.4), long: flat(0.4)}, cell_px=100)
    assert [text for text, _ in texts[:2]] == ["truth", "short"]
    begin, end = texts[2][0].split("...")
    assert long.startswith(begin)
    assert long.endswith(end)
    assert len(begin) > 3 < len(end)
    for column, (_, box) in enumerate(texts):
        left = 6 + column * 106
        assert left - 1 <= box[0] < box[2] <= left + 101
        assert box[3] < image.height - 100 * 32 / 48


def test_a_wrong_number_of_images_is_refused():
    with pytest.raises(FitError, match="expected 2 images from each decoder, got another number from one"):
        image_sheet(flat(0.1, 0.2), {"one": flat(0.1)})


# The chart.


ROWS = [
    row("flux2-affine-comfyui", 99, 17.3, 16.9),
    row("flux2-affine-sdcpp", 99, 17.2, 16.8),
    row("flux2-linear-other", 96, 17.4, 16.8),
    row("affine", 99, 18.6, 17.7),
    row("quadratic", 1_700, 19.4, 18.3),
    row("5x5", 2_403, 25.3, 21.1),
    row("7x7 neighbourhood", 4_700, 25.7, 21.2),
    row("5x5 in sub-pixels", 154_000, 25.3, 21.9),
    row("conv", 28_000, 30.0, 22.5),
    row("conv-full", 400_000, 30.5, 25.0),
    row("TAEF2", 1_300_000, 39.6, 30.2),
    row("a twin of " + "TAEF2 " * 20, 1_300_000, 39.6, 30.2),
]


def test_texts_in_a_chart_do_not_overlap_and_are_inside(monkeypatch):
    texts = drawn_texts(monkeypatch)
    image = score_chart(ROWS)
    assert {each.name for each in ROWS[:-1]} <= {text for text, _ in texts}
    for (one, a), (other, b) in combinations(texts, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, (one, other)
    for text, box in texts:
        assert 0 <= box[0] < box[2] <= image.width, text
        assert 0 <= box[1] < box[3] <= image.height, text


def test_a_higher_psnr_is_higher_and_a_slower_decoder_is_further_right():
    rows = [row("a", 10_000, 20.0, 15.0, ms=0.1), row("b", 100, 30.0, 25.0, ms=10.0)]
    pixels = np.asarray(score_chart(rows)).astype(int)

    def center(color):  # of the full dot: the lower dB's ring is paper inside
        found = (np.abs(pixels - ImageColor.getrgb(color)).sum(2) == 0).nonzero()
        return found[0].min(), np.median(found[1])

    (top_a, x_a), (top_b, x_b) = center(COLORS[0]), center(COLORS[1])
    assert top_b < top_a
    assert x_b > x_a


@pytest.mark.parametrize(
    "rows",
    [
        [row("one")],
        [row("no time at all", 0, 20.0, 20.0, ms=0.0)],
        [row("perfect", 10**9, 60.0, 60.0, ms=1e6), row("nothing", 0, 0.0, 0.0, ms=0.0)],
        [row("same", 100), row("same", 100), row("same", 100)],
        [row("below nothing", 5, -3.0, -8.0)],
    ],
    ids=["one", "none", "extremes", "same", "negative"],
)
def test_charts_of_few_or_extreme_scores_are_drawn(rows):
    image = score_chart(rows)
    assert image.size == (960, 600)
    assert ImageColor.getrgb(COLORS[0]) in {color for _, color in image.getcolors(1 << 20)}


def test_a_chart_does_not_enlarge_small_differences(monkeypatch):
    texts = drawn_texts(monkeypatch)
    score_chart([row("a", 100, 20.0, 19.9), row("b", 1000, 20.1, 20.0)])
    marks = sorted(float(text) for text, box in texts if box[2] < 64)
    assert np.diff(marks).min() >= 1


def test_nan_scores_are_in_the_table_but_not_in_the_chart(monkeypatch):
    rows = [row("good"), row("broken", latent=math.nan)]
    texts = drawn_texts(monkeypatch)
    score_chart(rows)
    assert "broken" not in [text for text, _ in texts]
    assert "nan" in score_table(rows)
    with pytest.raises(FitError, match="expected finite scores"):
        score_chart(rows[1:])


@pytest.mark.parametrize(("span", "step"), [(0, 1), (5, 1), (10, 2), (23, 5), (45, 10), (60, 10), (61, 20)])
def test_grid_lines_are_at_round_numbers(span, step):
    assert report._grid_step(span) == step


def test_chart_and_sheet_can_be_saved(tmp_path):
    for name, image in {"chart": score_chart(ROWS), "sheet": image_sheet(flat(0.5), {"a": flat(0.4)})}.items():
        image.save(tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as saved:
            assert saved.size == image.size
