"""Draws night scenes with visible lamps."""

import numpy as np

from ...fitting.procedural_images import Array, blur, pixel_grid
from .textures import ease, fractal, mix, noise, ramp, random_at


def disks(size_px: int, places: Array, colors: Array, radii: Array, *, soft: float = 0.25) -> Array:
    """Draws round spots: places `[N, 2]` on the screen, colors `[N, 3]`, radii `[N]`, edges `soft` of a radius."""
    light = np.zeros((size_px, size_px, 3), np.float32)
    x, y = pixel_grid(size_px)
    for (px, py), color, radius in zip(places, colors, radii, strict=True):
        reach = radius * (1 + soft) * size_px / 2 + 2
        column, row = (px + 1) * size_px / 2, (1 - py) * size_px / 2
        rows = slice(max(0, int(row - reach)), max(0, int(row + reach)))
        columns = slice(max(0, int(column - reach)), max(0, int(column + reach)))
        distance = np.hypot(x[rows, columns] - px, y[rows, columns] - py) / radius
        light[rows, columns] += ease(1 + soft, 1 - soft, distance)[..., None] * color
    return light


def stars(size_px: int, rng: np.random.Generator, count: int) -> Array:
    """Draws stars from blue to orange; fainter stars are more frequent."""
    places = rng.uniform(-1, 1, (count, 2))
    strength = np.minimum(0.10 * rng.pareto(1.5, count) + 0.05, 4)
    colors = ramp({0: (0.65, 0.8, 1.2), 0.6: (1, 1, 1), 1: (1.2, 0.85, 0.6)}, rng.uniform(0, 1, count))
    radii = 0.0014 + 0.0016 * np.minimum(strength, 1)
    return disks(size_px, places, colors * strength[:, None] * 2.2, radii, soft=0.6)


