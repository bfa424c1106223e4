"""Untrusted paths and names: nothing is read or written outside the folders that were named."""

import json
import os
import uuid
from datetime import datetime, timezone
from pathlib import Path

import pytest
import torch
from PIL import Image
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import GoneError, ManifestError, SinkError, printable
from safelight.hosts.comfyui.filename_tokens import expand
from safelight.hosts.script import recording
from safelight.preview.file_names import name_problem
from safelight.preview.manifest import read_manifest
from safelight.preview.output_folder import existing_folder, prefix_folder
from safelight.preview.run import Run
from safelight.preview.run_library import RunLibrary
from safelight.preview.saved_run import SavedRun
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.step import Step

OUTSIDE = ["../x", "../../x", "a/../../x", "/etc/x", "/tmp/x", "..", ".", "", "   ", "a/../..", "./..", "//x"]
INVALID = ["a\0b", "a\nb", "a\x1b[2J", "\x7f", "\ud800", "x" * 10_000, "a/" * 600, "con/x", "a/NUL/x", "aux.txt/x"]
INVALID += [
    "a:b",
    "what?",
    "'a\"b'",
    "a|b/c",
    "<a",
    "a>",
    "*",
    "a./b",
    "a /b",
    "a.",
    "a ",
    "..a",
    ".a/b",
    "a/.b",
    "",
    ".",
    "a/..",
]
INVALID += ["COM1/x", "lpt9 .y/x", "x/" + "é" * 200, "Conin$/x"]
VALID = [
    "safelight/steps",
    "a",
    "a/b/c",
    "ünï/日本",
    "a b/c.d",
    "a..b",
    "console/x",
    "nullify",
    "a.con/b",
    "com/x",
]


@pytest.mark.parametrize("prefix", OUTSIDE + INVALID)
def test_a_prefix_that_leads_out_or_is_no_path_is_refused_before_anything_is_written(tmp_path, prefix):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (tmp_path / "x").write_text("a file")
    with pytest.raises(SinkError, match="filename_prefix") as caught:
        prefix_folder(outputs, prefix)
    assert len(str(caught.value)) < 600
    assert list(outputs.iterdir()) == []


@pytest.mark.parametrize("prefix", VALID)
def test_a_prefix_inside_the_output_folder_is_accepted(tmp_path, prefix):
    assert prefix_folder(tmp_path, prefix).is_relative_to(tmp_path)
    assert name_problem(prefix) is None


def test_a_prefix_through_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "outputs" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="expected a path inside the output folder"):
        prefix_folder(tmp_path / "outputs", "link/steps")


@pytest.mark.parametrize("value", ["../../x", "/etc/x", "..", "....", "a/b\\c", "\0", "\n", "con"])
def test_values_of_a_prompt_add_no_folders_to_a_path(value):
    graph = {"1": {"class_type": "N", "inputs": {"v": value}}}
    path = expand("safelight/%N.v%/steps", graph, None, datetime.now(timezone.utc))
    assert path.count("/") == 2
    assert not {".", ".."} & set(path.split("/"))
    assert not set(path) & set("\0\n\\")


@pytest.mark.parametrize(
    "typed", [*OUTSIDE, "a\0b", "x" * 10_000, "\ud800", "loop", "out", "file", "nowhere", "a/../.."]
)
def test_runs_are_loaded_only_from_the_output_folder(tmp_path, typed):
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / "x").mkdir()
    (output / "loop").symlink_to(output / "loop")
    (output / "out").symlink_to(tmp_path / "x")
    (output / "file").write_text("no folder")
    if typed in (".", "", "   "):  # the output folder itself, which has no run
        with pytest.raises((GoneError, ManifestError)):
            SavedRun.open(existing_folder(output, typed))
        return
    with pytest.raises(GoneError) as caught:
        existing_folder(output, typed)
    assert len(str(caught.value)) < 600


# Names in a manifest


