"""Measures how the cost of previews grows: one chart, and a table of exponents. Takes under four minutes.

The exit code is 1 if a cost grows faster than it may: per step with the number of steps not at all, else linearly.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .chart import chart
from .curve import Curve
from .lines import LINES, measure_line

SECONDS_PER_LINE = 12.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, writes the chart, prints the table, and returns the exit code."""
    names = [line.name for line in LINES]
    parser = argparse.ArgumentParser(
        prog="python -m safelight.benchmarks.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("growth.svg"), help="chart (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the costs and exponents as JSON")
    parser.add_argument("--only", choices=names, help="measure one line")
    arguments = parser.parse_args(argv)
    curves = []
    for line in LINES:
        if arguments.only in (None, line.name):
            print(f"{line.name} ...", file=sys.stderr, flush=True)
            least = measure_line(line, SECONDS_PER_LINE)
            curves += [Curve(line.name, part, line.limits[part], costs) for part, costs in least.items()]
    arguments.out.write_text(chart(curves), "utf-8")
    print(table(curves))
    steep = [curve for curve in curves if not curve.is_allowed]
    print(f"\nVerdict: {'no' if steep else 'yes'}. {len(curves) - len(steep)} of {len(curves)} costs grow as they may.")
    if arguments.json is not None:
        facts = [{**curve._asdict(), "limit": curve.limit.name, "exponent": curve.exponent} for curve in curves]
        arguments.json.write_text(json.dumps({"met": not steep, "curves": facts}, indent=1) + "\n", "utf-8")
    return 1 if steep else 0


def table(curves: Sequence[Curve]) -> str:
    """A Markdown table with a row for each curve."""
    rows = [
        "| what grows | cost | sizes | microseconds | exponent | growth | at most |",
        "|---|---|---|---|---|---|---|",
    ]
    for curve in curves:
        sizes, costs = list(curve.costs_us), list(curve.costs_us.values())
        rows.append(
            f"| {curve.line} | {curve.part} | {sizes[0]:,} to {sizes[-1]:,} | {costs[0]:,.0f} to {costs[-1]:,.0f} "
            f"| {curve.exponent:+.2f} | {curve.kind} | {curve.limit.name.lower()} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
