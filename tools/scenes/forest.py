"""Draws an autumn forest with single leaves."""

import numpy as np

from ...fitting.procedural_images import Array, pixel_grid
from .textures import Color, ease, fractal, mix, nearest_point, noise, ramp

SUN = (0.10, 0.16)
HORIZON = -0.30
LEAVES: dict[float, Color] = {
    0.0: (0.30, 0.035, 0.012),
    0.25: (0.62, 0.085, 0.012),
    0.5: (0.85, 0.22, 0.015),
    0.78: (0.95, 0.42, 0.035),
    1.0: (0.55, 0.42, 0.04),
}


def leaves(x: Array, y: Array, seed: int, *, length: float = 0.46, width: float = 0.24) -> tuple[Array, Array]:
    """Draws about one leaf per unit cell: coverage, and a random number 0..1 per leaf."""
    ox, oy, own, other = nearest_point(x, y, seed)
    turn = other * 40
    u, v = ox * np.cos(turn) + oy * np.sin(turn), oy * np.cos(turn) - ox * np.sin(turn)
    edge = (u / length) ** 2 + (np.abs(v) / (width * (1 - 0.5 * u / length))) ** 2
    return ease(1.15, 0.80, edge), own


def crowns(x: Array, y: Array, glow: Array, near: float, seed: int) -> tuple[Array, Array]:
    """Draws foliage at a nearness 0..1: light, coverage."""
    size = 34 + 44 * (1 - near)
    clump = fractal(x * (2.2 - near), y * (2.6 - near), seed, 5, gain=0.55)
    low = 0.34 + 0.40 * near
    dense = 1.1 * clump + 1.1 * (y - low) + 0.45 * (x - SUN[0]) ** 2 * (0.4 + near)
    light, cover = np.zeros((*x.shape, 3), np.float32), np.zeros_like(x)
    dense_part = dense > -0.15  # the rest of the image has no leaves
    x, y, clump, dense, glow = (field[dense_part] for field in (x, y, clump, dense, glow))
    color, covered = light[dense_part], cover[dense_part]
    for layer in range(3):
        leaf, own = leaves(x * size + 7.7 * layer, y * size - 3.1 * layer, seed + 11 * layer)
        there = leaf * ease(0.10 + 0.30 * own, 0.24 + 0.30 * own, dense + 0.12 * layer)
        tone = np.clip(0.25 + 0.65 * own + 0.45 * clump - 0.1 * near, 0, 1)
        shine = (0.16 + 0.30 * layer * (0.4 + clump) + 1.6 * glow) * (0.55 + 0.6 * own)
        color = mix(color, ramp(LEAVES, tone) * np.maximum(shine, 0.05)[..., None], there)
        covered = np.maximum(covered, there)
    light[dense_part], cover[dense_part] = color, covered
    return light, cover


def trunks(x: Array, y: Array, places: Array, width: float, foot: float, seed: int) -> tuple[Array, Array]:
    """Draws trunks at `places`: the position of each pixel across the trunk (-1..1), and coverage."""
    across, cover = np.zeros_like(x), np.zeros_like(x)
    for number, at in enumerate(places):
        sway = 0.9 * width * noise(y * 0.9, y * 0 + number, seed) + 0.05 * np.sign(at) * width * y
        flare = 1 + 1.3 * np.exp(-np.maximum(y - foot, 0) / (1.4 * width)) - 0.22 * (y - foot)
        half = 0.5 * width * flare * (0.75 + 0.5 * ((number * 0.618) % 1))
        half = half * (1 + 0.10 * noise(y * 9, y * 0, seed + number))
        part = np.abs(x - at - sway) / half
        root = foot - 0.30 * half * np.sqrt(np.clip(1 - part**2, 0, 1)) + 0.05 * half * noise(x * 90, y * 90, seed)
        here = ease(1.04, 0.96, part) * ease(-0.03, 0.05, (y - root) / half)
        across = np.where(here > cover, (x - at - sway) / half, across)
        cover = np.maximum(cover, here)
    return across, cover


