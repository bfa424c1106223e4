"""The library of `safelight view` and of a written page, in a real browser, by keyboard alone."""

import base64
import json
import threading
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safelight.cli.main import main
from safelight.cli.view import serve

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
WORDS = ("a lighthouse at dawn", "oranges on a table", "a fox in the snow")


def write_runs(root, count, steps=3):
    """Runs of a minute each, the first one the newest, with pictures that have a prompt and a workflow."""
    pictures = root.parent / f"{root.name}-pictures"
    pictures.mkdir()
    for word in range(len(WORDS)):
        graph = {
            "3": {"inputs": {"positive": ["6", 0]}, "class_type": "KSampler"},
            "6": {"inputs": {"text": WORDS[word]}, "class_type": "CLIPTextEncode"},
        }
        for step in range(1, steps + 1):
            texts = PngInfo()
            texts.add_text("prompt", json.dumps(graph))
            texts.add_text("workflow", "{}")
            color = [60 * step, 60 * step, 60 * step]
            color[word] = 250
            Image.new("RGB", (48, 32), tuple(color)).save(pictures / f"{word}_{step}.png", pnginfo=texts)
    for i in range(count):
        folder = root / f"day_{i % 5}" / f"steps_{i:05d}"
        folder.mkdir(parents=True)
        word = i % len(WORDS)
        for step in range(1, steps + 1):
            (folder / f"step_{step:04d}.png").hardlink_to(pictures / f"{word}_{step}.png")
        manifest = {
            "format": "safelight.run/1",
            "id": str(uuid.UUID(int=i + 1)),
            "state": "finished",
            "started": (START - timedelta(minutes=i)).isoformat(),
            "seconds": 12.0,
            "host": {"name": "comfyui", "sampler_node": "3"},
            "space": "flux2",
            "decoder": {"name": "flux2-conv-small"},
            "sampler": {"steps": steps, "seed": 1000 + i, "cfg": 7.0, "name": "euler", "scheduler": "normal"},
            "picture": {"width": 48, "height": 32, "shown_width": 768, "shown_height": 512, "items": 1, "frames": 1},
            "steps": [
                {"index": n, "sigma": 9.0 / n, "at": n / 4, "files": [f"step_{n:04d}.png"]} for n in range(1, steps + 1)
            ],
        }
        (folder / "run.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture
def served():
    servers = []

    def served(root):
        server = serve(root, 0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server.url

    yield served
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def library(browser):
    """Waits for what the library shows, after keys."""

    def library(*keys, **want):
        if keys:
            browser(do="press", keys=list(keys))
        return browser(do="until", of="library", want=want)

    return library


@pytest.fixture(scope="session")
def shots(tmp_path_factory):
    return tmp_path_factory.mktemp("library")


@pytest.mark.parametrize(("width", "light"), [(280, True), (280, False), (800, True), (800, False)])
def test_it_fits_and_everything_has_a_name(tmp_path, browser, served, library, shots, width, light):
    browser(do="open", url=served(write_runs(tmp_path / "runs", 30)), width=width, height=800, light=light)
    seen = library(status="30 runs", painted=True, focus="grid")
    assert seen["columns"] == (2 if width == 280 else 6)
    assert (seen["nameless"], seen["wide"]) == ([], [])
    seen = library("ArrowRight", "ArrowRight", prompt=WORDS[1])
    assert (seen["nameless"], seen["wide"]) == ([], [])
    browser(do="shot", path=str(shots / f"{width}-{'light' if light else 'dark'}.png"))
    seen = library("Enter", opened=True)
    assert seen["wide"] == []
    browser(do="shot", path=str(shots / f"{width}-{'light' if light else 'dark'}-open.png"))
    assert browser(do="log")["errors"] == []


def test_the_current_tile_is_spoken_and_its_facts_are_shown(tmp_path, browser, served, library):
    browser(do="open", url=served(write_runs(tmp_path / "runs", 30)))
    library(status="30 runs")
    seen = library("ArrowRight", "ArrowRight", "ArrowRight", prompt=WORDS[2])
    assert "seed 1002 · euler normal · cfg 7, a fox in the snow" in seen["spoken"]
    assert (
        seen["facts"]
        | {
            "Seed": "1002",
            "Sampler": "euler normal",
            "CFG": "7",
            "Size": "768×512",
            "Decoder": "flux2 · conv small",
            "Folder": "day_2/steps_00002",
            "Time": "12 s",
        }
        == seen["facts"]
    )


def test_the_workflow_of_a_run_is_saved_as_a_file_and_the_host_is_named(tmp_path, browser, served, library):
    browser(do="open", url=served(write_runs(tmp_path / "runs", 3)))
    library(status="3 runs")
    library("ArrowRight", "ArrowRight", prompt=WORDS[1])
    file = browser(do="saved", key="w")
    assert (file["name"], base64.b64decode(file["content"])) == ("steps_00001_workflow.json", b"{}")
    library(said="Saved steps_00001_workflow.json. Drag the file onto ComfyUI")
    assert browser(do="log")["errors"] == []


def test_runs_are_searched_and_sorted(tmp_path, browser, served, library):
    browser(do="open", url=served(write_runs(tmp_path / "runs", 30)))
    library(status="30 runs")
    library("/", focus="search")
    browser(do="type", text="fox folder:day_2")
    seen = library(status="2 of 30 runs")
    assert seen["words"] == [WORDS[2]] * 2
    browser(do="type", text=" seed:1002")
    library(status="1 of 30 runs")
    library("ArrowDown", focus="grid")
    library("ArrowRight", "Enter", opened=True)
    library("Escape", focus="grid", status="1 of 30 runs")
    library("Escape", status="30 runs")
    library("/", "x", "y", "z", empty="No run matches.")


def test_two_runs_are_compared_by_the_keyboard(tmp_path, browser, served, library):
    browser(do="open", url=served(write_runs(tmp_path / "runs", 12)))
    library(status="12 runs")
    seen = library("ArrowRight", "c")
    assert "press C" in library()["status"], seen
    library("ArrowRight", "c", opened=True, compared=["seed", "prompt"])
    library("Escape", compared=[])
    library("Escape", focus="grid", status="12 runs")


def test_a_star_a_note_and_a_deletion_survive_and_can_be_undone(tmp_path, browser, served, library):
    root = write_runs(tmp_path / "runs", 12)
    browser(do="open", url=served(root))
    library(status="12 runs")
    library("ArrowRight", "s", stars=1)
    library("n", focus="note")
    browser(do="type", text="print this one")
    library("Escape", focus="grid")
    browser(do="open", url=served(root))
    seen = library(status="12 runs", stars=1)
    assert "starred, has a note" in library("ArrowRight", note="print this one")["spoken"]
    seen = library("Delete", status="11 runs", said="Run moved to the trash", canUndo=True)
    assert seen["focus"] == "grid"
    assert not (root / "day_0" / "steps_00000").exists()
    library("Control+z", status="12 runs", said="The run is back", stars=1)
    assert json.loads((root / "day_0" / "steps_00000" / "marks.json").read_text())["note"] == "print this one"
    assert browser(do="log")["errors"] == []


def test_the_trash_of_an_earlier_session_gives_its_runs_back(tmp_path, browser, served, library):
    root = write_runs(tmp_path / "runs", 12)
    browser(do="open", url=served(root))
    library(status="12 runs")
    library("ArrowRight", "Delete", status="11 runs")
    browser(do="open", url=served(root))
    library(status="11 runs")
    browser(do="click", selector="[aria-label='Deleted runs']")
    assert library(trash=["day_0/steps_00000"])["actions"] == [], "the facts of a run that is not shown"
    browser(do="click", selector=".trash button")
    library(trash=[], said="The run is back")
    library("Escape", status="12 runs", focus="grid")


def test_only_runs_with_a_star_are_shown_on_request(tmp_path, browser, served, library):
    browser(do="open", url=served(write_runs(tmp_path / "runs", 12)))
    library(status="12 runs")
    library("ArrowRight", "ArrowRight", "s", stars=1)
    browser(do="click", selector="[aria-label='Show only runs with a star']")
    assert library(status="1 of 12 runs")["words"] == [WORDS[1]]


def test_new_runs_appear_by_themselves_and_the_current_one_stays(tmp_path, browser, served, library):
    root = write_runs(tmp_path / "runs", 12)
    browser(do="open", url=served(root))
    library(status="12 runs")
    seen = library("End")
    before = library()["spoken"]
    folder = root / "new"
    folder.mkdir()
    newest = json.loads((root / "day_0" / "steps_00000" / "run.json").read_text())
    newest |= {"id": str(uuid.uuid4()), "started": "2026-02-01T00:00:00+00:00", "state": "interrupted", "steps": []}
    (folder / "run.json").write_text(json.dumps(newest))
    seen = library(status="13 runs")
    assert seen["spoken"] == before


def test_five_thousand_runs_stay_quick(tmp_path, browser, served, library):
    browser(do="open", url=served(write_runs(tmp_path / "runs", 5000, steps=1)), width=800)
    seen = library(status="5,000 runs", painted=True)
    assert seen["rows"] == 834
    assert seen["tiles"] <= 72, "tiles exist far outside of the screen"
    pictures = [url for url in browser(do="log")["requests"] if "/small/" in url]
    assert len(pictures) <= 72
    seen = library("End", painted=True)
    assert "seed 5999" in seen["spoken"]
    assert seen["tiles"] <= 72
    library("/")
    browser(do="type", text="seed:3210")
    assert library(status="1 of 5,000 runs")["tiles"] == 1
    lists = [url for url in browser(do="log")["requests"] if "/library?" in url or url.endswith("/library")]
    assert ["limit=200" in url for url in lists[:2]] == [True, False], "the first page is not asked for alone"
    assert all("since=" in url for url in lists[2:])
    assert browser(do="log")["errors"] == []


def test_the_menu_of_the_newest_run_gives_a_star_and_deletes(tmp_path, browser, served, library):
    root = write_runs(tmp_path / "runs", 2)
    browser(do="open", url=f"{served(root)}#viewer")
    browser(do="until", want={"painted": True, "thumbs": 2})
    browser(do="click", selector="[data-face=more]")
    browser(do="click", selector="text=Give this run a star")
    browser(do="until", want={"toast": "Starred"})  # a menu that is opened before has the old entry
    browser(do="click", selector="[data-face=more]")
    browser(do="click", selector="text=Take the star of this run away")
    browser(do="until", want={"toast": "Star taken away"})
    browser(do="click", selector="[data-face=more]")
    browser(do="click", selector="text=Delete this run")
    browser(do="until", want={"thumbs": 1, "summary": "1 run"})
    browser(do="click", selector="text=All runs")
    library(status="1 run")
    library("Control+z", status="2 runs")
    assert json.loads((root / "day_0" / "steps_00000" / "marks.json").read_text())["star"] is False
    assert browser(do="log")["errors"] == []


HOSTILE = """<img src=x onerror=alert(1)><b>\u202e"'&lt;"""


@pytest.mark.parametrize("place", ["server", "page"])
def test_what_a_run_says_stays_text(tmp_path, browser, served, library, place):
    root = write_runs(tmp_path / "runs", 1)
    folder = root / "day_0" / HOSTILE
    (root / "day_0" / "steps_00000").rename(folder)
    manifest = json.loads((folder / "run.json").read_text())
    facts = {"name": HOSTILE, "scheduler": HOSTILE, "seed": HOSTILE, "cfg": HOSTILE, "prompt": f"</script>{HOSTILE}"}
    manifest |= {"sampler": facts | {"model": {"name": HOSTILE}}, "space": HOSTILE, "decoder": {"name": HOSTILE}}
    manifest |= {"host": {"name": HOSTILE}, "started": HOSTILE, "page": "index.html"}
    (folder / "run.json").write_text(json.dumps(manifest))
    (folder / "marks.json").write_text(json.dumps({"format": "safelight.marks/1", "star": True, "note": HOSTILE}))
    second = write_runs(tmp_path / "more", 1) / "day_0" / "steps_00000"
    second.rename(root / "second")
    assert main(["index", str(root)]) == 0
    browser(do="open", url=(root / "library.html").as_uri() if place == "page" else f"{served(root)}#library")
    library(status="2 runs", painted=True, stars=1)
    seen = library("End", note=HOSTILE)
    assert (seen["prompt"], seen["facts"]["Host"], seen["facts"]["CFG"]) == (f"</script>{HOSTILE}", HOSTILE, HOSTILE)
    assert HOSTILE in seen["facts"]["Folder"]
    library("Enter", opened=True)
    library("Escape", focus="grid")
    if place == "server":
        library("Delete", status="1 run")
        browser(do="click", selector="[aria-label='Deleted runs']")
        library(trash=[f"day_0/{HOSTILE}"])
    log = browser(do="log")
    assert [error for error in log["errors"] if "dialog" in error or "Refused" in error] == []
    assert [url for url in log["requests"] if url.endswith("/x")] == []


# Without a server


def test_a_written_page_shows_opens_and_compares_all_runs(tmp_path, browser, library, shots):
    root = write_runs(tmp_path / "my runs", 12)
    (root / "day_0" / "steps_00000" / "marks.json").write_text('{"format": "safelight.marks/1", "star": true}')
    assert main(["index", str(root)]) == 0
    browser(do="open", url=(root / "library.html").as_uri(), width=800)
    seen = library(status="12 runs", painted=True, stars=1)
    seen = library("ArrowRight", prompt=WORDS[0])
    assert seen["actions"] == [
        "Open this run (Enter)",
        "Compare with another run: choose it next (C)",
        "Open its folder (F)",
    ]
    assert seen["nameless"] == []
    browser(do="shot", path=str(shots / "offline.png"))
    library("Enter", opened=True)
    library("Escape", focus="grid")
    library("c", "ArrowRight", "c", opened=True, compared=["seed", "prompt"])
    library("Escape", "Escape", "Delete", "s", status="12 runs", stars=1)
    log = browser(do="log")
    assert log["errors"] == []
    assert [url for url in log["requests"] if not url.startswith((root.as_uri(), "data:"))] == []