def lighthouse(size_px: int) -> Array:
    """Draws a lighthouse on a rock under stars, with moonlight on the sea."""
    x, y = pixel_grid(size_px)
    rng = np.random.default_rng(5)
    horizon, moon = -0.30, (-0.52, 0.26)
    up = y - horizon
    sky = ramp(
        {0: (0.115, 0.17, 0.25), 0.25: (0.055, 0.095, 0.185), 0.7: (0.020, 0.042, 0.115), 1.3: (0.010, 0.02, 0.066)}, up
    )
    band = (x - 0.25) * 0.80 + (y - 0.35) * -0.60
    milky = np.exp(-((band / 0.30) ** 2)) * (0.55 + 0.75 * fractal(x * 2.2, y * 2.2, 3, 6))
    lane = ease(0.0, 0.5, fractal(x * 3 + 9, y * 3, 17, 5)) * np.exp(-((band / 0.10) ** 2))
    dust = np.maximum(milky * (1 - 0.8 * lane), 0)
    sky = sky + dust[..., None] * np.array((0.085, 0.085, 0.13), np.float32)
    sky += stars(size_px, rng, 1700) * (ease(0.02, 0.35, up) * (0.5 + 1.3 * dust))[..., None]
    off = np.hypot(x - moon[0], y - moon[1])
    craters = 0.80 + 0.28 * fractal((x - moon[0]) * 16, (y - moon[1]) * 16, 23, 4)
    disk = ease(0.112, 0.107, off)
    sky = mix(sky, (craters * 1.6)[..., None] * np.array((1.0, 0.95, 0.82), np.float32), disk)
    halo = 0.20 * np.exp(-off * 4.5) + 0.30 * np.exp(-off * 16)
    sky += (halo * (1 - disk))[..., None] * np.array((0.75, 0.85, 1.0), np.float32)
    cloud = ease(-0.02, 0.5, fractal(x * 0.9, up * 5.5 + 0.3 * x, 43, 6)) * ease(0.62, 0.10, np.abs(up - 0.18) * 2.4)
    glow = 0.10 + 0.85 * np.exp(-off * 2.3)
    sky = mix(sky, glow[..., None] * np.array((0.36, 0.42, 0.55), np.float32), 0.8 * cloud)

    deep = np.maximum(-up, 2e-3)
    away = 0.22 / deep
    waves = fractal(x * away * 7, away * 16, 61, 5, gain=0.62)
    facing = np.abs(x - moon[0] - 0.10 * waves) / (0.05 + 0.16 * deep**0.7)
    glitter = np.exp(-(facing**2)) * ease(0.18 - 0.22 * deep, 0.62, waves + 0.30 * noise(x * away * 40, away * 60, 62))
    sea = ramp({0: (0.10, 0.15, 0.21), 0.12: (0.030, 0.065, 0.11), 0.7: (0.010, 0.028, 0.055)}, deep)
    sea = sea * (1 + 0.75 * waves)[..., None]
    sea += (glitter * 2.0 + 0.16 * np.exp(-((facing / 3.2) ** 2)))[..., None] * np.array((0.9, 0.92, 0.9), np.float32)
    view = np.where((up > 0)[..., None], sky, sea)

    lamp = (0.46, 0.405)
    dx, dy = x - lamp[0], y - lamp[1]
    angle, far = np.arctan2(dy, np.abs(dx) + 1e-6), np.hypot(dx, dy)
    for side, tilt, strength in ((-1, 0.30, 1.0), (1, 0.12, 0.8)):
        ray = np.exp(-(((angle - tilt) / (0.030 + 0.012 / (far + 0.2))) ** 2)) * (np.sign(dx) == side)
        fade = strength * np.exp(-far * 1.15) * (0.85 + 0.3 * fractal(x * 3, y * 7, 91, 4))
        view += (ray * fade)[..., None] * np.array((0.95, 0.80, 0.50), np.float32)

    line = -0.235 + 0.155 * ease(0.02, 0.36, x) + 0.10 * ease(0.55, 1.0, x) - 0.42 * ease(0.20, -0.12, x)
    line = line + 0.035 * fractal(x * 6, 0 * x, 7, 5) * ease(-0.2, 0.2, x)
    foot = -0.66 - 0.28 * ease(0.1, 1.0, x) + 0.02 * fractal(x * 9, 0 * x, 15, 3)
    tall = fractal(x * 5 + 0.8 * y, y * 3.2 - 0.9 * x, 81, 7, gain=0.58, ridged=True)
    slope = tall - fractal((x - 0.012) * 5 + 0.8 * y, y * 3.2 - 0.9 * (x - 0.012), 81, 7, gain=0.58, ridged=True)
    moonlit = np.clip(0.35 + 5.0 * slope, 0, 1.6) * (0.25 + 0.75 * tall)
    turf = ease(0.085, 0.02, line - y) * ease(-0.1, 0.3, x)
    rock = mix((0.060, 0.075, 0.105), (0.034, 0.060, 0.050), turf) * (0.35 + 1.9 * moonlit)[..., None]
    warm = np.exp(-(((x - 0.46) / 0.34) ** 2) - ((y + 0.10) / 0.16) ** 2)
    rock = rock * (1 + warm[..., None] * np.array((2.4, 1.5, 0.6), np.float32))
    cliff = ease(0.006, -0.006, y - line) * ease(-0.008, 0.008, y - foot) * ease(0.0, 0.03, line - foot)
    foam = (
        np.exp(-((np.abs(y - foot) / 0.028) ** 2))
        * ease(0.0, 0.5, 0.4 + waves)
        * ease(-0.16, 0.06, x)
        * ease(0.0, 0.04, line - foot)
    )
    view = mix(view, rock, cliff)
    view += (0.30 * foam)[..., None] * np.array((0.65, 0.78, 0.95), np.float32)

    low, top = -0.10, 0.36
    part = np.clip((y - low) / (top - low), 0, 1)
    half = 0.072 - 0.026 * part
    turn = np.clip((x - lamp[0]) / half, -1, 1)
    tower = ease(0.003, -0.003, np.abs(x - lamp[0]) - half) * (y > low) * (y < top)
    light = 0.10 + 0.62 * np.clip(-turn * 0.80 + 0.42 * np.sqrt(1 - turn**2), 0, 1)
    paint = mix((0.78, 0.80, 0.84), (0.62, 0.055, 0.04), ease(0.49, 0.51, np.abs((part * 2.5 + 0.25) % 1 - 0.5) * 2))
    view = mix(view, paint * light[..., None], tower)
    for at, wide in ((0.16, 0.010), (0.62, 0.009)):
        slit = (np.abs(x - lamp[0] + 0.012) < wide) * (np.abs(part - at) < 0.030)
        view = mix(view, (2.4, 1.4, 0.5), slit.astype(np.float32))
    gallery = (np.abs(x - lamp[0]) < 0.066) * (np.abs(y - 0.365) < 0.011)
    rail = (np.abs(x - lamp[0]) < 0.064) * (np.abs(y - 0.390) < 0.003)
    room = (np.abs(dx) < 0.036) * (np.abs(y - 0.412) < 0.038)
    roof = (np.abs(dx) < 0.050 * (0.512 - y) / 0.064) * (y > 0.448) * (y < 0.512)
    mast = (np.abs(dx) < 0.004) * (y > 0.50) * (y < 0.555)
    glass = mix((5.5, 4.2, 2.2), (0.10, 0.05, 0.03), (np.abs(np.abs(dx) - 0.013) < 0.0022).astype(np.float32))
    view = mix(view, glass, room.astype(np.float32))
    view = mix(view, (0.035, 0.03, 0.035), np.maximum.reduce([gallery, rail, roof, mast]).astype(np.float32))
    view += (0.9 * np.exp(-far * 13) + 0.16 * np.exp(-far * 3.6))[..., None] * np.array((1.0, 0.78, 0.42), np.float32)

    hut_x, hut_y = x - 0.74, y + 0.045
    walls = (np.abs(hut_x) < 0.105) * (hut_y > -0.07) * (hut_y < 0.045)
    gable = (np.abs(hut_x) < 0.125 - 0.5 * (hut_y - 0.045)) * (hut_y >= 0.045) * (hut_y < 0.115)
    view = mix(
        view,
        np.where(hut_x[..., None] < -0.02, (0.20, 0.22, 0.26), (0.13, 0.145, 0.18)).astype(np.float32),
        walls.astype(np.float32),
    )
    view = mix(view, (0.045, 0.032, 0.036), gable.astype(np.float32))
    panes = (np.abs(np.abs(hut_x) - 0.052) < 0.021) * (np.abs(hut_y + 0.005) < 0.024)
    view = mix(view, (2.6, 1.35, 0.42), panes.astype(np.float32))
    lit = np.exp(-(((hut_x) / 0.14) ** 2) - ((hut_y + 0.06) / 0.07) ** 2)
    return view + lit[..., None] * np.array((0.16, 0.085, 0.025), np.float32)


