"""The benchmarks run and print their tables; no test depends on a measured time."""

import json

import pytest
import torch
from safelight.benchmarks import encoders_and_decoders, timing
from safelight.benchmarks.__main__ import main
from safelight.benchmarks.latent_cases import CASES, Case
from safelight.benchmarks.preview_methods import METHODS, host_table
from safelight.decoders.files.shipped import open_shipped


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(timing, "TIMED_STEPS", 2)
    monkeypatch.setattr(timing, "PAUSE_S", 0.0)
    monkeypatch.setattr(timing, "ROUNDS", 1)


def test_every_method_is_timed_in_every_case(capsys):
    assert main(["--json", "--only", "callback"]) == 0
    rows = json.loads(capsys.readouterr().out)["callback"]
    assert [row["case"] for row in rows] == list(CASES)
    assert all(set(row) == {"case", *METHODS} and all(row[method] > 0 for method in METHODS) for row in rows)


def test_tables_are_printed_as_markdown(capsys):
    assert main(["--only", "callback"]) == 0
    printed = capsys.readouterr().out
    assert "| SDXL 128x128 " in printed
    assert "torch" in printed


def test_a_run_is_compared_with_one_without_previews():
    tiny = Case("sd1", (1, 4, 8, 8), "sd1-linear-comfyui")
    assert timing.whole_run(tiny, 1.0, busy=False, steps=2) > -1
    assert timing.whole_run(tiny, 0.01, busy=True, steps=2) > -1


def test_growth_is_measured_in_megabytes():
    assert 0 <= timing.grow("SD1 64x64", 25) < 500


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_table_of_a_case_belongs_to_its_space(case, tmp_path):
    assert open_shipped(case.table).card.space == case.space
    with host_table(case, tmp_path) as show, torch.inference_mode():
        show(1, 1, case.latents("cpu"))


def test_encoder_settings_are_timed_and_one_of_each_format_is_chosen(monkeypatch, capsys):
    monkeypatch.setattr(encoders_and_decoders, "SIDE_PX", 64)
    assert main(["--json", "--only", "encoding"]) == 0
    rows = json.loads(capsys.readouterr().out)["encoding"]
    chosen = [row["setting"].partition(",")[0] for row in rows if row["chosen"]]
    assert chosen == ["png", "webp", "jpg"]
    assert all(row["ms"] > 0 and row["kB"] > 0 for row in rows)
    assert all("other threads wait, ms" in row for row in rows)


def test_encoder_threads_are_timed(monkeypatch):
    monkeypatch.setattr(encoders_and_decoders, "SIDE_PX", 64)
    monkeypatch.setattr(encoders_and_decoders, "WRITTEN_FILES", 6)
    rows = encoders_and_decoders.writing()
    assert sum(row["chosen"] == "yes" for row in rows) == 1
    assert all(row["pictures per second"] > 0 for row in rows)


def test_a_decoder_is_run_in_several_ways(monkeypatch):
    monkeypatch.setattr(encoders_and_decoders, "LATENT_SIDE", 8)
    monkeypatch.setattr(encoders_and_decoders, "DECODERS", ("flux2-conv-small",))
    monkeypatch.setattr(torch, "compile", lambda net, **_: net)
    (row,) = encoders_and_decoders.running("cpu")
    assert row["CUDA graph, ms"] is None or torch.cuda.is_available()
    assert all(row[f"{way}, ms"] > 0 for way in ("float32", "channels last", "bfloat16", "compiled"))


def test_every_kind_of_decoder_is_timed(monkeypatch):
    monkeypatch.setattr(timing, "UNTRAINED_NETS", {"sd1": (("small approx", "approx", {"channels": 4}),)})
    rows = timing.decoding("cpu")
    assert {row["kind"] for row in rows} == {"", "polynomial", "mlp", "conv", "approx", "principal"}
    assert all(row["ms"] > 0 and row["MB per second"] > 0 for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_gpu_table_needs_a_gpu(capsys):
    with pytest.raises(SystemExit):
        main(["--only", "gpu"])
    assert "needs a CUDA device" in capsys.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu_safelight_never_waits_and_the_table_does(capsys):
    assert main(["--json", "--only", "gpu"]) == 0
    waits = {(row["case"], row["method"]): row["waits"] for row in json.loads(capsys.readouterr().out)["gpu"]}
    for case in CASES:
        assert waits[case, "table"] > 0
        assert [waits[case, method] for method in ("idle", "screen", "screen and files")] == [0, 0, 0]
