"""Compares polynomials with plain loops over pixels, taps and products."""

from itertools import product

import numpy as np
import pytest
import torch
from safelight.decoders.files.decoder_file import build
from safelight.decoders.nets.polynomial import MAX_SUBPIXEL, Polynomial, count_features, monomials

CHANNELS, HEIGHT, WIDTH = 3, 4, 5


def products_by_loops(pixel, degree):
    """Returns the products of up to `degree` channels, with ascending indices, lower degrees first."""
    values = list(pixel)
    if degree >= 2:
        values += [pixel[i] * pixel[j] for i in range(len(pixel)) for j in range(i, len(pixel))]
    if degree >= 3:
        for i in range(len(pixel)):
            for j in range(i, len(pixel)):
                values += [pixel[i] * pixel[j] * pixel[k] for k in range(j, len(pixel))]
    return np.array(values)


def polynomial_by_loops(latents, weight, bias, degree, kernel, subpixel, black, white):
    """Decodes `latents` `[C, H, W]` to `[3, H*r, W*r]` in float64, one output value at a time."""
    _, height, width = latents.shape
    reach = kernel // 2
    rgb = np.zeros((3, height * subpixel, width * subpixel))
    for y, x in product(range(height), range(width)):
        total = np.zeros(len(weight)) if bias is None else bias.copy()
        for dy, dx in product(range(kernel), repeat=2):
            near = latents[:, min(max(y + dy - reach, 0), height - 1), min(max(x + dx - reach, 0), width - 1)]
            total += weight[:, :, dy, dx] @ products_by_loops(near, degree)
        for color, sub_y, sub_x in product(range(3), range(subpixel), range(subpixel)):
            number = total[color * subpixel**2 + sub_y * subpixel + sub_x]
            rgb[color, y * subpixel + sub_y, x * subpixel + sub_x] = (number - black) / (white - black)
    return rgb


@pytest.mark.parametrize("output_range", [None, (-1, 1), (0, 255)], ids=str)
@pytest.mark.parametrize("subpixel", [1, 2, 8])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "none"])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_polynomial_equals_plain_loops(degree, constant, kernel, subpixel, output_range):
    rng = np.random.default_rng(degree * 100 + kernel * 10 + subpixel)
    weight = rng.normal(size=(3 * subpixel**2, count_features(CHANNELS, degree), kernel, kernel))
    bias = rng.normal(size=3 * subpixel**2) if constant else None
    latents = rng.normal(size=(2, CHANNELS, HEIGHT, WIDTH))

    settings = {"channels": CHANNELS, "degree": degree, "constant": constant, "kernel": kernel, "subpixel": subpixel}
    state = {"weight": torch.from_numpy(weight)} | ({"bias": torch.from_numpy(bias)} if constant else {})
    net = build("polynomial", settings | ({"output_range": output_range} if output_range else {}), state)
    with torch.no_grad():
        rgb = net(torch.from_numpy(latents).float())

    assert net.scale == subpixel
    assert rgb.dtype is torch.float32
    for image, item in zip(rgb, latents, strict=True):
        expected = polynomial_by_loops(item, weight, bias, degree, kernel, subpixel, *(output_range or (0, 1)))
        np.testing.assert_allclose(image.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_range", [None, (-1, 1)], ids=str)
@pytest.mark.parametrize(("degree", "kernel", "subpixel"), [(1, 1, 1), (2, 1, 1), (2, 3, 2), (3, 1, 1)])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "none"])
def test_with_overall_the_constant_depends_on_the_mean_of_the_image(degree, kernel, subpixel, constant, output_range):
    rng = np.random.default_rng(degree)
    outputs = 3 * subpixel**2
    weight = rng.normal(size=(outputs, count_features(CHANNELS, degree), kernel, kernel))
    bias, overall = rng.normal(size=outputs), rng.normal(size=(outputs, CHANNELS))
    latents = rng.normal(size=(2, CHANNELS, HEIGHT, WIDTH))
    settings = {"channels": CHANNELS, "degree": degree, "constant": constant, "kernel": kernel, "subpixel": subpixel}
    settings |= {"overall": True} | ({"output_range": output_range} if output_range else {})
    state = {"weight": torch.from_numpy(weight), "overall": torch.from_numpy(overall)}
    net = build("polynomial", settings, state | ({"bias": torch.from_numpy(bias)} if constant else {}))
    with torch.no_grad():
        rgb = net(torch.from_numpy(latents).float())
    for image, item in zip(rgb, latents, strict=True):
        own = overall @ item.mean((1, 2)) + (bias if constant else 0)
        expected = polynomial_by_loops(item, weight, own, degree, kernel, subpixel, *(output_range or (0, 1)))
        np.testing.assert_allclose(image.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "degree", "count"), [(4, 1, 4), (4, 2, 14), (4, 3, 34), (16, 3, 968), (32, 3, 6544)]
)
def test_the_number_of_products_follows_combinatorics(channels, degree, count):
    assert count_features(channels, degree) == count
    assert len(monomials(channels, degree)) == len(set(monomials(channels, degree))) == count


