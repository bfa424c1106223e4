"""Fits that go on: sums kept between sittings, brought together, and never counted twice."""

import re

import pytest
import torch
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import FitError
from safelight.fitting.dataset import split
from safelight.fitting.fit import fit_decoders
from safelight.fitting.least_squares import Form, Sums
from safelight.fitting.pairs import Pairs
from safelight.fitting.presets import PRESETS, fit
from safelight.fitting.result import BestAvailable
from safelight.fitting.statistics import FitStatistics, keys

pytestmark = pytest.mark.usefixtures("_one_thread")
SPACE = SPACES["sd1"]
CLOSED = [name for name, rung in PRESETS.items() if rung.recipe is None]


@pytest.fixture
def sat(toy_pairs):
    """One sitting on some toys, after others."""

    def sit(count, seed, sittings=None, kind="affine"):
        pairs = toy_pairs(count, seed=seed)
        sittings = sittings or FitStatistics(kind=kind, space="sd1")
        fitted = fit(PRESETS[kind], pairs, toy_pairs(4, seed=99), earlier=sittings.sums)
        return sittings.grown(fitted.sums, pairs)

    return sit


@pytest.mark.parametrize("kind", CLOSED)
def test_two_sittings_give_the_decoder_of_one_to_the_last_bit(toy_pairs, sat, tmp_path, kind):
    first, second, held = toy_pairs(24), toy_pairs(12, seed=1), toy_pairs(4, seed=99)
    path = tmp_path / "sums.safetensors"
    sat(24, 0, kind=kind).save(path)
    apart = fit(PRESETS[kind], second, held, earlier=FitStatistics.gathered(kind, "sd1", [path]).sums)
    at_once = fit(PRESETS[kind], first + second, held)
    assert apart.held_db == at_once.held_db
    for name, tensor in at_once.net.state_dict().items():
        assert torch.equal(apart.net.state_dict()[name], tensor)
    alone = fit(PRESETS[kind], second, held)
    assert not torch.equal(alone.net.state_dict()["weight"], at_once.net.state_dict()["weight"])


