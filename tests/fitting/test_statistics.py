"""Fits in several sessions: saved sums, added sums, no image counted twice."""

import re

import pytest
import torch
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.files import contained_file
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.polynomial import Polynomial
from safelight.errors import FitError
from safelight.fitting.dataset import split_pairs
from safelight.fitting.fit import fit_decoders
from safelight.fitting.least_squares import PolynomialForm, Sums
from safelight.fitting.pairs import Pairs
from safelight.fitting.presets import PRESETS, fit_preset
from safelight.fitting.result import Baselines
from safelight.fitting.statistics import FitStatistics, image_keys

pytestmark = pytest.mark.usefixtures("_one_thread")
SPACE = SPACES["sd1"]
CLOSED = [name for name, preset in PRESETS.items() if preset.recipe is None]


@pytest.fixture
def run_session(toy_pairs):
    """Runs a session on toy pairs, after earlier sessions."""

    def run(count, seed, statistics=None, kind="affine"):
        pairs = toy_pairs(count, seed=seed)
        statistics = statistics or FitStatistics(kind=kind, space="sd1")
        fitted = fit_preset(PRESETS[kind], pairs, toy_pairs(4, seed=99), earlier=statistics.sums)
        return statistics.with_session(fitted.sums, pairs)

    return run


@pytest.mark.parametrize("kind", CLOSED)
def test_two_sessions_give_the_same_decoder_as_one_bit_for_bit(toy_pairs, run_session, tmp_path, kind):
    first, second, held = toy_pairs(24), toy_pairs(12, seed=1), toy_pairs(4, seed=99)
    path = tmp_path / "sums.safetensors"
    run_session(24, 0, kind=kind).save(path)
    apart = fit_preset(PRESETS[kind], second, held, earlier=FitStatistics.load_all(kind, "sd1", [path]).sums)
    at_once = fit_preset(PRESETS[kind], first + second, held)
    assert apart.validation_db == at_once.validation_db
    for name, tensor in at_once.net.state_dict().items():
        assert torch.equal(apart.net.state_dict()[name], tensor)
    alone = fit_preset(PRESETS[kind], second, held)
    assert not torch.equal(alone.net.state_dict()["weight"], at_once.net.state_dict()["weight"])