def test_products_are_ordered_by_degree_then_by_index():
    assert monomials(2, 3) == [(0,), (1,), (0, 0), (0, 1), (1, 1), (0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]


def fold(tables, channels):
    """Folds full outer products, one `[3, C, ..., C]` per degree, to one weight per distinct product."""
    weight = torch.zeros(3, count_features(channels, len(tables)), 1, 1, dtype=torch.float64)
    place = {factors: i for i, factors in enumerate(monomials(channels, len(tables)))}
    for degree, table in enumerate(tables, 1):
        for factors in product(range(channels), repeat=degree):
            weight[:, place[tuple(sorted(factors))], 0, 0] += table[(slice(None), *factors)]
    return weight


@pytest.mark.parametrize(("degree", "numbers"), [(2, 63), (3, 255)])
def test_the_full_outer_products_of_the_source_equal_ours_after_folding(degree, numbers):
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(3, *(4,) * d, generator=generator, dtype=torch.float64) for d in range(1, degree + 1)]
    constant = torch.randn(3, generator=generator, dtype=torch.float64)
    assert sum(table.numel() for table in tables) + 3 == numbers

    x = torch.randn(1, 4, 6, 7, generator=generator)
    latents = x.double()
    expected = torch.einsum("bchw,rc->brhw", latents, tables[0]) + constant[:, None, None]
    expected = expected + torch.einsum("bchw,bdhw,rcd->brhw", latents, latents, tables[1])
    if degree == 3:
        expected = expected + torch.einsum("bchw,bdhw,behw,rcde->brhw", latents, latents, latents, tables[2])

    net = build("polynomial", {"channels": 4, "degree": degree}, {"weight": fold(tables, 4), "bias": constant})
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected.float(), rtol=1e-4, atol=1e-4)


def test_one_net_decodes_images_of_different_sizes():
    net = build("polynomial", {"channels": 4, "degree": 2, "constant": False}, {"weight": torch.ones(3, 14, 1, 1)})
    for size in ((3, 5), (1, 1), (3, 5)):
        x = torch.full((2, 4, *size), 0.5)
        torch.testing.assert_close(net(x).detach(), torch.full((2, 3, *size), 4 * 0.5 + 10 * 0.25))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"degree": 0}, r"degree among \(1, 2, 3\), got 0"),
        ({"degree": 7}, r"degree among \(1, 2, 3\), got 7"),
        ({"degree": 10**9}, "degree among"),
        ({"kernel": 2}, "odd kernel, .* got 2"),
        ({"kernel": 0}, "odd kernel, .* got 0"),
        ({"kernel": -1}, "odd kernel, .* got -1"),
        ({"subpixel": 0}, "subpixel of 1 to 64, got 0"),
        ({"subpixel": 1000}, "subpixel of 1 to 64, got 1000"),
    ],
    ids=str,
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Polynomial(4, **settings)


def test_the_largest_subpixel_is_allowed():
    assert Polynomial(1, subpixel=MAX_SUBPIXEL).scale == MAX_SUBPIXEL