def test_sums_of_two_machines_are_those_of_one(toy_pairs, sat, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two")]
    for seed, path in enumerate(files):
        sat(8, seed).save(path)
    both = FitStatistics.gathered("affine", "sd1", files)
    assert (both.count, both.sums.rows) == (2, 16 * 64)
    assert both.seen == keys(toy_pairs(8)) | keys(toy_pairs(8, seed=1))
    torch.testing.assert_close(both.sums.xx, sat(8, 1, sat(8, 0)).sums.xx, rtol=1e-12, atol=0)
    assert str(both) == "1,024 latent pixels in 2 sittings"


def test_what_was_kept_comes_back_as_it_was(sat, tmp_path):
    kept = sat(8, 0)
    kept.save(tmp_path / "new" / "sums.safetensors")
    loaded = FitStatistics.load(tmp_path / "new" / "sums.safetensors")
    assert (loaded.kind, loaded.space, loaded.count, loaded.seen) == ("affine", "sd1", 1, kept.seen)
    assert torch.equal(loaded.sums.xx, kept.sums.xx)


def test_earlier_sums_are_left_as_they_are(sat):
    first = sat(8, 0)
    before = first.sums.xx.clone()
    assert sat(8, 1, first).sums.rows == 1024
    assert torch.equal(first.sums.xx, before)


def test_a_decoder_tells_of_how_many_sittings_it_is(toy_pairs, sat, tmp_path):
    pairs = toy_pairs(24, seed=5)
    material = split(pairs, "24 toys", range(24))
    poor = fit_decoders("affine", SPACE, material, BestAvailable.of(Catalogue(), SPACE), tmp_path, source="x")
    assert poor.sittings is None
    made = fit_decoders(
        "quadratic",
        SPACE,
        material,
        BestAvailable(in_use=poor.new[0]),
        tmp_path,
        source="x",
        sittings=sat(8, 0, kind="quadratic"),
    )
    assert made.new[0].card.fitted_on == "16 of 24 toys; 1,536 latent pixels in 2 sittings"
    assert (made.sittings.count, made.sittings.sums.rows) == (2, 1536)
    held_back = keys(material.choose) | keys(material.judge)
    assert not held_back & made.sittings.seen
    assert keys(material.fit) < made.sittings.seen


# What is refused.


@pytest.mark.parametrize("part", ["fit on", "choose by", "judge by"])
def test_no_picture_is_counted_twice_or_judged_by(toy_pairs, sat, part):
    parts = {name: toy_pairs(4, seed=10 + i) for i, name in enumerate(("fit on", "choose by", "judge by"))}
    known = sat(8, 0)
    known.expect_new(parts)
    parts[part] = parts[part] + Pairs(toy_pairs(8).latents[:2], toy_pairs(8).pixels[:2])
    with pytest.raises(FitError, match=f"2 of the 6 pictures to {part} are in the statistics already; give others"):
        known.expect_new(parts)


def test_two_files_with_the_same_pictures_are_not_added(sat, tmp_path):
    for name in ("a", "b"):
        sat(8, 0).save(tmp_path / f"{name}.safetensors")
    with pytest.raises(FitError, match="statistics of different pictures, got 8 that are in two of the files"):
        FitStatistics.gathered("affine", "sd1", [tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


@pytest.mark.parametrize("kind", ["auto", "conv", "conv-full", "mlp"])
def test_a_kind_that_is_trained_is_refused(kind):
    with pytest.raises(FitError, match=rf"expected one of {', '.join(CLOSED)} .*, got {kind}: a training needs"):
        FitStatistics.gathered(kind, "sd1", [])


@pytest.mark.parametrize(("kind", "space"), [("quadratic", "sd1"), ("affine", "flux2")])
def test_statistics_of_another_kind_or_space_are_refused(sat, tmp_path, kind, space):
    sat(8, 0).save(tmp_path / "a.safetensors")
    told = f"a.safetensors: expected the statistics of {kind} for {space}, got those of affine for sd1"
    with pytest.raises(FitError, match=told):
        FitStatistics.gathered(kind, space, [tmp_path / "a.safetensors"])


def test_sums_for_other_sub_pixels_are_refused_with_both_forms(toy_pairs):
    earlier = Sums(Form(channels=4, degree=1, kernel=5, subpixel=8))
    with pytest.raises(FitError, match=r"expected sums for the same form, .*subpixel=2.*, got .*subpixel=8"):
        fit(PRESETS["subpixel"], toy_pairs(8), toy_pairs(4, seed=1), earlier=earlier)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "[]",
        '{"kind": "affine"}',
        '{"kind": "quadratic", "space": "sd1", "sittings": 1, "seen": []}',
        '{"kind": "conv", "space": "sd1", "sittings": 1, "seen": []}',
        '{"kind": [], "space": "sd1", "sittings": 1, "seen": 5}',
    ],
)
def test_sums_without_what_they_are_of_are_refused(sat, tmp_path, note):
    path = tmp_path / "a.safetensors"
    sat(8, 0).sums.save(path, note)
    with pytest.raises(FitError, match=r"a.safetensors: no statistics that `safelight fit` keeps: .*; name another"):
        FitStatistics.load(path)


def test_a_note_that_was_changed_is_no_other_note(sat, tmp_path):
    path = tmp_path / "a.safetensors"
    sat(8, 0).save(path)
    whole = path.read_bytes()
    altered = re.sub(rb'sittings\\": 1', rb'sittings\\": 9', whole)
    assert altered != whole
    path.write_bytes(altered)
    with pytest.raises(FitError, match="it is not as it was written"):
        FitStatistics.load(path)


def test_a_name_that_could_not_be_read_again_is_refused(tmp_path):
    with pytest.raises(FitError, match=r"sums.bin: expected a name for statistics that ends in \.safetensors"):
        FitStatistics.gathered("affine", "sd1", [tmp_path / "sums.bin"])


def test_only_the_file_that_is_written_may_be_missing(sat, tmp_path):
    sat(8, 0).save(tmp_path / "two.safetensors")
    files = [tmp_path / "all.safetensors", tmp_path / "two.safetensors"]
    assert FitStatistics.gathered("affine", "sd1", files).count == 1
    with pytest.raises(FitError, match=r"all\.safetensors: cannot be read"):
        FitStatistics.gathered("affine", "sd1", files[::-1])


def test_a_write_that_fails_leaves_the_file_that_was_there(sat, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    first = sat(8, 0)
    first.save(path)
    before, second = path.read_bytes(), sat(8, 1, first)

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(FitError, match="cannot be written there: No space left on device; what was there before"):
        second.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
