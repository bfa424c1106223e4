"""From pairs to decoder files: three parts without a common picture, judged beside what is in use, nothing lost."""

import errno
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.catalogue import Candidate, Catalogue
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.files.decoder_file import read_card, read_decoder, write_decoder
from safelight.decoders.latents.space import LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.polynomial import Polynomial
from safelight.decoders.ranking import LIGHT, gain_db
from safelight.errors import DecoderFileError, FitError
from safelight.fitting import result as telling
from safelight.fitting import train as training
from safelight.fitting.dataset import described, split
from safelight.fitting.fit import CLASSES, fit_decoders
from safelight.fitting.pairs import Pairs
from safelight.fitting.presets import measure
from safelight.fitting.result import BESIDE_MOST, BestAvailable

pytestmark = pytest.mark.usefixtures("_one_thread")
SPACE = SPACES["sd1"]
SHORT = {"steps": 20, "batch": 4, "lr": 1e-2}


def table_of(factors, name="the-table"):
    """A linear decoder with these factors, as every host has one."""
    net = Polynomial(4)
    net.load_state_dict({"weight": torch.tensor(factors).T[:, :, None, None], "bias": torch.full((3,), 0.5)})
    card = Card(name=name, space="sd1", kind="polynomial", settings={"channels": 4}, channels=4, cost=12, source="test")
    return Decoder(card, net)


@pytest.fixture
def poor():
    return table_of([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1], [0.0, 0.0, 0.0]])


@pytest.fixture
def material(toy_pairs):
    pairs = toy_pairs(48)
    return split(pairs, "48 toys", range(len(pairs)))


@pytest.fixture
def fitted(material, poor, tmp_path):
    def fit(kind="affine", space=SPACE, at_hand=None, **kwargs):
        chosen = {"source": "a test", "changes": SHORT, **kwargs}
        return fit_decoders(kind, space, material, at_hand or BestAvailable(in_use=poor), tmp_path, **chosen)

    return fit


# The three parts.


@pytest.mark.parametrize(("count", "held"), [(3, 1), (5, 1), (12, 2), (32, 5), (100, 16)])
def test_a_sixth_is_judged_by_a_sixth_chosen_by_and_the_rest_fitted_on(toy_pairs, count, held):
    pairs = toy_pairs(count)
    parts = split(pairs, "toys", range(count))
    assert (len(parts.judge), len(parts.choose), len(parts.fit)) == (held, held, count - 2 * held)
    seen = torch.cat([parts.fit.latents, parts.choose.latents, parts.judge.latents]).flatten(1)
    assert len(torch.unique(seen, dim=0)) == count


