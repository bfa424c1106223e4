"""`safelight report`: what it prints, and what of hostile values it never prints."""

import json
import os

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safelight.cli import report
from safelight.cli.main import main
from safelight.cli.surroundings import Surroundings
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import write_decoder
from safelight.decoders.nets.polynomial import Polynomial
from safelight.preview.manifest import RUN_FORMAT

PROMPT = "a wistful cartographer sketching moonlit archipelagos"
SECRETS = (
    *("wistful", "cartographer", "moonlit", "archipelagos", "zelda", "quillfeather", "blackwood", "hunter2", "gryphon"),
    *("nightingale", "zq-workstation", "ghp_", "@channel", "```", "\x1b", "\u202e"),
)


def manifest(**changes):
    step = {"index": 1, "sigma": 0.5, "at": 0.1, "show": "denoised", "files": ["step_0001.png"], "decode_ms": 1.0}
    return {
        "format": RUN_FORMAT,
        "id": "00000000-0000-4000-8000-000000000001",
        "state": "finished",
        "started": "2026-11-30T12:00:00.000+00:00",
        "seconds": 2.0,
        "host": {"name": "comfyui", "version": "0.33.0"},
        "space": "flux2",
        "decoder": {"name": "flux2-conv-small", "kind": "conv", "scale": 2},
        "sampler": {"steps": 1},
        "picture": {"shown_width": 640, "shown_height": 384, "items": 2, "frames": 1},
        "steps": [step],
        "notes": ["step 1: the decoder ran out of memory; shown with flux2-affine"],
        **changes,
    }


def put_run(folder, texts=None, **changes):
    """Writes a run with one picture, which may have texts in it."""
    folder.mkdir(parents=True)
    info = PngInfo()
    for name, text in (texts or {}).items():
        info.add_text(name, text)
    Image.new("RGB", (8, 8)).save(folder / "step_0001.png", pnginfo=info)
    (folder / "run.json").write_text(json.dumps(manifest(**changes)), "utf-8")


@pytest.fixture
def around(monkeypatch, tmp_path):
    """A user whose name can be recognized, in a host with settings; returns the folder of runs."""
    home = tmp_path / "quillfeather" / "Client Blackwood"
    (home / "decoders").mkdir(parents=True)
    runs = home / "output"
    settings = {"Safelight.Learn": True, "Safelight.BudgetMB": 512, "Safelight.Decoder": "/home/zelda/gryphon.pth"}
    found = Surroundings("ComfyUI 0.33.0, frontend 1.49.6", settings, (runs,), home / "decoders")
    monkeypatch.setattr(report, "find_surroundings", lambda: found)
    monkeypatch.setattr(report.getpass, "getuser", lambda: "zelda")
    monkeypatch.setattr(report.platform, "node", lambda: "zq-workstation")
    monkeypatch.setenv("SAFELIGHT_TERMINAL", "kitty")
    monkeypatch.chdir(home)
    return runs


