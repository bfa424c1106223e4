"""The pixels on the screen of a real browser, against the pictures that should be there."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safelight.cli.view import serve
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.script import DEFAULTS, recording
from safelight.preview.step import Step

from .pixels import MAX_DISTANCE, distance, image_of, nearest, part

STEPS = 6
FIRST, OTHER = ".pane:first-child .cell", ".pane:last-child .cell"


def record(folder, *, seed=0, items=1, length=1, **options):
    """Records a run of noise, in which each step, each item and each frame is another picture."""
    space = SPACES["wan21" if length > 1 else "sd1"]
    shape = (items, space.channels, *([length] if length > 1 else []), 12, 16)
    sampler = {"steps": STEPS, "seed": seed, "sigmas": [14.0 / 2**i for i in range(STEPS + 1)]}
    with recording(folder, space, options=replace(DEFAULTS, enlarge="nearest", **options), sampler=sampler) as (run, _):
        for index in range(1, STEPS + 1):
            latents = torch.randn(shape, generator=torch.Generator().manual_seed(100 * seed + index))
            run.offer(Step(index=index, total=STEPS, sigma=14.0 / 2**index, denoised=latents))
    return folder


def pictures(folder, form="step_{:04d}.png"):
    return [image_of((folder / form.format(index)).read_bytes()) for index in range(1, STEPS + 1)]


@pytest.fixture
def served(tmp_path):
    """Serves the folder of the test with `safelight view`; returns the address."""
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


@pytest.fixture(params=["disk", "server"])
def opened(request, tmp_path, browser, served):
    """Opens the page of a run, from the disk or from `safelight view`."""

    def opened(folder):
        browser(do="open", url=(folder / "index.html").as_uri() if request.param == "disk" else served())
        browser(do="until", want={"painted": True, "step": f"step {STEPS} / {STEPS}"})

    return opened


def shown(browser, selector=FIRST):
    return image_of(browser(do="paint", selector=selector)[0])


def test_each_step_is_painted_when_it_is_selected(tmp_path, browser, opened):
    steps = pictures(record(tmp_path / "run"))
    assert min(distance(a, b) for i, a in enumerate(steps) for b in steps[:i]) > 2 * MAX_DISTANCE
    opened(tmp_path / "run")
    assert nearest(shown(browser), steps) == STEPS - 1
    for key, index in {"Home": 1, "ArrowRight": 2, "Shift+ArrowRight": 6, "ArrowLeft": 5}.items():
        browser(do="press", keys=[key])
        browser(do="until", want={"painted": True, "step": f"step {index} / {STEPS}"})
        assert nearest(shown(browser), steps) == index - 1


def test_playing_paints_the_steps_in_their_order(tmp_path, browser, opened):
    steps = pictures(record(tmp_path / "run"))
    opened(tmp_path / "run")
    browser(do="press", keys=["Home"])
    browser(do="until", want={"painted": True, "step": f"step 1 / {STEPS}"})
    browser(do="press", keys=["Space"])
    seen = [nearest(image_of(shot), steps) for shot in browser(do="paint", count=25, pause_ms=30)]
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3, "of 6 steps, on a busy machine"
    browser(do="until", want={"painted": True, "step": f"step {STEPS} / {STEPS}"})
    assert nearest(shown(browser), steps) == STEPS - 1


def test_in_full_window_the_same_picture_is_painted_above_the_film_strip(tmp_path, browser, opened):
    steps = pictures(record(tmp_path / "run"))
    opened(tmp_path / "run")
    before = shown(browser)
    browser(do="press", keys=["Home", "f"])
    browser(do="until", want={"painted": True, "step": f"step 1 / {STEPS}"})
    full = shown(browser)
    assert nearest(full, steps) == 0
    assert full.width > 0.9 * before.width  # the page fills the window anyway; the film strip takes some of its height
    browser(do="press", keys=["Escape", "End"])
    browser(do="until", want={"painted": True, "step": f"step {STEPS} / {STEPS}"})
    assert nearest(shown(browser), steps) == STEPS - 1


def test_a_comparison_paints_both_runs_and_their_difference(tmp_path, browser, served):
    runs = [pictures(record(tmp_path / name, seed=seed)) for name, seed in (("a", 1), ("b", 2))]
    browser(do="open", url=served())
    browser(do="until", want={"painted": True, "step": f"step {STEPS} / {STEPS}"})
    newest = nearest(shown(browser), [run[-1] for run in runs])
    (a, b) = (runs[newest][2], runs[1 - newest][2])
    browser(do="press", keys=["c"])
    browser(do="until", want={"differences": ["seed"]})
    browser(do="press", keys=["Home", "ArrowRight", "ArrowRight"])
    browser(do="until", want={"painted": True, "step": f"step 3 / {STEPS}"})
    wiped = shown(browser)
    for left, right, expected, other in ((0.0, 0.48, a, b), (0.52, 1.0, b, a)):
        pieces = [part(picture, left, right) for picture in (expected, other)]
        assert nearest(part(wiped, left, right), pieces) == 0
    browser(do="click", selector="[aria-label^='Side']")
    assert nearest(shown(browser), [a, b]) == 0
    assert nearest(shown(browser, OTHER), [a, b]) == 1
    browser(do="click", selector="[aria-label^='Difference']")
    browser(
        do="click", selector=".tools [aria-label='Show pixels']"
    )  # smoothed pixels have no difference at their borders
    apart = np.abs(np.asarray(a, dtype=np.int16) - np.asarray(b, dtype=np.int16))
    amplified = Image.fromarray((4 * apart).clip(0, 255).astype(np.uint8))
    assert nearest(shown(browser), [amplified, a, b, Image.fromarray(apart.astype(np.uint8))]) == 0


def test_each_picture_of_a_batch_is_painted_in_its_cell(tmp_path, browser, opened):
    folder = record(tmp_path / "run", items=4, batch="all files")
    items = [image_of((folder / f"step_{STEPS:04d}_item_{item:02d}.png").read_bytes()) for item in range(1, 5)]
    opened(folder)
    assert [nearest(shown(browser, f"{FIRST}:nth-child({i})"), items) for i in range(1, 5)] == [0, 1, 2, 3]
    browser(do="click", selector=f"{FIRST}:nth-child(3)")
    browser(do="until", want={"painted": True, "cells": 1})
    assert nearest(shown(browser), items) == 2


def test_a_video_paints_its_frames(tmp_path, browser, opened):
    folder = record(tmp_path / "run", length=4, frames="animated")
    with Image.open(folder / f"step_{STEPS:04d}.webp") as movie:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(movie)]
    assert len(frames) >= 4
    opened(folder)
    seen = {nearest(image_of(shot), frames) for shot in browser(do="paint", count=20, pause_ms=40)}
    assert len(seen) >= 2, "it moves"


def test_a_picture_is_saved_and_copied_as_it_is(tmp_path, browser, served):
    folder = record(tmp_path / "run")
    browser(do="open", url=served())
    browser(do="until", want={"painted": True, "step": f"step {STEPS} / {STEPS}"})
    file = folder / f"step_{STEPS:04d}.png"
    saved = browser(do="saved", key="s")
    assert saved["name"].endswith(f"_step_{STEPS:04d}.png")
    assert image_of(saved["content"]).tobytes() == image_of(file.read_bytes()).tobytes()
    copied = browser(do="copied")
    assert copied["said"] == "Copied"
    assert image_of(copied["content"]).tobytes() == image_of(file.read_bytes()).tobytes()
    browser(do="press", keys=["Home"])
    browser(do="until", want={"step": f"step 1 / {STEPS}", "painted": True})


def test_on_a_page_from_the_disk_a_picture_opens_in_a_tab_and_a_copy_is_refused_with_a_reason(tmp_path, browser):
    folder = record(tmp_path / "run")
    browser(do="open", url=(folder / "index.html").as_uri())
    browser(do="until", want={"painted": True})
    assert browser(do="opened", key="s") == (folder / f"step_{STEPS:04d}.png").as_uri()
    copied = browser(do="copied")
    assert copied["content"] or "Right-click the picture" in copied["said"]
    browser(do="press", keys=["Home"])
    browser(do="until", want={"step": f"step 1 / {STEPS}", "heading": "run"})
