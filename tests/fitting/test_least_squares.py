"""Closed forms against `numpy.linalg.lstsq` over features built pixel by pixel; sums; what is refused."""

import json
import math
from dataclasses import asdict
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from safelight.decoders.files.decoder_file import build
from safelight.errors import FitError
from safelight.fitting import least_squares
from safelight.fitting.least_squares import (
    FORMAT,
    MAX_FEATURES,
    RIDGES,
    Form,
    Ridges,
    Sums,
    choose_ridge,
    digest,
    weights,
)
from safetensors.torch import save_file

FORMS = [
    Form(channels=channels, degree=degree, kernel=kernel, subpixel=subpixel)
    for channels, degree, kernel in [(4, 1, 1), (4, 1, 3), (4, 1, 5), (4, 2, 1), (3, 2, 3), (4, 3, 1), (2, 3, 3)]
    for subpixel in (1, 2)
]
FORMS += [Form(channels=3, overall=True), Form(channels=3, degree=2, kernel=3, subpixel=2, overall=True)]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pictures(count, form, size=(8, 8), seed=0):
    """Latents and unrelated pictures for them."""
    h, w = size
    latents = random(count, form.channels, h, w, seed=seed)
    rgb = random(count, 3, h * form.subpixel, w * form.subpixel, seed=seed + 1000) * 0.2 + 0.5
    return latents, rgb


def sums_of(form, *pairs):
    sums = Sums(form)
    for latents, rgb in pairs:
        sums.add(latents, rgb)
    return sums


