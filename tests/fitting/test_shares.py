"""Several processes that fit together have the split and the closed form of one process."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safelight.cli import pair_input
from safelight.cli.pair_input import named_pairs
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space import LatentSpace
from safelight.errors import FitError
from safelight.fitting.dataset import split_pairs, split_share
from safelight.fitting.fit import assist_fit, fit_decoders
from safelight.fitting.image_crops import cut_crops_of
from safelight.fitting.pairs import Pairs
from safelight.fitting.presets import PRESETS, fit_preset
from safelight.fitting.procedural_images import generate_images
from safelight.fitting.result import Baselines

from .thread_processes import run_together

SPACE = LatentSpace(name="toy", title="Toy", channels=4, downscale=2, source="a test")


@pytest.fixture
def pairs(toy_pairs):
    """48 pairs of 24 images."""
    return replace(toy_pairs(48), image_ids=tuple(f"{1 + i // 2:012x}" for i in range(48)))


def shares_of(pairs, count, **given):
    """The dataset of the first process and the shares of the others."""

    def split(processes):
        own = processes.share(pairs)
        if processes.is_first:
            return split_pairs(own, "toys", own.image_ids, processes=processes, **given)
        return split_share(own, own.image_ids, processes=processes, **given)

    return run_together(count, split)


def assert_same_pairs(parts, whole):
    assert torch.equal(torch.cat([part.latents for part in parts]), whole.latents)
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
    assert [image for part in parts for image in part.image_ids] == list(whole.image_ids)


@pytest.mark.parametrize("count", [2, 3])
def test_the_split_is_that_of_one_process(pairs, count):
    alone = split_pairs(pairs, "toys", pairs.image_ids)
    shares = shares_of(pairs, count)
    assert_same_pairs([share.train for share in shares], alone.train)
    assert_same_pairs([share.validation for share in shares], alone.validation)
    assert_same_pairs([shares[0].test], alone.test)
    for fact in ("fitted_on", "judged_on", "fitted_ids", "notes"):
        assert getattr(shares[0], fact) == getattr(alone, fact)


def test_given_pairs_are_shared_too(pairs, toy_pairs):
    given = {"validation": replace(toy_pairs(5, seed=1), image_ids=pairs.image_ids[:5]), "test": toy_pairs(4, seed=2)}
    alone = split_pairs(pairs, "toys", pairs.image_ids, **given)
    shares = shares_of(pairs, 2, **given)
    assert_same_pairs([share.train for share in shares], alone.train)
    assert_same_pairs([share.validation for share in shares], given["validation"])
    assert shares[0].test is given["test"]
    assert shares[0].notes == ["6 of 48 training pairs are left out: their images are held out"]
    assert shares[0].fitted_ids == alone.fitted_ids


def test_the_first_process_knows_which_images_installed_decoders_have_seen(pairs):
    seen = split_pairs(pairs, "toys", pairs.image_ids).test.image_ids

    def split(processes):
        own = processes.share(pairs)
        known = seen if processes.is_first else ()
        return split_share(own, own.image_ids, seen=known, processes=processes)

    first, second = run_together(2, split)
    assert not set(first.test_ids) & set(seen)
    assert first.test_ids == second.test_ids


def test_a_share_without_validation_images_is_refused_in_all_processes(pairs):
    with pytest.raises(FitError, match="2 of 3 processes lack them; give about twelve images for each process"):
        shares_of(pairs[:18], 3)


def test_gray_images_are_refused_only_if_those_of_all_processes_are_gray(pairs):
    gray = Pairs(pairs.latents, pairs.pixels[:, :1].expand(-1, 3, -1, -1).contiguous(), pairs.image_ids)
    shares = shares_of(gray[:24] + pairs[24:], 2, test=pairs[:8])
    assert len(shares[0].train) > 8
    with pytest.raises(FitError, match="expected training images in color"):
        shares_of(gray, 2, test=pairs[:8])


@pytest.mark.parametrize("kind", ["affine", "cubic", "subpixel"])
def test_the_closed_form_is_that_of_one_process_to_rounding(pairs, kind):
    alone = split_pairs(pairs, "toys", pairs.image_ids)
    expected = fit_preset(PRESETS[kind], alone.train, alone.validation)
    shares = shares_of(pairs, 3)

    def fit(processes):
        share = shares[processes.rank]
        return fit_preset(PRESETS[kind], share.train, share.validation, processes=processes)

    for fitted in run_together(3, fit):
        assert fitted.validation_db == pytest.approx(expected.validation_db, abs=1e-9)
        assert fitted.sums.rows == expected.sums.rows
        for key, tensor in expected.net.state_dict().items():
            torch.testing.assert_close(fitted.net.state_dict()[key], tensor, rtol=1e-6, atol=1e-7)


def test_the_others_fit_what_the_first_process_fits(pairs, tmp_path):
    baselines = Baselines.from_catalogue(Catalogue(), SPACE)
    alone = split_pairs(pairs, "toys", pairs.image_ids)
    expected = fit_decoders("quadratic", SPACE, alone, baselines, tmp_path, source="a test")
    shares = shares_of(pairs, 2)

    def fit(processes):
        if not processes.is_first:
            return assist_fit(shares[1], {}, processes)
        with processes.fitting_together():
            return fit_decoders(
                "quadratic", SPACE, shares[0], baselines, tmp_path, source="a test", processes=processes
            )

    result, nothing = run_together(2, fit)
    assert nothing is None
    card, expected_card = result.new[0].card, expected.new[0].card
    assert card.metrics["psnr_full_db"] == pytest.approx(expected_card.metrics["psnr_full_db"], abs=2e-4)
    assert (card.fitted_on, card.image_ids) == (expected_card.fitted_on, expected_card.image_ids)


def test_the_crops_of_a_share_are_those_of_one_process():
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, (40 + 9 * i, 70 - 5 * i, 3), generator=generator).byte() for i in range(5)]
    images = [Image.fromarray(each.numpy()) for each in pixels]
    whole = list(cut_crops_of(images, 32, 3, seed=7))
    sizes = [image.size for image in images]
    part = list(cut_crops_of(images[2:], 32, 3, seed=7, sizes_before=sizes[:2]))
    assert [name for name, _ in part] == [name for name, _ in whole[6:]]
    assert all((crop == other).all() for (_, crop), (_, other) in zip(part, whole[6:], strict=True))
    unreadable = [None, *images[1:]]
    expected = list(cut_crops_of(unreadable, 32, 3, seed=7))[3:]
    found = list(cut_crops_of(images[2:], 32, 3, seed=7, sizes_before=[None, sizes[1]]))
    assert all((crop == other).all() for (_, crop), (_, other) in zip(found, expected, strict=True))


def test_generated_images_may_begin_at_any_number():
    whole = list(generate_images(5, 32, 3))
    part = list(generate_images(2, 32, 3, first=3))
    assert all((image == other).all() for image, other in zip(part, whole[3:], strict=True))


@pytest.mark.parametrize("lengths", [(48,), (20, 1, 27), (5, 43)])
def test_files_of_pairs_are_shared_without_the_parts_of_others(pairs, tmp_path, lengths):
    paths, begin = [], 0
    for number, length in enumerate(lengths):
        paths.append(tmp_path / f"{number}.safetensors")
        pairs[begin : begin + length].save(paths[-1])
        begin += length
    arguments = Namespace(pairs=paths, crops=1)
    shares = run_together(3, lambda processes: named_pairs(arguments, SPACE, None, processes))
    assert_same_pairs([share.pairs for share in shares], pairs)
    assert [len(share.pairs) for share in shares] == [16, 16, 16]
    assert [number for share in shares for number in share.image_numbers] == list(pairs.image_ids)
    assert {share.description.partition(" of ")[0] for share in shares} == {"48 pairs"}


def test_fewer_pairs_than_processes_are_refused(pairs, tmp_path):
    pairs[:2].save(path := tmp_path / "few.safetensors")
    arguments = Namespace(pairs=[path], crops=1)
    with pytest.raises(FitError, match="expected a pair for each process"):
        run_together(3, lambda processes: named_pairs(arguments, SPACE, None, processes))


def test_encoded_images_are_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(pair_input, "_encoder", lambda *_: lambda rgb: F.avg_pool2d(F.pad(rgb, (0, 0, 0, 0, 0, 1)), 2))
    generator = torch.Generator().manual_seed(0)
    for i in range(4):
        pixels = torch.randint(0, 256, (40, 50, 3), generator=generator).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    common = {"pairs": [], "encoder": tmp_path, "device": "cpu", "size": 32, "crops": 2, "seed": 1, "procedural": 5}
    for images in ([tmp_path], []):
        arguments = Namespace(images=images, **common)
        alone = named_pairs(arguments, SPACE)
        shares = run_together(2, lambda processes, given=arguments: named_pairs(given, SPACE, None, processes))
        assert_same_pairs([share.pairs for share in shares], alone.pairs)
        assert {share.description for share in shares} == {alone.description}
