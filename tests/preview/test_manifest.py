"""One set of rules for `run.json`: all readers accept the same manifests, refuse the same, and see the same values."""

import dataclasses
import importlib
import json
import os
import sys
import threading
import uuid
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image
from safelight.decoders.files.contained_file import HAS_FOLDER_HANDLES
from safelight.errors import ManifestError
from safelight.hosts.invokeai.steps_sheet import contact_sheet
from safelight.preview.manifest import MAX_READ_NOTES, MAX_STEPS, compose, read_manifest, validate_manifest
from safelight.preview.run import Run
from safelight.preview.run_library import RunLibrary
from safelight.preview.saved_run import SavedRun

ID = str(uuid.UUID(int=5))


def step(index=1, *files, **facts):
    return {"index": index, "sigma": 1.0, "at": 0.5, "files": list(files), "latent": None, "decode_ms": 1.0} | facts


def manifest(**facts):
    return {
        "format": "safelight.run/1",
        "id": ID,
        "state": "finished",
        "started": "2026-01-01T00:00:00.000+00:00",
        "seconds": 1.0,
        "host": {"name": "comfyui"},
        "space": "sd1",
        "decoder": {"name": "affine"},
        "sampler": {"steps": 4},
        "picture": None,
        "steps": [step(1, "a.png")],
        "sheet": None,
        "notes": [],
    } | facts


REFUSED = {
    "no object": [],
    "a newer version": manifest(format="safelight.run/2"),
    "no version": {key: value for key, value in manifest().items() if key != "format"},
    "state is a list": manifest(state=[]),
    "no state": manifest(state=None),
    "no steps": manifest(steps=None),
    "a step is a number": manifest(steps=[1]),
    "an index is a text": manifest(steps=[step("1")]),
    "an index is a boolean": manifest(steps=[step(True)]),
    "an index is negative": manifest(steps=[step(-1)]),
    "an index is a fraction": manifest(steps=[step(1.5)]),
    "an index is infinite": manifest(steps=[step(float("inf"))]),
    "an index has 400 digits": manifest(steps=[step(10**400)]),
    "a step has no files": manifest(steps=[{"index": 1}]),
    "files are a text": manifest(steps=[step() | {"files": "a.png"}]),
    "a file is None": manifest(steps=[step(1, None)]),
    "a file is a number": manifest(steps=[step(1, 7)]),
    "a file is elsewhere": manifest(steps=[step(1, "../a.png")]),
    "a file is absolute": manifest(steps=[step(1, "/a.png")]),
    "a file is in a folder": manifest(steps=[step(1, "b/a.png")]),
    "a file is in a Windows folder": manifest(steps=[step(1, "b\\a.png")]),
    "a file is on a drive": manifest(steps=[step(1, "C:a.png")]),
    "a file is a stream": manifest(steps=[step(1, "a.png:b.png")]),
    "a file is hidden": manifest(steps=[step(1, ".a.png")]),
    "a file is a device": manifest(steps=[step(1, "con.png")]),
    "a file has a line break": manifest(steps=[step(1, "a\n.png")]),
    "a file has a NUL": manifest(steps=[step(1, "a\0.png")]),
    "a file has half a character": manifest(steps=[step(1, "\ud800.png")]),
    "a file has a long name": manifest(steps=[step(1, "x" * 10_000 + ".png")]),
    "a file has no name": manifest(steps=[step(1, "")]),
    "latents are elsewhere": manifest(steps=[step(1, "a.png", latent="../a.safetensors")]),
    "the sheet is elsewhere": manifest(sheet="../a.png"),
    "the animation is elsewhere": manifest(animation="/a.webp"),
    "the page is elsewhere": manifest(page="../index.html"),
    "the table is elsewhere": manifest(csv="../steps.csv"),
    "many levels": manifest(x=json.loads("[" * 20 + "]" * 20)),
}
# A wrong value that is only shown to people does not cost the run: its key, the value, and what readers see.
REPLACED = {
    "no id": ("id", None, ""),
    "the id is a number": ("id", 3, ""),
    "an unknown state": ("state", "<script>", "failed"),
    "no start": ("started", None, None),
    "the start is a number": ("started", 5, None),
    "the duration is a text": ("seconds", "long", None),
    "the duration is infinite": ("seconds", float("inf"), None),
    "the duration is a boolean": ("seconds", True, None),
    "no space": ("space", None, None),
    "the space is a number": ("space", 4, None),
    "the decoder is a list": ("decoder", [], None),
    "the picture is a list": ("picture", [], None),
    "the sheet is a number": ("sheet", 5, None),
    "the sheet is no picture": ("sheet", "run.json", None),
    "no page": ("page", 5, None),
    "a table": ("csv", "steps.csv", "steps.csv"),
    "the animation is no picture": ("animation", "index.html", None),
    "the cost is a text": ("cost", "nothing", None),
    "the cost has a text": (
        "cost",
        {"sampler_ms": "few", "end_ms": 2, "memory_mb": 3.5, "device": 4},
        {"sampler_ms": None, "end_ms": 2, "memory_mb": 3.5, "device": None},
    ),
    "notes are a text": ("notes", "no", []),
    "notes are an object": ("notes", {}, []),
    "a note is a number": ("notes", ["a", 1], ["a"]),
}
NO_SAMPLER = dict.fromkeys(("steps", "sigmas", "seed", "cfg", "name", "scheduler"))
REPLACED |= {
    "no sampler": ("sampler", None, NO_SAMPLER),
    "the sampler is a number": ("sampler", 3, NO_SAMPLER),
    "the number of steps is a text": ("sampler", {"steps": "many", "name": []}, NO_SAMPLER | {"name": []}),
    "the number of steps is a boolean": ("sampler", {"steps": True}, NO_SAMPLER),
    "cfg is no number": ("sampler", {"steps": 4, "cfg": float("nan")}, NO_SAMPLER | {"steps": 4}),
    "the seed has 400 digits": ("sampler", {"steps": 4, "seed": 10**400}, NO_SAMPLER | {"steps": 4}),
    "an unknown key": ("later", {"a": [1]}, {"a": [1]}),
    "no steps yet": ("steps", [], []),
    "steps out of order": ("steps", [step(2, "a.png"), step(1)], [step(1), step(2, "a.png")]),
    "the change is a text": ("steps", [step(1, "a.png", change="all")], [step(1, "a.png", change=None)]),
    "a change": ("steps", [step(1, "a.png", change=0.25)], [step(1, "a.png", change=0.25)]),
    "a step without a picture": ("steps", [step(1)], [step(1)]),
    "sigma is a text": ("steps", [step(1, "a.png", sigma="<b>")], [step(1, "a.png", sigma=None)]),
    "sigma has 400 digits": ("steps", [step(1, "a.png", sigma=10**400)], [step(1, "a.png", sigma=None)]),
    "the time is a list": ("steps", [step(1, "a.png", at=[])], [step(1, "a.png", at=None)]),
    "latents are a number": ("steps", [step(1, "a.png", latent=7)], [step(1, "a.png")]),
    "a file is no picture": ("steps", [step(1, "run.json", "a.png", "x.html")], [step(1, "a.png")]),
    "a file has a space": ("steps", [step(1, "a b.png")], [step(1, "a b.png")]),
    "an ending in capitals": ("steps", [step(1, "A.PNG")], [step(1, "A.PNG")]),
}


