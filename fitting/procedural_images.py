"""Generates training images for fits without photographs: overlapping opaque shapes ("dead leaves").

Opaque shapes at all depths, with sizes that fall with the inverse cube, have the edges and the spectrum of photographs
at every scale: Lee, Mumford and Huang 2001, https://doi.org/10.1023/A:1011109015675. Texture, shade, haze, defocus,
grain and above all the colors of photographs are added, because a decoder has to separate them. All of it is computed
in log light, where it is sums, along the axes that photographs vary on (Ohta, Kanade and Sakai 1980,
https://doi.org/10.1016/0146-664X(80)90047-7). A logistic curve, similar to that of film, converts it to an image.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from ..errors import FitError

Array = np.ndarray

SIDES_PX = (16, 2048)

# Dark to bright, orange to blue, green to magenta: orthogonal rows of equal length.
AXES = np.array([[1, 1, 1], [-(1.5**0.5), 0, 1.5**0.5], [0.5**0.5, -(2**0.5), 0.5**0.5]], np.float32)
# Values along these axes, in log light. The first two are measured on photographs. The others are chosen so that colors
# vary within an image, at short and long distances, as they do in photographs.
MEAN_COLOR = (-0.28, -0.14, -0.03)
IMAGE_DEVIATION = (0.62, 0.26, 0.14)  # standard deviation of the mean colors of images
PALETTE_DEVIATION = (1.20, 0.32, 0.16)  # of the colors in an image
LEAF_DEVIATION = (0.40, 0.06, 0.04)  # of leaves of one palette color
SKY = (0.20, 0.08, 0.0)  # how much brighter and bluer the upper edge is than the middle
VERTICAL_DEVIATION = (0.50, 0.13, 0.06)
HORIZONTAL_DEVIATION = (0.35, 0.08, 0.04)
HAZE_DEVIATION = (0.35, 0.09, 0.045)

PALETTE_SIZES = (2, 8)
LAYERS = (1, 3)
LEAVES_PER_LAYER = (40, 900)  # in an image of 256 px; the same number per pixel in other sizes
SMALLEST_RADIUS_PX = (1.2, 9.0)
TEXTURE_SLOPES = (0.75, 1.0, 1.5)  # the amplitude of a texture falls with frequency to this power
DEFOCUS_PX = (0.0, 0.0, 0.0, 0.6, 2.0, 5.0)  # blur of a layer
GRAIN = (0.0, 0.005, 0.01, 0.02)  # share of the whole range
CLIPPED = 0.03  # share of the curve at either end that is plain black or white, as in photographs
CORNER_ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)


def generate_images(count: int, size_px: int, seed: int = 0, first: int = 0) -> Iterator[Array]:
    """Generates images `[size_px, size_px, 3]` uint8, sRGB, each when the iterator reaches it.

    An image depends only on the seed and its number; on one machine it is bit-identical.

    Args:
        count: number of images.
        size_px: side within `SIDES_PX`; larger images show more things, not finer ones.
        seed: random seed from 0 up.
        first: number of the first image.

    Raises:
        FitError: the size, count or seed is out of range.
    """
    low, high = SIDES_PX
    if not low <= size_px <= high or count < 1 or seed < 0:
        raise FitError(
            f"expected a size of {low} to {high} px, a count from 1 up and a seed from 0 up, "
            f"got {size_px}, {count} and {seed}"
        )
    return (_generate(np.random.default_rng((seed, number)), size_px) for number in range(first, first + count))


def _generate(rng: np.random.Generator, size: int) -> Array:
    noises = np.stack([_noise(rng, size, slope) for slope in TEXTURE_SLOPES])
    contrast, saturation = np.exp(rng.normal(0, 0.35)), rng.gamma(3, 1 / 3)
    strength = np.array((contrast, saturation, saturation))
    palette = _random_colors(rng, PALETTE_DEVIATION, _random_integer(rng, PALETTE_SIZES)) * strength
    view = np.zeros((size, size, 3), np.float32)
    for depth in range(_random_integer(rng, LAYERS)):
        layer = blur(_layer(rng, palette, noises, ground=depth == 0), rng.choice(DEFOCUS_PX))
        view = view * (1 - layer[..., 3:]) + layer[..., :3]

    x, y = pixel_grid(size)
    for field, deviation in (
        (y, VERTICAL_DEVIATION),
        (x, HORIZONTAL_DEVIATION),
        (noises[-1], HAZE_DEVIATION),
    ):
        view += field[..., None] * (_random_colors(rng, deviation) * strength).astype(np.float32)
    view += y[..., None] * np.array(SKY, np.float32)
    view += MEAN_COLOR + _random_colors(rng, IMAGE_DEVIATION) - view.mean((0, 1))  # exposure and white balance
    rgb = (1 + 2 * CLIPPED) / (1 + np.exp(-view @ AXES)) - CLIPPED
    rgb += rng.choice(GRAIN) * rng.standard_normal((size, size, 1), dtype=np.float32)
    return np.clip(255 * rgb + 0.5, 0, 255).astype(np.uint8)


def _layer(rng: np.random.Generator, palette: Array, noises: Array, *, ground: bool) -> Array:
    """Draws overlapping leaves: log light times coverage, then the coverage, `[H, W, 4]`.

    Args:
        rng: random generator.
        palette: colors `[N, 3]` to choose from.
        noises: noise `[M, H, W]` for the texture of the leaves.
        ground: whether pixels without a leaf have a color; otherwise they are transparent.
    """
    size = noises.shape[-1]
    count = max(1, round(np.exp(rng.uniform(*np.log(LEAVES_PER_LAYER))) * (size / 256) ** 2))
    drawn = Image.new("I", (2 * size, 2 * size))
    pen = ImageDraw.Draw(drawn)
    for number, outline in enumerate(_outlines(rng, count, size), start=1):
        pen.polygon((2 * outline).ravel().tolist(), fill=number)
    leaf = np.asarray(drawn)

    count += 1  # with the pixels without a leaf
    color = np.ones((count, 4), np.float32)
    color[:, :3] = palette[rng.integers(len(palette), size=count)] + _random_colors(rng, LEAF_DEVIATION, count)
    color[0, 3] = ground
    light = np.mean([color[leaf[i::2, j::2]] for i in (0, 1) for j in (0, 1)], axis=0)

    leaf = leaf[::2, ::2]
    offsets = rng.integers(0, (len(noises), size, size), (count, 3), dtype=np.int32)
    which, down, right = (part[leaf] for part in offsets.T)
    rough = rng.gamma(0.6, 0.5, count).astype(np.float32) * rng.choice(
        (-1, 1), count
    )  # a few leaves are rough, most are smooth
    tilt_x, tilt_y = rng.normal(0, 0.4, (2, count)).astype(np.float32)
    pixel = np.arange(size, dtype=np.int32)
    x, y = pixel_grid(size)
    light[..., 0] += rough[leaf] * noises[which, (pixel[:, None] + down) % size, (pixel + right) % size]
    light[..., 0] += tilt_x[leaf] * x + tilt_y[leaf] * y
    light[..., :3] *= light[..., 3:]
    return light


def _outlines(rng: np.random.Generator, count: int, size: int) -> Array:
    """Draws outlines `[count, N, 2]`, in pixels: ellipses, near-rectangles and pointed leaves, half of them dented."""
    smallest = min(np.exp(rng.uniform(*np.log(SMALLEST_RADIUS_PX))), size / 4)
    radius = smallest / np.sqrt(1 - rng.random(count) * (1 - (2 * smallest / size) ** 2))  # the inverse cube
    if rng.random() < 0.35:
        radius = np.sort(radius)[::-1]  # small leaves are in front
    spread = rng.uniform(-0.1, 1.1, (count, 2))
    heap = rng.random(2) + rng.normal(0, 1, (count, 2)) * rng.uniform(0.1, 0.5, 2)
    at = size * (spread if rng.random() < 0.6 else heap)
    turn = rng.uniform(0, 2 * np.pi) + rng.normal(0, rng.choice((0.03, 0.3, 3.0)), count)
    thin = np.exp(-np.abs(rng.normal(0, rng.choice((0.15, 0.5)), (count, 1))))
    power = rng.choice((1.0, 0.3, 1.5), (count, 1), p=(0.6, 0.25, 0.15))
    x, y = (np.sign(part) * np.abs(part) ** power for part in (np.cos(CORNER_ANGLES), np.sin(CORNER_ANGLES)))
    dents = sum(
        rng.normal(0, 0.25 / waves, (count, 1)) * np.cos(waves * CORNER_ANGLES + rng.uniform(0, 2 * np.pi, (count, 1)))
        for waves in (2, 3, 5)
    )
    corner = (x / thin + 1j * y * thin) * (1 + dents * rng.integers(0, 2, (count, 1)))
    corner *= (radius * np.exp(1j * turn))[:, None]
    return np.stack([corner.real, corner.imag], -1) + at[:, None]


def _noise(rng: np.random.Generator, size: int, slope: float) -> Array:
    """Draws tileable noise `[H, W]` with variance 1, whose amplitude falls with frequency to the power `slope`."""
    x, y = np.fft.rfftfreq(size, 1 / size), np.fft.fftfreq(size, 1 / size)[:, None]
    turn, stretch = rng.uniform(0, np.pi), rng.choice((1, 1, 1.8))
    along, over = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    frequency = np.hypot(along * stretch, over / stretch)
    frequency[0, 0] = np.inf
    waves = np.exp(2j * np.pi * rng.random(frequency.shape)) * np.maximum(frequency, 1) ** -slope
    noise = np.fft.irfft2(waves, (size, size))
    return (noise / noise.std()).astype(np.float32)


def _random_colors(rng: np.random.Generator, deviations: tuple[float, ...], count: int = 1) -> Array:
    """Draws colors `[count, 3]` along `AXES`, around 0."""
    return rng.normal(0, deviations, (count, 3))


def _random_integer(rng: np.random.Generator, between: tuple[int, int]) -> int:
    return int(rng.integers(*between, endpoint=True))


def pixel_grid(size_px: int) -> tuple[Array, Array]:
    """Coordinates `[H, W]` of pixel centers: x from -1 (left) to 1, y from -1 (bottom) to 1."""
    line = ((np.arange(size_px) + 0.5) / size_px * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(line, -line)
    return x, y


def blur(image: Array, sigma_px: float) -> Array:
    """Blurs `[H, W, 3]` with a Gaussian and reflected edges."""
    height, width = image.shape[:2]
    border = min(int(3 * sigma_px) + 1, height - 1, width - 1)
    padded = np.pad(image, ((border, border), (border, border), (0, 0)), "reflect")
    fy, fx = np.fft.fftfreq(padded.shape[0])[:, None, None], np.fft.rfftfreq(padded.shape[1])[None, :, None]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.exp(-2 * (np.pi * sigma_px) ** 2 * (fx * fx + fy * fy))
    blurred = np.fft.irfft2(spectrum, padded.shape[:2], axes=(0, 1))
    return blurred[border : border + height, border : border + width].astype(np.float32)
