"""A chart of curves with logarithmic axes, as an SVG."""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from .curve import TOLERANCE, Curve

WIDTH, PLOT_PX, LEFT_PX, TOP_PX, LEGEND_PX, ROW_PX = 1080, 440, 60, 50, 540, 24
LINE_COLORS = ("#1b6ca8", "#c8442d", "#2e7d32", "#8e44ad", "#b8860b", "#00838f", "#ad1457", "#5d4037")
SLIGHTLY_BELOW = 0.5  # decades below the first cost that need no decade of their own
DASHES = ("none", "6 4", "2 3")
GUIDES = ((0.0, "flat"), (1.0, "linear"))


def chart(curves: Sequence[Curve]) -> str:
    """The SVG: size and cost, each relative to the smallest case. Guides show flat and linear growth."""
    shown = [_relative(curve) for curve in curves]
    decades_x = max(1, math.ceil(max(x for points in shown for x, _ in points) - 1e-9))
    decades_y = max(decades_x, math.ceil(max(y for points in shown for _, y in points) - 1e-9))
    lowest_y = min(0, math.floor(min(y for points in shown for _, y in points) + SLIGHTLY_BELOW))
    scale_x, scale_y = PLOT_PX / decades_x, PLOT_PX / (decades_y - lowest_y)

    def at(x: float, y: float) -> str:
        return f"{LEFT_PX + x * scale_x:.1f},{TOP_PX + PLOT_PX - (y - lowest_y) * scale_y:.1f}"

    height = max(TOP_PX + PLOT_PX + 60, TOP_PX + ROW_PX * (len(curves) + 1))
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
            'font-size="13">'
        ),
        "<title>How the cost of previews grows</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LEFT_PX}" y="24" font-size="16">Cost relative to the smallest case, by relative size</text>',
    ]
    for decade in range(decades_x + 1):
        parts.append(_line(at(decade, lowest_y), at(decade, decades_y), "#dddddd"))
        x, y = at(decade, lowest_y).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 18:.1f}" text-anchor="middle">{10**decade:,}</text>')
    for decade in range(lowest_y, decades_y + 1):
        parts.append(_line(at(0, decade), at(decades_x, decade), "#dddddd"))
        x, y = at(0, decade).split(",")
        parts.append(f'<text x="{float(x) - 8:.1f}" y="{float(y) + 4:.1f}" text-anchor="end">{10**decade:,g}</text>')
    for slope, _ in GUIDES:
        parts.append(_line(at(0, 0), at(decades_x, slope * decades_x), "#888888", width=3, dash="1 5"))
    legend_x = LEFT_PX + LEGEND_PX - 60
    for row, (curve, points) in enumerate(zip(curves, shown, strict=True)):
        lines = list(dict.fromkeys(each.line for each in curves))
        color = LINE_COLORS[lines.index(curve.line) % len(LINE_COLORS)]
        dash = DASHES[[each.part for each in curves if each.line == curve.line].index(curve.part) % len(DASHES)]
        path = " ".join(at(x, y) for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        y = TOP_PX + 10 + ROW_PX * row
        parts.append(_line(f"{legend_x},{y}", f"{legend_x + 24},{y}", color, width=2, dash=dash))
        text = escape(f"{curve.line}, {curve.part}: {curve.kind} ({curve.exponent:+.2f})")
        parts.append(f'<text x="{legend_x + 32}" y="{y + 4}">{text}</text>')
    note = escape(f"Dotted: flat and linear growth. In brackets: the exponent, with a tolerance of {TOLERANCE:g}.")
    parts += [f'<text x="{LEFT_PX}" y="{height - 14}">{note}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _relative(curve: Curve) -> list[tuple[float, float]]:
    """The points of a curve in decades above its first one."""
    (first_size, first_cost), *_ = curve.costs_us.items()
    return [
        (math.log10(size / first_size), math.log10(max(cost, 1e-9) / max(first_cost, 1e-9)))
        for size, cost in curve.costs_us.items()
    ]


def _line(begin: str, end: str, color: str, *, width: int = 1, dash: str = "none") -> str:
    (x1, y1), (x2, y2) = begin.split(","), end.split(",")
    look = f'stroke="{color}" stroke-width="{width}" stroke-dasharray="{dash}"'
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {look}/>'