def manifest(**facts):
    return {
        "format": "safelight.run/1",
        "id": str(uuid.uuid4()),
        "state": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "host": {},
        "space": "sd1",
        "decoder": None,
        "sampler": {"steps": 1},
        "picture": None,
        "steps": [],
        "notes": [],
    } | facts


def write(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def step(*files, **fields):
    return {"index": 1, "sigma": 1.0, "at": 0.1, "files": list(files), "latent": None, "decode_ms": 1.0} | fields


BAD_NAMES = ["../secret.png", "/etc/passwd", "a/b.png", "a\\b.png", "..", ".", "", ".hidden.png", "a\0.png", "a\n.png"]
BAD_NAMES += ["con.png", "NUL.png", "a:b.png", "\ud800.png", "x" * 10_000 + ".png", "C:secret.png", "a.png:b.png"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("key", ["files", "latent", "sheet", "animation", "page"])
def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path, name, key):
    (tmp_path / "secret.png").write_bytes(b"a secret file")
    content = {"files": manifest(steps=[step(name)]), "latent": manifest(steps=[step(latent=name)])}
    folder = write(tmp_path / "run", content.get(key) or manifest(**{key: name}))
    with pytest.raises(ManifestError, match="is not the name of a file in the folder") as caught:
        SavedRun.open(folder)
    assert len(str(caught.value)) < len(str(folder)) + 300
    good = write(tmp_path / "good", manifest())
    library = RunLibrary(tmp_path)
    [entry] = library.runs().values()
    assert entry.folder == good
    assert library.open(entry.id, name) is None


@pytest.mark.parametrize(
    "case", ["a link out", "a link within", "a pipe", "a folder", "a bomb", "no picture", "another kind"]
)
def test_a_listed_file_that_is_no_picture_is_refused(tmp_path, case):
    (tmp_path / "secret.png").write_bytes(b"a secret file")
    folder = write(tmp_path / "run", manifest(steps=[step("a.png", latent="a.safetensors")]))
    path = folder / "a.png"
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    {
        "a link out": lambda: path.symlink_to(tmp_path / "secret.png"),
        "a link within": lambda: path.symlink_to(folder / "b.png"),
        "a pipe": lambda: os.mkfifo(path),
        "a folder": path.mkdir,
        "a bomb": lambda: Image.new("1", (20_000, 20_000)).save(path),
        "no picture": lambda: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
        "another kind": lambda: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    }[case]()
    with pytest.raises(ManifestError):
        SavedRun.open(folder).pictures(9)


def test_pictures_that_are_too_large_for_memory_together_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("safelight.preview.saved_run.MAX_TOTAL_PIXELS", 200)
    folder = write(tmp_path / "run", manifest(steps=[step(f"{i}.png", index=i) for i in range(1, 9)]))
    for i in range(1, 9):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    assert len(SavedRun.open(folder).pictures(3)) == 3
    with pytest.raises(ManifestError, match="its pictures have more than 200 pixels together; ask for fewer"):
        SavedRun.open(folder).pictures(4)


def test_a_picture_that_many_steps_name_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr("safelight.preview.saved_run.MAX_TOTAL_PIXELS", 200)
    folder = write(tmp_path / "run", manifest(steps=[step("a.png", index=i) for i in range(1, 9)]))
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    pictures = SavedRun.open(folder).pictures(8)
    assert [picture.index for picture in pictures] == list(range(1, 9))
    assert len({id(picture.image) for picture in pictures}) == 1


@pytest.mark.parametrize("case", ["a pipe", "a link", "a device", "a folder"])
def test_a_manifest_that_is_no_regular_file_is_not_waited_for(tmp_path, case):
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "run.json"
    {
        "a pipe": lambda: os.mkfifo(path),
        "a link": lambda: path.symlink_to(write(tmp_path / "other", manifest()) / "run.json"),
        "a device": lambda: path.symlink_to("/dev/zero"),
        "a folder": path.mkdir,
    }[case]()
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(folder)


ODD_MANIFESTS = {
    "a number of 400 digits": manifest(steps=[step(sigma=10**400)]),
    "an index of 400 digits": manifest(steps=[step(index=10**400)]),
    "half a character": manifest(id="no id", started="\ud800"),
    "nested": json.dumps(manifest()).encode()[:-1] + b', "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "not utf-8": b'{"format": "\xff"}',
    "infinite": json.dumps(manifest(seconds=float("inf"))).encode(),
    "a list": b"[]",
    "a format of a megabyte": json.dumps({"format": "x" * 1_000_000}).encode(),
    "long": manifest(id="x" * 100_000, notes=["x" * 100_000] * 20),
}


@pytest.mark.parametrize("case", ODD_MANIFESTS)
def test_one_odd_run_does_not_hide_the_others(tmp_path, case, caplog):
    good = write(tmp_path / "good", manifest())
    write(tmp_path / "odd", ODD_MANIFESTS[case])
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")  # noqa: PTH102 - the name is no text
    with open(os.fsencode(tmp_path) + b"/\xff/run.json", "wb") as file:  # noqa: PTH123
        file.write(json.dumps(manifest(id="no id")).encode())
    runs = RunLibrary(tmp_path).runs()
    assert read_manifest(good)["id"] in runs
    for entry in runs.values():
        json.dumps([entry.summary(), entry.manifest], allow_nan=False)
        assert str(uuid.UUID(entry.id)) == entry.id
    assert all(len(record.getMessage()) < 600 for record in caplog.records)


def test_only_a_limited_number_of_folders_is_searched(tmp_path, monkeypatch):
    monkeypatch.setattr("safelight.preview.run_library.MAX_FOLDERS_SEARCHED", 5)
    for i in range(9):
        write(tmp_path / f"{i}", manifest())
    assert len(RunLibrary(tmp_path).runs()) == 4


# What we write


@pytest.mark.parametrize("text", ["\ud800", "\udcff/x", "\u2028", "</script>", "\x00", "🦊"])
def test_a_manifest_can_be_read_whatever_text_a_host_gives(tmp_path, text):
    run = Run(
        host={"name": text, "workflow_id": text},
        sampler={"name": text, "cfg": float("nan"), "sigmas": [float("inf"), 1.0]},
    )
    folder = RunFolder(tmp_path / "run", run)
    folder.open()
    run.note(f"a note {text}")
    folder.close("finished")
    written = json.loads((tmp_path / "run" / "run.json").read_bytes(), parse_constant=lambda name: pytest.fail(name))
    assert written["host"]["workflow_id"] == text
    assert written["notes"] == [
        "sampler.cfg is incomplete: NaN or infinity cannot be written as JSON",
        "sampler.sigmas is incomplete: NaN or infinity cannot be written as JSON",
        f"a note {printable(text)}",
    ]
    assert (written["sampler"]["cfg"], written["sampler"]["sigmas"]) == (None, [None, 1.0])
    assert SavedRun.open(tmp_path / "run").summary()
    assert len(RunLibrary(tmp_path).runs()) == 1


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000, "file/x"])
def test_a_folder_that_cannot_be_created_is_refused_before_anything_is_sampled(tmp_path, name):
    (tmp_path / "file").write_text("a file")
    with (
        pytest.raises(SinkError, match="expected a folder for the run"),
        recording(tmp_path / name, SPACES["sd1"]),
    ):
        pass
    assert (tmp_path / "file").read_text() == "a file"


def test_a_run_never_overwrites_another(tmp_path):
    with recording(tmp_path / "run", SPACES["sd1"]) as (pipeline, _):
        pipeline.offer(Step(index=1, total=1, denoised=torch.zeros(1, 4, 4, 4)))
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(SinkError, match="expected an empty folder"), recording(tmp_path / "run", SPACES["sd1"]):
        pass
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert Path(tmp_path / "run" / "step_0001.png").is_file()