def test_crops_of_one_picture_stay_on_one_side(toy_pairs):
    numbers = [i // 3 + 7 for i in range(20)]
    parts = split(marked(numbers), "crops", numbers)
    sides = [set(part.latents[:, 0, 0, 0].int().tolist()) for part in (parts.fit, parts.choose, parts.judge)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set(numbers)) == len(set().union(*sides))


def marked(numbers):
    """Pairs that show of which picture they are."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.tensor(numbers).float()[:, None, None, None].expand(-1, 4, 8, 8).contiguous()
    return Pairs(latents, torch.randint(0, 256, (len(numbers), 3, 16, 16), generator=generator).byte())


def test_what_is_given_is_not_held_back(toy_pairs):
    pairs, choose, judge = toy_pairs(8), toy_pairs(2, seed=1), toy_pairs(3, seed=2)
    parts = split(pairs, "toys", range(8), choose=choose, judge=judge, judged_on="of another file")
    assert (len(parts.fit), parts.choose, parts.judge) == (8, choose, judge)
    assert parts.judged_on.startswith("3 pairs of another file (sha256 ")
    assert parts.fitted_on == "toys"
    assert len(split(pairs, "toys", range(8), judge=judge).fit) == 7


@pytest.mark.parametrize(
    ("count", "given", "told"),
    [
        (1, {}, "at least 3 pictures, to fit on and to choose by and to judge by, got 1"),
        (2, {}, "at least 3 pictures, .*, got 2"),
        (1, {"judge": 2}, "at least 2 pictures, to fit on and to choose by, got 1"),
    ],
)
def test_too_few_pictures_are_refused_with_what_each_would_be_for(toy_pairs, count, given, told):
    pairs = toy_pairs(4)
    given = {name: toy_pairs(number, seed=1) for name, number in given.items()}
    with pytest.raises(FitError, match=told):
        split(pairs, "toys", [i % count for i in range(4)], **given)


def test_the_words_for_pairs_are_those_of_the_same_pairs_only(toy_pairs):
    pairs = toy_pairs(3)
    words = described(pairs, "held back")
    assert words == described(toy_pairs(3), "held back")
    altered = pairs.pixels.clone()
    altered[0, 0, 0, 0] ^= 1
    others = (Pairs(pairs.latents, altered), Pairs(pairs.latents * 1.01, pairs.pixels), toy_pairs(4))
    assert words not in {described(other, "held back") for other in others}


def test_grey_pictures_are_refused(toy_pairs):
    pairs = toy_pairs(8)
    grey = Pairs(pairs.latents, pairs.pixels.float().mean(1, keepdim=True).byte().expand(-1, 3, -1, -1))
    with pytest.raises(FitError, match="expected pictures in colour to fit on, got 6 without"):
        split(grey, "grey", range(8))


def test_parts_of_two_spaces_are_refused(toy_pairs):
    pairs = toy_pairs(8)
    other = Pairs(F.avg_pool2d(pairs.latents, 2), pairs.pixels)
    with pytest.raises(FitError, match="4 channels at 1/2 and 4 channels at 1/4"):
        split(pairs, "toys", range(8), judge=other)


# What is made.


def test_a_decoder_says_what_it_is_worth_beside_what_is_in_use(fitted, material, poor):
    other = table_of([[0.2, 0.0, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.2], [0.0, 0.0, 0.0]], "other")
    made = fitted(at_hand=BestAvailable(in_use=poor, others=[other]))
    [new] = made.new
    metrics = new.card.metrics
    assert {key: metrics[key] for key in ("psnr_latent_db", "psnr_full_db", "ssim_full")} == measure(
        new.net, material.judge
    )
    assert metrics["judged_on"] == described(material.judge, "held back")
    for decoder in (poor, other):
        scored = measure(decoder.net, material.judge)
        beside = dict(metrics["beside"][decoder.name])
        assert beside.pop("decode_ms") > 0
        assert beside == scored
    assert set(metrics["beside"]) == {"the-table", "other"}
    assert metrics["decode_ms"] > 0
    gains = [metrics[key] - metrics["beside"]["the-table"][key] for key in ("psnr_latent_db", "psnr_full_db")]
    assert gain_db(new.card, poor.card) == pytest.approx(sum(gains) / 2)
    assert (new.card.fitted_on, new.card.source, new.card.notes) == ("32 of 48 toys", "a test", None)
    [verdict] = made.verdicts()
    assert verdict.startswith("sd1-affine: auto takes it from the next run on: ")
    assert "more than the-table on the same images" in verdict
    assert made.best is new


def test_what_is_worse_is_kept_out_of_auto_and_says_so(fitted):
    good = fitted("quadratic").new[0]
    made = fitted(at_hand=BestAvailable(in_use=good))
    assert made.best is good
    [verdict] = made.verdicts()
    assert verdict.startswith("sd1-affine: kept out of auto: ")
    assert "less than sd1-quadratic on the same images" in verdict


def test_what_another_at_hand_is_ahead_of_is_kept_out_as_well(fitted, poor):
    ahead = fitted("quadratic").new[0]
    made = fitted(at_hand=BestAvailable(in_use=poor, others=[ahead]))
    assert "kept out of auto" in made.verdicts()[0]
    assert "sd1-quadratic" in made.verdicts()[0]


def test_what_a_cpu_cannot_do_in_passing_is_for_accelerators(fitted, poor, monkeypatch):
    monkeypatch.setattr(telling, "LIGHT", 10)
    made = fitted()
    assert made.best is poor
    assert "on a GPU only, 12 multiplications for each latent pixel" in made.verdicts()[0]
    assert fitted(at_hand=BestAvailable(in_use=poor, accelerated=True)).best.name == "sd1-affine"


def test_what_is_heavy_and_worse_is_not_said_to_be_taken_anywhere(fitted, monkeypatch):
    good = fitted("quadratic").new[0]
    monkeypatch.setattr(telling, "LIGHT", 10)
    [verdict] = fitted(at_hand=BestAvailable(in_use=good)).verdicts()
    assert verdict.startswith("sd1-affine: kept out of auto: ")
    assert "GPU" not in verdict


def test_auto_keeps_the_best_of_each_class(fitted, monkeypatch):
    seen = []
    made = fitted("auto", tell=lambda name, progress: seen.append((name, progress)))
    assert [decoder.name for decoder in made.new] == ["sd1-quadratic", "sd1-subpixel", "sd1-conv"]
    assert list(dict.fromkeys(name for name, _ in seen)) == [name for rungs in CLASSES.values() for name in rungs]
    assert all(1 <= progress.step <= progress.steps for _, progress in seen)
    for decoder in made.new:
        assert set(decoder.card.metrics["beside"]) == {d.name for d in made.new} - {decoder.name} | {"the-table"}
    assert sum("auto takes it" in verdict for verdict in made.verdicts()) == 1
    assert f"{made.best.name}: auto takes it" in "\n".join(made.verdicts())


def test_what_auto_cannot_fit_is_noted(poor, toy_pairs, tmp_path):
    few = split(toy_pairs(5), "few", range(5))
    made = fit_decoders("auto", SPACE, few, BestAvailable(in_use=poor), tmp_path, source="a test", changes=SHORT)
    assert [decoder.card.name for decoder in made.new]
    assert any(note.startswith("neighbourhood: ") and "too few" in note for note in made.notes)


def test_one_kind_that_cannot_be_fitted_is_told(fitted, poor, toy_pairs, tmp_path):
    few = split(toy_pairs(4), "few", range(4))
    with pytest.raises(FitError, match="128 latent pixels are too few for 196 features"):
        fit_decoders("neighbourhood", SPACE, few, BestAvailable(in_use=poor), tmp_path, source="a test")


def test_latents_of_another_space_are_refused(fitted):
    with pytest.raises(FitError, match=r"expected latents of .* with 16 channels, got 4"):
        fitted(space=SPACES["flux1"])


def test_what_is_worse_than_no_decoder_is_refused(fitted, material, tmp_path):
    good = fitted("quadratic").new[0]
    principal = Decoder(replace(good.card, name="principal", kind="principal", metrics={}), good.net)
    generator = torch.Generator().manual_seed(1)
    noise = Pairs(torch.randn(material.fit.latents.shape, generator=generator), material.fit.pixels)
    with pytest.raises(FitError, match=r"worse than no decoder: .* less than principal .* of one kind"):
        fit_decoders(
            "affine", SPACE, replace(material, fit=noise), BestAvailable(in_use=principal), tmp_path, source="a test"
        )


def test_the_first_decoder_of_a_space_is_taken(fitted, poor):
    principal = Catalogue().candidates(LatentSpace(name="mine", title="mine", channels=4, source="x"))[0].open()
    assert principal.card.kind == "principal"
    made = fitted(at_hand=BestAvailable(in_use=principal))
    assert "auto takes it from the next run on" in made.verdicts()[0]


# Files.


def test_files_hold_it_all_and_none_is_overwritten(fitted, tmp_path):
    first = fitted()
    [path] = first.save(tmp_path)
    content = path.read_bytes()
    assert read_card(path).metrics == first.new[0].card.metrics
    [second] = fitted().save(tmp_path)
    assert (path.name, second.name) == ("sd1-affine.safetensors", "sd1-affine-2.safetensors")
    assert read_card(second).name == "sd1-affine-2"
    assert path.read_bytes() == content
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(read_decoder(path).decode(latents), first.new[0].decode(latents))


def test_only_a_decoder_file_takes_a_name(fitted, poor, tmp_path):
    for file in ("sd1-affine.png", "sd1-affine-2.log"):
        (tmp_path / file).write_bytes(b"")
    assert fitted(at_hand=BestAvailable(in_use=poor)).new[0].name == "sd1-affine"
    (tmp_path / "sd1-affine.pth").write_bytes(b"")
    assert fitted(at_hand=BestAvailable(in_use=poor)).new[0].name == "sd1-affine-2"


def test_a_name_that_ships_is_not_taken(fitted, poor):
    made = fitted(at_hand=BestAvailable(in_use=poor, taken={"sd1-affine", "sd1-affine-2"}))
    assert made.new[0].name == "sd1-affine-3"


def test_a_name_of_ones_own(fitted):
    assert fitted(name="mine").new[0].name == "mine"
    assert {decoder.name for decoder in fitted("auto", name="mine").new} == {
        "mine-quadratic",
        "mine-subpixel",
        "mine-conv",
    }


def test_a_space_that_is_none_of_ours_travels_with_the_decoder(fitted, tmp_path):
    row = LatentSpace(
        name="mine", title="My space", channels=4, downscale=2, hosts={"comfyui": ("Mine",)}, source="a test"
    )
    [path] = fitted(space=row).save(tmp_path)
    assert read_card(path).latent_space == row
    assert Catalogue([tmp_path]).spaces()["mine"] == row
    assert fitted().new[0].card.latent_space is None


def test_a_disk_that_takes_no_file_is_told(fitted, tmp_path, monkeypatch):
    made = fitted()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(telling, "write_decoder", full)
    with pytest.raises(FitError, match=r"sd1-affine\.safetensors: expected to write .* No space left on device"):
        made.save(tmp_path)
    assert not list(tmp_path.iterdir())


# Trouble on the way.


def test_an_interrupted_training_says_how_far_it_came(fitted, monkeypatch):
    monkeypatch.setattr(training, "EVERY", 5)

    def stop(_, progress):
        if progress.step == 12:
            raise KeyboardInterrupt

    made = fitted("conv", tell=stop)
    assert made.new[0].card.notes == "interrupted after 12 of 20 steps; the best until then"
    assert made.notes == ("conv: interrupted after 12 of 20 steps; the best until then",)


def test_who_cancels_is_heard(fitted, tmp_path):
    class CancelledError(Exception):
        pass

    def cancel(*_):
        raise CancelledError

    for kind in ("affine", "conv"):
        with pytest.raises(CancelledError):
            fitted(kind, tell=cancel)


def test_the_global_random_state_is_left_alone(fitted):
    before = torch.get_rng_state()
    fitted("auto")
    assert torch.equal(torch.get_rng_state(), before)


# What is at hand.


class Shelf:
    """A catalogue of these candidates."""

    def __init__(self, *candidates):
        self._candidates = list(candidates)

    def candidates(self, space, *, accelerated, evidence):
        return [*self._candidates, *Catalogue().candidates(LatentSpace(name="x", title="x", channels=4, source="x"))]

    def of(self, space):
        return self._candidates

    def all(self):
        return [candidate.card for candidate in self._candidates]

    def names(self):
        return ["auto", *(f"{candidate.name}.safetensors" for candidate in self._candidates)]


def candidate(decoder):
    return Candidate(decoder.card, lambda: decoder)


def test_at_hand_are_what_is_in_use_and_a_dozen_light_ones(poor):
    many = [table_of([[0.1] * 3] * 4, f"table-{i}") for i in range(20)]
    at_hand = BestAvailable.of(Shelf(*map(candidate, many)), SPACE)
    assert at_hand.in_use is many[0]
    assert len(at_hand.others) == BESIDE_MOST - 1
    assert at_hand.others[0] is many[1]
    assert {"auto", "table-7", "table-19"} <= set(at_hand.taken)


def test_heavy_ones_are_left_aside_unless_in_use(poor):
    heavy = Decoder(replace(poor.card, name="heavy", cost=LIGHT + 1), poor.net)
    assert BestAvailable.of(Shelf(candidate(poor), candidate(heavy)), SPACE).others == []
    assert BestAvailable.of(Shelf(candidate(heavy), candidate(poor)), SPACE).in_use is heavy


def test_one_that_does_not_open_or_takes_other_latents_is_passed_over(poor):
    def broken():
        raise DecoderFileError("it is broken")

    other = Decoder(replace(poor.card, name="other"), Polynomial(16))
    shelf = Shelf(Candidate(replace(poor.card, name="broken"), broken), candidate(other), candidate(poor))
    at_hand = BestAvailable.of(shelf, SPACE)
    assert (at_hand.in_use, at_hand.others) == (poor, [])


def test_the_catalogue_agrees_on_what_auto_takes(fitted, tmp_path, toy_pairs):
    """The verdict is what happens."""
    row = LatentSpace(
        name="mine", title="My space", channels=4, downscale=2, hosts={"comfyui": ("Mine",)}, source="a test"
    )
    shelf = Catalogue([tmp_path])
    for kind in ("affine", "quadratic", "subpixel", "affine"):
        made = fitted(kind, space=row, at_hand=BestAvailable.of(shelf, row))
        made.save(tmp_path)
        assert shelf.candidates(row)[0].name == made.best.name


# The report.


def test_the_report_shows_the_truth_what_is_in_use_and_what_is_new(fitted):
    made = fitted("auto")
    assert made.table().count("\n") == 1 + len(made.judged)
    assert all(decoder.name in made.table() for decoder in (made.at_hand.in_use, *made.new))
    sheet, chart, both = made.sheet(), made.chart(), made.picture()
    assert both.size[0] == max(sheet.width, chart.width)
    assert both.size[1] >= sheet.height + chart.height


def test_decoder_files_of_others_are_no_trouble(fitted, tmp_path, poor):
    (tmp_path / "sd1-affine.safetensors").write_bytes(b"no decoder at all")
    write_decoder(tmp_path / "theirs.safetensors", poor.card, poor.net.state_dict())
    assert fitted(at_hand=BestAvailable.of(Catalogue([tmp_path]), SPACE)).new[0].name == "sd1-affine-2"
