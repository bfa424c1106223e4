"""Metrics against numbers computed by hand, and a structural similarity written as loops."""

import math

import numpy as np
import pytest
import torch
from safelight.errors import FitError
from safelight.fitting.metrics import MAX_PSNR_DB, color_cast, detail_rms, psnr_db, resize_rgb, ssim


def random_image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_is_computed_for_each_image():
    truth = torch.full((3, 3, 4, 4), 0.5)
    rgb = truth.clone()
    rgb[0] += 0.1  # mse 0.01
    rgb[1, 0] += 0.3  # mse 0.09 / 3
    rgb[2, 0, 0, 0] += 0.5  # mse 0.25 / 48
    expected = [20.0, -10 * math.log10(0.03), -10 * math.log10(0.25 / 48)]
    assert psnr_db(rgb, truth).tolist() == pytest.approx(expected, abs=1e-4)


def test_psnr_clamps_values_outside_0_to_1():
    truth = torch.ones(1, 3, 4, 4)
    assert float(psnr_db(truth + 5, truth)) == MAX_PSNR_DB
    assert float(psnr_db(truth - 5, truth)) == 0


def test_psnr_of_identical_images_is_finite():
    truth = random_image(2, 3, 4, 4)
    assert psnr_db(truth, truth).tolist() == [MAX_PSNR_DB] * 2
    assert 58 < float(psnr_db((truth[:1] * 255).round() / 255, truth[:1])) <= MAX_PSNR_DB


def loops(x, y):
    """Computes Wang et al. 2004 with loops over the window, for one image with one color channel."""
    window = np.array([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)])
    window /= window.sum()
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 0.01**2)
                * (2 * covariance + 0.03**2)
                / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
            )
    return np.mean(values)


@pytest.mark.parametrize("size", [(11, 11), (14, 19)], ids=str)
def test_ssim_is_the_mean_over_windows_and_colors(size):
    truth = random_image(2, 3, *size)
    rgb = (0.6 * truth + 0.3 * random_image(2, 3, *size, seed=1)).clamp(0, 1)
    expected = [np.mean([loops(rgb[b, c].numpy(), truth[b, c].numpy()) for c in range(3)]) for b in range(2)]
    assert ssim(rgb, truth).tolist() == pytest.approx(expected, abs=1e-5)


def test_ssim_of_an_image_with_itself_is_one_and_with_its_negative_below_zero():
    truth = random_image(1, 3, 16, 16)
    assert float(ssim(truth, truth)) == pytest.approx(1, abs=1e-6)
    assert float(ssim(1 - truth, truth)) < 0


def test_ssim_of_images_smaller_than_its_window_is_refused():
    with pytest.raises(FitError, match="images of at least 11 pixels a side, got 12x10"):
        ssim(random_image(1, 3, 10, 12), random_image(1, 3, 10, 12))


def test_a_larger_image_is_averaged():
    rgb = random_image(2, 3, 8, 12)
    expected = rgb.reshape(2, 3, 2, 4, 3, 4).mean((3, 5))
    torch.testing.assert_close(resize_rgb(rgb, 2, 3), expected)


def test_an_image_can_shrink_by_a_factor_that_is_not_whole():
    assert resize_rgb(random_image(1, 3, 16, 16), 6, 6).shape == (1, 3, 6, 6)


def cubic(t):
    """Computes Keys' kernel with a = -0.75 at distance t."""
    a, t = -0.75, abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def test_a_smaller_image_is_enlarged_by_cubics_and_clamped():
    rgb = (random_image(1, 3, 4, 5) > 0.5).float()
    found = resize_rgb(rgb, 8, 10)
    matrices = []
    for n in (4, 5):
        matrix = np.zeros((2 * n, n))
        for i in range(2 * n):
            place = (i + 0.5) / 2 - 0.5
            for tap in range(math.floor(place) - 1, math.floor(place) + 3):
                matrix[i, min(max(tap, 0), n - 1)] += cubic(place - tap)
        matrices.append(matrix)
    expected = np.clip(np.einsum("ih,bchw,jw->bcij", matrices[0], rgb.numpy(), matrices[1]), 0, 1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert (found == 1).any()


def test_an_image_of_the_right_size_is_returned_unchanged():
    rgb = random_image(1, 3, 4, 4)
    assert resize_rgb(rgb, 4, 4) is rgb


def test_a_color_cast_is_the_error_of_the_mean_color_only():
    truth = random_image(2, 3, 8, 8)
    tinted = truth + torch.tensor([0.3, 0.0, 0.0])[:, None, None]
    assert color_cast(tinted, truth).tolist() == pytest.approx([0.3 / math.sqrt(3)] * 2, abs=1e-5)
    shuffled = truth.flip(2, 3)
    assert color_cast(shuffled, truth).abs().max() < 1e-6


def test_detail_is_the_difference_from_a_blur():
    flat = torch.full((1, 3, 6, 6), 0.4)
    board = (torch.arange(6)[:, None] + torch.arange(6)) % 2 * torch.ones(1, 3, 1, 1)
    assert float(detail_rms(flat)) < 1e-6
    inner = detail_rms(
        board.repeat(1, 1, 8, 8)
    )  # far from the border the blur of a white pixel is 5/9, of a black pixel 4/9
    assert float(inner) == pytest.approx(4 / 9, abs=0.01)
    assert float(detail_rms(board / 2)) == pytest.approx(float(detail_rms(board)) / 2)
