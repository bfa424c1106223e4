"""Fits from pairs to decoder files: three parts without a common image, comparison with baselines, files."""

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
from safelight.fitting import fit as fitting
from safelight.fitting import result as result_module
from safelight.fitting import train as training
from safelight.fitting.dataset import describe_pairs, split_pairs
from safelight.fitting.fit import COST_CLASSES, FitOptions, fit_and_save, fit_decoders
from safelight.fitting.pairs import Pairs
from safelight.fitting.presets import measure_net
from safelight.fitting.result import MAX_BASELINES, Baselines, SavedDecoders

pytestmark = pytest.mark.usefixtures("_one_thread")
SPACE = SPACES["sd1"]
SHORT = {"steps": 20, "batch": 4, "lr": 1e-2}


def table_of(factors, name="the-table"):
    """Builds a linear decoder with these factors, as hosts have them."""
    net = Polynomial(4)
    net.load_state_dict({"weight": torch.tensor(factors).T[:, :, None, None], "bias": torch.full((3,), 0.5)})
    card = Card(name=name, space="sd1", kind="polynomial", settings={"channels": 4}, channels=4, cost=12, source="test")
    return Decoder(card, net)


@pytest.fixture
def poor():
    return table_of([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1], [0.0, 0.0, 0.0]])


@pytest.fixture
def dataset(toy_pairs):
    pairs = toy_pairs(48)
    return split_pairs(pairs, "48 toys", range(len(pairs)))


@pytest.fixture
def fitted(dataset, poor, tmp_path):
    def fit(kind="affine", space=SPACE, baselines=None, **kwargs):
        chosen = {"source": "a test", "recipe_changes": SHORT, **kwargs}
        return fit_decoders(kind, space, dataset, baselines or Baselines(in_use=poor), tmp_path, **chosen)

    return fit


# Datasets.


@pytest.mark.parametrize(("count", "held"), [(3, 1), (5, 1), (12, 2), (32, 5), (100, 16)])
def test_a_sixth_is_for_test_a_sixth_for_validation_and_the_rest_for_training(toy_pairs, count, held):
    pairs = toy_pairs(count)
    parts = split_pairs(pairs, "toys", range(count))
    assert (len(parts.test), len(parts.validation), len(parts.train)) == (held, held, count - 2 * held)
    seen = torch.cat([parts.train.latents, parts.validation.latents, parts.test.latents]).flatten(1)
    assert len(torch.unique(seen, dim=0)) == count


