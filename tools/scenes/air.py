"""Draws balloons over hills at sunrise."""

import numpy as np

from ...fitting.procedural_images import Array, pixel_grid
from .terrain import cast_rays, normals
from .textures import Color, dot, ease, fractal, mix, noise, normalize, ramp

SUN = normalize((0.72, 0.34, -0.55))
# x, y, radius, gores, colors from one gore to the next
BALLOONS: tuple[tuple[float, float, float, int, tuple[Color, ...]], ...] = (
    (-0.78, 0.14, 0.065, 16, ((0.80, 0.50, 0.06), (0.55, 0.10, 0.05))),
    (0.12, -0.03, 0.050, 12, ((0.10, 0.30, 0.55), (0.80, 0.78, 0.70))),
    (0.80, 0.08, 0.075, 16, ((0.70, 0.10, 0.06), (0.85, 0.80, 0.70))),
    (0.36, 0.24, 0.105, 20, ((0.10, 0.40, 0.22), (0.85, 0.62, 0.10))),
    (-0.68, 0.68, 0.125, 20, ((0.45, 0.10, 0.36), (0.88, 0.45, 0.10), (0.85, 0.75, 0.55))),
    (0.66, 0.66, 0.155, 24, ((0.04, 0.26, 0.55), (0.03, 0.42, 0.52), (0.80, 0.80, 0.72))),
    (-0.20, 0.22, 0.300, 24, ((0.78, 0.045, 0.03), (0.88, 0.34, 0.02), (0.90, 0.62, 0.05), (0.88, 0.34, 0.02))),
)
ROPE = (0.05, 0.045, 0.04)


def balloon(x: Array, y: Array, gores: int, colors: tuple[Color, ...], turn: float) -> tuple[Array, Array]:
    """Draws a balloon of radius 1 around 0: light, coverage."""
    down = np.clip(-y, -1, 1.32)
    sphere = np.sqrt(np.clip(1 - y * y, 0, 1))
    # Below 40 degrees the skirt leaves the sphere along its tangent.
    radius = np.where(down < 0.64, sphere, 0.768 - 0.833 * (down - 0.64) + 0.14 * np.maximum(down - 0.64, 0) ** 2)
    radius = np.maximum(radius, 0.02)
    around = np.clip(x / radius, -1, 1)
    phi = np.arcsin(around) / np.pi * gores / 2 * 2 + turn
    bulge = np.abs(phi % 1 - 0.5) * 2
    rise = np.where(down < 0.64, -down, -0.64)
    level = np.sqrt(1 - rise * rise)
    sway = around + 0.10 * (phi % 1 - 0.5)
    normal = normalize(np.stack([sway * level, rise, -np.sqrt(np.clip(1 - around**2, 0, 1)) * level], -1))
    band = np.floor((y + 1) * 4.5 + 0.0 * x)
    which = (np.floor(phi) + np.where((band == 4) | (band == 6), 1, 0)).astype(np.int64) % len(colors)
    cloth = np.array(colors, np.float32)[which] * (1 - 0.22 * bulge**6)[..., None]
    lit = np.clip((dot(normal, SUN) + 0.12) / 1.12, 0, 1)[..., None] * np.array((2.5, 1.95, 1.30), np.float32)
    shade = (0.42 + 0.25 * normal[..., 1:2]) * np.array((0.62, 0.72, 0.98), np.float32)
    through = (0.16 * ease(0.2, -0.6, normal[..., 1]))[..., None] * np.array((1.0, 0.62, 0.30), np.float32)
    light = cloth * (lit + shade + through)
    cover = ease(1.015, 0.985, np.abs(x) / radius) * (down < 1.30) * (y < 1)
    for at in (-0.14, 0.14):
        rope = (np.abs(x - at * (1.1 - 0.25 * (-y - 1.3))) < 0.010) * (y < -1.28) * (y > -1.66)
        light, cover = mix(light, ROPE, rope.astype(np.float32)), np.maximum(cover, rope)
    basket = (np.abs(x) < 0.135 + 0.03 * (y + 1.7)) * (y < -1.64) * (y > -1.86)
    weave = 0.8 + 0.2 * np.sin(y * 120) * np.sin(x * 90)
    wicker = (weave * (0.5 + 2.2 * np.clip(x + 0.1, 0, 0.25) / 0.25))[..., None] * np.array((0.20, 0.105, 0.045))
    return mix(light, wicker, basket.astype(np.float32)), np.maximum(cover, basket).astype(np.float32)