SIGNS = (
    # side, along, height, length, tall, color
    (-1, 4.2, 2.0, 0.5, 1.5, (3.2, 0.25, 1.1)),
    (-1, 7.0, 2.6, 0.9, 1.0, (0.25, 2.2, 2.8)),
    (-1, 11.5, 2.4, 1.4, 2.2, (3.0, 1.1, 0.15)),
    (1, 3.6, 2.3, 0.45, 1.1, (0.2, 1.5, 3.0)),
    (1, 5.9, 2.1, 0.7, 1.7, (3.2, 0.45, 0.20)),
    (1, 9.8, 2.9, 1.2, 1.6, (2.6, 0.3, 2.2)),
)
HALF_STREET, EYE = 2.4, 1.25


def facade(side: int, along: Array, high: Array) -> tuple[Array, Array]:
    """Draws one side of the street: its light `[..., 3]`, and whether there is a wall `[...]`."""
    seed = 100 + side
    block = np.floor(along / 3.1 + 0.37 * side)
    own = random_at(block, block * 0, seed)
    storeys = 5.5 + 9.5 * own
    present = high < storeys
    u, v = along * (1.0 + 0.8 * random_at(block, block * 0 + 1, seed)), high / 0.85
    cell, floor = np.floor(u * 2), np.floor(v)
    inside = (np.abs(u * 2 % 1 - 0.5) < 0.30) * (np.abs(v % 1 - 0.5) < 0.30) * (high > 1.7)
    on = random_at(cell, floor, seed + 2) < 0.20 + 0.30 * own
    tint = ramp(
        {0: (1.5, 0.62, 0.20), 0.55: (1.7, 1.0, 0.48), 0.8: (0.9, 1.0, 1.0), 1: (0.45, 0.8, 1.3)},
        random_at(cell, floor, seed + 3),
    )
    power = 0.35 + 1.1 * random_at(cell, floor, seed + 4)
    brick = (
        mix((0.030, 0.030, 0.045), (0.055, 0.045, 0.055), own)
        * (0.7 + 0.5 * fractal(along * 3, high * 3, 5, 3))[..., None]
    )
    light = np.where((inside & on)[..., None], tint * power[..., None], brick)
    light = np.where((inside & ~on)[..., None], (0.018, 0.028, 0.045), light)
    shop = (high > 0.18) * (high < 1.35) * (np.abs(along / 1.55 % 1 - 0.5) < 0.42)
    shops = ramp(
        {0: (1.9, 0.95, 0.35), 0.4: (1.6, 1.2, 0.75), 0.7: (0.35, 1.0, 1.25), 1: (1.6, 0.35, 0.7)},
        random_at(np.floor(along / 1.55), along * 0, seed + 6),
    )
    goods = 0.55 + 0.6 * np.abs(fractal(along * 7, high * 5, 8, 3))
    light = np.where((shop & present)[..., None], shops * goods[..., None], light)
    for which, at, bottom, length, tall, color in SIGNS:
        if which == side:
            du, dv = (along - at) / length * 2, (high - bottom) / tall * 2 - 1
            board = (np.abs(du) < 1) & (np.abs(dv) < 1)
            strokes = ease(0.05, 0.3, noise(du * 2.4 + at, dv * tall * 3.2, 12)) + ease(
                0.82, 0.9, np.maximum(np.abs(du), np.abs(dv))
            )
            light = np.where(
                board[..., None], np.array(color, np.float32) * (0.12 + np.clip(strokes, 0, 1))[..., None], light
            )
            spill = np.exp(-np.maximum(np.abs(du) - 1, 0) * length * 1.6 - np.maximum(np.abs(dv) - 1, 0) * tall * 1.2)
            light = light + (0.06 * spill)[..., None] * np.array(color, np.float32)
    return light, present


