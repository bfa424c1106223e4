"""A run's own page, opened from the disk, and the page that `safelight view` serves, in a real browser."""

import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safelight.cli.view import serve
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import printable
from safelight.hosts.script import DEFAULTS, recording
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.run_group import RunGroup
from safelight.preview.start import Outputs, start
from safelight.preview.step import Step

HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert(2)"><!-- '"&lt;\u2028"""
STEPS = 6


def record(folder, *, steps=STEPS, sampler=None, state="finished", notes=()):
    with recording(
        folder,
        SPACES["sd1"],
        options=replace(DEFAULTS, enlarge="nearest"),
        sampler={"steps": STEPS, "seed": 7, "sigmas": [14.0 / 2**i for i in range(STEPS + 1)]} | (sampler or {}),
    ) as (pipeline, saved):
        offer(pipeline, range(1, steps + 1))
        for note in notes:
            saved.run.note(note)
        pipeline.close(state)
    return folder


def offer(pipeline, indices):
    for index in indices:
        latents = torch.randn(1, 4, 12, 16, generator=torch.Generator().manual_seed(index))
        pipeline.offer(Step(index=index, total=STEPS, sigma=14.0 / 2**index, denoised=latents))


def at(folder):
    return (folder / "index.html").as_uri()


@pytest.fixture
def check_log(browser):
    """Asserts that the page has no errors but the allowed ones, and requests nothing outside of its folder."""

    def check_log(folder, *allowed):
        log = browser(do="log")
        outside = [url for url in log["requests"] if not url.startswith((folder.as_uri() + "/", "data:", "blob:file:"))]
        assert outside == []
        assert [error for error in log["errors"] if not any(text in error for text in allowed)] == []
        return log

    return check_log


@pytest.fixture(scope="session")
def shots(tmp_path_factory):
    return tmp_path_factory.mktemp("offline")


# From the disk


def test_a_run_opens_at_its_last_step_and_keys_move_through_it(tmp_path, browser, check_log, shots):
    folder = record(tmp_path / "my run")
    browser(do="open", url=at(folder))
    seen = browser(do="until", want={"painted": True, "step": f"step {STEPS} / {STEPS}"})
    browser(do="shot", path=str(shots / "offline.png"))
    assert seen["picture"] == (folder / f"step_{STEPS:04d}.png").as_uri()
    assert (seen["state"], seen["heading"], seen["title"]) == ("finished", "my run", "my run · Safelight")
    assert f"{STEPS} steps" in seen["summary"]
    assert "sd1" in seen["decoder"]
    assert seen["notes"] == []
    assert seen["width"] == 0
    for key, step in {"ArrowLeft": 5, "Home": 1, "ArrowRight": 2, "End": 6}.items():
        browser(do="press", keys=[key])
        assert browser(do="until", want={"step": f"step {step} / {STEPS}", "painted": True})["picture"].endswith(
            f"step_{step:04d}.png"
        )
    check_log(folder)


def test_the_mouse_selects_a_step_on_the_strip(tmp_path, browser, check_log):
    folder = record(tmp_path / "run")
    browser(do="open", url=at(folder))
    browser(do="until", want={"painted": True})
    browser(do="scrub", to=0.0)
    browser(do="until", want={"step": f"step 1 / {STEPS}"})
    check_log(folder)


def test_links_lead_to_the_products_of_the_run(tmp_path, browser):
    folder = record(tmp_path / "run")
    browser(do="open", url=at(folder))
    links = browser(do="until", want={"painted": True})["links"]
    names = {"Contact sheet": "sheet.png", "Animation": "steps.webp", "run.json": "run.json"}
    assert links == [[text, (folder / name).as_uri()] for text, name in names.items()]
    assert all((folder / name).is_file() for name in names.values())


@pytest.mark.parametrize("name", ["a#b?c%20d&e;f", "ünï 日本", "it's <b>bold", "100%"])
def test_a_folder_may_have_any_name(tmp_path, browser, check_log, name):
    folder = record(tmp_path / name, steps=2)
    browser(do="open", url=at(folder))
    assert browser(do="until", want={"painted": True})["heading"] == name
    check_log(folder)


def test_a_folder_may_be_moved(tmp_path, browser, check_log):
    folder = record(tmp_path / "one", steps=2)
    (tmp_path / "elsewhere").mkdir()
    folder = folder.rename(tmp_path / "elsewhere" / "two")
    browser(do="open", url=at(folder))
    assert browser(do="until", want={"painted": True})["heading"] == "two"
    check_log(folder)


@pytest.mark.parametrize("state", ["interrupted", "failed"])
def test_an_interrupted_or_failed_run_shows_its_state_and_its_steps(tmp_path, browser, check_log, shots, state):
    folder = record(tmp_path / "run", steps=3, state=state, notes=["step 2: one thing", "step 3: another"])
    browser(do="open", url=at(folder), width=420, height=640, light=True)
    seen = browser(do="until", want={"painted": True, "state": state})
    browser(do="shot", path=str(shots / f"{state}.png"))
    assert seen["step"].endswith(f"at step 3 / {STEPS}")
    assert seen["notes"] == ["step 2: one thing", "step 3: another"]
    assert seen["width"] == 0
    check_log(folder)


def test_the_page_of_a_killed_run_shows_its_last_state_and_a_note(tmp_path, browser, check_log, shots):
    with recording(tmp_path / "run", SPACES["sd1"], sampler={"steps": STEPS, "seed": 7}) as (pipeline, saved):
        pipeline.offer(Step(index=1, total=STEPS, sigma=1.0, denoised=torch.zeros(1, 4, 8, 8)))
        page = wait_for(saved.path / "index.html")
    (saved.path / "index.html").write_bytes(page)  # the page from the start of the run
    browser(do="open", url=at(saved.path))
    seen = browser(do="until", want={"state": "running"})
    browser(do="shot", path=str(shots / "killed.png"))
    assert len(seen["notes"]) == 1
    assert seen["notes"][0].startswith("This page was written while the run was in progress")
    assert seen["placeholder"]
    check_log(saved.path)


def wait_for(path: Path) -> bytes:
    """The file's content as soon as the file exists."""
    pause = threading.Event()
    for _ in range(400):
        if path.is_file():
            return path.read_bytes()
        pause.wait(0.02)
    return pytest.fail(f"{path} was never written")