def table(latents, rgb, form):
    """The least squares problem as anybody would write it down: a row for each latent pixel, in numpy."""
    latents, rgb = latents.numpy(), rgb.numpy()
    count, channels, h, w = latents.shape
    reach, r = form.kernel // 2, form.subpixel
    products = [m for d in range(1, form.degree + 1) for m in combinations_with_replacement(range(channels), d)]
    rows, colours = [], []
    for b in range(count):
        means = list(latents[b].mean((1, 2))) if form.overall else []
        for i in range(h):
            for j in range(w):
                around = [
                    latents[b, :, min(max(i + di, 0), h - 1), min(max(j + dj, 0), w - 1)]
                    for di in range(-reach, reach + 1)
                    for dj in range(-reach, reach + 1)
                ]
                rows.append([math.prod(pixel[c] for c in m) for m in products for pixel in around] + [*means, 1.0])
                colours.append(rgb[b, :, i * r : i * r + r, j * r : j * r + r].ravel())
    return np.array(rows), np.array(colours)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_solution_is_what_lstsq_finds(form):
    latents, rgb = pictures(6, form)
    expected, *_ = np.linalg.lstsq(*table(latents, rgb, form), rcond=None)
    found = sums_of(form, (latents, rgb)).solve()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_neither_the_size_of_latents_nor_their_offset_spoils_a_cubic(scale):
    form = Form(channels=3, degree=3)
    latents, rgb = pictures(4, form)
    latents = (latents + 2) * scale
    rows, colours = table(latents, rgb, form)
    size = np.abs(rows).max(0)
    expected, *_ = np.linalg.lstsq(rows / size, colours, rcond=None)
    found = sums_of(form, (latents, rgb)).solve().numpy() * size[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_its_decoder_gives_back_a_polynomial_picture(form):
    latents, _ = pictures(6, form)
    n = form.features
    truth = build(
        "polynomial",
        asdict(form),
        weights(random(n + 1, form.outputs, seed=7) * 0.1, form),
    )
    rgb = truth.double()(latents).detach()
    fitted = build("polynomial", asdict(form), weights(sums_of(form, (latents, rgb)).solve(), form))
    with torch.no_grad():
        torch.testing.assert_close(fitted(latents.float()).double(), rgb, rtol=1e-4, atol=1e-5)


def test_a_ridge_shrinks_every_weight_as_its_formula_says():
    form = Form(channels=4, kernel=3)
    latents, rgb = pictures(3, form)
    x, y = table(latents, rgb, form)
    x, mean_y = x[:, :-1], y.mean(0)
    mean, std = x.mean(0), x.std(0)
    z = (x - mean) / std
    shrunk = np.linalg.solve(z.T @ z / len(z) + 0.3 * np.eye(z.shape[1]), z.T @ (y - mean_y) / len(z)) / std[:, None]
    found = sums_of(form, (latents, rgb)).solve(0.3).numpy()
    np.testing.assert_allclose(found[:-1], shrunk, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found[-1], mean_y - mean @ shrunk, rtol=1e-8)


# Sums.


@pytest.mark.parametrize("form", FORMS[:4], ids=str)
def test_two_halves_add_up_to_the_whole_in_any_order(form):
    latents, rgb = pictures(6, form)
    whole = sums_of(form, (latents, rgb))
    first, second = sums_of(form, (latents[:2], rgb[:2])), sums_of(form, (latents[2:], rgb[2:]))
    backwards = sums_of(form, *((latents[i : i + 1], rgb[i : i + 1]) for i in reversed(range(6))))
    for other in (first + second, second + first, backwards):
        assert other.rows == whole.rows == 6 * 64
        for name in ("xx", "xy", "yy"):
            torch.testing.assert_close(getattr(other, name), getattr(whole, name), rtol=1e-12, atol=1e-10)


def test_adding_leaves_both_parts_as_they_were():
    form = Form(channels=2)
    first, second = (sums_of(form, pictures(1, form, seed=seed)) for seed in (1, 2))
    before = first.xx.clone(), second.xx.clone()
    both = first + second
    both.add(*pictures(1, form, seed=3))
    assert torch.equal(first.xx, before[0])
    assert torch.equal(second.xx, before[1])


def test_sums_of_different_forms_are_not_added():
    with pytest.raises(FitError, match=r"expected sums for the same form, .*degree=1.*, got .*degree=2"):
        Sums(Form(channels=4)) + Sums(Form(channels=4, degree=2))


def test_pictures_in_strips_give_the_sums_of_pictures_as_a_whole(monkeypatch):
    form = Form(channels=3, degree=2, kernel=5, subpixel=2)
    latents, rgb = pictures(2, form, size=(9, 4))
    whole = sums_of(form, (latents, rgb))
    monkeypatch.setattr(least_squares, "ROWS", 7)
    strips = sums_of(form, (latents, rgb))
    for name in ("xx", "xy", "yy"):
        torch.testing.assert_close(getattr(strips, name), getattr(whole, name), rtol=1e-12, atol=1e-12)


def test_sums_do_not_grow_with_pictures():
    form = Form(channels=4, degree=2, kernel=3, subpixel=2)
    sums = Sums(form)
    sizes = []
    for seed in range(3):
        sums.add(*pictures(2, form, seed=seed))
        sizes.append([getattr(sums, name).shape for name in ("xx", "xy", "yy")])
    n = 14 * 9 + 1
    assert sizes == [[(n, n), (n, 12), (12,)]] * 3


def test_features_are_made_of_a_strip_at_a_time(monkeypatch):
    form = Form(channels=4, kernel=7)
    most, features = [], least_squares.features
    monkeypatch.setattr(least_squares, "features", lambda *args: most.append(len(x := features(*args))) or x)
    sums_of(form, pictures(1, form, size=(192, 64)))
    assert sum(most) == 192 * 64
    assert max(most) <= least_squares.ROWS


@pytest.mark.parametrize("form", FORMS[::3], ids=str)
def test_the_error_of_any_solution_is_told_from_sums_alone(form):
    fit, judge = pictures(5, form), pictures(2, form, seed=5)
    solution = sums_of(form, fit).solve(0.01)
    net = build("polynomial", asdict(form), weights(solution, form)).double()
    exact = {key: tensor.double() for key, tensor in weights(solution, form).items()}
    net.load_state_dict(exact | {"bias": solution[-1]})
    with torch.no_grad():
        expected = (net(judge[0]) - judge[1]).square().mean()
    assert sums_of(form, judge).mse(solution) == pytest.approx(float(expected), rel=1e-6)


def test_an_error_of_nothing_is_not_below_nothing():
    form = Form(channels=4)
    latents, _ = pictures(3, form)
    sums = sums_of(form, (latents, 0.5 + 0.1 * latents[:, :3]))
    assert 0 <= sums.mse(sums.solve()) < 1e-12


# The ridge.


def noisy(count, form, noise, seed):
    """Pictures of which the latents tell one part, and noise another."""
    latents, nothing = pictures(count, form, seed=seed)
    return latents, 0.5 + 0.1 * latents[:, :3] + noise * (nothing - 0.5)


def test_few_noisy_pixels_get_a_larger_ridge_than_many_clean_ones():
    form = Form(channels=4, kernel=5)
    held = sums_of(form, noisy(8, form, 1.0, seed=99))
    few = choose_ridge(sums_of(form, noisy(2, form, 3.0, seed=1)), held)
    many = choose_ridge(sums_of(form, noisy(16, form, 0.0, seed=2)), sums_of(form, noisy(8, form, 0.0, seed=98)))
    assert few.ridge >= 0.1
    assert many == Ridges(min(RIDGES), 0.0)


def test_the_chosen_ridge_errs_least_on_what_was_held_back():
    form = Form(channels=4, kernel=3)
    fit, held = sums_of(form, noisy(2, form, 2.0, seed=1)), sums_of(form, noisy(4, form, 0.0, seed=2))
    chosen = choose_ridge(fit, held)
    assert min(RIDGES) < chosen.ridge < max(RIDGES)
    assert held.mse(fit.solve(*chosen)) == min(held.mse(fit.solve(ridge)) for ridge in RIDGES)


def brightness(count, form, told, seed):
    """Pictures as bright as the mean of their own latents says, or says by chance."""
    latents = random(count, form.channels, 8, 8, seed=seed) + random(count, form.channels, 1, 1, seed=seed + 1)
    means = latents.mean((2, 3), keepdim=True) if told else random(count, form.channels, 1, 1, seed=seed + 2)
    return latents, 0.5 + 0.02 * latents[:, :3] + 0.1 * means[:, :3]


def test_what_the_whole_picture_tells_is_used_where_it_helps_on_what_was_held_back():
    form, alone = Form(channels=4, overall=True), Form(channels=4)
    pairs, held_pairs = brightness(40, form, True, 1), brightness(20, form, True, 9)
    fit, held = sums_of(form, pairs), sums_of(form, held_pairs)
    chosen = choose_ridge(fit, held)
    assert chosen.overall < 0.1
    assert held.mse(fit.solve(*chosen)) < 1e-6
    assert sums_of(alone, held_pairs).mse(sums_of(alone, pairs).solve(chosen.ridge)) > 1e-3


def test_what_few_pictures_only_seem_to_tell_is_left_out():
    form, alone = Form(channels=4, overall=True), Form(channels=4)
    pairs, held = brightness(4, form, False, 1), sums_of(form, brightness(20, form, False, 9))
    fit = sums_of(form, pairs)
    ridge, overall = choose_ridge(fit, held)
    assert overall >= 1.0
    left_out = fit.solve(ridge, math.inf)
    assert not left_out[4:-1].any()
    torch.testing.assert_close(left_out[[0, 1, 2, 3, -1]], sums_of(alone, pairs).solve(ridge))


def test_one_picture_tells_nothing_of_others():
    form = Form(channels=4, overall=True)
    sums = sums_of(form, pictures(1, form))
    assert not sums.solve(1e-6)[4:-1].any()


def test_a_ridge_too_small_for_a_channel_made_of_others_is_passed_over():
    form = Form(channels=4)
    latents, rgb = pictures(3, form)
    latents[:, 1] = latents[:, [0, 2, 3]].mean(1)
    sums = sums_of(form, (latents, rgb))
    with pytest.raises(FitError, match=r"192 latent pixels do not tell 4 features apart; .* a larger ridge"):
        sums.solve()
    assert choose_ridge(sums, sums, (0.0, 1e-4)).ridge == 1e-4


def test_without_any_ridge_that_works_the_reason_is_told():
    form = Form(channels=4)
    latents, rgb = pictures(3, form)
    latents[:, 1] = latents[:, [0, 2, 3]].mean(1)
    with pytest.raises(FitError, match="do not tell 4 features apart"):
        choose_ridge(sums_of(form, (latents, rgb)), sums_of(form, (latents, rgb)), (0.0,))


# What cannot be fitted.


@pytest.mark.parametrize("value", [0.0, 5.3, -300.7])
def test_a_channel_that_never_changes_gets_no_weight(value):
    form = Form(channels=4, kernel=3)
    latents, rgb = pictures(4, form)
    latents[:, 2] = value
    solution = sums_of(form, (latents, rgb)).solve()
    others = [0, 1, 3]
    alone = sums_of(Form(channels=3, kernel=3), (latents[:, others], rgb)).solve()
    assert not solution[:-1].reshape(4, 9, 3)[2].any()
    torch.testing.assert_close(solution[:-1].reshape(4, 9, 3)[others], alone[:-1].reshape(3, 9, 3))
    torch.testing.assert_close(solution[-1], alone[-1])


@pytest.mark.parametrize("value", [0.0, 0.3, 17.0])
def test_latents_of_one_colour_are_refused(value):
    form = Form(channels=4, degree=2)
    _, rgb = pictures(3, form)
    with pytest.raises(FitError, match="the latents are of one colour all over"):
        sums_of(form, (torch.full((3, 4, 8, 8), value), rgb)).solve(0.1)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_grey_pictures_are_refused(value):
    form = Form(channels=4, degree=2)
    latents, _ = pictures(3, form)
    with pytest.raises(FitError, match="the pictures are of one colour all over; give pictures that show something"):
        sums_of(form, (latents, torch.full((3, 3, 8, 8), value))).solve(0.1)


def test_pictures_without_any_red_are_no_reason_to_refuse():
    form = Form(channels=4)
    latents, rgb = pictures(3, form)
    rgb[:, 0] = 0
    assert not sums_of(form, (latents, rgb)).solve(1e-8)[:, 0].any()


@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_too_few_pixels_are_refused_with_the_numbers(ridge):
    form = Form(channels=8, kernel=3)
    sums = sums_of(form, pictures(1, form))
    with pytest.raises(FitError, match="64 latent pixels are too few for 72 features; give more pictures, or choose"):
        sums.solve(ridge)


def test_no_picture_is_refused():
    form = Form(channels=4)
    with pytest.raises(FitError, match="at least one picture, got none"):
        Sums(form).solve()
    solution = sums_of(form, pictures(1, form)).solve()
    with pytest.raises(FitError, match="at least one picture to judge by, got none"):
        Sums(form).mse(solution)


def test_one_picture_is_enough_where_it_has_the_pixels():
    form = Form(channels=4)
    assert sums_of(form, pictures(1, form)).solve().shape == (5, 3)


@pytest.mark.parametrize(
    ("latents", "rgb", "message"),
    [
        (
            (2, 4, 8, 8),
            (2, 3, 8, 8),
            r"expected pictures \[2, 3, 16, 16\] for latents \[2, 4, 8, 8\], got \[2, 3, 8, 8\]",
        ),
        ((2, 4, 8, 8), (1, 3, 16, 16), r"expected pictures \[2, 3, 16, 16\]"),
        ((2, 4, 8, 8), (2, 4, 16, 16), r"expected pictures \[2, 3, 16, 16\]"),
        ((2, 16, 8, 8), (2, 3, 16, 16), r"expected latents \[B, 4, h, w\], got \[2, 16, 8, 8\]"),
        ((4, 8, 8), (3, 16, 16), r"expected latents \[B, 4, h, w\], got \[4, 8, 8\]"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused_and_change_nothing(latents, rgb, message):
    sums = Sums(Form(channels=4, subpixel=2))
    with pytest.raises(FitError, match=message):
        sums.add(torch.ones(latents), torch.ones(rgb))
    assert sums.rows == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", [0, 1])
def test_values_that_are_not_finite_are_refused_and_change_nothing(bad, where):
    form = Form(channels=4)
    pair = pictures(2, form)
    pair[where][1, 2, 3, 4] = bad
    sums = Sums(form)
    with pytest.raises(FitError, match="expected finite latents and pictures"):
        sums.add(*pair)
    assert not sums.xx.any()


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        (
            {"channels": 32, "degree": 3},
            r"degree 3 in 32 channels over 1 x 1 latent pixels has 6,544 features, .* 0.3 GB",
        ),
        ({"channels": 16, "degree": 3, "kernel": 3}, "has 8,712 features, .* 0.6 GB; at most 5,000 .* smaller kernel"),
        ({"channels": 128, "kernel": 7}, "has 6,272 features"),
    ],
    ids=str,
)
def test_what_is_too_large_is_refused_with_the_numbers(form, numbers):
    with pytest.raises(FitError, match=numbers):
        Form(**form)


def test_what_is_just_not_too_large_is_taken():
    assert Form(channels=16, degree=3).features == 968
    assert Form(channels=200, kernel=5).features == MAX_FEATURES
    with pytest.raises(FitError, match="5,025 features"):
        Form(channels=201, kernel=5)


@pytest.mark.parametrize(
    "form", [{"channels": 0}, {"degree": 4}, {"kernel": 2}, {"kernel": -1}, {"subpixel": 0}], ids=str
)
def test_a_form_that_makes_no_sense_is_refused(form):
    with pytest.raises(ValueError, match="expected"):
        Form(**({"channels": 4} | form))


# Files.


def test_sums_come_back_from_their_file_as_they_were(tmp_path):
    form = Form(channels=3, degree=2, kernel=3, subpixel=2)
    sums = sums_of(form, pictures(3, form))
    sums.save(tmp_path / "sums.safetensors")
    loaded = Sums.load(tmp_path / "sums.safetensors")
    assert loaded.form == form
    assert loaded.rows == 192
    for name in ("xx", "xy", "yy"):
        assert torch.equal(getattr(loaded, name), getattr(sums, name))
    loaded.add(*pictures(1, form, seed=4))
    assert loaded.rows == 256
    assert [path.name for path in tmp_path.iterdir()] == ["sums.safetensors"]


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path, monkeypatch):
    form = Form(channels=2)
    path = tmp_path / "sums.safetensors"
    sums_of(form, pictures(1, form)).save(path)
    before = path.read_bytes()

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        sums_of(form, pictures(2, form)).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def header(form=None, **changes):
    return {"format": FORMAT, "form": json.dumps(asdict(Form(channels=2)) if form is None else form)} | changes


def content(**changes):
    n = 3
    whole = {"xx": torch.eye(n), "xy": torch.zeros(n, 3), "yy": torch.ones(3)} | changes
    return {name: tensor for name, tensor in whole.items() if tensor is not None}


def write(path, tensors, metadata):
    """A file that is whole by its own account."""
    facts = metadata and metadata | {"sha256": digest(metadata.get("form", ""), tensors)}
    save_file(tensors, path, facts)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (content(), None, "expected format safelight.statistics/1, got None"),
        (content(), header(format="safelight.statistics/2"), "got 'safelight.statistics/2'"),
        (content(), {"format": FORMAT}, "'form'"),
        (content(), header(form=[1]), "mapping"),
        (content(), header(form={"channels": "2"}), "'str' and 'int'"),
        (content(), header(form={"channels": 2, "colour": 1}), "colour"),
        (content(), header(form={"channels": 10**6, "degree": 3}), "features"),
        (content(), header(form={"channels": 2, "degree": 10**12}), "expected a degree"),
        (content(), header(form={"channels": 2, "kernel": 10**12 + 1}), "overflow"),
        (content(), header(form={"channels": -2}), "expected channels from 1 up, got -2"),
        (content(), header(form={"channels": 3}), "xx is damaged"),
        (content(xy=None), header(), "'xy'"),
        (content(xx=torch.full((3, 3), math.nan)), header(), "xx is damaged"),
        (content(yy=torch.ones(4)), header(), "yy is damaged"),
        (content(yy=-torch.ones(3)), header(), "sums of squares are negative"),
        (content(xx=-torch.eye(3)), header(), "sums of squares are negative"),
        (content(xx=torch.eye(3) * 1.5), header(), "pixels not whole"),
    ],
    ids=range(17),
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path, tensors, metadata, message):
    write(tmp_path / "a.safetensors", tensors, metadata)
    with pytest.raises(FitError, match=f"a.safetensors: not the statistics of a fit: .*{message}.* to begin anew"):
        Sums.load(tmp_path / "a.safetensors")


def test_a_sound_file_of_that_shape_is_taken(tmp_path):
    write(tmp_path / "a.safetensors", content(), header())
    assert Sums.load(tmp_path / "a.safetensors").rows == 1


def test_a_number_that_changed_on_the_disk_is_no_other_statistic(tmp_path):
    path, form = tmp_path / "a.safetensors", Form(channels=4)
    sums_of(form, pictures(2, form)).save(path)
    whole = path.read_bytes()
    for at in (-1, -9, -40):  # of the numbers, which are last
        altered = bytearray(whole)
        altered[at] ^= 0x01
        path.write_bytes(altered)
        with pytest.raises(FitError, match="it is not as it was written; remove the file to begin anew"):
            Sums.load(path)


def test_a_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path, content(), header())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FitError, match=r"not a whole safetensors file.*expected the statistics of a fit"):
        Sums.load(path)


def test_a_file_that_is_missing_is_told(tmp_path):
    with pytest.raises(FitError, match=r"gone\.safetensors: cannot be read: No such file"):
        Sums.load(tmp_path / "gone.safetensors")