@pytest.fixture
def write(tmp_path):
    """Writes the manifest of a run, with the pictures `a.png`, `a b.png` and `A.PNG` beside it."""

    def write(content):
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(content))
        for name in ("a.png", "a b.png", "A.PNG"):
            Image.new("RGB", (8, 8)).save(folder / name, format="PNG")
        return folder

    return write


@pytest.fixture
def comfyui(monkeypatch, tmp_path):
    """The module of Load Run, imported without ComfyUI."""
    stubs = {
        "comfy": {"latent_formats": None},
        "comfy.latent_formats": {},
        "folder_paths": {"get_output_directory": lambda: str(tmp_path)},
        "safelight.hosts.comfyui.decoder_folders": {"catalogue": None},
        "safelight.hosts.comfyui.latent_dict": {"unpacked": None},
    }
    for name, attributes in stubs.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "safelight.hosts.comfyui.load_run", raising=False)
    yield importlib.import_module("safelight.hosts.comfyui.load_run")
    del sys.modules["safelight.hosts.comfyui.load_run"]


@pytest.fixture
def invokeai(tmp_path):
    """InvokeAI's invocation context, whose outputs folder is the one of the test."""
    return SimpleNamespace(config=SimpleNamespace(get=lambda: SimpleNamespace(outputs_path=str(tmp_path))))


