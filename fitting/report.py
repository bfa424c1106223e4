"""Reports decoder scores as a table, an image sheet and a chart."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import final

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..decoders.decoder import Decoder, to_bytes
from ..errors import FitError, printable
from .metrics import resize_rgb
from .pairs import Pairs
from .presets import measure_net
from .train import batch_slices

TIMING_ROUNDS = 5  # the fastest round counts: other work on the machine slows the others down

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box = tuple[float, float, float, float]

PAPER, INK, FAINT, GRID = "#ffffff", "#1c1c1c", "#767676", "#dddddd"
LEAST_MS = 0.001  # where the time axis of a chart begins at the most
COLORS = ("#0b62a4", "#c4500a", "#2d7f3b", "#8a3f9e", "#a3781b", "#b5264c", "#3b7f86", "#5b5b5b")


@dataclass(frozen=True, kw_only=True)
class ScoredDecoder:
    """The scores of one decoder.

    Args:
        name: name of the decoder.
        kind: kind of the decoder, a name in `KINDS`.
        parameters: number of parameters.
        weight_bytes: size of the parameters.
        scores: `psnr_latent_db`, `psnr_full_db` and `ssim_full` from `presets.measure_net`.
        decode_ms: time per image; it compares only with decoders of the same `score_decoders` call.
    """

    name: str
    kind: str
    parameters: int
    weight_bytes: int
    scores: Mapping[str, float]
    decode_ms: float

    @property
    def mean_db(self) -> float:
        """The score that `auto` goes by: the mean of the PSNR at latent size and at full size."""
        return (self.scores["psnr_latent_db"] + self.scores["psnr_full_db"]) / 2


def score_decoders(
    decoders: Sequence[Decoder],
    pairs: Pairs,
    clock: Callable[[], float] = time.perf_counter,
    *,
    on_part: Callable[[], object] = lambda: None,
    on_scored: Callable[[ScoredDecoder], object] = lambda _: None,
) -> list[ScoredDecoder]:
    """Scores and times decoders on the same pairs; the decoders take turns in every timing round.

    Args:
        decoders: decoders to score.
        pairs: pairs of their latent space.
        clock: function that returns seconds.
        on_part: callback for each of the `scoring_parts`.
        on_scored: callback for each decoder, as soon as it is scored.

    Raises:
        FitError: the images are smaller than the SSIM window.
        LatentsError: the pairs are of another latent space.
    """
    batch = pairs.latents[:8].float()
    seconds = [math.inf] * len(decoders)
    for _, (i, decoder) in product(range(TIMING_ROUNDS), enumerate(decoders)):
        started = clock()
        decoder.decode(batch)
        seconds[i] = min(seconds[i], clock() - started)
        on_part()
    rows: list[ScoredDecoder] = []
    for decoder, taken in zip(decoders, seconds, strict=True):
        row = ScoredDecoder(
            name=decoder.name,
            kind=decoder.card.kind,
            parameters=sum(tensor.numel() for tensor in decoder.net.state_dict().values()),
            weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in decoder.net.state_dict().values()),
            scores=measure_net(decoder.net, pairs, on_part),
            decode_ms=round(1000 * taken / len(batch), 4),
        )
        rows.append(row)
        on_scored(row)
    return rows


def scoring_parts(decoders: Sequence[Decoder], pairs: Pairs) -> int:
    """Number of parts of the work of `score_decoders`."""
    return len(decoders) * (TIMING_ROUNDS + len(batch_slices(pairs)))


@final
class ScoreTable:
    """A Markdown table that also reads well as plain text, and whose lines can be printed one after the other.

    `mean` is the score that `auto` goes by, `gain` its difference from the first row.

    Args:
        names: names of the decoders of all rows, which set the width of the first column.
    """

    HEAD = (
        *("decoder", "parameters", "     bytes", "latent size, dB", "full size, dB"),
        *("mean, dB", "gain, dB", " SSIM", "ms per image"),
    )  # as wide as the cells below

    def __init__(self, names: Iterable[str]) -> None:
        longest = max((len(_cell(name)) for name in names), default=0)
        self._widths = [max(longest, len(self.HEAD[0])), *map(len, self.HEAD[1:])]
        self._first: ScoredDecoder | None = None

    def head(self) -> str:
        """The two lines above the rows."""
        first, *others = self._widths
        return f"{self._line(self.HEAD)}\n{self._line(['-' * first, *('-' * (width - 1) + ':' for width in others)])}"

    def line(self, row: ScoredDecoder) -> str:
        """The line of a row. The first row is the one that others are compared with."""
        gain = "" if self._first is None else f"{row.mean_db - self._first.mean_db:+.2f}"
        self._first = self._first or row
        return self._line(
            [
                _cell(row.name),
                f"{row.parameters:,}",
                f"{row.weight_bytes:,}",
                f"{row.scores['psnr_latent_db']:.2f}",
                f"{row.scores['psnr_full_db']:.2f}",
                f"{row.mean_db:.2f}",
                gain,
                f"{row.scores['ssim_full']:.3f}",
                f"{row.decode_ms:.2f}",
            ]
        )

    def _line(self, cells: Iterable[str]) -> str:
        first, *others = zip(cells, self._widths, strict=True)
        padded = (first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others))
        return f"| {' | '.join(padded)} |"


def score_table(rows: Sequence[ScoredDecoder]) -> str:
    """Formats scores as a `ScoreTable`.

    Raises:
        FitError: there is no decoder.
    """
    _require_rows(rows)
    table = ScoreTable(row.name for row in rows)
    return "\n".join([table.head(), *map(table.line, rows)])


def _cell(name: str) -> str:
    return printable(name).replace("|", "\\|")


def image_sheet(truth: Tensor, decoded: Mapping[str, Tensor], cell_px: int = 192) -> Image.Image:
    """Draws a sheet with a row per image: the original image, then each decoder's image.

    Args:
        truth: original images `[N, 3, H, W]` in 0..1.
        decoded: decoded images `[N, 3, h, w]` in 0..1 of any size, by decoder name.
        cell_px: longer side of an image on the sheet.

    Raises:
        FitError: a decoder has another number of images.
    """
    columns = {"truth": truth} | {name: resize_rgb(rgb, *truth.shape[2:]) for name, rgb in decoded.items()}
    if wrong := [name for name, rgb in columns.items() if rgb.shape != truth.shape]:
        raise FitError(f"expected {len(truth)} images from each decoder, got another number from {', '.join(wrong)}")
    shrink = cell_px / max(truth.shape[2:])
    height, width = (max(1, round(side * shrink)) for side in truth.shape[2:])
    font, gap = _font(13), 6
    head = round(2 * gap + _text_size(font, "Ag")[1])
    image = Image.new("RGB", (len(columns) * (width + gap) + gap, head + len(truth) * (height + gap)), PAPER)
    draw = ImageDraw.Draw(image)
    for column, (name, rgb) in enumerate(columns.items()):
        left = gap + column * (width + gap)
        draw.text((left + width / 2, head / 2), _shorten(name, font, width), INK, font, anchor="mm")
        for row, pixels in enumerate(to_bytes(rgb.cpu())):
            cell = Image.fromarray(pixels.numpy()).resize((width, height), Image.Resampling.LANCZOS)
            image.paste(cell, (left, head + row * (height + gap)))
    return image


def score_chart(rows: Sequence[ScoredDecoder], width: int = 960, height: int = 600) -> Image.Image:
    """Draws PSNR in dB over the time for an image, on a logarithmic axis.

    A dot is the PSNR at latent size, the ring on the same line the PSNR at full size.

    Raises:
        FitError: there is no decoder, or none has finite scores.
    """
    _require_rows(rows)
    shown = [row for row in rows if all(map(math.isfinite, (_latent(row), _full(row))))]
    if not shown:
        raise FitError("expected finite scores, got none; the table shows the values")
    font, title_font = _font(14), _font(16)
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = 64, 48, width - 24, height - 64

    powers = [math.log10(max(LEAST_MS, row.decode_ms)) for row in shown]
    first, last = math.floor(min(powers)), math.ceil(max(powers) + 0.1)
    values = [value for row in shown for value in (_latent(row), _full(row))]
    step = _grid_step(max(values) - min(values))
    low, high = math.floor(min(values) / step - 0.25) * step, math.ceil(max(values) / step + 0.25) * step

    def place(power: float, value: float) -> tuple[float, float]:
        return left + (power - first) / (last - first) * (right - left), bottom - (value - low) / (high - low) * (
            bottom - top
        )

    draw.text((left, 14), "PSNR in dB: dots at latent size, rings at full size", INK, title_font)
    for value in (low + i * step for i in range(round((high - low) / step) + 1)):
        y = place(first, value)[1]
        draw.line((left, y, right, y), GRID)
        draw.text((left - 8, y), f"{value:g}", FAINT, font, anchor="rm")
    for power in range(first, last + 1):
        x = place(power, low)[0]
        draw.line((x, top, x, bottom), GRID)
        draw.text((x, bottom + 8), f"{10.0**power:g}", FAINT, font, anchor="mt")
    draw.text(((left + right) / 2, height - 14), "ms per image", INK, font, anchor="mb")

    dots = [(place(power, _latent(row)), place(power, _full(row))) for row, power in zip(shown, powers, strict=True)]
    taken: list[Box] = []
    for i, (full_dot, ring) in enumerate(dots):
        color = COLORS[i % len(COLORS)]
        draw.line((*full_dot, *ring), color)
        draw.ellipse(_around(full_dot, 5), color)
        draw.ellipse(_around(ring, 5), PAPER, color, 2)
        stem = (full_dot[0] - 1, min(full_dot[1], ring[1]), full_dot[0] + 1, max(full_dot[1], ring[1]))
        taken += [_around(full_dot, 7), _around(ring, 7), stem]
    for i, (row, (dot, _)) in enumerate(zip(shown, dots, strict=True)):
        name = _shorten(row.name, font, (right - left) // 3)
        box = _label_box(dot, _text_size(font, name), taken, (left, top, right, bottom))
        taken.append(box)
        color = COLORS[i % len(COLORS)]
        near = (min(max(dot[0], box[0]), box[2]), min(max(dot[1], box[1]), box[3]))
        if math.dist(dot, near) > 14:
            draw.line((*dot, *near), color)
        draw.text((box[0], (box[1] + box[3]) / 2), name, color, font, anchor="lm")
    return image


def _require_rows(rows: Sequence[ScoredDecoder]) -> None:
    if not rows:
        raise FitError("expected at least one decoder to report on, got none")


def _latent(row: ScoredDecoder) -> float:
    return row.scores["psnr_latent_db"]


def _full(row: ScoredDecoder) -> float:
    return row.scores["psnr_full_db"]


def _font(size_px: int) -> Font:
    return ImageFont.load_default(size_px)


def _text_size(font: Font, text: str) -> tuple[float, float]:
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Ag")
    return right - left, bottom - top


def _shorten(text: str, font: Font, width: float) -> str:
    """Shortens text to `width` in the middle: names differ at their ends."""
    if _text_size(font, text)[0] <= width:
        return text
    for length in range(len(text) - 1, 1, -1):
        short = f"{text[: length // 2]}...{text[-(length - length // 2) :]}"
        if _text_size(font, short)[0] <= width:
            return short
    return text[:1]


def _grid_step(span: float) -> float:
    """Chooses the distance of the grid lines in dB: 1, 2 or 5 times a power of ten, for about six lines.

    The distance is at least 1 dB: smaller differences are not visible, so the chart does not enlarge them.
    """
    rough = max(span / 6, 1.0)
    power = 10 ** math.floor(math.log10(rough))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= rough)


def _around(center: tuple[float, float], radius: float) -> Box:
    return center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _label_box(dot: tuple[float, float], size: tuple[float, float], taken: Sequence[Box], frame: Box) -> Box:
    """Finds a box near `dot` for a label that covers nothing else, at growing distances."""
    (x, y), (width, height) = dot, size
    places = [
        box
        for away in range(10, 400, 10)
        for left, top in (
            (x + away, y - height / 2),
            (x - away - width, y - height / 2),
            (x - width / 2, y - away - height),
            (x - width / 2, y + away),
            (x + away, y - away - height),
            (x - away - width, y - away - height),
            (x + away, y + away),
            (x - away - width, y + away),
        )
        if (box := (left, top, left + width, top + height))
        and frame[0] <= box[0]
        and box[2] <= frame[2]
        and frame[1] <= box[1]
        and box[3] <= frame[3]
    ]
    spaced = [(a[0] - 2, a[1] - 2, a[2] + 2, a[3] + 2) for a in taken]
    return min(places, key=lambda box: sum(_overlap(box, other) for other in spaced))