def autumn(size_px: int) -> Array:
    """Draws a path through an autumn forest towards a low sun in the mist."""
    x, y = pixel_grid(size_px)
    rng = np.random.default_rng(4)
    off = np.hypot((x - SUN[0]) * 1.1, y - SUN[1])
    glow = np.exp(-off * 2.6)
    view = ramp({0: (3.4, 2.3, 1.05), 0.18: (1.8, 1.0, 0.36), 0.55: (0.85, 0.40, 0.13), 1.4: (0.28, 0.14, 0.065)}, off)
    view += np.exp(-((off / 0.10) ** 2))[..., None] * np.array((6.0, 4.4, 2.2), np.float32)

    deep = np.maximum(HORIZON - y, 1e-3)
    away = 0.34 / deep
    across = (x - 0.10) * away
    path = ease(
        0.62, 0.36, np.abs(across + 0.22 * np.sin(away * 0.9) - 0.10) + 0.10 * fractal(across * 3, away * 3, 3, 3)
    )
    soil = mix((0.34, 0.115, 0.022), (0.115, 0.062, 0.036), path)
    soil = soil * (0.75 + 0.6 * fractal(across * 7, away * 7, 9, 4))[..., None]
    for layer in range(4):
        leaf, own = leaves(across * 24 + 5.3 * layer, away * 24 + 2.9 * layer, 200 + 13 * layer)
        fallen = leaf * (own * 1.03 % 1 > 0.10 + 0.62 * path)
        turned = 0.45 + 0.9 * (own * 7.7 % 1)
        soil = mix(soil, ramp(LEAVES, own * 1.1 - 0.12) * (0.62 * turned)[..., None], fallen * ease(6, 2.5, away))
    beam = np.exp(-(((x - 0.10) / (0.16 + 0.55 * deep)) ** 2)) * np.exp(-deep * 1.3)
    bars = 0.55 + 0.75 * ease(-0.2, 0.5, noise((x - SUN[0]) / (deep + 0.42) * 6, x * 0, 77))
    soil = soil * ((0.42 + 2.6 * beam) * bars)[..., None]
    fog = np.exp(-deep * 5.5)
    soil = mix(soil, view, fog)
    view = np.where((y < HORIZON)[..., None], soil, view)

    fog_light = ramp(
        {0: (2.2, 1.3, 0.50), 0.3: (1.15, 0.58, 0.19), 0.9: (0.50, 0.24, 0.085), 1.5: (0.28, 0.14, 0.065)}, off
    )
    for near, count in ((0.0, 16), (0.25, 11), (0.5, 7), (0.75, 4), (1.0, 2)):
        width = 0.020 + 0.155 * near**1.6
        foot = HORIZON + 0.02 - 0.48 * near**1.35
        sides = np.where(np.arange(count) % 2, 1, -1)
        places = SUN[0] + sides * (0.13 + 0.42 * near + rng.uniform(0, 1, count) * (0.9 - 0.45 * near))
        round_, cover = trunks(x, y, places, width, foot, int(300 + 40 * near))
        bark = fractal(x * 34 / (0.4 + near), y * 7 / (0.4 + near), int(500 + 40 * near), 4)
        rim = np.clip(-round_ * np.sign(x - SUN[0]), 0, 1) ** 3
        wood = mix((0.022, 0.013, 0.009), (0.105, 0.060, 0.036), 0.45 + 0.7 * bark)
        wood = wood * (0.55 + 5.5 * rim * (0.25 + glow))[..., None]
        air = 0.86 * (1 - near) ** 1.25
        view = mix(view, mix(wood, fog_light, air), cover)
        light, cover = crowns(x, y, glow, near, int(700 + 60 * near))
        view = mix(view, mix(light, fog_light, 0.8 * air), cover * (0.92 if near else 0.7))

    angle = np.arctan2(y - SUN[1], x - SUN[0])
    shafts = fractal(angle * 5.5, off * 0.35, 901, 4)
    ray = ease(-0.05, 0.65, shafts) * np.exp(-off * 1.55) * ease(0.0, 0.25, off)
    view += (0.55 * ray)[..., None] * np.array((1.0, 0.66, 0.26), np.float32)
    leaf, own = leaves(x * 4.2 + 1.7, y * 4.2 + 0.4, 950, length=0.10, width=0.058)
    falling = leaf * (own > 0.72) * (y > -0.7)
    return mix(view, ramp(LEAVES, own * 1.6 - 0.9) * (0.7 + 1.1 * glow)[..., None], 0.92 * falling)
