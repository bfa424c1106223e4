"""The state of online learning: saved and restored, bounded, with pictures held back for the test."""

import json
import re

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.files.tensor_file import open_tensors, write_tensors
from safelight.decoders.latents.space import LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import FitError
from safelight.fitting.least_squares import OVERALL_RIDGES, PolynomialForm, content_digest, polynomial_features
from safelight.fitting.online import state as state_module
from safelight.fitting.online.state import DecodedPair, OnlineState, online_decoder_name

SDXL = SPACES["sdxl"]

pytestmark = pytest.mark.usefixtures("_one_thread")


def enlarged(one):
    """A decode whose pictures have twice the latent size."""
    return DecodedPair(one.latents, F.interpolate(one.rgb, scale_factor=2, mode="nearest"))


def explicit_solution(numpy, fitted, kernel, overall_ridge):
    """Least squares over explicit rows: the pixels around a latent pixel, then the means over its picture."""
    form = PolynomialForm(channels=4, kernel=kernel)
    rows, colors = [], []
    for one in fitted:
        local = polynomial_features(F.pad(one.latents.double(), (kernel // 2,) * 4, mode="replicate"), form)
        means = one.latents.double().mean((2, 3))
        rows.append(torch.cat([local, means.expand(len(local), -1)], 1))
        colors.append(one.rgb.double().movedim(1, -1).flatten(0, 2))
    x, y = torch.cat(rows), torch.cat(colors)
    if overall_ridge == float("inf"):
        x = x[:, :-4]
    deviation = x.std(0, unbiased=False)
    standard = (x - x.mean(0)) / deviation
    strength = torch.full((x.shape[1],), state_module.ONLINE_RIDGE, dtype=x.dtype)
    if x.shape[1] > form.local:
        strength[form.local :] += overall_ridge
    ridge = torch.diag((strength * len(x)).sqrt())
    solved, *_ = numpy.linalg.lstsq(
        torch.cat([standard, ridge]).numpy(), torch.cat([y - y.mean(0), torch.zeros(x.shape[1], 3)]).numpy(), rcond=None
    )
    weights = torch.from_numpy(solved) / deviation[:, None]
    padded = F.pad(weights, (0, 0, 0, form.local + 4 - len(weights)))
    return padded, y.mean(0) - x.mean(0) @ weights


# The solution


@pytest.mark.parametrize("part", ["judged", "decoder"])
def test_the_solution_equals_least_squares_in_numpy(decoded, part):
    """The judged decoder is from the training decodes, the other one from all of them."""
    numpy = pytest.importorskip("numpy")
    state, decodes = OnlineState(SDXL), [decoded(seed) for seed in range(8)]
    for one in decodes:
        state.add(one)
    train = [one for i, one in enumerate(decodes) if i % 4 != 1]
    test = [one for i, one in enumerate(decodes) if i % 4 == 1]

    def test_error(ridge):
        weights, constant = explicit_solution(numpy, train, kernel, ridge)
        error = 0.0
        for one in test:
            form = PolynomialForm(channels=4, kernel=kernel)
            x = polynomial_features(F.pad(one.latents.double(), (kernel // 2,) * 4, mode="replicate"), form)
            x = torch.cat([x, one.latents.double().mean((2, 3)).expand(len(x), -1)], 1)
            error += float((x @ weights + constant - one.rgb.double().movedim(1, -1).flatten(0, 2)).square().sum())
        return error

    kernels = []
    for solution in state.solve():
        decoder = getattr(solution, part)
        kernel = decoder.card.settings["kernel"]
        kernels.append(kernel)
        ridge = min(OVERALL_RIDGES, key=test_error)
        expected, constant = explicit_solution(numpy, train if part == "judged" else decodes, kernel, ridge)
        tensors = decoder.net.state_dict()
        found = torch.cat([tensors["weight"].flatten(1).T, tensors["overall"].T]).double()
        assert torch.allclose(found, expected, atol=1e-4)
        assert torch.allclose(tensors["bias"].double(), constant, atol=1e-4)
    assert kernels == [1, 7]


def test_the_means_of_pictures_are_used_if_they_help():
    """A VAE that shifts all colors by the picture's mean: with the means the error is much smaller."""
    generator, state = torch.Generator().manual_seed(1), OnlineState(SDXL)
    for _ in range(40):
        latents = torch.randn(1, 4, 12, 12, generator=generator) + 0.5 * torch.randn(1, 4, 1, 1, generator=generator)
        rgb = 0.5 + 0.05 * latents[:, :3] - 0.15 * latents.mean((2, 3), keepdim=True)[:, :3]
        state.add(DecodedPair(latents, rgb.clamp(0, 1)))
    solution = next(iter(state.solve()))
    assert state.psnr_db(solution.judged) > 40
    without = {**solution.judged.net.state_dict(), "overall": torch.zeros(3, 4)}
    solution.judged.net.load_state_dict(without)
    assert state.psnr_db(solution.judged) < 30


@pytest.mark.parametrize(("channels", "kernel"), [(4, 7), (16, 7), (24, 7), (32, 5), (48, 5), (128, 3), (256, 1)])
def test_the_neighbourhood_is_the_largest_that_can_be_solved(channels, kernel):
    sums = OnlineState(LatentSpace(name="a", title="A", channels=channels, source="a test")).sums
    assert set(sums) == {1, kernel}
    assert sums[kernel].form.features <= state_module.MAX_ONLINE_FEATURES


def test_a_card_names_the_vae_also_if_it_is_unknown(decoded):
    for vae, name in (("a1b2c3d4e5f6", "sdxl-learned-a1b2c3"), ("", "sdxl-learned-unknown")):
        state = OnlineState(SDXL, vae)
        for seed in range(4):
            state.add(decoded(seed))
        card = next(iter(state.solve())).decoder.card
        assert (card.name, card.vae) == (name, vae)
        assert online_decoder_name("sdxl", vae) == name
        assert re.fullmatch(r"4 decodes, [\d,]+ latent pixels, learned while decoding", card.fitted_on)


# The file


def test_the_state_survives_a_restart_bit_for_bit(tmp_path, monkeypatch, decoded):
    """Saving and loading changes nothing, not even the next random choice."""
    monkeypatch.setattr(state_module, "MAX_TEST_PAIRS", 2)
    state, path = OnlineState(SDXL, "a1b2c3d4e5f6"), tmp_path / "a.safetensors"
    for seed in range(25):
        state.add(decoded(seed))
        state.save(path)
        again = OnlineState.load(path)
        for kind in ("sums", "test_sums"):
            before, after = getattr(state, kind), getattr(again, kind)
            assert all(torch.equal(after[k].xx, before[k].xx) for k in before)
        state = again
    whole = OnlineState(SDXL)
    for seed in range(25):
        whole.add(decoded(seed))
    assert all(torch.equal(whole.sums[k].xy, state.sums[k].xy) for k in state.sums)
    assert all(torch.equal(whole.test_sums[k].xy, state.test_sums[k].xy) for k in state.sums)
    assert whole.judged_on == state.judged_on
    assert (state.vae, state.decodes, state.pictures, len(state.test_pairs)) == ("a1b2c3d4e5f6", 25, 19, 2)


VERDICT = {"judged_on": "x", "learned_db": 1.0, "in_use": "y", "in_use_db": 2.0}


@pytest.mark.parametrize(
    ("facts", "tensors"),
    [
        ({"decodes": "x"}, {}),
        ({"decodes": float("inf")}, {}),
        ({"decodes": True}, {}),
        ({"pictures": [1]}, {}),
        ({"pictures": 10**4000}, {}),
        ({"offered": -5}, {}),
        ({"verdict": [1]}, {}),
        ({"verdict": VERDICT | {"judged_on": [1]}}, {}),
        ({"verdict": VERDICT | {"in_use_db": None}}, {}),
        ({}, {"train.1.xx": torch.full((9, 9), torch.nan, dtype=torch.float64)}),
        ({}, {"train.1.xx": torch.zeros(9, 9, dtype=torch.bool)}),
        ({}, {"held.0.latents": torch.zeros(1, 16, 24, 32)}),
        ({}, {"held.0.latents": torch.zeros(2, 4, 24, 32), "held.0.pixels": torch.zeros(2, 3, 24, 32).byte()}),
        ({}, {"seen": torch.zeros(3, 100).byte()}),
        ({}, {"held": torch.zeros(1, 4).byte()}),
    ],
)
def test_a_state_with_values_of_another_kind_counts_as_damaged(tmp_path, decoded, facts, tensors):
    """Its checksum is right, so it is not damage by chance. Learning would fail with each decode from then on."""
    state, path = OnlineState(SDXL), tmp_path / "a.safetensors"
    for seed in range(2):
        state.add(decoded(seed))
    state.save(path)
    metadata, saved = open_tensors(path)
    assert set(tensors) <= set(saved)
    text, saved = json.dumps(json.loads(metadata["facts"]) | facts), {**saved, **tensors}
    write_tensors(path, saved, {**metadata, "facts": text, "sha256": content_digest(text, saved)})
    with pytest.raises(FitError, match="not an online learning state"):
        OnlineState.load(path)


def test_a_new_state_has_no_empty_tensors(tmp_path):
    """Safetensors before 0.4.4 cannot read one."""
    path = tmp_path / "a.safetensors"
    OnlineState(SDXL).save(path)
    assert all(tensor.numel() for tensor in open_tensors(path)[1].values())
    assert OnlineState.load(path).test_pairs == []


def test_the_state_file_does_not_grow_after_many_decodes(tmp_path, monkeypatch, decoded):
    monkeypatch.setattr(state_module, "MAX_SEEN", 100)
    state, sizes = OnlineState(SDXL), []
    for seed in range(500):
        state.add(decoded(seed, size=(70, 2), batch=1))
        if seed % 50 == 49:
            state.save(tmp_path / "a.safetensors")
            sizes.append((tmp_path / "a.safetensors").stat().st_size)
    assert len(state.test_pairs) == state_module.MAX_TEST_PAIRS
    assert {tuple(held.pair.latents.shape[2:]) for held in state.test_pairs} == {(64, 2)}
    assert max(sizes[2:]) - min(sizes[2:]) < 100
    assert sum(state.add(decoded(seed, size=(70, 2))) is None for seed in range(440, 500)) == 60
    assert state.pixels == 375 * 70 * 2


def test_the_largest_state_can_be_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "TEST_EVERY", 1)
    monkeypatch.setattr(state_module, "FIRST_TEST", 0)
    state = OnlineState(LatentSpace(name="wide", title="Wide", channels=256, source="a test"))
    state.add(DecodedPair(torch.randn(24, 256, 64, 64), torch.rand(24, 3, 128, 128)))
    state.save(tmp_path / "a.safetensors")
    assert len(OnlineState.load(tmp_path / "a.safetensors").test_pairs) == 24


# Training and test


def test_the_second_of_four_decodes_is_for_the_test_only(decoded):
    state, held = OnlineState(SDXL), []
    for seed in range(12):
        pixels, test_pixels, count = state.pixels, state.test_sums[1].rows, len(state.test_pairs)
        training = state.add(decoded(seed))
        assert (state.pixels == pixels) != (state.test_sums[1].rows == test_pixels)
        assert (state.pixels != pixels) == (len(state.test_pairs) == count) == bool(training)
        held += [seed] if len(state.test_pairs) > count else []
    assert held == [1, 5, 9]
    assert (state.decodes, state.pictures) == (12, 9)


def test_training_pairs_are_returned_by_their_keys(decoded):
    state, one = OnlineState(SDXL), enlarged(decoded(0, batch=2))
    pairs = state.add(one)
    assert len(pairs) == 2
    for key, pair, latents, rgb in zip(pairs, pairs.values(), one.latents, one.rgb, strict=True):
        assert len(key) == state_module.LATENTS_KEY_BYTES
        assert torch.equal(pair.latents[0], latents.half())
        assert torch.equal(pair.pixels[0], rgb.mul(255).round().byte())
        assert pair.downscale == 2


def test_pictures_of_twice_the_latent_size_give_the_same_sums(decoded):
    small, large = OnlineState(SDXL), OnlineState(SDXL)
    for seed in range(3):
        small.add(decoded(seed))
        large.add(enlarged(decoded(seed)))
    assert torch.allclose(small.sums[1].xy, large.sums[1].xy)
    assert torch.allclose(small.test_sums[1].xy, large.test_sums[1].xy)
    assert large.test_pairs[0].pair.downscale == 2


def test_only_new_latents_of_a_batch_are_added(decoded):
    state = OnlineState(SDXL)
    first, batch = decoded(0), decoded(1, batch=3)
    state.add(first)
    state.add(decoded(2))  # a test pair
    repeated = DecodedPair(
        torch.cat([first.latents, *([batch.latents] * 2)]), torch.cat([first.rgb, *([batch.rgb] * 2)])
    )
    assert len(state.add(repeated)) == 3
    assert state.pictures == 4


def test_seen_latents_are_not_added_again_also_those_of_the_test(decoded):
    state = OnlineState(SDXL)
    for seed in range(6):
        state.add(decoded(seed))
    before = (state.judged_on, state.pixels)
    assert [state.add(decoded(seed)) for seed in (0, 1, 5, 3, 1)] == [None] * 5
    assert (state.judged_on, state.pixels) == before
    assert (state.decodes, state.pixels) == (6, 4 * 24 * 32)


def test_test_pairs_are_a_uniform_sample_of_all_pictures():
    """Early and late pictures of 200 are among the 24 equally often."""
    early = 0
    for repeat in range(40):
        state = OnlineState(SDXL)
        for seed in range(200):
            picture = torch.full((1, 4, 1, 1), (repeat * 200 + seed) / 8192)
            state.decodes = 1
            state.add(DecodedPair(picture, picture[:, :3]))
        early += sum(float(held.pair.latents[0, 0, 0, 0]) < (repeat * 200 + 100) / 8192 for held in state.test_pairs)
    assert 0.45 < early / (40 * 24) < 0.55


def test_a_lost_state_is_restored_from_its_training_pairs(decoded):
    state, saved = OnlineState(SDXL), []
    for seed in range(12):
        saved += state.add(enlarged(decoded(seed))).values()
    again = OnlineState(SDXL)
    again.restore(saved)
    assert (again.pictures, again.pixels) == (state.pictures, state.pixels)
    scale = state.sums[7].xx.abs().max()
    assert (again.sums[7].xx - state.sums[7].xx).abs().max() < 1e-3 * scale  # pairs are rounded
    assert again.add(enlarged(decoded(0))) is None  # a picture that was trained on never tests
    assert again.add(enlarged(decoded(1))) is not None


@pytest.mark.parametrize(
    ("latents", "rgb", "match"),
    [
        (torch.full((1, 4, 8, 8), torch.nan), torch.zeros(1, 3, 8, 8), "NaN"),
        (torch.zeros(1, 4, 8, 8), torch.full((1, 3, 8, 8), torch.nan), "NaN"),
        (torch.zeros(1, 4, 8, 8), torch.full((1, 3, 16, 16), torch.inf), "infinity"),
        (torch.full((1, 4, 8, 8), 1e6), torch.zeros(1, 3, 8, 8), "float16"),
        (torch.zeros(1, 16, 8, 8), torch.zeros(1, 3, 8, 8), "expected latents"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 9), "expected images"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 4, 4), "expected images"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 0, 0), "expected images"),
    ],
)
def test_an_invalid_decode_changes_nothing(decoded, latents, rgb, match):
    state = OnlineState(SDXL)
    state.add(decoded(0))
    before = (state.decodes, state.pixels, state.judged_on)
    with pytest.raises(FitError, match=match):
        state.add(DecodedPair(latents, rgb))
    assert (state.decodes, state.pixels, state.judged_on) == before


def test_too_many_channels_are_refused():
    with pytest.raises(FitError, match="channels"):
        OnlineState(LatentSpace(name="wide", title="Wide", channels=257, source="a test"))