def balloons(size_px: int) -> Array:
    """Draws hot-air balloons above misty hills, with the morning sun from the right."""
    x, y = pixel_grid(size_px)
    horizon, field = -0.24, 0.56
    up = y - horizon

    def height(across: Array, away: Array) -> Array:
        broad = fractal(across * 0.16 + 1.3, away * 0.16 + 5.1, 21, 4, gain=0.45)
        ribs = fractal(across * 0.55, away * 0.55, 33, 6, gain=0.5, ridged=True)
        spires = ease(0.40, 0.62, fractal(across * 0.9 + 4, away * 0.9, 47, 3))
        return 1.15 * broad + 0.85 * ribs * (0.5 + ease(-0.2, 0.5, broad)) + 0.45 * spires - 0.55

    across, away = cast_rays(height, x * field, up * field, camera=1.45, far=60, near=1.2)
    ground = np.isfinite(away)
    across, away = np.where(ground, across, 0), np.where(ground, away, 60)
    altitude = height(across, away)
    normal = normals(height, across, away, away * 0.002 + 0.002)
    soft = normals(height, across, away, away * 0.01 + 0.08)
    layers = 0.5 + 0.5 * np.sin(altitude * 26 + 3 * noise(across * 2, away * 2, 5))
    stone = mix((0.36, 0.19, 0.105), (0.50, 0.32, 0.19), 0.65 * layers + 0.4 * fractal(across * 8, away * 8, 6, 4))
    scrub = ease(-0.05, 0.35, fractal(across * 5, away * 5, 55, 5)) * ease(0.70, 0.93, soft[..., 1])
    grass = mix((0.085, 0.10, 0.030), (0.20, 0.18, 0.055), 0.5 + fractal(across * 14, away * 14, 57, 3))
    albedo = mix(stone, grass, 0.85 * scrub)
    lit = np.clip(0.65 * dot(normal, SUN) + 0.35 * dot(soft, SUN), 0, 1)
    lit = lit * ease(-0.62, 0.25, altitude + 0.25 * noise(across * 0.5, away * 0.5, 8))
    sky_light = (0.4 + 0.6 * normal[..., 1])[..., None] * np.array((0.26, 0.32, 0.46), np.float32)
    land = albedo * (lit[..., None] * np.array((3.0, 2.05, 1.15), np.float32) + sky_light)

    sunny = np.exp(-(((x - 1.1) / 1.1) ** 2))
    sky = ramp(
        {
            0: (1.15, 0.80, 0.56),
            0.16: (0.95, 0.78, 0.66),
            0.42: (0.50, 0.64, 0.82),
            0.8: (0.20, 0.40, 0.76),
            1.3: (0.09, 0.23, 0.58),
        },
        up,
    )
    sky = sky + (0.55 * sunny * np.exp(-np.maximum(up, 0) * 2.2))[..., None] * np.array((1.0, 0.62, 0.30), np.float32)
    veil = ease(0.0, 0.6, fractal(x * 0.8 + 0.9 * up, up * 3.6 - 0.5 * x, 71, 6)) * ease(0.15, 0.6, up)
    sky = mix(sky, (1.25, 1.05, 0.92), 0.55 * veil)

    haze = mix((0.66, 0.64, 0.72), (1.25, 0.88, 0.60), 0.35 + 0.65 * sunny)
    pool = np.exp(-np.maximum(altitude + 0.55 + 0.14 * noise(across * 0.7, away * 0.7, 66), 0) * 2.6)
    air = 1 - np.exp(-np.maximum(away - 2.5, 0) * (0.018 + 0.20 * pool))
    view = np.where(ground[..., None], mix(land, haze, air), sky)
    for number, (at, level, radius, gores, colors) in enumerate(BALLOONS):
        light, cover = balloon((x - at) / radius, (y - level) / radius, gores, colors, 0.37 * number)
        view = mix(view, mix(light, haze, 0.42 * np.exp(-radius * 10)), cover)
    return view
