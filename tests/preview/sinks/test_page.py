"""The page of a run exists from the start, and at the end it contains the whole manifest."""

import json
import re

import pytest
from safelight.errors import PageError
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.manifest import read_manifest
from safelight.preview.run import Run
from safelight.preview.sinks.page import MIN_WRITE_INTERVAL_S, PAGE_NAME, Page
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles


def manifest_in(page):
    return json.loads(re.search(r'id="safelight">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture
def run(clock):
    return Run(clock=clock, sampler={"steps": 20, "seed": 7})


@pytest.fixture
def folder(tmp_path, run):
    return RunFolder(tmp_path / "run", run)


@pytest.fixture
def page_of(folder):
    return lambda: (folder.path / PAGE_NAME).read_text("utf-8")


def test_the_page_is_written_when_the_run_begins(folder, page_of):
    folder.open()
    Page(folder).open()
    shown = manifest_in(page_of())
    assert (shown["state"], shown["page"], shown["sampler"]["steps"], shown["steps"]) == ("running", PAGE_NAME, 20, [])
    assert read_manifest(folder.path)["page"] == PAGE_NAME


@pytest.mark.parametrize("state", ["finished", "interrupted", "failed"])
def test_when_the_run_ends_the_page_contains_the_saved_manifest(folder, page_of, picture, pipeline, step, state, run):
    sinks = [folder, Page(folder), StepFiles(folder, ImageEncoding())]
    with pipeline(*sinks, run=run, state=state) as pipe:
        for index in (1, 2, 3):
            pipe.offer(step(index))
        run.note("step 2: something")
    shown, saved = manifest_in(page_of()), read_manifest(folder.path)
    assert shown == saved
    assert (shown["state"], len(shown["steps"]), shown["notes"]) == (state, 3, ["step 2: something"])


def test_during_a_run_the_page_is_written_every_few_seconds(folder, page_of, picture, clock):
    folder.open()
    page = Page(folder, clock)
    page.open()
    steps = []
    for index, now in ((1, 1.0), (2, MIN_WRITE_INTERVAL_S), (3, MIN_WRITE_INTERVAL_S + 1)):
        clock.now = now
        folder.record(picture(index=index), f"{index}.png")
        page.show(picture(index=index))
        steps.append(len(manifest_in(page_of())["steps"]))
    assert steps == [0, 2, 2]


def test_a_page_that_cannot_be_written_costs_a_note_and_not_the_run(folder, pipeline, step, run, monkeypatch):
    write = RunFolder.write

    def full(self, name, content):
        if name == PAGE_NAME:
            raise OSError(28, "No space left on device")
        write(self, name, content)

    monkeypatch.setattr(RunFolder, "write", full)
    with pipeline(folder, Page(folder), StepFiles(folder, ImageEncoding()), run=run) as pipe:
        pipe.offer(step(1))
    saved = read_manifest(folder.path)
    assert (saved["state"], len(saved["steps"]), saved["page"]) == ("finished", 1, None)
    [note] = saved["notes"]
    assert note.startswith("page could not be opened: OSError: [Errno 28]")


def test_a_page_without_its_modules_costs_a_note_and_not_the_run(folder, pipeline, step, run, monkeypatch):
    def broken(entry):
        raise PageError("web/page.mjs cannot be read")

    monkeypatch.setattr("safelight.preview.sinks.page.bundle", broken)
    with pipeline(folder, Page(folder), run=run) as pipe:
        pipe.offer(step(1))
    assert read_manifest(folder.path)["notes"] == ["page could not be opened: PageError: web/page.mjs cannot be read"]
