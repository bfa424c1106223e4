"""Measures the later latent frames of a real clip: how the previews of a space show them, and the map that ships."""

import argparse
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Decoder, to_bytes
from ..decoders.files.tensor_file import open_tensors, write_tensors
from ..decoders.latents.space import LatentSpace
from ..decoders.latents.space_table import SPACES
from ..decoders.later_frames import FORMAT, LaterMap, apply_map, as_first_frames, frame_statistics
from ..fitting.metrics import psnr_db

RIDGE = 0.3  # times the spread of a later channel, about 1: pulls the map to one gain for each channel
SETTLED = slice(2, None)  # latent frames from the third on
STRIP_FRAMES, STRIP_ENLARGED, STRIP_GAP_PX = (0, 1, 2, 8, 15), 5, 4

Change = Callable[[Tensor], Tensor]


class Figures(NamedTuple):
    """How a decoder shows the later frames of a clip; means over the third and later latent frames.

    Args:
        first_clipped, second_clipped, clipped: share of color values outside of 0..1, of the first, the second and the
            later frames.
        mean_error, spread_error: largest error of a color's mean and standard deviation, relative to the first frame's.
        like_first_db: PSNR against the first frame's picture, which says something about a still clip only.
    """

    first_clipped: float
    second_clipped: float
    clipped: float
    mean_error: float
    spread_error: float
    like_first_db: float


def fit_map(latents: Tensor) -> LaterMap:
    """Fits a map from later frames to the first one by ridge regression, on a still clip `[1, C, T, H, W]`."""
    first = latents[0, :, 0].flatten(1)
    later = latents[0, :, SETTLED].flatten(2).movedim(1, 0)
    x, y = later.movedim(1, -1).flatten(0, 1).double(), first.T.repeat(len(later), 1).double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gains = y.square().mean(0).sqrt() / x.square().mean(0).sqrt()
    ridge = RIDGE * torch.eye(len(gains), dtype=x.dtype)
    # The ridge pulls to the gains that give each channel the spread of the first frame, not to zero.
    matrix = torch.linalg.solve(x.T @ x / len(x) + ridge, x.T @ (y - x * gains) / len(x)) + torch.diag(gains)
    spread = float(frame_statistics(latents).spread[0, SETTLED].mean())
    return LaterMap(matrix.float(), (mean_y - mean_x @ matrix).float(), spread)


def figures(decoder: Decoder, latents: Tensor, change: Change) -> Figures:
    """Measures how `decoder` shows latents `[1, C, T, H, W]` after `change`."""
    with torch.inference_mode():
        rgb = decoder.net(change(latents)[0].transpose(0, 1))
    clipped = ((rgb < 0) | (rgb > 1)).float().mean((1, 2, 3))
    shown = rgb.clamp(0, 1)
    first, later = shown[:1], shown[SETTLED]

    def error(of_frames: Callable[[Tensor], Tensor]) -> float:
        return float((of_frames(later) / of_frames(first) - 1).abs().max())

    return Figures(
        first_clipped=float(clipped[0]),
        second_clipped=float(clipped[1]),
        clipped=float(clipped[SETTLED].mean()),
        mean_error=error(lambda frames: frames.mean((2, 3))),
        spread_error=error(lambda frames: frames.std((2, 3))),
        like_first_db=float(psnr_db(later, first.expand_as(later)).mean()),
    )


def changes(latents: Tensor, space: LatentSpace) -> Mapping[str, tuple[Tensor, Change]]:
    """The clip or its half, and what is done with it, by name."""
    unmeasured = replace(space, name="unmeasured")
    middle = latents.shape[-1] // 2
    halves = {"left": latents[..., :middle], "right": latents[..., middle:]}
    cases: dict[str, tuple[Tensor, Change]] = {
        "as published": (latents, lambda whole: whole),
        "corrected": (latents, lambda whole: as_first_frames(whole, space)),
        "matched to the first frame only": (latents, lambda whole: as_first_frames(whole, unmeasured)),
    }
    for name, other in (("left", "right"), ("right", "left")):
        fitted = fit_map(halves[other])
        cases[f"{name} half, map of the {other} one"] = (halves[name], lambda half, m=fitted: _with_map(half, m))
    return cases


def film_strip(decoder: Decoder, latents: Tensor, rows: Mapping[str, tuple[Tensor, Change]]) -> Image.Image:
    """Draws some frames of the whole clip side by side, a row for each change."""
    whole = [change for clip, change in rows.values() if clip is latents]
    shown = [t for t in STRIP_FRAMES if t < latents.shape[2]]
    width, height = latents.shape[4] * STRIP_ENLARGED, latents.shape[3] * STRIP_ENLARGED
    gap = STRIP_GAP_PX
    strip = Image.new("RGB", (len(shown) * (width + gap) - gap, len(whole) * (height + gap) - gap))
    for row, change in enumerate(whole):
        pixels = to_bytes(decoder.decode(change(latents)[0].transpose(0, 1)))
        for column, t in enumerate(shown):
            picture = Image.fromarray(pixels[t].numpy()).resize((width, height), Image.Resampling.BICUBIC)
            strip.paste(picture, (column * (width + gap), row * (height + gap)))
    return strip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m safelight.tools.later_frames", description=__doc__)
    parser.add_argument("clip", type=Path, help="safetensors file with `latents` [1, C, T, H, W] in model space")
    parser.add_argument("--space", default="wan21", help="their latent space (%(default)s)")
    parser.add_argument("--decoder", help="decoder that shows them (default: the one that `auto` takes)")
    parser.add_argument("--fit", type=Path, metavar="FILE", help="write the map that is fitted to this clip")
    parser.add_argument("--source", default="a clip", help="where the clip comes from, for the file")
    parser.add_argument("--strip", type=Path, metavar="FILE", help="write a film strip as PNG")
    options = parser.parse_args(argv)

    space = SPACES[options.space]
    latents = open_tensors(options.clip)[1]["latents"].float()
    if options.fit:
        _write(options.fit, fit_map(latents), options, space)
    decoder = Catalogue().candidates(space, options.decoder or "auto")[0].open()
    cases = changes(latents, space)
    print(f"{decoder.name}; clipped values of the first, second and later frames; errors of a color, the largest")
    for name, (clip, change) in cases.items():
        row = figures(decoder, clip, change)
        print(
            f"{name:34} clipped {row.first_clipped:4.0%} {row.second_clipped:4.0%} {row.clipped:4.0%}   "
            f"mean {row.mean_error:4.0%}   spread {row.spread_error:4.0%}   like the first {row.like_first_db:4.1f} dB"
        )
    if options.strip:
        film_strip(decoder, latents, cases).save(options.strip)
    return 0


def _with_map(latents: Tensor, fitted: LaterMap) -> Tensor:
    return torch.cat([latents[:, :, :1], apply_map(latents[:, :, 1:], fitted)], dim=2)


def _write(path: Path, fitted: LaterMap, options: argparse.Namespace, space: LatentSpace) -> None:
    tensors = {"matrix": fitted.matrix, "offset": fitted.offset, "spread": torch.tensor(fitted.spread)}
    metadata = {
        "format": FORMAT,
        "space": space.name,
        "source": f"python -m safelight.tools.later_frames {options.clip.name} --space {space.name} "
        f"--fit {path.name}, on {options.source}",
        "clip_sha256": hashlib.sha256(options.clip.read_bytes()).hexdigest(),
    }
    write_tensors(path, tensors, metadata)
    print(f"{path}: a map of {len(fitted.offset)} channels, later frames {fitted.spread:.2f} times as wide")


if __name__ == "__main__":
    raise SystemExit(main())