def street(x: Array, y: Array, eye: float) -> Array:
    """Draws the light above the ground, seen from height `eye`; a negative height gives the mirror image."""
    up = np.maximum(y, -0.2)
    glow = np.exp(-np.hypot(x * 1.1, up * 0.9) * 3.6)
    view = ramp({0: (0.16, 0.11, 0.14), 0.35: (0.045, 0.05, 0.095), 0.8: (0.014, 0.02, 0.05)}, up)
    view = view + glow[..., None] * np.array((0.62, 0.36, 0.22), np.float32)
    mist = np.array((0.42, 0.29, 0.27), np.float32)
    for offset, further, taller in ((HALF_STREET * 2.2, 40.0, 3.0), (HALF_STREET, 0.0, 0.0)):
        away = offset / np.maximum(np.abs(x), 1e-3)
        high = y * away + eye
        for side in (-1, 1):
            seen = (np.sign(x) == side) & (away < 60)
            light, wall = facade(side, away[seen] + further, high[seen] - taller)
            hazy = mix(light, mist * (0.4 + 0.9 * glow[seen, None]), 1 - np.exp(-away[seen] * 0.034))
            view[seen] = np.where(wall[:, None], hazy, view[seen])
    return view


def walker(x: Array, y: Array) -> tuple[Array, Array]:
    """Draws a person under a red umbrella, feet at 0, about 1.95 tall: light, coverage."""
    light, cover = np.zeros((*x.shape, 3), np.float32), np.zeros_like(x)

    def put(mask: Array, color: Array | tuple[float, float, float]) -> None:
        nonlocal light, cover
        light, cover = mix(light, color, mask), np.maximum(cover, mask)

    legs = ease(0.008, -0.008, np.abs(np.abs(x + 0.01) - 0.055 - 0.02 * ease(0.5, 0, y)) - 0.038) * (y > 0) * (y < 0.62)
    put(legs, (0.012, 0.012, 0.018))
    wide = 0.150 + 0.10 * ease(1.1, 0.45, y) - 0.065 * ease(1.24, 1.40, y)
    coat = ease(0.010, -0.010, np.abs(x) - wide) * ease(0.44, 0.46, y) * ease(1.405, 1.39, y)
    rim = ease(0.55, 1.0, np.abs(x) / wide)
    put(coat, mix((0.026, 0.024, 0.034), (0.22, 0.13, 0.12), rim * 0.8))
    put(ease(0.105, 0.095, np.hypot(x, (y - 1.52) * 0.85)), (0.030, 0.020, 0.018))
    put(((np.abs(x - 0.02) < 0.010) & (y > 1.1) & (y < 2.0)).astype(np.float32), (0.05, 0.05, 0.06))
    span, crown = x / 0.68, (y - 1.60) / 0.44
    scallop = 0.10 * np.abs(np.sin(span * np.pi * 2.5)) * (np.abs(span) < 1)
    canopy = ease(0.02, -0.02, span**2 + np.maximum(crown, 0) ** 2 - 1) * ease(-0.02, 0.02, crown - scallop)
    ribs = np.abs(np.sin(np.arcsin(np.clip(span / np.sqrt(np.clip(1 - crown**2, 0.02, 1)), -1, 1)) * 2.5))
    shade = (0.30 + 0.75 * np.clip(crown, 0, 1)) * (0.72 + 0.28 * ribs) * (1.0 - 0.25 * span)
    put(canopy, shade[..., None] * np.array((1.30, 0.055, 0.045), np.float32))
    put(((np.abs(x) < 0.008) & (y > 2.0) & (y < 2.10)).astype(np.float32), (0.05, 0.04, 0.04))
    return light, cover


