"""Draws landscapes from a height field in perspective."""

from collections.abc import Callable

import numpy as np

from ...fitting.procedural_images import Array, pixel_grid
from .textures import dot, ease, fractal, mix, noise, normalize, ramp, random_at

Height = Callable[[Array, Array], Array]


def cast_rays(
    height: Height, x: Array, y: Array, *, camera: float, far: float, near: float = 0.5
) -> tuple[Array, Array]:
    """Finds where rays through the screen hit the ground: `(across, away)`, with `away` infinite for sky.

    The method is the voxel space of the game Comanche: for each column, the running maximum of the ground's elevation
    over distance, with one sorted search for the pixels of the column.
    """
    columns, rows = x[0], y[:, 0]
    away = np.geomspace(near, far, 900, dtype=np.float32)[:, None]
    elevation = (height(columns * away, np.broadcast_to(away, (900, len(columns)))) - camera) / away
    skyline = np.maximum.accumulate(elevation, 0)
    distance = np.full(x.shape, np.inf, np.float32)
    for i in range(len(columns)):
        first = np.searchsorted(skyline[:, i], rows)
        hit = first < len(away)
        at = np.clip(first, 1, len(away) - 1)
        below, above = elevation[at - 1, i], elevation[at, i]
        part = np.clip((rows - below) / np.maximum(above - below, 1e-6), 0, 1)
        distance[hit, i] = (away[at - 1, 0] + part * (away[at, 0] - away[at - 1, 0]))[hit]
    return x * distance, distance


def normals(height: Height, across: Array, away: Array, reach: Array) -> Array:
    """Computes unit normals `[..., 3]` (across, up, away) by differences over `reach`."""
    here = height(across, away)
    return normalize(
        np.stack([here - height(across + reach, away), reach, here - height(across, away + reach)], -1),
    )


def pines(x: Array, y: Array, trees: tuple[tuple[float, float, float], ...], seed: int) -> Array:
    """Draws the coverage of pines, each `(x, foot, height)`."""
    covered = np.zeros_like(x)
    for number, (at, foot, tall) in enumerate(trees):
        lean = x - at - 0.010 * tall * noise(y * 3 / tall, y * 0, seed + number)
        down = np.clip((foot + tall - y) / tall, 0, 1.2)
        side = lean > 0
        rank = (down**0.8 * 24 - 1.6 * np.abs(lean) / (0.2 * tall)) + 0.45 * side
        bough = random_at(np.floor(rank), side, seed + 7 * number)
        needles = noise(lean * 70 / tall, y * 90 / tall, seed + 3 * number)
        width = 0.23 * tall * down**0.9 * ((0.35 + 0.65 * bough) * (0.45 + 0.55 * (rank % 1)) + 0.13 * needles)
        inside = ease(0.005 * tall, -0.005 * tall, np.abs(lean) - width) * (y > foot) * (down > 0)
        trunk = (np.abs(lean) < 0.014 * tall * down) * (y > foot)
        covered = np.maximum(covered, np.maximum(inside, trunk))
    return covered


def sample_image(image: Array, x: Array, y: Array) -> Array:
    """Samples `image` `[H, W, 3]` at any places, with bilinear interpolation."""
    size = len(image)
    column, row = ((np.clip(v, 0, size - 1.001)) for v in ((x + 1) * size / 2 - 0.5, (1 - y) * size / 2 - 0.5))
    i, j = row.astype(np.int64), column.astype(np.int64)
    top = mix(image[i, j], image[i, j + 1], column - j)
    bottom = mix(image[i + 1, j], image[i + 1, j + 1], column - j)
    return mix(top, bottom, row - i)


