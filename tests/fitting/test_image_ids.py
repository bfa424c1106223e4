"""Ids of images: no decoder is scored on crops of images that it was fitted on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.files.decoder_file import read_card, write_decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.polynomial import Polynomial
from safelight.errors import DecoderFileError, FitError
from safelight.fitting.dataset import split_pairs
from safelight.fitting.encode_images import ImageSet, encode_images
from safelight.fitting.fit import fit_decoders
from safelight.fitting.image_ids import (
    SEVERAL_IMAGES,
    UNKNOWN_IMAGE,
    fair_comparison,
    fitted_ids,
    image_id,
    known_ids,
)
from safelight.fitting.noisy_latents import noisy_pairs
from safelight.fitting.pairs import Pairs
from safelight.fitting.result import Baselines
from safelight.fitting.statistics import FitStatistics
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.usefixtures("_one_thread")
IDS = tuple(f"{i:012x}" for i in range(1, 13))


def card(name="mine", **facts):
    return Card(name=name, space="sd1", kind="polynomial", settings={"channels": 4}, source="a test", **facts)


@pytest.fixture
def identified(toy_pairs):
    """Two crops of each of twelve images."""
    return replace(toy_pairs(24), image_ids=tuple(image for image in IDS for _ in range(2)))


def split(pairs, **options):
    return split_pairs(pairs, "toys", pairs.image_ids, **options)


def test_the_id_depends_on_the_pixels_and_the_size():
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    other = pixels.copy()
    other[0, 0, 0] ^= 1
    ids = {image_id(pixels), image_id(other), image_id(pixels.reshape(6, 4, 3))}
    assert len(ids) == 3
    assert image_id(pixels.copy()) in ids


def test_ids_are_unchanged_after_save_and_load_and_old_files_have_unknown_ones(tmp_path, identified):
    path = tmp_path / "pairs.safetensors"
    identified.save(path)
    assert Pairs.load(path).image_ids == identified.image_ids
    tensors = load_file(path)
    del tensors["image_ids"]
    save_file(tensors, path)
    assert set(Pairs.load(path).image_ids) == {UNKNOWN_IMAGE}
    save_file({**tensors, "image_ids": torch.zeros(3, 6, dtype=torch.uint8)}, path)
    with pytest.raises(FitError, match=r"expected image_ids \[24, 6\] uint8, got \[3, 6\]"):
        Pairs.load(path)


def test_the_ids_of_a_card_are_unchanged_after_write_and_read(tmp_path):
    path, weights = tmp_path / "mine.safetensors", {"weight": torch.ones(3, 4, 1, 1), "bias": torch.zeros(3)}
    for ids in (None, frozenset(), frozenset(IDS)):
        write_decoder(path, card(image_ids=ids), weights)
        assert read_card(path).image_ids == ids
    write_decoder(path, card(image_ids=frozenset({"no id"})), weights)
    with pytest.raises(DecoderFileError, match="expected ids of images"):
        read_card(path)


def test_a_fitted_decoder_has_the_ids_of_training_and_validation(identified, tmp_path):
    dataset = split(identified)
    [new] = fit_decoders("affine", SPACES["sd1"], dataset, Baselines(in_use=table()), tmp_path, source="a test").new
    assert new.card.image_ids == set(dataset.train.image_ids) | set(dataset.validation.image_ids)
    assert new.card.image_ids.isdisjoint(dataset.test.image_ids)


def table(name="the-table", **facts):
    net = Polynomial(4)
    net.load_state_dict({"weight": 0.1 * torch.eye(3, 4)[:, :, None, None], "bias": torch.full((3,), 0.5)})
    return Decoder(card(name, **facts), net)


# Splits.


def test_the_test_takes_images_that_no_installed_decoder_was_fitted_on(identified):
    first = split(identified)
    again = split(identified, seen=first.fitted_ids)
    assert again.test.image_ids == first.test.image_ids
    more = replace(identified, image_ids=tuple(reversed(identified.image_ids)))
    assert set(split(more, seen=first.fitted_ids).test.image_ids) == set(first.test.image_ids)
    assert not first.fitted_ids & set(split(more, seen=first.fitted_ids).test.image_ids)


def test_if_decoders_were_fitted_on_all_images_some_are_held_back_all_the_same(identified):
    parts = split(identified, seen=frozenset(IDS))
    assert parts.test.image_ids == split(identified).test.image_ids


def test_images_of_given_test_pairs_are_left_out_of_the_others(identified):
    judge, choose = identified[:4], identified[2:8]
    parts = split(identified, test=judge, validation=choose)
    assert parts.test is judge
    assert set(parts.validation.image_ids) == set(IDS[2:4])
    assert set(parts.train.image_ids) == set(IDS[4:])
    assert parts.notes == [
        "2 of 6 validation pairs are left out: their images are held out",
        "8 of 24 training pairs are left out: their images are held out",
    ]
    with pytest.raises(FitError, match="expected training images that are not held out as well, got none"):
        split(identified[:4], test=judge, validation=choose)


def test_half_way_latents_are_left_out_if_they_may_blend_images_that_are_held_out(identified):
    noisy = noisy_pairs(identified.latents[:6], lambda latents: torch.rand(len(latents), 3, 16, 16), lambda x, _: x)
    both = identified + noisy
    assert set(noisy.image_ids) == {SEVERAL_IMAGES}
    parts = split(both)
    assert SEVERAL_IMAGES not in parts.train.image_ids + parts.validation.image_ids + parts.test.image_ids
    assert parts.notes == ["6 half-way latents are left out: they blend images that are held out"]
    other = replace(identified, image_ids=tuple(image.replace("0", "a") for image in identified.image_ids))
    parts = split(both, test=other[:2], validation=other[2:4])
    assert len(parts.train) == 30
    assert parts.fitted_ids == set(IDS) | set(other.image_ids[2:4])
    assert not parts.notes


def test_unknown_images_give_a_card_without_ids(toy_pairs):
    parts = split_pairs(toy_pairs(12), "toys", range(12))
    assert parts.fitted_ids is None
    assert known_ids([SEVERAL_IMAGES, *IDS[:2]]) == set(IDS[:2])


def test_crops_of_an_image_that_comes_twice_stay_in_one_part():
    images = [
        Image.fromarray(np.random.default_rng(i // 2).integers(0, 255, (300, 300, 3), np.uint8)) for i in range(8)
    ]
    seen = ImageSet(sizes=[image.size for image in images], images=images)
    parts = encode_images(
        lambda rgb: torch.nn.functional.avg_pool2d(torch.cat([rgb, rgb[:, :1]], 1), 8),
        *(seen, SPACES["sd1"], 8, 0, "a test", lambda _: None),
    )
    sides = [set(part.image_ids) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 4
    assert image_id(np.asarray(images[0])) in set().union(*sides)


# Comparisons.


def test_pairs_are_left_out_that_a_decoder_was_fitted_on():
    fair = fair_comparison(IDS[:4], [card("a", image_ids=frozenset(IDS[:1])), card("b", image_ids=frozenset(IDS[8:]))])
    assert list(fair.keeps) == [False, True, True, True]
    assert not fair.left_out
    assert list(fair.notes) == ["1 of 4 pairs are left out: a, fitted on their images"]


def test_a_decoder_is_left_out_that_was_fitted_on_most_of_the_pairs():
    fair = fair_comparison(IDS[:4], [card("a", image_ids=frozenset(IDS[:3])), card("b")])
    assert all(fair.keeps)
    assert fair.left_out == {"a"}
    assert "not scored: a, fitted on images of these pairs" in fair.notes[0]


def test_decoders_are_left_out_that_leave_no_pair_together():
    halves = [card(name, image_ids=frozenset(ids)) for name, ids in (("a", IDS[:2]), ("b", IDS[2:4]))]
    fair = fair_comparison(IDS[:4], [*halves, card("c")])
    assert all(fair.keeps)
    assert fair.left_out == {"a", "b"}


def test_a_line_names_decoders_that_do_not_say_what_they_were_fitted_on():
    fair = fair_comparison(IDS[:4], [card("old", fitted_on="30 photographs"), card("flux2-conv-small", fitted_on="x")])
    assert list(fair.notes) == [
        "no image ids in old: whether it was fitted on images that score it here cannot be checked"
    ]


def test_a_fit_does_not_compare_with_decoders_that_were_fitted_on_images_of_the_test(identified, tmp_path):
    dataset = split(identified)
    leaking = frozenset(dataset.test.image_ids)
    baselines = Baselines(in_use=table(image_ids=leaking), others=[table("leaks", image_ids=leaking), table("fair")])
    result = fit_decoders("affine", SPACES["sd1"], dataset, baselines, tmp_path, source="a test")
    assert {row.name for row in result.scores} == {"the-table", "fair", "sd1-affine"}
    assert list(result.notes) == [
        "the-table was fitted on images of the test too: its scores here are too high",
        "not compared: leaks, fitted on images of the test",
    ]


def test_only_decoders_of_the_space_count():
    cards = [card(image_ids=frozenset(IDS[:2])), replace(card(image_ids=frozenset(IDS[2:])), space="flux2"), card()]
    assert fitted_ids(cards, "sd1") == set(IDS[:2])


def test_statistics_refuse_other_crops_of_their_images_for_the_test(identified, tmp_path):
    statistics = FitStatistics(kind="affine", space="sd1")
    parts = split(identified[:12], test=identified[12:14], validation=identified[14:16])
    result = fit_decoders(
        "affine", SPACES["sd1"], parts, Baselines(in_use=table()), tmp_path, source="a test", statistics=statistics
    )
    result.statistics.save(tmp_path / "sums.safetensors")
    loaded = FitStatistics.load(tmp_path / "sums.safetensors")
    assert loaded.image_ids == set(IDS[:6])
    other_crops = replace(identified[14:16], image_ids=IDS[:2])
    with pytest.raises(FitError, match="2 of the 2 test images are in the statistics"):
        loaded.require_new_images({"test": other_crops})
    loaded.require_new_images({"training": other_crops})


# Sheets.


def test_a_sheet_has_one_crop_of_each_image_and_a_head_over_each_column(identified, tmp_path):
    shown = identified.one_of_each_image(4)
    assert shown.image_ids == IDS[:4]
    assert torch.equal(shown.latents, identified.latents[0:8:2])
    parts = split(identified, test=identified[:6], validation=identified[6:8])
    result = fit_decoders("affine", SPACES["sd1"], parts, Baselines(in_use=table()), tmp_path, source="a test")
    sheet = np.asarray(result.sheet().convert("L"))
    assert sheet.shape[0] // 198 == 3
    heads = np.array_split(sheet[:20], 3, axis=1)
    assert all(head.min() < 100 for head in heads)


def test_pairs_of_unknown_images_are_all_shown(toy_pairs):
    assert len(toy_pairs(6).one_of_each_image(4)) == 4