def rain(size_px: int) -> Array:
    """Draws a rainy street with lit windows and signs, their reflections, and a person."""
    x, y = pixel_grid(size_px)
    y = y + 0.16
    rng = np.random.default_rng(8)
    focal = 0.62
    x, y = x * focal, y * focal
    ground = y < 0
    view = np.empty((*x.shape, 3), np.float32)
    view[~ground] = street(x[~ground], y[~ground], EYE)

    gx, deep = x[ground], np.maximum(-y[ground], 4e-3)
    away = EYE / deep
    across = gx * away
    near = np.minimum(1, 2 / away)
    puddle = ease(-0.12, 0.22, fractal(across * 1.1, away * 0.55, 31, 4))
    rough = 1 - 0.8 * puddle
    shiver = (0.003 + 0.012 * rough) * fractal(across * 14, away * 9, 37, 3) * near
    lifts = (-0.02, 0.0, 0.03, 0.07, 0.13, 0.21)
    mirror = sum(street(gx + shiver, np.maximum(deep + lift * rough + shiver, 0), -EYE) for lift in lifts) / len(lifts)
    grain = 0.55 + 0.45 * near * fractal(across * 26, away * 26, 39, 3)
    fresnel = (0.24 + 0.50 * puddle) * (0.45 + 0.55 * np.exp(-deep * 1.6)) * (0.75 + 0.35 * grain)
    wet = np.array((0.022, 0.023, 0.030), np.float32) * grain[:, None] + mirror * fresnel[:, None]
    curb = ease(0.10, 0.05, np.abs(np.abs(across) - 1.8))
    line = ease(0.05, 0.04, np.abs(across + 0.75)) * (away % 2.4 < 1.2)
    view[ground] = wet * (1 - 0.5 * curb)[:, None] + (0.10 * line * (0.5 + grain))[:, None]

    spots = rng.normal(0, 1, (46, 2)) * (0.10, 0.012) + (0.0, -0.13)
    tints = ramp(
        {0: (3.0, 2.3, 1.4), 0.5: (2.6, 0.25, 0.10), 0.8: (2.4, 1.0, 0.2), 1: (0.3, 2.2, 1.4)}, rng.uniform(0, 1, 46)
    )
    view += disks(size_px, spots, tints * 0.50, rng.uniform(0.008, 0.022, 46), soft=0.15)

    stand = 4.3
    side, high = (x + 0.035) * stand, y * stand + EYE
    stir = 0.05 * noise(side * 5, high * 9, 51)
    image, cover = walker(side + stir, -high + stir)
    view = mix(view, image * 0.6, 0.62 * cover)
    image, cover = walker(side, high)
    view = mix(view, image, cover)

    streaks = np.zeros_like(x)
    for seed, scale, strength in ((3, 60, 0.10), (4, 34, 0.14), (5, 18, 0.10)):
        slant = x / focal + 0.10 * y
        n = noise(
            slant * scale * 3.2, y * scale * 0.11 + 40 * random_at(np.floor(slant * scale * 3.2), 0 * x, seed), seed
        )
        streaks += strength * ease(0.50, 0.95, n)
    return view + streaks[..., None] * (0.05 + 0.45 * blur(view, size_px / 28))