def test_deleted_pictures_leave_the_rest_usable(tmp_path, browser, check_log):
    folder = record(tmp_path / "run")
    (folder / f"step_{STEPS:04d}.png").unlink()
    browser(do="open", url=at(folder))
    browser(do="until", want={"state": "finished"})
    browser(do="press", keys=["Home"])
    browser(do="until", want={"painted": True, "step": f"step 1 / {STEPS}"})
    check_log(folder, "ERR_FILE_NOT_FOUND")


def test_texts_of_a_run_become_neither_markup_nor_script(tmp_path, browser, check_log, shots):
    plain = record(tmp_path / "plain", notes=["one", "two"])
    browser(do="open", url=at(plain))
    expected = browser(do="until", want={"painted": True})["elements"]
    sampler = {"name": HOSTILE, "scheduler": HOSTILE, "seed": HOSTILE, "cfg": HOSTILE, "prompt": HOSTILE}
    folder = record(tmp_path / "run", sampler=sampler, notes=[HOSTILE, f"two {HOSTILE}"])
    browser(do="open", url=at(folder))
    seen = browser(do="until", want={"painted": True})
    browser(do="shot", path=str(shots / "hostile.png"))
    assert seen["elements"] == expected
    assert HOSTILE in seen["summary"]
    assert seen["notes"] == [printable(HOSTILE), f"two {printable(HOSTILE)}"]
    assert seen["note"] == f"two {printable(HOSTILE)}"
    check_log(folder)


def sample(folder, group, *, note=None, sheet=False):
    """Samples one of the runs of a prompt."""
    options = replace(DEFAULTS, sheet=sheet, animation="off")
    outputs = Outputs(folder=folder, group=group)
    candidates = Catalogue().candidates(SPACES["sd1"])
    pipeline = start(folder.run, SPACES["sd1"], options, outputs, candidates=lambda: candidates)
    offer(pipeline, range(1, STEPS + 1))
    if note:
        folder.run.note(note)
        folder.run.note("another")
    pipeline.close("finished")


