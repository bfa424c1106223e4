"""Growth of costs: injected costs are classified, each line runs at small sizes, and the chart is a valid SVG."""

import json
import xml.etree.ElementTree as ET
from itertools import count

import pytest
from safelight.benchmarks.growth import __main__ as growth
from safelight.benchmarks.growth import lines
from safelight.benchmarks.growth.chart import chart
from safelight.benchmarks.growth.curve import Curve, Limit, growth_exponent
from safelight.benchmarks.growth.lines import LINES, Line, measure_line

SIZES = (10, 100, 1000, 10_000)
COSTS = {
    "flat": lambda size: 40.0,
    "linear": lambda size: 3.0 * size,
    "linear above a constant part": lambda size: 500.0 + 3.0 * size,
    "size times its logarithm": lambda size: size * (1 + len(str(size)) / 10),
    "quadratic": lambda size: 0.01 * size**2,
    "quadratic above a linear part": lambda size: 20.0 * size + 0.1 * size**2,
}


def curve(kind, limit=Limit.LINEAR):
    return Curve("runs", kind, limit, {size: COSTS[kind](size) for size in SIZES})


@pytest.mark.parametrize(
    ("kind", "growth_kind"),
    [
        ("flat", "flat"),
        ("linear", "linear"),
        ("linear above a constant part", "linear"),
        ("size times its logarithm", "linear"),
        ("quadratic", "worse than linear"),
        ("quadratic above a linear part", "worse than linear"),
    ],
)
def test_costs_are_classified_by_their_growth_at_large_sizes(kind, growth_kind):
    assert curve(kind).kind == growth_kind
    assert curve(kind).is_allowed is (growth_kind != "worse than linear")
    assert curve(kind, Limit.FLAT).is_allowed is (growth_kind == "flat")


def test_the_exponent_is_that_of_a_power():
    assert growth_exponent(SIZES, [size**1.5 for size in SIZES]) == pytest.approx(1.5)
    assert growth_exponent((1, 4), (2.0, 32.0)) == pytest.approx(2.0)
    assert growth_exponent((1, 4), (0.0, 0.0)) == 0


def test_sizes_alternate_and_the_least_cost_of_each_counts():
    asked, extra = [], iter([0.0, 5.0, 1.0, 0.0, 3.0])

    def begin(_folder):
        return lambda size: (asked.append(size), {"request": size + next(extra)})[1]

    ticks = count()
    line = Line("runs", (1, 2), {"request": Limit.LINEAR}, begin)
    assert measure_line(line, 1.5, lambda: next(ticks)) == {"request": {1: 1.0, 2: 3.0}}
    assert asked == [1, 1, 2, 1, 2]  # the first one sets up what is needed once


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_each_line_is_measured(line):
    least = measure_line(line._replace(sizes=line.sizes[:2]), 0.0)
    assert least.keys() == line.limits.keys()
    assert all(list(costs) == list(line.sizes[:2]) and min(costs.values()) >= 0 for costs in least.values())


def test_a_picture_that_never_comes_ends_the_measurement(monkeypatch):
    monkeypatch.setattr(lines, "STEP_TIMEOUT_S", 0.0)
    with pytest.raises(RuntimeError, match="expected a picture within 0 s"):
        lines._Arrival().wait()


def test_the_chart_has_a_line_and_a_legend_for_each_curve():
    curves = [curve(kind) for kind in COSTS]
    root = ET.fromstring(chart(curves))
    polylines = [node for node in root.iter() if node.tag.endswith("polyline")]
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert len(polylines) == len(curves)
    assert all(any(text.startswith(f"runs, {kind}: ") for text in texts) for kind in COSTS)
    numbers = [float(number) for line in polylines for pair in line.get("points").split() for number in pair.split(",")]
    assert all(0 <= number <= 1080 for number in numbers)


@pytest.mark.parametrize(("kind", "code"), [("linear", 0), ("quadratic", 1)])
def test_the_command_says_whether_a_cost_grows_too_fast(tmp_path, monkeypatch, capsys, kind, code):
    line = Line("stored runs", SIZES, {"request": Limit.LINEAR}, lambda _: lambda size: {"request": COSTS[kind](size)})
    monkeypatch.setattr(growth, "LINES", (line,))
    monkeypatch.setattr(growth, "SECONDS_PER_LINE", 0.0)
    arguments = ["--out", str(tmp_path / "growth.svg"), "--json", str(tmp_path / "growth.json")]
    assert growth.main(arguments) == code
    assert f"Verdict: {'no' if code else 'yes'}." in capsys.readouterr().out
    assert "<svg" in (tmp_path / "growth.svg").read_text("utf-8")
    assert json.loads((tmp_path / "growth.json").read_text("utf-8"))["met"] is (code == 0)