def lake(size_px: int) -> Array:
    """Draws snow peaks at sunset above a lake that mirrors them."""
    x, y = pixel_grid(size_px)
    horizon = -0.22
    field, up = 0.52, y - horizon

    def height(across: Array, away: Array) -> Array:
        crest = fractal(across * 0.22 + 3.1, away * 0.22 + 0.7, 11, 9, gain=0.46, ridged=True)
        rise = ease(4.5, 15, away) * (0.62 + 0.5 * ease(0.5, 6, np.abs(across + 0.9)))
        peak = 2.6 * np.exp(-(((across + 1.6) / 2.3) ** 2) - ((away - 15) / 3.5) ** 2)
        return (4.6 * crest**1.4 * rise + peak * (0.55 + 0.6 * crest)) - 0.35

    sun = normalize((0.86, 0.30, -0.42))
    above = np.maximum(up, 0)
    across, away = cast_rays(height, x * field, above * field, camera=0.12, far=30, near=4)
    ground = np.isfinite(away)
    across, away = np.where(ground, across, 0), np.where(ground, away, 30)
    altitude = height(across, away)
    normal = normals(height, across, away, away * 0.0022)
    soft = normals(height, across, away, away * 0.012)
    rough = fractal(across * 9, altitude * 9 + away * 4, 31, 4)
    snow = ease(0.42, 0.72, soft[..., 1] + 0.25 * rough + 0.22 * (altitude - 1.5))
    snow *= ease(0.7, 1.9, altitude + 0.5 * rough)
    rock = mix((0.10, 0.085, 0.08), (0.24, 0.19, 0.165), 0.5 + 0.5 * rough)
    wood = mix((0.012, 0.028, 0.022), (0.035, 0.055, 0.03), 0.5 + 0.9 * fractal(across * 22, altitude * 30, 5, 3))
    stone = mix(rock, wood, ease(1.15, 0.45, altitude + 0.4 * rough))
    albedo = mix(stone, (0.86, 0.88, 0.92), snow)
    lit = np.clip(0.6 * dot(normal, sun) + 0.4 * dot(soft, sun), 0, 1)
    reach = ease(0.35, 1.7, altitude + 0.35 * noise(across * 0.8, away * 0.8, 3))
    warm = (lit * reach)[..., None] * np.array((3.1, 1.42, 0.66), np.float32)
    sky_light = (0.35 + 0.65 * normal[..., 1])[..., None] * np.array((0.24, 0.29, 0.50), np.float32)
    land = albedo * (warm + sky_light)

    right = np.exp(-(((x - 0.75) / 0.9) ** 2))
    heaven = ramp(
        {
            0.0: (1.5, 0.68, 0.30),
            0.2: (1.2, 0.56, 0.36),
            0.45: (0.60, 0.40, 0.47),
            0.8: (0.17, 0.22, 0.44),
            1.3: (0.05, 0.09, 0.24),
        },
        up,
    )
    heaven = heaven * (0.8 + 0.55 * right * np.exp(-above * 1.5))[..., None]
    cloud = fractal(x * 1.1 + 0.3 * up, up * 5.2 + 0.35 * x, 71, 6)
    cloud = ease(0.02, 0.5, cloud) * ease(0.15, 0.55, up)
    heaven = mix(heaven, ramp({0: (1.7, 0.72, 0.45), 0.6: (1.25, 0.50, 0.48), 1.1: (0.5, 0.3, 0.45)}, up), 0.7 * cloud)

    haze = mix((0.36, 0.33, 0.47), (0.85, 0.52, 0.42), 0.75 * right)
    air = 1 - np.exp(-np.maximum(away - 5, 0) * (0.014 + 0.06 * np.exp(-1.8 * np.maximum(altitude, 0))))
    view = np.where(ground[..., None], mix(land, haze, air), heaven)

    depth = np.maximum(-up, 1e-3)
    swell = fractal(x / (depth + 0.03) * 1.1, 1 / (depth + 0.03) * 4, 91, 3)
    ripple = (0.004 + 0.035 * depth) * swell + 0.006 * noise(x * 6, depth * 90, 95)
    image = sample_image(view, x + 0.5 * ripple, horizon + depth * 0.93 + 0.004 + ripple)
    fresnel = 0.92 - 0.55 * ease(0.1, 0.9, depth)
    water = image * fresnel[..., None] * np.array((0.80, 0.88, 0.95), np.float32)
    water += np.array((0.004, 0.012, 0.018), np.float32) * ease(0, 0.7, depth)[..., None]
    water = mix(water, haze, 0.5 * np.exp(-depth * 60))
    view = np.where((up < 0)[..., None], water, view)

    shore = -0.80 - 0.10 * ease(-0.2, -1, x) * -1 + 0.03 * fractal(x * 5, x * 0, 8, 4) - 0.25 * ease(-0.75, 0.2, x)
    bank = ease(0.006, -0.006, y - shore)
    stones = 0.5 + 0.5 * fractal(x * 16, y * 22, 41, 4)
    view = mix(view, mix((0.006, 0.007, 0.009), (0.035, 0.032, 0.035), stones), bank)
    trees = ((-0.88, -0.78, 1.32), (-0.66, -0.82, 0.86), (-1.02, -0.8, 1.0), (-0.52, -0.85, 0.46), (0.97, -1.02, 0.6))
    return mix(view, (0.010, 0.014, 0.014), pines(x, y, trees, 201))