def test_crops_of_one_image_stay_in_one_part(toy_pairs):
    numbers = [i // 3 + 7 for i in range(20)]
    parts = split_pairs(marked(numbers), "crops", numbers)
    sides = [set(part.latents[:, 0, 0, 0].int().tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set(numbers)) == len(set().union(*sides))


def marked(numbers):
    """Returns pairs whose latents hold the number of their image."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.tensor(numbers).float()[:, None, None, None].expand(-1, 4, 8, 8).contiguous()
    return Pairs(latents, torch.randint(0, 256, (len(numbers), 3, 16, 16), generator=generator).byte())


def test_given_validation_and_test_pairs_replace_held_out_pairs(toy_pairs):
    pairs, choose, judge = toy_pairs(8), toy_pairs(2, seed=1), toy_pairs(3, seed=2)
    parts = split_pairs(pairs, "toys", range(8), validation=choose, test=judge, judged_on="of another file")
    assert (len(parts.train), parts.validation, parts.test) == (8, choose, judge)
    assert parts.judged_on.startswith("3 pairs of another file (sha256 ")
    assert parts.fitted_on == "toys"
    assert len(split_pairs(pairs, "toys", range(8), test=judge).train) == 7


@pytest.mark.parametrize(
    ("count", "given", "message"),
    [
        (1, {}, "at least 3 images, one each for training and validation and test, got 1"),
        (2, {}, "at least 3 images, .*, got 2"),
        (1, {"test": 2}, "at least 2 images, one each for training and validation, got 1"),
    ],
)
def test_too_few_images_are_refused_with_their_purposes(toy_pairs, count, given, message):
    pairs = toy_pairs(4)
    given = {name: toy_pairs(number, seed=1) for name, number in given.items()}
    with pytest.raises(FitError, match=message):
        split_pairs(pairs, "toys", [i % count for i in range(4)], **given)


def test_only_identical_pairs_have_the_same_description(toy_pairs):
    pairs = toy_pairs(3)
    words = describe_pairs(pairs, "held back")
    assert words == describe_pairs(toy_pairs(3), "held back")
    altered = pairs.pixels.clone()
    altered[0, 0, 0, 0] ^= 1
    others = (Pairs(pairs.latents, altered), Pairs(pairs.latents * 1.01, pairs.pixels), toy_pairs(4))
    assert words not in {describe_pairs(other, "held back") for other in others}


def test_gray_images_are_refused(toy_pairs):
    pairs = toy_pairs(8)
    gray = Pairs(pairs.latents, pairs.pixels.float().mean(1, keepdim=True).byte().expand(-1, 3, -1, -1))
    with pytest.raises(FitError, match="expected training images in color, got 6 gray images"):
        split_pairs(gray, "gray", range(8))


def test_parts_of_two_spaces_are_refused(toy_pairs):
    pairs = toy_pairs(8)
    other = Pairs(F.avg_pool2d(pairs.latents, 2), pairs.pixels)
    with pytest.raises(FitError, match="4 channels at 1/2 and 4 channels at 1/4"):
        split_pairs(pairs, "toys", range(8), test=other)


# Decoders.


def test_a_card_holds_the_scores_of_its_decoder_and_of_the_baselines(fitted, dataset, poor):
    other = table_of([[0.2, 0.0, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.2], [0.0, 0.0, 0.0]], "other")
    result = fitted(baselines=Baselines(in_use=poor, others=[other]))
    [new] = result.new
    metrics = new.card.metrics
    assert {key: metrics[key] for key in ("psnr_latent_db", "psnr_full_db", "ssim_full")} == measure_net(
        new.net, dataset.test
    )
    assert metrics["judged_on"] == describe_pairs(dataset.test, "held back")
    for decoder in (poor, other):
        scored = measure_net(decoder.net, dataset.test)
        beside = dict(metrics["beside"][decoder.name])
        assert beside.pop("decode_ms") > 0
        assert beside == scored
    assert set(metrics["beside"]) == {"the-table", "other"}
    assert metrics["decode_ms"] > 0
    gains = [metrics[key] - metrics["beside"]["the-table"][key] for key in ("psnr_latent_db", "psnr_full_db")]
    assert gain_db(new.card, poor.card) == pytest.approx(sum(gains) / 2)
    assert (new.card.fitted_on, new.card.source, new.card.notes) == ("32 of 48 toys", "a test", None)
    [verdict] = result.verdicts()
    assert verdict.startswith("sd1-affine: auto uses it from the next run on: ")
    assert "more than the-table on the same images" in verdict
    assert result.best is new


def test_auto_does_not_use_a_worse_decoder(fitted):
    good = fitted("quadratic").new[0]
    result = fitted(baselines=Baselines(in_use=good))
    assert result.best is good
    [verdict] = result.verdicts()
    assert verdict.startswith("sd1-affine: auto does not use it: ")
    assert "less than sd1-quadratic on the same images" in verdict


def test_auto_does_not_use_a_decoder_worse_than_another_baseline(fitted, poor):
    ahead = fitted("quadratic").new[0]
    result = fitted(baselines=Baselines(in_use=poor, others=[ahead]))
    assert "auto does not use it" in result.verdicts()[0]
    assert "sd1-quadratic" in result.verdicts()[0]


def test_a_decoder_too_heavy_for_a_cpu_is_used_on_accelerators_only(fitted, poor, monkeypatch):
    monkeypatch.setattr(result_module, "LIGHT", 10)
    result = fitted()
    assert result.best is poor
    assert "on a GPU only: 12 multiplications per latent pixel" in result.verdicts()[0]
    assert fitted(baselines=Baselines(in_use=poor, accelerated=True)).best.name == "sd1-affine"


def test_a_heavy_and_worse_decoder_is_used_nowhere(fitted, monkeypatch):
    good = fitted("quadratic").new[0]
    monkeypatch.setattr(result_module, "LIGHT", 10)
    [verdict] = fitted(baselines=Baselines(in_use=good)).verdicts()
    assert verdict.startswith("sd1-affine: auto does not use it: ")
    assert "GPU" not in verdict


def test_auto_fits_the_best_of_each_cost_class(fitted, monkeypatch):
    seen = []
    result = fitted("auto", on_step=lambda name, progress: seen.append((name, progress)))
    assert [decoder.name for decoder in result.new] == ["sd1-quadratic", "sd1-subpixel", "sd1-conv"]
    assert list(dict.fromkeys(name for name, _ in seen)) == [
        name for presets in COST_CLASSES.values() for name in presets
    ]
    assert all(1 <= progress.step <= progress.steps for _, progress in seen)
    for decoder in result.new:
        assert set(decoder.card.metrics["beside"]) == {d.name for d in result.new} - {decoder.name} | {"the-table"}
    assert sum("auto uses it" in verdict for verdict in result.verdicts()) == 1
    assert f"{result.best.name}: auto uses it" in "\n".join(result.verdicts())


def test_presets_that_auto_cannot_fit_are_noted(poor, toy_pairs, tmp_path):
    few = split_pairs(toy_pairs(5), "few", range(5))
    result = fit_decoders("auto", SPACE, few, Baselines(in_use=poor), tmp_path, source="a test", recipe_changes=SHORT)
    assert [decoder.card.name for decoder in result.new]
    assert any(note.startswith("neighbourhood: ") and "too few" in note for note in result.notes)


def test_a_preset_that_cannot_be_fitted_raises_the_reason(fitted, poor, toy_pairs, tmp_path):
    few = split_pairs(toy_pairs(4), "few", range(4))
    with pytest.raises(FitError, match="128 latent pixels are too few for 196 features"):
        fit_decoders("neighbourhood", SPACE, few, Baselines(in_use=poor), tmp_path, source="a test")


def test_latents_of_another_space_are_refused(fitted):
    with pytest.raises(FitError, match=r"expected latents of .* with 16 channels, got 4"):
        fitted(space=SPACES["flux1"])


def test_a_decoder_worse_than_no_decoder_is_refused(fitted, dataset, tmp_path):
    good = fitted("quadratic").new[0]
    principal = Decoder(replace(good.card, name="principal", kind="principal", metrics={}), good.net)
    generator = torch.Generator().manual_seed(1)
    noise = Pairs(torch.randn(dataset.train.latents.shape, generator=generator), dataset.train.pixels)
    with pytest.raises(FitError, match=r"worse than no decoder: .* less than principal .* belong together"):
        fit_decoders(
            "affine", SPACE, replace(dataset, train=noise), Baselines(in_use=principal), tmp_path, source="a test"
        )


def test_auto_uses_the_first_decoder_of_a_space(fitted, poor):
    principal = Catalogue().candidates(LatentSpace(name="mine", title="mine", channels=4, source="x"))[0].open()
    assert principal.card.kind == "principal"
    result = fitted(baselines=Baselines(in_use=principal))
    assert "auto uses it from the next run on" in result.verdicts()[0]


# Files.


def save(result, folder):
    return SavedDecoders(folder, losers=True, doubles=True).update(result)


def test_losers_and_doubles_are_saved_only_on_request(fitted, tmp_path):
    """Of `auto`, the file of a quick decoder is there until a better one is fitted."""
    saved, steps = SavedDecoders(tmp_path, losers=False, doubles=False), []
    fitted("auto", on_result=lambda result: steps.append([path.stem for path in saved.update(result)]))
    assert len(steps) == 3
    assert len(steps[0]) == 1
    assert [path.stem for path in tmp_path.iterdir()] == steps[-1]
    before = set(tmp_path.iterdir())
    again = SavedDecoders(tmp_path, losers=False, doubles=False)
    result = fitted("auto")
    assert set(again.update(result)) <= before
    assert not again.written
    assert set(tmp_path.iterdir()) == before


class CancelledByHostError(Exception):
    """Stands for a host's own exception."""


def test_a_cancelled_fit_saves_what_is_finished_and_the_best_of_the_training(fitted, tmp_path):
    saved = SavedDecoders(tmp_path, losers=True, doubles=True)

    def cancel(name, step):
        if name == "conv" and step.step == 3:
            raise CancelledByHostError

    with pytest.raises(CancelledByHostError):
        fitted("auto", on_step=cancel, on_result=saved.update)
    kinds = {path.stem.split("-")[-1] for path in tmp_path.iterdir()}
    assert {"subpixel", "conv"} < kinds
    conv = read_card(tmp_path / "sd1-conv.safetensors")
    assert conv.notes.startswith("interrupted after 3 of ")


def test_a_cancel_in_a_closed_form_is_the_hosts(fitted, tmp_path):
    def cancel(name, step):
        raise CancelledByHostError

    with pytest.raises(CancelledByHostError):
        fitted("affine", on_step=cancel)


def test_files_hold_card_and_net_and_none_is_overwritten(fitted, tmp_path):
    first = fitted()
    [path] = save(first, tmp_path)
    content = path.read_bytes()
    assert read_card(path).metrics == first.new[0].card.metrics
    [second] = save(fitted(), tmp_path)
    assert (path.name, second.name) == ("sd1-affine.safetensors", "sd1-affine-2.safetensors")
    assert read_card(second).name == "sd1-affine-2"
    assert path.read_bytes() == content
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(read_decoder(path).decode(latents), first.new[0].decode(latents))


def test_only_decoder_files_reserve_a_name(fitted, poor, tmp_path):
    for file in ("sd1-affine.png", "sd1-affine-2.log"):
        (tmp_path / file).write_bytes(b"")
    assert fitted(baselines=Baselines(in_use=poor)).new[0].name == "sd1-affine"
    (tmp_path / "sd1-affine.pth").write_bytes(b"")
    assert fitted(baselines=Baselines(in_use=poor)).new[0].name == "sd1-affine-2"


def test_names_of_shipped_decoders_are_not_used(fitted, poor):
    result = fitted(baselines=Baselines(in_use=poor, taken_names={"sd1-affine", "sd1-affine-2"}))
    assert result.new[0].name == "sd1-affine-3"


def test_a_name_can_be_chosen(fitted):
    assert fitted(name="mine").new[0].name == "mine"
    assert {decoder.name for decoder in fitted("auto", name="mine").new} == {
        "mine-quadratic",
        "mine-subpixel",
        "mine-conv",
    }


def test_an_unknown_space_is_stored_in_the_card(fitted, tmp_path):
    row = LatentSpace(
        name="mine", title="My space", channels=4, downscale=2, hosts={"comfyui": ("Mine",)}, source="a test"
    )
    [path] = save(fitted(space=row), tmp_path)
    assert read_card(path).latent_space == row
    assert Catalogue([tmp_path]).spaces()["mine"] == row
    assert fitted().new[0].card.latent_space is None


def test_a_failed_write_is_reported(fitted, tmp_path, monkeypatch):
    result = fitted()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(result_module, "write_decoder", full)
    with pytest.raises(
        FitError, match=r"sd1-affine\.safetensors: the decoder cannot be written: No space left on device"
    ):
        save(result, tmp_path)
    assert not list(tmp_path.iterdir())


# Interrupts.


def test_an_interrupted_training_notes_its_last_step(fitted, monkeypatch):
    monkeypatch.setattr(training, "VALIDATION_STEPS", 5)

    def stop(_, progress):
        if progress.step == 12:
            raise KeyboardInterrupt

    result = fitted("conv", on_step=stop)
    assert result.new[0].card.notes == "interrupted after 12 of 20 steps; the best until then"
    assert result.notes == ("conv: interrupted after 12 of 20 steps; the best until then",)


def test_an_exception_from_the_callback_ends_the_fit(fitted, tmp_path):
    class CancelledError(Exception):
        pass

    def cancel(*_):
        raise CancelledError

    for kind in ("affine", "conv"):
        with pytest.raises(CancelledError):
            fitted(kind, on_step=cancel)


def test_a_fit_does_not_change_the_global_random_state(fitted):
    before = torch.get_rng_state()
    fitted("auto")
    assert torch.equal(torch.get_rng_state(), before)


# Baselines.


class CatalogueOf:
    """A catalogue of the given candidates."""

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


def test_baselines_are_the_decoder_in_use_and_up_to_eleven_light_ones(poor):
    many = [table_of([[0.1] * 3] * 4, f"table-{i}") for i in range(20)]
    baselines = Baselines.from_catalogue(CatalogueOf(*map(candidate, many)), SPACE)
    assert baselines.in_use is many[0]
    assert len(baselines.others) == MAX_BASELINES - 1
    assert baselines.others[0] is many[1]
    assert {"auto", "table-7", "table-19"} <= set(baselines.taken_names)


def test_heavy_decoders_are_no_baselines_unless_in_use(poor):
    heavy = Decoder(replace(poor.card, name="heavy", cost=LIGHT + 1), poor.net)
    assert Baselines.from_catalogue(CatalogueOf(candidate(poor), candidate(heavy)), SPACE).others == []
    assert Baselines.from_catalogue(CatalogueOf(candidate(heavy), candidate(poor)), SPACE).in_use is heavy


def test_broken_decoders_and_those_for_other_channels_are_skipped(poor):
    def broken():
        raise DecoderFileError("it is broken")

    other = Decoder(replace(poor.card, name="other"), Polynomial(16))
    catalogue = CatalogueOf(Candidate(replace(poor.card, name="broken"), broken), candidate(other), candidate(poor))
    baselines = Baselines.from_catalogue(catalogue, SPACE)
    assert (baselines.in_use, baselines.others) == (poor, [])


def test_the_catalogue_chooses_the_decoder_that_the_fit_calls_best(fitted, tmp_path, toy_pairs):
    """The decoder that a fit calls best is the one that `auto` chooses."""
    row = LatentSpace(
        name="mine", title="My space", channels=4, downscale=2, hosts={"comfyui": ("Mine",)}, source="a test"
    )
    catalogue = Catalogue([tmp_path])
    for kind in ("affine", "quadratic", "subpixel", "affine"):
        result = fitted(kind, space=row, baselines=Baselines.from_catalogue(catalogue, row))
        save(result, tmp_path)
        assert catalogue.candidates(row)[0].name == result.best.name


# The report.


def test_the_report_shows_originals_the_decoder_in_use_and_new_decoders(fitted):
    result = fitted("auto")
    assert result.table().count("\n") == 1 + len(result.scores)
    assert all(decoder.name in result.table() for decoder in (result.baselines.in_use, *result.new))
    sheet, chart, both = result.sheet(), result.chart(), result.image()
    assert both.size[0] == max(sheet.width, chart.width)
    assert both.size[1] >= sheet.height + chart.height


def test_broken_and_foreign_files_in_the_folder_do_not_stop_a_fit(fitted, tmp_path, poor):
    (tmp_path / "sd1-affine.safetensors").write_bytes(b"no decoder at all")
    write_decoder(tmp_path / "theirs.safetensors", poor.card, poor.net.state_dict())
    assert fitted(baselines=Baselines.from_catalogue(Catalogue([tmp_path]), SPACE)).new[0].name == "sd1-affine-2"


@pytest.mark.parametrize(
    ("train_on", "device", "used", "says"),
    [
        ("cpu", "cuda:1", "cpu", False),
        ("gpu", "cuda:1", "cuda:1", False),
        ("gpu", "cpu", "cpu", True),
        ("gpu", None, "cpu", True),
    ],
)
def test_a_fit_node_trains_on_the_chosen_device(dataset, poor, tmp_path, monkeypatch, train_on, device, used, says):
    seen = []

    def fit(*args, recipe_changes, **kwargs):
        seen.append(recipe_changes["device"])
        return fit_decoders(*args, recipe_changes=SHORT, **kwargs)

    monkeypatch.setattr(fitting, "fit_decoders", fit)
    options = FitOptions(space=SPACE.name, kind="affine", train_on=train_on)
    device = device and torch.device(device)
    more = {"host": "a test", "on_step": lambda *_: None, "check_cancelled": lambda: None}
    _, summary = fit_and_save(options, SPACE, dataset, Baselines(in_use=poor), tmp_path, device=device, **more)
    assert seen == [used]
    assert ("has no GPU" in summary) is says


def test_a_device_without_room_is_named(dataset, poor, tmp_path, monkeypatch):
    def fit(*_, **__):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(fitting, "fit_decoders", fit)
    options, device = FitOptions(space=SPACE.name, kind="conv", train_on="gpu"), torch.device("cuda")
    more = {"host": "a test", "on_step": lambda *_: None, "check_cancelled": lambda: None, "device": device}
    with pytest.raises(FitError, match="cuda has too little free memory to train on; choose cpu"):
        fit_and_save(options, SPACE, dataset, Baselines(in_use=poor), tmp_path, **more)
