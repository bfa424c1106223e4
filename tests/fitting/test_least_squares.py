"""Least squares against `numpy.linalg.lstsq` over features built pixel by pixel; sums, files, errors."""

import json
import math
from dataclasses import asdict
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from safelight.decoders.files import contained_file
from safelight.decoders.files.decoder_file import build
from safelight.errors import FitError
from safelight.fitting import least_squares
from safelight.fitting.least_squares import (
    MAX_FEATURES,
    RIDGES,
    STATISTICS_FORMAT,
    PolynomialForm,
    Ridges,
    Sums,
    choose_ridges,
    content_digest,
    polynomial_tensors,
)
from safetensors.torch import save_file

FORMS = [
    PolynomialForm(channels=channels, degree=degree, kernel=kernel, subpixel=subpixel)
    for channels, degree, kernel in [(4, 1, 1), (4, 1, 3), (4, 1, 5), (4, 2, 1), (3, 2, 3), (4, 3, 1), (2, 3, 3)]
    for subpixel in (1, 2)
]
FORMS += [
    PolynomialForm(channels=3, overall=True),
    PolynomialForm(channels=3, degree=2, kernel=3, subpixel=2, overall=True),
]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_images(count, form, size=(8, 8), seed=0):
    """Returns latents and unrelated images."""
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
    """Builds the least squares problem in numpy loops: a row for each latent pixel."""
    latents, rgb = latents.numpy(), rgb.numpy()
    count, channels, h, w = latents.shape
    reach, r = form.kernel // 2, form.subpixel
    products = [m for d in range(1, form.degree + 1) for m in combinations_with_replacement(range(channels), d)]
    rows, colors = [], []
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
                colors.append(rgb[b, :, i * r : i * r + r, j * r : j * r + r].ravel())
    return np.array(rows), np.array(colors)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_solution_is_what_lstsq_finds(form):
    latents, rgb = random_images(6, form)
    expected, *_ = np.linalg.lstsq(*table(latents, rgb, form), rcond=None)
    found = sums_of(form, (latents, rgb)).solve()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_cubic_fits_latents_of_any_scale_and_offset(scale):
    form = PolynomialForm(channels=3, degree=3)
    latents, rgb = random_images(4, form)
    latents = (latents + 2) * scale
    rows, colors = table(latents, rgb, form)
    size = np.abs(rows).max(0)
    expected, *_ = np.linalg.lstsq(rows / size, colors, rcond=None)
    found = sums_of(form, (latents, rgb)).solve().numpy() * size[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_fitted_decoder_reproduces_a_polynomial_image(form):
    latents, _ = random_images(6, form)
    n = form.features
    truth = build(
        "polynomial",
        asdict(form),
        polynomial_tensors(random(n + 1, form.outputs, seed=7) * 0.1, form),
    )
    rgb = truth.double()(latents).detach()
    fitted = build("polynomial", asdict(form), polynomial_tensors(sums_of(form, (latents, rgb)).solve(), form))
    with torch.no_grad():
        torch.testing.assert_close(fitted(latents.float()).double(), rgb, rtol=1e-4, atol=1e-5)


def test_a_ridge_shrinks_weights_by_its_formula():
    form = PolynomialForm(channels=4, kernel=3)
    latents, rgb = random_images(3, form)
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
def test_sums_of_two_halves_equal_the_sums_of_all_in_any_order(form):
    latents, rgb = random_images(6, form)
    whole = sums_of(form, (latents, rgb))
    first, second = sums_of(form, (latents[:2], rgb[:2])), sums_of(form, (latents[2:], rgb[2:]))
    backwards = sums_of(form, *((latents[i : i + 1], rgb[i : i + 1]) for i in reversed(range(6))))
    for other in (first + second, second + first, backwards):
        assert other.rows == whole.rows == 6 * 64
        for name in ("xx", "xy", "yy"):
            torch.testing.assert_close(getattr(other, name), getattr(whole, name), rtol=1e-12, atol=1e-10)


def test_adding_sums_does_not_change_them():
    form = PolynomialForm(channels=2)
    first, second = (sums_of(form, random_images(1, form, seed=seed)) for seed in (1, 2))
    before = first.xx.clone(), second.xx.clone()
    both = first + second
    both.add(*random_images(1, form, seed=3))
    assert torch.equal(first.xx, before[0])
    assert torch.equal(second.xx, before[1])


def test_sums_of_different_forms_are_not_added():
    with pytest.raises(FitError, match=r"expected sums for the same form, .*degree=1.*, got .*degree=2"):
        Sums(PolynomialForm(channels=4)) + Sums(PolynomialForm(channels=4, degree=2))


def test_sums_over_strips_equal_sums_over_whole_images(monkeypatch):
    form = PolynomialForm(channels=3, degree=2, kernel=5, subpixel=2)
    latents, rgb = random_images(2, form, size=(9, 4))
    whole = sums_of(form, (latents, rgb))
    monkeypatch.setattr(least_squares, "ROWS_PER_STRIP", 7)
    strips = sums_of(form, (latents, rgb))
    for name in ("xx", "xy", "yy"):
        torch.testing.assert_close(getattr(strips, name), getattr(whole, name), rtol=1e-12, atol=1e-12)


def test_the_size_of_sums_does_not_depend_on_the_number_of_images():
    form = PolynomialForm(channels=4, degree=2, kernel=3, subpixel=2)
    sums = Sums(form)
    sizes = []
    for seed in range(3):
        sums.add(*random_images(2, form, seed=seed))
        sizes.append([getattr(sums, name).shape for name in ("xx", "xy", "yy")])
    n = 14 * 9 + 1
    assert sizes == [[(n, n), (n, 12), (12,)]] * 3


def test_features_are_computed_one_strip_at_a_time(monkeypatch):
    form = PolynomialForm(channels=4, kernel=7)
    most, features = [], least_squares.polynomial_features
    monkeypatch.setattr(least_squares, "polynomial_features", lambda *args: most.append(len(x := features(*args))) or x)
    sums_of(form, random_images(1, form, size=(192, 64)))
    assert sum(most) == 192 * 64
    assert max(most) <= least_squares.ROWS_PER_STRIP


@pytest.mark.parametrize("form", FORMS[::3], ids=str)
def test_sums_give_the_error_of_any_solution(form):
    fit, judge = random_images(5, form), random_images(2, form, seed=5)
    solution = sums_of(form, fit).solve(0.01)
    net = build("polynomial", asdict(form), polynomial_tensors(solution, form)).double()
    exact = {key: tensor.double() for key, tensor in polynomial_tensors(solution, form).items()}
    net.load_state_dict(exact | {"bias": solution[-1]})
    with torch.no_grad():
        expected = (net(judge[0]) - judge[1]).square().mean()
    assert sums_of(form, judge).mse(solution) == pytest.approx(float(expected), rel=1e-6)


def test_the_error_of_an_exact_solution_is_not_negative():
    form = PolynomialForm(channels=4)
    latents, _ = random_images(3, form)
    sums = sums_of(form, (latents, 0.5 + 0.1 * latents[:, :3]))
    assert 0 <= sums.mse(sums.solve()) < 1e-12


# The ridge.


def noisy(count, form, noise, seed):
    """Returns images that depend on the latents and on noise."""
    latents, unrelated = random_images(count, form, seed=seed)
    return latents, 0.5 + 0.1 * latents[:, :3] + noise * (unrelated - 0.5)


def test_few_noisy_pixels_get_a_larger_ridge_than_many_clean_pixels():
    form = PolynomialForm(channels=4, kernel=5)
    held = sums_of(form, noisy(8, form, 1.0, seed=99))
    few = choose_ridges(sums_of(form, noisy(2, form, 3.0, seed=1)), held)
    many = choose_ridges(sums_of(form, noisy(16, form, 0.0, seed=2)), sums_of(form, noisy(8, form, 0.0, seed=98)))
    assert few.ridge >= 0.1
    assert many == Ridges(min(RIDGES), 0.0)


def test_the_chosen_ridge_has_the_least_validation_error():
    form = PolynomialForm(channels=4, kernel=3)
    fit, held = sums_of(form, noisy(2, form, 2.0, seed=1)), sums_of(form, noisy(4, form, 0.0, seed=2))
    chosen = choose_ridges(fit, held)
    assert min(RIDGES) < chosen.ridge < max(RIDGES)
    assert held.mse(fit.solve(*chosen)) == min(held.mse(fit.solve(ridge)) for ridge in RIDGES)


def brightness(count, form, related, seed):
    """Returns images whose brightness depends on the mean of their own latents, or on random means."""
    latents = random(count, form.channels, 8, 8, seed=seed) + random(count, form.channels, 1, 1, seed=seed + 1)
    means = latents.mean((2, 3), keepdim=True) if related else random(count, form.channels, 1, 1, seed=seed + 2)
    return latents, 0.5 + 0.02 * latents[:, :3] + 0.1 * means[:, :3]


def test_image_means_are_used_if_they_reduce_the_validation_error():
    form, alone = PolynomialForm(channels=4, overall=True), PolynomialForm(channels=4)
    pairs, held_pairs = brightness(40, form, True, 1), brightness(20, form, True, 9)
    fit, held = sums_of(form, pairs), sums_of(form, held_pairs)
    chosen = choose_ridges(fit, held)
    assert chosen.overall < 0.1
    assert held.mse(fit.solve(*chosen)) < 1e-6
    assert sums_of(alone, held_pairs).mse(sums_of(alone, pairs).solve(chosen.ridge)) > 1e-3


def test_image_means_are_left_out_if_they_only_fit_a_few_training_images():
    form, alone = PolynomialForm(channels=4, overall=True), PolynomialForm(channels=4)
    pairs, held = brightness(4, form, False, 1), sums_of(form, brightness(20, form, False, 9))
    fit = sums_of(form, pairs)
    ridge, overall = choose_ridges(fit, held)
    assert overall >= 1.0
    left_out = fit.solve(ridge, math.inf)
    assert not left_out[4:-1].any()
    torch.testing.assert_close(left_out[[0, 1, 2, 3, -1]], sums_of(alone, pairs).solve(ridge))


def test_image_means_of_a_single_image_get_no_weight():
    form = PolynomialForm(channels=4, overall=True)
    sums = sums_of(form, random_images(1, form))
    assert not sums.solve(1e-6)[4:-1].any()


def test_a_ridge_too_small_for_a_dependent_channel_is_skipped():
    form = PolynomialForm(channels=4)
    latents, rgb = random_images(3, form)
    latents[:, 1] = latents[:, [0, 2, 3]].mean(1)
    sums = sums_of(form, (latents, rgb))
    with pytest.raises(FitError, match=r"192 latent pixels cannot separate 4 features; .* a larger ridge"):
        sums.solve()
    assert choose_ridges(sums, sums, (0.0, 1e-4)).ridge == 1e-4


def test_if_no_ridge_works_the_reason_is_raised():
    form = PolynomialForm(channels=4)
    latents, rgb = random_images(3, form)
    latents[:, 1] = latents[:, [0, 2, 3]].mean(1)
    with pytest.raises(FitError, match="cannot separate 4 features"):
        choose_ridges(sums_of(form, (latents, rgb)), sums_of(form, (latents, rgb)), (0.0,))


# Errors.


@pytest.mark.parametrize("value", [0.0, 5.3, -300.7])
def test_a_constant_channel_gets_no_weight(value):
    form = PolynomialForm(channels=4, kernel=3)
    latents, rgb = random_images(4, form)
    latents[:, 2] = value
    solution = sums_of(form, (latents, rgb)).solve()
    others = [0, 1, 3]
    alone = sums_of(PolynomialForm(channels=3, kernel=3), (latents[:, others], rgb)).solve()
    assert not solution[:-1].reshape(4, 9, 3)[2].any()
    torch.testing.assert_close(solution[:-1].reshape(4, 9, 3)[others], alone[:-1].reshape(3, 9, 3))
    torch.testing.assert_close(solution[-1], alone[-1])


@pytest.mark.parametrize("value", [0.0, 0.3, 17.0])
def test_latents_of_one_color_are_refused(value):
    form = PolynomialForm(channels=4, degree=2)
    _, rgb = random_images(3, form)
    with pytest.raises(FitError, match="all latents have one color"):
        sums_of(form, (torch.full((3, 4, 8, 8), value), rgb)).solve(0.1)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_images_of_one_color_are_refused(value):
    form = PolynomialForm(channels=4, degree=2)
    latents, _ = random_images(3, form)
    with pytest.raises(FitError, match="all images have one color; give images with some content"):
        sums_of(form, (latents, torch.full((3, 3, 8, 8), value))).solve(0.1)


def test_images_without_any_red_are_accepted():
    form = PolynomialForm(channels=4)
    latents, rgb = random_images(3, form)
    rgb[:, 0] = 0
    assert not sums_of(form, (latents, rgb)).solve(1e-8)[:, 0].any()


@pytest.mark.parametrize("ridge", [0.0, 1.0])
def test_too_few_pixels_are_refused_with_the_numbers(ridge):
    form = PolynomialForm(channels=8, kernel=3)
    sums = sums_of(form, random_images(1, form))
    with pytest.raises(FitError, match="64 latent pixels are too few for 72 features; give more images, or choose"):
        sums.solve(ridge)


def test_solving_or_measuring_without_images_is_refused():
    form = PolynomialForm(channels=4)
    with pytest.raises(FitError, match="at least one image, got none"):
        Sums(form).solve()
    solution = sums_of(form, random_images(1, form)).solve()
    with pytest.raises(FitError, match="at least one image to measure the error on, got none"):
        Sums(form).mse(solution)


def test_one_image_with_enough_pixels_is_enough():
    form = PolynomialForm(channels=4)
    assert sums_of(form, random_images(1, form)).solve().shape == (5, 3)


@pytest.mark.parametrize(
    ("latents", "rgb", "message"),
    [
        (
            (2, 4, 8, 8),
            (2, 3, 8, 8),
            r"expected images \[2, 3, 16, 16\] for latents \[2, 4, 8, 8\], got \[2, 3, 8, 8\]",
        ),
        ((2, 4, 8, 8), (1, 3, 16, 16), r"expected images \[2, 3, 16, 16\]"),
        ((2, 4, 8, 8), (2, 4, 16, 16), r"expected images \[2, 3, 16, 16\]"),
        ((2, 16, 8, 8), (2, 3, 16, 16), r"expected latents \[B, 4, h, w\], got \[2, 16, 8, 8\]"),
        ((4, 8, 8), (3, 16, 16), r"expected latents \[B, 4, h, w\], got \[4, 8, 8\]"),
    ],
    ids=str,
)
def test_mismatched_sizes_are_refused_and_change_nothing(latents, rgb, message):
    sums = Sums(PolynomialForm(channels=4, subpixel=2))
    with pytest.raises(FitError, match=message):
        sums.add(torch.ones(latents), torch.ones(rgb))
    assert sums.rows == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", [0, 1])
def test_values_that_are_not_finite_are_refused_and_change_nothing(bad, where):
    form = PolynomialForm(channels=4)
    pair = random_images(2, form)
    pair[where][1, 2, 3, 4] = bad
    sums = Sums(form)
    with pytest.raises(FitError, match="expected finite latents and images"):
        sums.add(*pair)
    assert not sums.xx.any()


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        (
            {"channels": 32, "degree": 3},
            r"degree 3 in 32 channels over 1 x 1 latent pixels has 6,544 features, .* 0.3 GB",
        ),
        (
            {"channels": 16, "degree": 3, "kernel": 3},
            "has 8,712 features, .* 0.6 GB; the limit is 5,000 .* smaller kernel",
        ),
        ({"channels": 128, "kernel": 7}, "has 6,272 features"),
    ],
    ids=str,
)
def test_a_form_with_too_many_features_is_refused_with_the_numbers(form, numbers):
    with pytest.raises(FitError, match=numbers):
        PolynomialForm(**form)


