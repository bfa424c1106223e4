"""Building blocks of the scenes: noise, smooth transitions, film.

Noise follows Perlin 1985 with the fade of Perlin 2002 (https://doi.org/10.1145/566654.566636). Its gradients are hashes
of the lattice points, so a scene is the same at every size except for detail.
"""

import numpy as np
from numpy.typing import NDArray

from ...fitting.procedural_images import Array, blur, pixel_grid

Color = tuple[float, float, float]


def ease(low: Array | float, high: Array | float, x: Array) -> Array:
    """Rises smoothly from 0 at `low` to 1 at `high`; `low` may be larger than `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: Array | Color, b: Array | Color, amount: Array | float) -> Array:
    """Blends color `a` into color `b`, each `[..., 3]`, by `amount` `[...]`."""
    a, b, amount = (np.asarray(value, np.float32) for value in (a, b, amount))
    return a + (b - a) * amount[..., None]


def ramp(stops: dict[float, Color], x: Array) -> Array:
    """Interpolates colors `[..., 3]` between the stops, which are in rising order."""
    at, colors = list(stops), np.array(list(stops.values()), np.float32)
    return np.stack([np.interp(x, at, colors[:, i]) for i in range(3)], -1).astype(np.float32)


def dot(a: Array | Color, b: Array | Color) -> Array:
    return np.sum(np.asarray(a, np.float32) * np.asarray(b, np.float32), -1)


def normalize(v: Array | Color) -> Array:
    v = np.asarray(v, np.float32)
    return v / np.sqrt(dot(v, v))[..., None]


def hash_lattice(ix: Array, iy: Array, seed: int) -> NDArray[np.uint32]:
    """Hashes each lattice point to 32 bits."""
    h = np.asarray(ix).astype(np.int64).astype(np.uint32) * np.uint32(0x9E3779B1)
    h ^= np.asarray(iy).astype(np.int64).astype(np.uint32) * np.uint32(0x85EBCA77)
    h ^= np.uint32(seed * 0xC2B2AE3D & 0xFFFFFFFF)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    return h ^ (h >> np.uint32(15))


def random_at(ix: Array, iy: Array, seed: int) -> Array:
    """Draws a random number in 0..1 for each lattice point."""
    return (hash_lattice(ix, iy, seed) >> np.uint32(8)).astype(np.float32) / (1 << 24)


def noise(x: Array, y: Array, seed: int) -> Array:
    """Computes gradient noise, about -1..1, one feature per unit."""
    fx, fy = np.floor(x), np.floor(y)
    tx, ty = (x - fx).astype(np.float32), (y - fy).astype(np.float32)
    u, v = (t * t * t * (t * (t * 6 - 15) + 10) for t in (tx, ty))
    corners = []
    for dy in (0, 1):
        for dx in (0, 1):
            h = hash_lattice(fx + dx, fy + dy, seed)
            gx = (h & np.uint32(0xFFFF)).astype(np.float32) / 32768 - 1
            gy = (h >> np.uint32(16)).astype(np.float32) / 32768 - 1
            corners.append(gx * (tx - dx) + gy * (ty - dy))
    a, b, c, d = corners
    low, high = a + (b - a) * u, c + (d - c) * u
    return 1.6 * (low + (high - low) * v)


def fractal(x: Array, y: Array, seed: int, octaves: int, *, gain: float = 0.5, ridged: bool = False) -> Array:
    """Adds octaves of rotated noise, -1..1; `ridged` gives crests in 0..1 instead."""
    total, weight, amplitude = np.zeros(np.broadcast(x, y).shape, np.float32), 0.0, 1.0
    for octave in range(octaves):
        n = noise(x, y, seed + octave)
        total += amplitude * ((1 - np.abs(n)) ** 2 if ridged else n)
        weight, amplitude = weight + amplitude, amplitude * gain
        x, y = 1.6 * x - 1.2 * y + 17.3, 1.2 * x + 1.6 * y - 9.1
    return total / weight


def nearest_point(x: Array, y: Array, seed: int, spread: float = 0.35) -> tuple[Array, Array, Array, Array]:
    """Finds the nearest of random points, one per unit cell: its offset in x and y, and its two random numbers 0..1."""
    fx, fy = np.floor(x), np.floor(y)
    best = np.full(np.broadcast(x, y).shape, np.inf, np.float32)
    found = [np.zeros_like(best) for _ in range(4)]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            own, other = random_at(fx + dx, fy + dy, seed), random_at(fx + dx, fy + dy, seed + 1)
            ox = x - (fx + dx + 0.5 + 2 * spread * (own - 0.5))
            oy = y - (fy + dy + 0.5 + 2 * spread * (other - 0.5))
            distance = ox * ox + oy * oy
            nearer = distance < best
            best = np.where(nearer, distance, best)
            found = [
                np.where(nearer, new, old)
                for new, old in zip((ox, oy, random_at(fx + dx, fy + dy, seed + 2), own), found, strict=True)
            ]
    return found[0], found[1], found[2], found[3]


def photograph(radiance: Array, rng: np.random.Generator, *, exposure: float = 1.0, bloom: float = 0.08) -> Array:
    """Converts linear light `[2H, 2W, 3]` to a photograph `[H, W, 3]`, sRGB 0..1: glow, vignette, film curve, grain.

    The curve is the ACES fit of Narkowicz:
    https://knarkowicz.wordpress.com/2016/01/06/aces-filmic-tone-mapping-curve/
    """
    size = len(radiance)
    light = radiance * exposure
    glow = np.minimum(light, 12)
    light = light + bloom * (blur(glow, size / 150) + blur(glow, size / 30) - 2 * light * (light < 12) * 0.5)
    x, y = pixel_grid(size)
    light = np.maximum(light, 0) * (1 - 0.16 * (x * x + y * y))[..., None]
    shown = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    shown = shown.reshape(size // 2, 2, size // 2, 2, 3).mean((1, 3))
    shown = np.clip(shown, 0, 1)
    encoded = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** (1 / 2.4) - 0.055)
    grain = rng.standard_normal((*encoded.shape[:2], 1)) + 0.4 * rng.standard_normal(encoded.shape)
    return np.clip(encoded + 0.004 * grain * (1 - 0.6 * encoded), 0, 1).astype(np.float32)
