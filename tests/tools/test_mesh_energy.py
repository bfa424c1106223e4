"""Tests the measure of the mesh that decoders in sub-pixels draw."""

import pytest
import torch
import torch.nn.functional as F
from safelight.errors import FitError
from safelight.tools.mesh_energy import WINDOW, mesh_energy, mesh_levels

SUBPIXELS = pytest.mark.parametrize("subpixel", [2, 4, 8])


def ramp(side):
    rows, columns = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 0.5, side), indexing="ij")
    return (rows / 2 + columns)[None, None].expand(1, 3, -1, -1)


def grid(side, subpixel, level, seed=0):
    """A random sub-pixel group with mean 0 and RMS `level`, repeated."""
    group = torch.randn(1, 3, subpixel, subpixel, generator=torch.Generator().manual_seed(seed))
    group = group - group.mean((2, 3), keepdim=True)
    return level * group.repeat(1, 1, side // subpixel, side // subpixel) / group.square().mean().sqrt()


@SUBPIXELS
def test_a_slope_and_one_color_have_no_mesh(subpixel):
    side = 24 * subpixel
    assert mesh_levels(ramp(side), subpixel) < 1e-3
    assert mesh_levels(torch.full((1, 3, side, side), 0.4), subpixel) < 1e-4


@SUBPIXELS
@pytest.mark.parametrize("level", [1.0, 4.0])
def test_a_repeated_group_is_measured_at_its_rms(subpixel, level):
    side = 24 * subpixel
    rgb = ramp(side) + grid(side, subpixel, level / 255)
    assert mesh_levels(rgb, subpixel) == pytest.approx(level, rel=0.05)


@SUBPIXELS
def test_texture_that_does_not_repeat_counts_little(subpixel):
    noise = 10 / 255 * torch.randn(4, 3, 24 * subpixel, 24 * subpixel, generator=torch.Generator().manual_seed(1))
    assert mesh_levels(noise, subpixel) < 10 / WINDOW * 1.2


def test_each_picture_has_its_own_energy():
    rgb = torch.cat([ramp(64), ramp(64) + grid(64, 2, 0.01)])
    first, second = mesh_energy(rgb, 2)
    assert first < second / 100


def test_enlarged_pictures_have_no_mesh():
    small = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    smooth = F.interpolate(F.interpolate(small, size=(6, 6), mode="area"), size=(96, 96), mode="bicubic")
    assert mesh_levels(smooth, 4) < 0.3


def test_a_picture_that_is_too_small_is_refused():
    with pytest.raises(FitError, match="expected pictures of at least 20 pixels a side to measure a mesh of 2 pixels"):
        mesh_energy(torch.zeros(1, 3, 19, 40), 2)