def test_a_form_with_the_maximum_of_features_is_accepted():
    assert PolynomialForm(channels=16, degree=3).features == 968
    assert PolynomialForm(channels=200, kernel=5).features == MAX_FEATURES
    with pytest.raises(FitError, match="5,025 features"):
        PolynomialForm(channels=201, kernel=5)


@pytest.mark.parametrize(
    "form", [{"channels": 0}, {"degree": 4}, {"kernel": 2}, {"kernel": -1}, {"subpixel": 0}], ids=str
)
def test_an_invalid_form_is_refused(form):
    with pytest.raises(ValueError, match="expected"):
        PolynomialForm(**({"channels": 4} | form))


# Files.


def test_sums_are_unchanged_after_save_and_load(tmp_path):
    form = PolynomialForm(channels=3, degree=2, kernel=3, subpixel=2)
    sums = sums_of(form, random_images(3, form))
    sums.save(tmp_path / "sums.safetensors")
    loaded, note = Sums.load(tmp_path / "sums.safetensors")
    assert note == ""
    assert loaded.form == form
    assert loaded.rows == 192
    for name in ("xx", "xy", "yy"):
        assert torch.equal(getattr(loaded, name), getattr(sums, name))
    loaded.add(*random_images(1, form, seed=4))
    assert loaded.rows == 256
    assert [path.name for path in tmp_path.iterdir()] == ["sums.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    form = PolynomialForm(channels=2)
    path = tmp_path / "sums.safetensors"
    sums_of(form, random_images(1, form)).save(path)
    before = path.read_bytes()

    def full(file, content):
        file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contained_file, "fill", full)
    with pytest.raises(OSError, match="No space left"):
        sums_of(form, random_images(2, form)).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def header(form=None, **changes):
    return {
        "format": STATISTICS_FORMAT,
        "form": json.dumps(asdict(PolynomialForm(channels=2)) if form is None else form),
    } | changes