@pytest.mark.parametrize("problem", REFUSED)
def test_all_readers_refuse_the_same_manifests(write, tmp_path, comfyui, invokeai, caplog, problem):
    folder = write(REFUSED[problem])
    for read in (
        lambda: read_manifest(folder),
        lambda: SavedRun.open(folder),
        lambda: comfyui.load(comfyui.selected_folder("run", ""), 0, 9),
        lambda: contact_sheet(invokeai, None, "run", 9),
    ):
        with pytest.raises(ManifestError) as caught:
            read()
        assert str(folder / "run.json") in str(caught.value)
        assert len(str(caught.value)) < len(str(folder)) + 300
    assert RunLibrary(tmp_path).runs() == {}
    assert [str(folder) in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("problem", REPLACED)
def test_all_readers_accept_the_same_manifests_and_see_the_same_values(write, tmp_path, comfyui, invokeai, problem):
    key, value, expected = REPLACED[problem]
    folder = write(manifest(**{key: value}))
    validated = read_manifest(folder)
    assert validated[key] == expected
    json.dumps(validated, allow_nan=False)
    assert SavedRun.open(folder).manifest == validated
    [entry] = RunLibrary(tmp_path).runs().values()
    assert entry.manifest == validated | {"id": entry.id}
    json.dumps([entry.summary(), entry.manifest], allow_nan=False)
    pictured = any(step["files"] for step in validated["steps"])
    loaded = comfyui.load(comfyui.selected_folder("run", ""), 0, 9)
    assert len(loaded.pictures) == sum(1 for step in validated["steps"] if step["files"])
    assert loaded.summary == SavedRun.open(folder).summary()
    assert loaded.latent is None
    if pictured:
        assert contact_sheet(invokeai, None, "run", 9).size


def test_all_readers_find_runs_equally_deep(tmp_path, comfyui):
    folders = [tmp_path.joinpath(*"abcdef"[:depth]) / "run" for depth in range(6)]
    folders += [tmp_path / ".hidden" / "run", tmp_path.joinpath(*"abcdef", "run"), tmp_path / "run" / "inside"]
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(manifest(id=str(uuid.UUID(int=i)))))
    found = {folder.relative_to(tmp_path).as_posix() for folder in folders[:6]}
    comfyui.LISTING._wait_s = 60.0
    assert set(comfyui.list_runs()) == found
    runs = RunLibrary(tmp_path).runs().values()
    assert {entry.folder.relative_to(tmp_path).as_posix() for entry in runs} == found


@pytest.mark.parametrize("state", ["running", "finished", "interrupted", "failed"])
def test_a_manifest_of_ours_is_returned_as_it_is(state):
    run = Run(space="sd1", sampler={"steps": 2, "sigmas": [1.0, float("inf")]}, host={"name": "x", "other": 1})
    files = {"files": ["step_0001.png"], "latent": "step_0001.safetensors", "folders": ["step_0001"]}
    composed = compose(run, state, 1.5, [step(1) | files, step(2)], {"sheet": "sheet.png", "page": "index.html"})
    assert validate_manifest(json.loads(json.dumps(composed))) == composed
    assert validate_manifest(validate_manifest(composed)) == composed


def test_the_caller_s_manifest_is_not_changed():
    given = manifest(sampler={"steps": "many"}, steps=[step(2, "x.html"), step(1)])
    before = json.dumps(given)
    validate_manifest(given)
    assert json.dumps(given) == before


def test_a_slow_search_for_runs_holds_up_the_server_once_and_for_a_limited_time(comfyui, monkeypatch):
    searching, go_on, searches, now_s = threading.Event(), threading.Event(), [], [100.0]
    joined = []

    def search():
        searches.append(1)
        searching.set()
        assert go_on.wait(60)
        now_s[0] += 3.0
        return [f"run_{len(searches):05d}"]

    listing = comfyui.BackgroundListing(search, [], wait_s=0.01, clock=lambda: now_s[0])
    join = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", lambda thread, wait_s: (joined.append(wait_s), join(thread, wait_s)))
    assert listing.get() == []
    assert searching.wait(60)
    for _ in range(5):
        assert listing.get() == []
    assert len(searches) == 1, "a search that is running is not started again"
    assert joined == [0.01], "a search that is known to take long is not waited for"
    go_on.set()
    listing._thread.join(60)
    now_s[0] = 129.9
    assert [listing.get(), listing.get()] == [["run_00001"]] * 2
    assert len(searches) == 1, "a search of 3 s is repeated after 30 s at the earliest"
    now_s[0] = 130.0
    listing.get()
    listing._thread.join(60)
    assert listing.get() == ["run_00002"]


