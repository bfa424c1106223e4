"""Generated scenes for the demo; each is a pure function of its name and size."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import SafelightError
from ...fitting.procedural_images import Array
from .air import balloons
from .forest import autumn
from .night import lighthouse, rain
from .terrain import lake
from .textures import photograph
from .tracing import oranges


@dataclass(frozen=True)
class Scene:
    """A scene that can be drawn.

    Args:
        title: text under the image.
        light: function from any size N to linear light `[N, N, 3]`.
        exposure: factor on the light.
        bloom: strength of the glow around bright areas.
    """

    title: str
    light: Callable[[int], Array]
    exposure: float = 1.0
    bloom: float = 0.06


_SCENES = {
    "oranges": Scene("Oranges, glass and brass", oranges),
    "lake": Scene("Last sun on a mountain lake", lake, exposure=0.85, bloom=0.05),
    "lighthouse": Scene("Lighthouse and moon", lighthouse, exposure=0.62, bloom=0.05),
    "autumn": Scene("A path in autumn", autumn, exposure=0.72),
    "balloons": Scene("Balloons in the morning", balloons, exposure=0.58, bloom=0.04),
    "rain": Scene("Walking home in the rain", rain, exposure=0.7, bloom=0.09),
}
SCENES: tuple[str, ...] = tuple(_SCENES)


def draw_scene(name: str, size_px: int) -> Array:
    """Draws the scene `name` as `[H, W, 3]` float32, sRGB 0..1, at twice the size and averages it.

    Args:
        name: one of `SCENES`.
        size_px: width and height in pixels.

    Raises:
        SafelightError: no scene has this name.
    """
    scene = _scene(name)
    film = np.random.default_rng(zlib.crc32(name.encode()))
    return photograph(scene.light(2 * size_px), film, exposure=scene.exposure, bloom=scene.bloom)


def scene_title(name: str) -> str:
    """Returns the text under the scene `name`.

    Raises:
        SafelightError: no scene has this name.
    """
    return _scene(name).title


def _scene(name: str) -> Scene:
    if name not in _SCENES:
        raise SafelightError(f"unknown scene {name!r}; choose one of {', '.join(SCENES)}")
    return _SCENES[name]
