"""Draws a still life by ray tracing."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...fitting.procedural_images import Array, pixel_grid
from .textures import Color, dot, ease, fractal, mix, nearest_point, noise, normalize, ramp

LAMP = np.array((-4.6, 4.4, -2.6), np.float32)
LAMP_RADIUS = 1.1
LAMP_LIGHT = np.array((1.75, 1.45, 1.08), np.float32)
ROOM_LIGHT = np.array((0.085, 0.085, 0.095), np.float32)


@dataclass(frozen=True)
class Ball:
    """A sphere.

    Args:
        center: position; the table is at height 0.
        radius: radius.
        albedo: function from points `[N, 3]`, relative to the center in radii, to diffuse colors.
        mirror: reflectance at normal incidence; metals have colored reflectance.
        bumps: strength of the bumps in the normals.
        glass: whether light passes through.
        cut: direction of the cut face of a half sphere; None for a whole sphere.
    """

    center: tuple[float, float, float]
    radius: float
    albedo: Callable[[Array], Array]
    mirror: Color = (0.04, 0.04, 0.04)
    bumps: float = 0.0
    glass: bool = False
    cut: tuple[float, float, float] | None = None


def plain(*color: float) -> Callable[[Array], Array]:
    return lambda p: np.broadcast_to(np.array(color, np.float32), p.shape)


def peel(p: Array) -> Array:
    tone = fractal(p[:, 0] * 2.2 + 5, p[:, 1] * 2.2 + p[:, 2], 5, 3)
    stalk = ease(0.985, 0.999, dot(p, normalize((-0.25, 0.9, -0.35))))
    skin = mix((0.74, 0.135, 0.006), (0.80, 0.20, 0.010), 0.5 + tone)
    return mix(skin, (0.10, 0.12, 0.02), stalk)


def flesh(p: Array) -> Array:
    """Colors the cut face of an orange, in coordinates of the face."""
    radius, angle = np.hypot(p[:, 0], p[:, 1]), np.arctan2(p[:, 1], p[:, 0]) * 10 / (2 * np.pi)
    wall = np.abs(angle % 1 - 0.5) * radius
    pulp = fractal(radius * 5, angle * 6.0, 9, 3)
    juicy = mix((0.70, 0.125, 0.004), (0.86, 0.30, 0.02), 0.5 + 0.8 * pulp)
    pith = ease(0.015, 0.03, 0.5 * radius - wall) * ease(0.08, 0.11, radius) * ease(0.885, 0.86, radius)
    rind = mix((0.80, 0.62, 0.34), (0.78, 0.19, 0.010), ease(0.93, 0.95, radius))
    return mix(rind, juicy, pith)


def glaze(p: Array) -> Array:
    band = np.abs(p[:, 1] - 0.18)
    around = np.arctan2(p[:, 0], p[:, 2])
    petals = ease(0.02, -0.02, band - 0.10 - 0.10 * np.abs(np.sin(around * 5)))
    lines = ease(0.02, 0.01, np.abs(band - 0.30)) + ease(0.02, 0.01, np.abs(p[:, 1] + 0.42))
    cloud = 0.12 * fractal(p[:, 0] * 6, p[:, 1] * 6 + p[:, 2] * 3, 2, 3)
    return mix((0.012, 0.045, 0.17), (0.62, 0.60, 0.52), np.clip(petals + lines, 0, 1) * (0.85 + cloud))


BALLS = (
    Ball((-0.62, 0.50, 0.10), 0.50, peel, bumps=0.04),
    Ball((0.10, 0.46, 0.72), 0.46, peel, bumps=0.04),
    Ball((-0.12, 0.40, -0.62), 0.40, peel, bumps=0.04, cut=(0.30, 0.28, -0.92)),
    Ball((0.82, 0.58, 0.25), 0.58, glaze),
    Ball((-1.32, 0.27, -0.42), 0.27, plain(0, 0, 0), mirror=(0.95, 0.66, 0.30)),
    Ball((0.66, 0.25, -0.80), 0.25, plain(0, 0, 0), glass=True),
)


def surroundings(d: Array) -> Array:
    """Colors rays that hit nothing: a dim room with a barred window on the left."""
    u, v = dot(d, normalize((0.5, 0.0, -0.87))), d[:, 1]
    toward = dot(d, normalize(LAMP))
    pane = ease(0.44, 0.40, np.abs(u + 0.10)) * ease(0.36, 0.32, np.abs(v - 0.52)) * (d[:, 0] < 0)
    bars = ease(0.012, 0.03, np.abs(u + 0.10)) * ease(0.012, 0.03, np.abs(v - 0.52))
    room = ramp({-0.3: (0.02, 0.014, 0.01), 0.2: (0.05, 0.045, 0.04), 1.0: (0.10, 0.10, 0.11)}, v)
    return room * (1 + 0.8 * toward)[:, None] + (pane * bars)[:, None] * np.array((6.5, 6.8, 7.2), np.float32)


def wall(p: Array) -> Array:
    """Colors old plaster behind the table, lit from the left."""
    x, y = p[:, 0], p[:, 1]
    stain = fractal(x * 0.7, y * 0.7, 61, 6)
    light = np.exp(-(((x + 1.7) / 2.6) ** 2) - ((y - 1.7) / 1.9) ** 2)
    return mix((0.16, 0.155, 0.13), (0.22, 0.20, 0.155), 0.5 + stain) * (0.14 + 1.5 * light)[:, None]


def wood(p: Array) -> Array:
    x, z = p[:, 0], p[:, 2]
    plank = np.floor(z / 0.62 + 0.35)
    seam = np.abs((z / 0.62 + 0.35) % 1 - 0.5)
    along = x * 0.55 + 7.3 * plank
    warp = fractal(along, z * 2.6, 21, 4)
    rings = 0.5 + 0.5 * np.sin(28 * (z * 0.9 + 0.35 * warp) + 5 * warp)
    fibre = fractal(along * 5, z * 95, 33, 3)
    tone = 0.45 * rings + 0.4 * (0.5 + fibre) + 0.2 * np.sin(2.4 * plank)
    color = ramp({0: (0.085, 0.036, 0.016), 0.5: (0.20, 0.092, 0.042), 1.1: (0.34, 0.175, 0.085)}, tone)
    return color * (0.25 + 0.75 * ease(0.5, 0.475, seam))[:, None]


def intersect(ball: Ball, o: Array, d: Array) -> Array:
    """Computes the distance along each ray to the ball; infinite if the ray misses."""
    oc = o - np.array(ball.center, np.float32)
    b, c = dot(oc, d), dot(oc, oc) - ball.radius**2
    root = b * b - c
    reach = np.sqrt(np.maximum(root, 0))
    t = -b - reach
    if ball.cut is not None:
        facing = normalize(ball.cut)
        t = np.where(dot(oc + t[:, None] * d, facing) > 0, np.inf, t)
        flat = -dot(oc, facing) / np.where(np.abs(dot(d, facing)) < 1e-6, 1e-6, dot(d, facing))
        on_face = oc + flat[:, None] * d
        t = np.where((flat > 1e-3) & (dot(on_face, on_face) < ball.radius**2), np.minimum(t, flat), t)
    return np.where((root > 0) & (t > 1e-3), t, np.inf).astype(np.float32)


def light_shares(ball: Ball, p: Array, n: Array) -> tuple[Array, Array]:
    """Computes the shares of lamp light (soft shadow) and room light (occlusion) that this ball leaves at points `p`.

    After Quilez: https://iquilezles.org/articles/spherefunctions/
    """
    oc = np.array(ball.center, np.float32) - p
    away = np.sqrt(dot(oc, oc)) + 1e-6
    to_lamp = LAMP - p
    far = np.sqrt(dot(to_lamp, to_lamp))
    d = to_lamp / far[:, None]
    along = dot(oc, d)
    beside = np.sqrt(np.maximum(dot(oc, oc) - along**2, 0))
    spread = np.maximum(LAMP_RADIUS * along / far, 1e-3)
    lamp = np.where(along > 0, ease(-1, 1, (beside - ball.radius) / spread), 1)
    sine = np.clip(ball.radius / away, 0, 1)
    room = 1 - np.clip(dot(n, oc / away[:, None]) * 0.5 + 0.5, 0, 1) * sine**2
    if ball.glass:
        focus = np.where(along > 0, np.exp(-((beside / (0.42 * ball.radius)) ** 2)), 0)
        lamp = 0.35 + 0.65 * lamp + 2.6 * focus * (away > 0.9 * ball.radius)
    return lamp.astype(np.float32), room.astype(np.float32)


def daylight(p: Array, n: Array, own: int, *, wrap: float = 0.0) -> Array:
    """Computes the light `[N, 3]` at surface points."""
    to_lamp = normalize(LAMP - p)
    lamp = np.clip((dot(n, to_lamp) + wrap) / (1 + wrap), 0, 1)
    room = 0.7 + 0.3 * n[:, 1]
    for number, ball in enumerate(BALLS):
        if number != own:
            less_lamp, less_room = light_shares(ball, p, n)
            lamp, room = lamp * less_lamp, room * less_room
    if own >= 0:
        room = room * (0.45 + 0.55 * ease(-0.3, 0.9, n[:, 1] + 2 * p[:, 1]))
    bounce = np.clip(-n[:, 1], 0, 1)[:, None] * np.array((0.10, 0.05, 0.025), np.float32)
    return lamp[:, None] * LAMP_LIGHT + (room[:, None] * ROOM_LIGHT * 2.2 + bounce)


def trace(o: Array, d: Array, depth: int) -> Array:
    """Traces rays and returns their radiance `[N, 3]`."""
    result = surroundings(d)
    if not depth or not len(o):
        return result
    floor = np.where(d[:, 1] < -1e-4, -o[:, 1] / np.minimum(d[:, 1], -1e-4), np.inf)
    back = np.where(d[:, 2] > 1e-4, (3.4 - o[:, 2]) / np.maximum(d[:, 2], 1e-4), np.inf)
    all_t = np.stack([*(intersect(ball, o, d) for ball in BALLS), floor, back])
    nearest = np.argmin(all_t, 0)
    t = np.take_along_axis(all_t, nearest[None], 0)[0]
    hits = np.where(np.isfinite(t), nearest, -1)
    for number in range(len(BALLS) + 2):
        rays = np.flatnonzero(hits == number)
        if len(rays):
            surface = (_ball, _table, _wall)[max(0, number - len(BALLS) + 1)]
            result[rays] = surface(o[rays] + t[rays, None] * d[rays], d[rays], number, depth)
    return result


def _wall(p: Array, _d: Array, _number: int, _depth: int) -> Array:
    return wall(p)


def _table(p: Array, d: Array, _number: int, depth: int) -> Array:
    n = np.zeros_like(p)
    n[:, 1] = 1
    n[:, 2] = 0.015 * noise(p[:, 0] * 30, p[:, 2] * 120, 78)
    n[:, 0] = 0.02 * noise(p[:, 0] * 14, p[:, 2] * 90, 77)
    n = normalize(n)
    albedo = wood(p)
    sheen = 0.025 + 0.3 * (1 + np.minimum(dot(d, n), 0)) ** 5
    image = trace(p + 1e-3 * n, d - 2 * dot(d, n)[:, None] * n, depth - 1)
    return albedo * daylight(p, n, -1) + np.minimum(image, 2) * sheen[:, None]


def _ball(p: Array, d: Array, number: int, depth: int) -> Array:
    ball = BALLS[number]
    local = (p - np.array(ball.center, np.float32)) / ball.radius
    n, albedo = normalize(local), ball.albedo(local)
    if ball.cut is not None:
        facing = normalize(ball.cut)
        on_face = dot(local, facing) > -2e-3
        side = normalize(np.cross(facing, (0, 1, 0)))
        face = np.stack([dot(local, side), dot(local, np.cross(side, facing))], -1)
        n = np.where(on_face[:, None], facing + 0.06 * noise(face[:, 0] * 30, face[:, 1] * 30, 3)[:, None], n)
        albedo = np.where(on_face[:, None], flesh(face), albedo)
    if ball.bumps:
        ox, oy, deep, _ = nearest_point(local[:, 0] * 17 + local[:, 2] * 5, local[:, 1] * 17 - local[:, 2] * 9, 13)
        pit = np.exp(-(ox * ox + oy * oy) * 9) * (0.4 + deep)
        n = n + ball.bumps * (pit * 6)[:, None] * np.stack([ox, oy, 0 * ox], -1)
        n = n + 0.5 * ball.bumps * fractal(local[:, 0] * 3, local[:, 1] * 3 + local[:, 2] * 2, 6, 2)[:, None]
    n = normalize(n)
    n = np.where(dot(n, d)[:, None] > 0, n - dot(n, d)[:, None] * d, n)
    cosine = np.clip(-dot(n, d), 0, 1)
    mirror = mix(ball.mirror, (1.0, 1.0, 1.0), (1 - cosine) ** 5)
    image = trace(p + 2e-3 * n, d - 2 * dot(d, n)[:, None] * n, depth - 1)
    if ball.glass:
        return mirror * image + (1 - mirror) * _through(ball, p, d, n, depth)
    return albedo * daylight(p, n, number, wrap=0.18 if ball.bumps else 0) + mirror * image


def _through(ball: Ball, p: Array, d: Array, n: Array, depth: int) -> Array:
    inside = _bend(d, n, 1 / 1.5)
    out = p - 2 * ball.radius * dot(inside, n)[:, None] * inside
    back = normalize(np.array(ball.center, np.float32) - out)
    return 0.96 * trace(out - 3e-3 * back, _bend(inside, back, 1.5), depth - 1)


def _bend(d: Array, n: Array, ratio: float) -> Array:
    cosine = -dot(d, n)
    k = np.sqrt(np.maximum(1 - ratio**2 * (1 - cosine**2), 0))
    return normalize(ratio * d + (ratio * cosine - k)[:, None] * n)


def oranges(size_px: int) -> Array:
    """Draws oranges, a glazed jar, brass and glass on old wood by a window."""
    x, y = pixel_grid(size_px)
    eye, target = np.array((0.05, 1.55, -4.6), np.float32), np.array((-0.14, 0.52, 0), np.float32)
    ahead = normalize(target - eye)
    right = normalize(np.cross((0, 1, 0), ahead))
    d = normalize(ahead + 0.335 * (x[..., None] * right + y[..., None] * np.cross(ahead, right))).reshape(-1, 3)
    # In bands: the rays of a whole image take gigabytes.
    bands = [trace(np.broadcast_to(eye, band.shape), band, 4) for band in np.array_split(d.astype(np.float32), 8)]
    return np.concatenate(bands).reshape(size_px, size_px, 3)