def printed(capsys, *arguments):
    assert main(["report", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_report_has_versions_host_settings_decoders_and_notes(around, capsys):
    put_run(around / "steps_00001")
    lines = printed(capsys).splitlines()
    assert lines[0].startswith("Safelight ")
    assert lines[1] == "host: ComfyUI 0.33.0, frontend 1.49.6"
    assert any(line.startswith(f"torch {torch.__version__}, numpy ") for line in lines)
    assert "setting Safelight.Learn: true" in lines
    assert "setting Safelight.BudgetMB: 512" in lines
    assert "variable SAFELIGHT_TERMINAL is set" in lines
    assert any(
        line.startswith("decoders: ") and line.endswith("shipped, 0 of them damaged or missing") for line in lines
    )
    facts = "comfyui 0.33.0; latents flux2; decoder flux2-conv-small (conv); 1 of 1 steps, 640x384; 2 items, 1 frames"
    assert lines[-2] == f"run finished: {facts}"
    assert lines[-1] == "  note: step 1: the decoder ran out of memory; shown with flux2-affine"


def test_without_runs_and_host_the_versions_are_printed(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = printed(capsys, tmp_path / "nothing").splitlines()
    assert "host: none around this copy" in lines
    assert not [line for line in lines if line.startswith("run ")]


def test_the_newest_runs_come_first_and_damaged_ones_are_left_out(around, capsys):
    for index, hour in enumerate((13, 11, 14, 12)):
        put_run(around / f"steps_{index:05}", started=f"2026-11-30T{hour}:00:00+00:00", notes=[f"the run {index}"])
    (around / "broken").mkdir()
    (around / "broken/run.json").write_text("{", "utf-8")
    notes = [line for line in printed(capsys, "--runs", 3).splitlines() if "note:" in line]
    assert notes == ["  note: the run 2", "  note: the run 0", "  note: the run 3"]


@pytest.mark.parametrize(
    "note",
    [
        f"the text encoder failed: ValueError: {PROMPT}",
        "cannot write /home/zelda/Client Blackwood/nightingale 7.png: disk full",
        r"cannot write C:\Users\zelda\Client Blackwood\nightingale.png",
        "OSError: [Errno 13] Permission denied: '/srv/nightingale'",
        "decoder gryphon-faces failed: RuntimeError",
        "login zelda:hunter2@example.org refused, token ghp_0123456789abcdefghijklmnop",
        "the machine zq-workstation is slow",
        "``` \n# heading @channel\n\x1b[31m\u202e",
        "cartographer",
    ],
)
def test_hostile_notes_print_no_prompt_path_name_or_markup(around, capsys, note):
    (around.parent / "decoders").mkdir(exist_ok=True)
    write_own_decoder(around.parent / "decoders")
    put_run(around / "steps_00001", notes=[note], sampler={"steps": 1, "prompt": PROMPT})
    output = printed(capsys)
    assert "note:" in output
    assert [secret for secret in SECRETS if secret in output.lower()] == []


def test_the_names_of_the_folders_of_runs_are_not_printed(around, capsys):
    put_run(
        around / "Nightingale shop" / "gryphon_7", notes=["not copied: sheet; gryphon_7 has them", "Nightingale shop"]
    )
    output = printed(capsys)
    assert output.count("note:") == 2
    assert [secret for secret in SECRETS if secret in output.lower()] == []


def test_the_end_of_a_long_prompt_is_not_printed(around, capsys):
    put_run(
        around / "steps_00001", notes=["moonlit archipelagos"], sampler={"steps": 1, "prompt": "sea " * 500 + PROMPT}
    )
    assert "note: (…)" in printed(capsys)


def test_a_prompt_that_only_the_picture_has_is_not_printed(around, capsys):
    graph = {
        "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": PROMPT}},
    }
    put_run(around / "steps_00001", {"prompt": json.dumps(graph)}, notes=["the sampler failed: moonlit archipelagos"])
    output = printed(capsys)
    assert "note: the sampler failed: (…)" in output
    assert [secret for secret in SECRETS if secret in output.lower()] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"host": {"name": "nightingale", "version": "quillfeather"}},
        {"host": {"name": "comfyui", "version": "/home/zelda"}},
        {"space": "hunter2", "decoder": {"name": "gryphon", "kind": "nightingale"}},
        {"decoder": {"name": "/home/zelda/gryphon.pth", "kind": "conv"}},
        {"picture": {"shown_width": "gryphon", "shown_height": None, "items": [], "frames": {}}},
        {"sampler": {"steps": "gryphon", "prompt": PROMPT}},
        {"state": "nightingale"},
        {"host": None, "decoder": None, "picture": None, "sampler": None, "notes": [{"gryphon": 1}, None, 7]},
    ],
)
def test_hostile_facts_are_not_printed(around, capsys, changes):
    put_run(around / "steps_00001", **changes)
    output = printed(capsys)
    assert "run " in output
    assert [secret for secret in SECRETS if secret in output.lower()] == []


def write_own_decoder(folder):
    card = Card(name="gryphon-faces", space="sd1", kind="polynomial", settings={"channels": 4}, source="a test")
    write_decoder(folder / "gryphon-faces.safetensors", card, Polynomial(4).state_dict())


def test_the_users_decoders_are_counted_and_not_named(around, capsys):
    write_own_decoder(around.parent / "decoders")
    (around.parent / "decoders/nightingale.safetensors").write_bytes(b"no decoder")
    output = printed(capsys)
    assert "  yours: 1 polynomial of sd1" in output
    assert "  yours: 1 that cannot be used; `safelight decoders` says why" in output
    assert [secret for secret in SECRETS if secret in output.lower()] == []


def test_a_report_writes_nothing(around, capsys):
    put_run(around / "steps_00001")
    before = {path: path.stat().st_mtime_ns for path in around.parent.rglob("*")}
    printed(capsys)
    assert {path: path.stat().st_mtime_ns for path in around.parent.rglob("*")} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_in_the_place_of_a_run_holds_up_nothing(around, capsys):
    (around / "steps_00001").mkdir(parents=True)
    os.mkfifo(around / "steps_00001/run.json")
    assert "run " not in printed(capsys)
