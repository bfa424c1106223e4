"""The benchmarks run, and print what they say they measure; how long things take is nobody's test."""

import json

import pytest
import torch
from safelight.benchmarks import measure
from safelight.benchmarks.__main__ import main
from safelight.benchmarks.cases import CASES, Case
from safelight.benchmarks.ways import WAYS, textbook
from safelight.decoders.shipped import open_shipped


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(measure, "STEPS", 2)
    monkeypatch.setattr(measure, "PAUSE_S", 0.0)
    monkeypatch.setattr(measure, "ROUNDS", 1)


def test_every_way_is_timed_in_every_case(capsys):
    assert main(["--json", "--only", "callback"]) == 0
    rows = json.loads(capsys.readouterr().out)["callback"]
    assert [row["case"] for row in rows] == list(CASES)
    assert all(set(row) == {"case", *WAYS} and all(row[way] > 0 for way in WAYS) for row in rows)


def test_tables_are_for_people_too(capsys):
    assert main(["--only", "callback"]) == 0
    printed = capsys.readouterr().out
    assert "| SDXL 128x128 " in printed
    assert "torch" in printed


def test_a_run_is_compared_with_one_that_shows_nothing():
    tiny = Case("sd1", (1, 4, 8, 8), "sd1-linear-comfyui")
    assert measure.whole_run(tiny, 1.0, busy=False, steps=2) > -1
    assert measure.whole_run(tiny, 0.01, busy=True, steps=2) > -1


def test_growth_is_measured_in_megabytes():
    assert 0 <= measure.grow("SD1 64x64", 25) < 500


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_textbook_s_table_is_one_of_the_space(case):
    assert open_shipped(case.textbook).card.space == case.space
    with textbook(case) as show, torch.inference_mode():
        show(1, 1, case.latents("cpu"))