def content(**changes):
    n = 3
    whole = {"xx": torch.eye(n), "xy": torch.zeros(n, 3), "yy": torch.ones(3)} | changes
    return {name: tensor for name, tensor in whole.items() if tensor is not None}


def write(path, tensors, metadata):
    """Writes a file with a matching checksum."""
    facts = metadata and metadata | {"sha256": content_digest(metadata.get("form", ""), tensors)}
    save_file(tensors, path, facts)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (content(), None, "expected format safelight.statistics/1, got None"),
        (content(), header(format="safelight.statistics/2"), "got 'safelight.statistics/2'"),
        (content(), {"format": STATISTICS_FORMAT}, "'form'"),
        (content(), header(form=[1]), "mapping"),
        (content(), header(form={"channels": "2"}), "'str' and 'int'"),
        (content(), header(form={"channels": 2, "color": 1}), "color"),
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
        (content(xx=torch.eye(3) * 1.5), header(), "the number of pixels is not whole"),
    ],
    ids=range(17),
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path, tensors, metadata, message):
    write(tmp_path / "a.safetensors", tensors, metadata)
    with pytest.raises(FitError, match=f"a.safetensors: not the statistics of a fit: .*{message}.* to start again"):
        Sums.load(tmp_path / "a.safetensors")


def test_a_valid_file_is_accepted(tmp_path):
    write(tmp_path / "a.safetensors", content(), header())
    assert Sums.load(tmp_path / "a.safetensors")[0].rows == 1


def test_a_changed_number_in_a_file_is_detected(tmp_path):
    path, form = tmp_path / "a.safetensors", PolynomialForm(channels=4)
    sums_of(form, random_images(2, form)).save(path)
    whole = path.read_bytes()
    for at in (-1, -9, -40):  # of the numbers, which are last
        altered = bytearray(whole)
        altered[at] ^= 0x01
        path.write_bytes(altered)
        with pytest.raises(FitError, match="the content does not match its checksum; remove the file to start again"):
            Sums.load(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write(path, content(), header())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FitError, match=r"not a whole safetensors file.*expected the statistics of a fit"):
        Sums.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FitError, match=r"gone\.safetensors: cannot be read: No such file"):
        Sums.load(tmp_path / "gone.safetensors")