def test_a_quick_search_for_runs_is_repeated_for_each_caller_and_waited_for(comfyui):
    counts = iter(range(9))
    listing = comfyui.BackgroundListing(lambda: [f"run_{next(counts)}"], [], wait_s=60.0, clock=lambda: 0.0)
    assert [listing.get() for _ in range(3)] == [["run_0"], ["run_1"], ["run_2"]]


def test_the_list_of_runs_is_bounded_and_has_the_newest(comfyui, tmp_path, monkeypatch):
    monkeypatch.setattr("safelight.preview.run_library.MAX_FOLDERS_SEARCHED", 301)
    monkeypatch.setattr(comfyui.LISTING, "_wait_s", 60.0)
    for i in range(400):
        folder = tmp_path / f"run_{i:05d}"
        folder.mkdir()
        (folder / "run.json").write_text("{}")
        os.utime(folder / "run.json", (i, i))
        os.utime(folder, (i, i))
    listed = comfyui.list_runs()
    assert listed == [f"run_{i:05d}" for i in range(399, 199, -1)]


def test_a_manifest_with_too_many_steps_is_refused(write):
    folder = write(manifest(steps=[step(i) for i in range(MAX_STEPS + 1)]))
    with pytest.raises(ManifestError, match=r"at most 20,000 steps, found 20,001"):
        read_manifest(folder)


def test_of_very_many_notes_only_some_are_read(write):
    assert len(read_manifest(write(manifest(notes=["x"] * 100_000)))["notes"]) == MAX_READ_NOTES


def test_a_library_keeps_summaries_and_reads_manifests_again(write, tmp_path):
    folder = write(manifest(steps=[step(1, "step_0001.png")], extra=["x" * 1000] * 1000))
    library = RunLibrary(tmp_path)
    [entry] = library.runs().values()
    assert len(json.dumps(entry.summary())) < 2000
    assert entry.manifest["extra"] == ["x" * 1000] * 1000
    (folder / "run.json").unlink()
    fresh = dataclasses.replace(entry, version="another")
    with pytest.raises(ManifestError):
        _ = fresh.manifest


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    "facts",
    [
        {"decoder": {"name": LONG, "kind": "conv"}},
        {"decoder": {str(i): i for i in range(100_000)}},
        {"decoder": {LONG: 1}},
        {"picture": {"width": [[]] * 100_000}},
        {"sampler": {"seed": [[]] * 100_000, "name": LONG}},
        {"started": LONG, "space": LONG},
    ],
    ids=["a text", "many keys", "a key", "a list", "the sampler", "texts"],
)
def test_the_summary_of_a_run_is_short_whatever_the_manifest_has(write, tmp_path, facts):
    write(manifest(**facts))
    [entry] = RunLibrary(tmp_path).runs().values()
    assert len(json.dumps(entry.summary())) < 8000
    assert entry.summary()["id"] == ID


@pytest.mark.parametrize("value", [[[]] * 2_000_000, [{}] * 2_000_000, [0] * 2_000_000], ids=["lists", "objects", "0"])
def test_a_manifest_with_too_many_values_is_refused_before_it_is_parsed(write, value, monkeypatch):
    folder = write(manifest(extra=value))
    monkeypatch.setattr("safelight.preview.untrusted_json.json.loads", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(ManifestError, match=r"more than 1,000,000 values"):
        read_manifest(folder)


@pytest.mark.skipif(not HAS_FOLDER_HANDLES, reason="this system opens files by their path only")
def test_no_reader_follows_a_folder_that_became_a_link(write, tmp_path, comfyui, invokeai, monkeypatch):
    """`safelight view`, Load Run and Steps Sheet, after they found the folder and before they read it."""
    folder = write(manifest())
    [entry] = RunLibrary(tmp_path).runs().values()
    elsewhere = folder.rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    folder.symlink_to(elsewhere, target_is_directory=True)
    monkeypatch.setattr("safelight.hosts.invokeai.steps_sheet.existing_folder", lambda *_: folder)
    for read in (
        lambda: dataclasses.replace(entry, version="another").manifest,
        lambda: comfyui.load(folder, 0, 9),
        lambda: contact_sheet(invokeai, None, "run", 9),
    ):
        with pytest.raises(ManifestError, match="cannot be read"):
            read()