def test_one_page_opens_all_runs_of_a_prompt(tmp_path, browser, check_log, shots):
    group = RunGroup(RunFolder(tmp_path / "steps_00001", Run(sampler={"steps": STEPS, "seed": 1})))
    sample(group.first, group, sheet=True)
    sample(group.add(Run(sampler={"steps": STEPS, "seed": 2})), group, note="a note of this run")
    sample(group.add(Run(sampler={"steps": STEPS, "seed": 3})), group)
    folder = group.first.path
    browser(do="open", url=at(folder))
    seen = browser(do="until", want={"painted": True, "thumbs": 3})
    assert seen["picture"] == (folder / "run_003" / f"step_{STEPS:04d}.png").as_uri()
    assert (seen["heading"], seen["notes"]) == ("steps_00001", [])
    assert seen["summary"].startswith("run 3 of 3 · ")
    assert seen["links"] == [["run.json", (folder / "run_003" / "run.json").as_uri()]]
    browser(do="press", keys=["2"])
    seen = browser(do="until", want={"painted": True, "notes": ["a note of this run", "another"]})
    assert seen["picture"] == (folder / "run_002" / f"step_{STEPS:04d}.png").as_uri()
    browser(do="shot", path=str(shots / "prompt.png"))
    browser(do="press", keys=["3"])
    first = (folder / f"step_{STEPS:04d}.png").as_uri()
    seen = browser(do="until", want={"painted": True, "picture": first, "notes": []})
    assert seen["summary"].startswith("run 1 of 3 · ")
    names = {"Contact sheet": "sheet.png", "run.json": "run.json"}
    assert seen["links"] == [[text, (folder / name).as_uri()] for text, name in names.items()]
    browser(do="press", keys=["c"])
    browser(do="until", want={"differences": ["seed"]})
    check_log(folder)


def test_a_row_of_many_runs_loads_only_the_pictures_near_its_visible_part(tmp_path, browser, check_log):
    group = RunGroup(RunFolder(tmp_path / "steps_00001", Run(sampler={"steps": STEPS})))
    sample(group.first, group)
    for _ in range(59):
        sample(group.add(Run(sampler={"steps": STEPS})), group)
    folder = group.first.path
    browser(do="open", url=at(folder), width=600)
    browser(do="until", want={"painted": True, "thumbs": 60})
    first = (folder / f"step_{STEPS:04d}.png").as_uri()
    assert first not in check_log(folder)["requests"]
    browser(do="wheel", selector=".thumbs", by=10_000)
    browser(do="click", selector=".thumb:last-child")
    browser(do="until", want={"painted": True, "picture": first})
    check_log(folder)


# From a server


@pytest.fixture
def served(tmp_path):
    servers = []

    def served():
        server = serve(tmp_path, 0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"{server.url}#viewer"

    yield served
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_runs_in_a_folder_are_shown_and_compared(tmp_path, browser, served, shots):
    record(tmp_path / "a", sampler={"seed": 1, "cfg": 3.0})
    record(tmp_path / "b", sampler={"seed": 2, "cfg": 3.0})
    url = served()
    origin = url.partition("?")[0]
    browser(do="open", url=url)
    seen = browser(do="until", want={"painted": True, "thumbs": 2, "summary": "2 runs"})
    assert seen["step"] == f"step {STEPS} / {STEPS}"
    browser(do="press", keys=["c"])
    seen = browser(do="until", want={"differences": ["seed"]})
    browser(do="shot", path=str(shots / "compare.png"))
    log = browser(do="log")
    assert log["errors"] == []
    assert [request for request in log["requests"] if not request.startswith((origin, "data:", "blob:http"))] == []


def test_a_running_run_is_followed(tmp_path, browser, served, monkeypatch):
    monkeypatch.setattr("safelight.preview.sinks.run_folder.MIN_SAVE_INTERVAL_S", 0.0)
    record(tmp_path / "a", steps=2)
    browser(do="open", url=served())
    browser(do="until", want={"painted": True, "thumbs": 1})
    with recording(tmp_path / "b", SPACES["sd1"], sampler={"steps": STEPS}) as (pipeline, _):
        offer(pipeline, range(1, STEPS))
        seen = browser(do="until", want={"thumbs": 2, "state": "running", "painted": True})
        assert "/runs/" in seen["picture"]
        offer(pipeline, [STEPS])
    seen = browser(do="until", want={"state": "finished", "step": f"step {STEPS} / {STEPS}", "painted": True})
    assert seen["summary"] == "2 runs"
    assert browser(do="log")["errors"] == []


def test_loaded_pictures_stay_when_the_server_has_ended(tmp_path, browser):
    record(tmp_path / "a", steps=3)
    script = "import sys; from safelight.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "view", str(tmp_path), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as viewing:
        browser(do="open", url=re.search(r"http://\S+", viewing.stdout.readline())[0])
        browser(do="until", want={"painted": True})
        viewing.send_signal(signal.SIGINT)
    seen = browser(
        do="until", want={"summary": "safelight view has ended. Loaded pictures stay; start it again to see new runs"}
    )
    assert seen["painted"]