def test_statistics_of_two_machines_equal_those_of_one(toy_pairs, run_session, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two")]
    for seed, path in enumerate(files):
        run_session(8, seed).save(path)
    both = FitStatistics.load_all("affine", "sd1", files)
    assert (both.count, both.sums.rows) == (2, 16 * 64)
    assert both.seen == image_keys(toy_pairs(8)) | image_keys(toy_pairs(8, seed=1))
    torch.testing.assert_close(both.sums.xx, run_session(8, 1, run_session(8, 0)).sums.xx, rtol=1e-12, atol=0)
    assert str(both) == "1,024 latent pixels in 2 sittings"


def test_statistics_are_unchanged_after_save_and_load(run_session, tmp_path):
    statistics = run_session(8, 0)
    statistics.save(tmp_path / "new" / "sums.safetensors")
    loaded = FitStatistics.load(tmp_path / "new" / "sums.safetensors")
    assert (loaded.kind, loaded.space, loaded.count, loaded.seen) == ("affine", "sd1", 1, statistics.seen)
    assert torch.equal(loaded.sums.xx, statistics.sums.xx)


def test_a_session_does_not_change_earlier_sums(run_session):
    first = run_session(8, 0)
    before = first.sums.xx.clone()
    assert run_session(8, 1, first).sums.rows == 1024
    assert torch.equal(first.sums.xx, before)


def test_the_card_has_the_number_of_sessions(toy_pairs, run_session, tmp_path):
    pairs = toy_pairs(24, seed=5)
    dataset = split_pairs(pairs, "24 toys", range(24))
    in_use = Decoder(Card(name="the-table", space="sd1", kind="polynomial", channels=4), Polynomial(4))
    first = fit_decoders("affine", SPACE, dataset, Baselines(in_use=in_use), tmp_path, source="x")
    assert first.statistics is None
    result = fit_decoders(
        "quadratic",
        SPACE,
        dataset,
        Baselines(in_use=first.new[0]),
        tmp_path,
        source="x",
        statistics=run_session(8, 0, kind="quadratic"),
    )
    assert result.new[0].card.fitted_on == "16 of 24 toys; 1,536 latent pixels in 2 sittings"
    assert (result.statistics.count, result.statistics.sums.rows) == (2, 1536)
    held_back = image_keys(dataset.validation) | image_keys(dataset.test)
    assert not held_back & result.statistics.seen
    assert image_keys(dataset.train) < result.statistics.seen


# Errors.


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_an_image_of_an_earlier_session_is_refused(toy_pairs, run_session, part):
    parts = {name: toy_pairs(4, seed=10 + i) for i, name in enumerate(("training", "validation", "test"))}
    statistics = run_session(8, 0)
    statistics.require_new_images(parts)
    parts[part] = parts[part] + Pairs(toy_pairs(8).latents[:2], toy_pairs(8).pixels[:2])
    with pytest.raises(FitError, match=f"2 of the 6 {part} images are in the statistics already; use other images"):
        statistics.require_new_images(parts)


def test_two_files_with_the_same_images_are_not_added(run_session, tmp_path):
    for name in ("a", "b"):
        run_session(8, 0).save(tmp_path / f"{name}.safetensors")
    with pytest.raises(FitError, match="statistics of different images, got 8 images that are in two files"):
        FitStatistics.load_all("affine", "sd1", [tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


@pytest.mark.parametrize("kind", ["auto", "conv", "conv-full", "mlp"])
def test_a_trained_preset_is_refused(kind):
    with pytest.raises(FitError, match=rf"expected one of {', '.join(CLOSED)} .*, got {kind}: a training needs"):
        FitStatistics.load_all(kind, "sd1", [])


@pytest.mark.parametrize(("kind", "space"), [("quadratic", "sd1"), ("affine", "flux2")])
def test_statistics_of_another_kind_or_space_are_refused(run_session, tmp_path, kind, space):
    run_session(8, 0).save(tmp_path / "a.safetensors")
    message = f"a.safetensors: expected statistics of {kind} for {space}, got those of affine for sd1"
    with pytest.raises(FitError, match=message):
        FitStatistics.load_all(kind, space, [tmp_path / "a.safetensors"])


def test_sums_for_other_sub_pixels_are_refused_with_both_forms(toy_pairs):
    earlier = Sums(PolynomialForm(channels=4, degree=1, kernel=5, subpixel=8))
    with pytest.raises(FitError, match=r"expected sums for the same form, .*subpixel=2.*, got .*subpixel=8"):
        fit_preset(PRESETS["subpixel"], toy_pairs(8), toy_pairs(4, seed=1), earlier=earlier)


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
def test_sums_with_an_invalid_note_are_refused(run_session, tmp_path, note):
    path = tmp_path / "a.safetensors"
    run_session(8, 0).sums.save(path, note)
    with pytest.raises(FitError, match=r"a.safetensors: not statistics of `safelight fit`: .*; name another"):
        FitStatistics.load(path)


def test_a_changed_note_is_detected(run_session, tmp_path):
    path = tmp_path / "a.safetensors"
    run_session(8, 0).save(path)
    whole = path.read_bytes()
    altered = re.sub(rb'sittings\\": 1', rb'sittings\\": 9', whole)
    assert altered != whole
    path.write_bytes(altered)
    with pytest.raises(FitError, match="the content does not match its checksum"):
        FitStatistics.load(path)


def test_a_name_without_the_safetensors_suffix_is_refused(tmp_path):
    with pytest.raises(FitError, match=r"sums.bin: expected a name for statistics that ends in \.safetensors"):
        FitStatistics.load_all("affine", "sd1", [tmp_path / "sums.bin"])


def test_only_the_first_file_may_be_missing(run_session, tmp_path):
    run_session(8, 0).save(tmp_path / "two.safetensors")
    files = [tmp_path / "all.safetensors", tmp_path / "two.safetensors"]
    assert FitStatistics.load_all("affine", "sd1", files).count == 1
    with pytest.raises(FitError, match=r"all\.safetensors: cannot be read"):
        FitStatistics.load_all("affine", "sd1", files[::-1])


def test_a_failed_write_leaves_the_old_file(run_session, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    first = run_session(8, 0)
    first.save(path)
    before, second = path.read_bytes(), run_session(8, 1, first)

    def full(file, content):
        file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contained_file, "fill", full)
    with pytest.raises(FitError, match="cannot be written: No space left on device; the old file is unchanged"):
        second.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
