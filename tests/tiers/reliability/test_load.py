"""Long nights: memory, files and handles stay within bounds, and the figures are printed.

SAFELIGHT_NIGHT=600 pytest -s tests/reliability/test_load.py
"""

import http.client
import os
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from safelight.cli.view import serve
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.script import recording
from safelight.preview.cadence import Cadence
from safelight.preview.decode.run_decoder import DecodeWorker
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.pipeline import Pipeline, SinkSchedule
from safelight.preview.run import Run
from safelight.preview.saved_run import SavedRun
from safelight.preview.sinks.base import Sink
from safelight.preview.sinks.page import Page
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import ENCODERS, StepFiles
from safelight.preview.snapshot import Selection
from safelight.preview.step import Step

pytestmark = [
    pytest.mark.usefixtures("leaves_nothing"),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory and handles are counted where /proc is"),
]
MB = 1 << 20
STEPS_A_SECOND = 20


def rss_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handles():
    return len(list(Path("/proc/self/fd").iterdir()))


class Load:
    """What a load takes of the machine, at most and in the end."""

    def __init__(self, tell, name):
        self.tell, self.name = tell, name

    def __enter__(self):
        self.before, self.open = rss_bytes(), handles()
        self.peak, self.peak_open, self.began = self.before, self.open, time.monotonic()
        return self

    def look(self):
        self.peak, self.peak_open = max(self.peak, rss_bytes()), max(self.peak_open, handles())

    def __exit__(self, *_):
        self.look()
        self.grown, self.left_open = rss_bytes() - self.before, handles() - self.open

    def told(self, text=""):
        self.tell(
            f"{self.name}: {time.monotonic() - self.began:.1f} s, at most {(self.peak - self.before) / MB:.0f} MB "
            f"and {self.peak_open - self.open} handles more, in the end {self.grown / MB:.0f} MB and {self.left_open}"
            + (f"; {text}" if text else "")
        )
        assert self.left_open <= 0
        return self


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def watched(folder, space, *, batch="first", select=None, encoding=None):
    """A pipeline that writes into a folder, as a host's does."""
    run = Run(space=space)
    kept = RunFolder(folder, run)
    files = StepFiles(kept, encoding or ImageEncoding(), encoders=ENCODERS, batch=batch)
    decoders = Catalogue()
    developer = DecodeWorker(SPACES[space], lambda: decoders.candidates(SPACES[space]), run.note)
    outlets = [SinkSchedule(sink, Cadence()) for sink in (kept, Page(kept), files)]
    return Pipeline(run, developer, outlets, select=select or Selection()), kept


class Pace(Sink):
    """A model that takes as long for its steps as they take to be written: some are always under way."""

    name = "pace"

    def __init__(self, ahead=12):
        self._room = threading.Semaphore(ahead)

    def wait(self):
        assert self._room.acquire(timeout=60)

    def open(self):
        pass

    def show(self, picture):
        self._room.release()

    def close(self, state):
        pass


def test_a_run_of_a_thousand_steps_grows_nothing(tmp_path, tell):
    latents, pace, threads = torch.zeros(1, 4, 8, 8), Pace(), torch.get_num_threads()
    torch.set_num_threads(1)  # of two, where others have the cores, each waits for the other at every step
    with (
        Load(tell, "1000 steps") as load,
        recording(tmp_path / "run", SPACES["sd1"], sinks=[pace]) as (pipeline, kept),
    ):
        for index in range(1, 1001):
            pace.wait()
            pipeline.offer(Step(index=index, total=1000, sigma=1.0, denoised=latents))
            if index % 100 == 0:
                load.look()
    torch.set_num_threads(threads)
    load.told(f"{size(tmp_path) / MB:.1f} MB of files")
    assert load.peak - load.before < 150 * MB
    assert len(SavedRun.open(kept.path).steps) == 1000
    assert kept.run.notes == []


def test_runs_of_videos_one_after_the_other_grow_nothing(tmp_path, tell, night_s):
    runs = 24 if night_s else 4
    latents = torch.randn(1, 16, 21, 8, 12, generator=torch.Generator().manual_seed(0))  # of 81 frames
    grown = []
    with Load(tell, f"{runs} runs of 81 frames") as load:
        for i in range(runs):
            pipeline, kept = watched(tmp_path / f"{i}", "wan21", select=Selection(frames="animated"))
            for index in range(1, 5):
                pipeline.offer(Step(index=index, total=4, sigma=1.0, denoised=latents))
            pipeline.close("finished")
            load.look()
            grown.append(rss_bytes())
            assert kept.run.notes == []
            with Image.open(kept.path / "step_0004.webp") as moving:
                assert moving.n_frames == 21
    load.told()
    assert grown[-1] - grown[1] < 60 * MB


def test_a_batch_of_64_is_64_files_a_step(tmp_path, tell):
    latents = torch.zeros(64, 4, 16, 16)
    with Load(tell, "batch of 64") as load:
        pipeline, kept = watched(tmp_path / "run", "sd1", batch="all files", select=Selection(items=None))
        for index in range(1, 7):
            pipeline.offer(Step(index=index, total=6, sigma=1.0, denoised=latents))
            load.look()
        pipeline.close("finished")
    load.told()
    assert [len(step["files"]) for step in kept.manifest()["steps"]] == [64] * 6
    assert load.peak - load.before < 300 * MB


def test_a_picture_of_4096_px_is_one(tmp_path, tell):
    with Load(tell, "4096 px") as load:
        pipeline, kept = watched(tmp_path / "run", "sd1", encoding=ImageEncoding(enlarge="lanczos"))
        for index in range(1, 3):
            pipeline.offer(Step(index=index, total=2, sigma=1.0, denoised=torch.zeros(1, 4, 512, 512)))
            load.look()
        pipeline.close("finished")
    load.told()
    with Image.open(kept.path / "step_0002.png") as image:
        assert image.size == (4096, 4096)
    assert kept.run.notes == []
    assert load.peak - load.before < 1200 * MB


def missing_of(notes):
    """How many steps the notes name as not kept, the last word on each reason."""
    steps = set()
    for note in notes:
        for first, last in re.findall(r"(\d+)(?:-(\d+))?(?=[, ]|$)", note.partition("not kept")[0]):
            steps |= set(range(int(first), int(last or first) + 1))
    return steps


def test_a_sampler_of_twenty_steps_a_second_with_large_pngs_loses_nothing_unnamed(tmp_path, tell, night_s):
    """In the long form at its own pace, in the short one as fast as it is taken."""
    total = int(night_s * STEPS_A_SECOND) or 24
    pace, waits = threading.Event(), []
    with Load(tell, f"{total} steps with PNGs of 1024 px") as load:
        pipeline, kept = watched(tmp_path / "run", "sd1", encoding=ImageEncoding(enlarge="lanczos"))
        due = time.monotonic()
        for index in range(1, total + 1):
            x0 = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(index))
            began = time.monotonic()
            pipeline.offer(Step(index=index, total=total, sigma=1.0, denoised=x0))
            waits.append(time.monotonic() - began)
            due += 1 / STEPS_A_SECOND
            if night_s and due > time.monotonic():
                pace.wait(due - time.monotonic())
            if index % 10 == 0:
                load.look()
        pipeline.close("finished", 120)
    there = {step["index"] for step in kept.manifest()["steps"] if step["files"]}
    lost = set(range(1, total + 1)) - there
    load.told(
        f"{len(there)} files, {len(lost)} steps named as missing, {size(tmp_path) / MB:.0f} MB of files, "
        f"the sampler waited {sum(waits):.1f} s in all, {1000 * max(waits):.0f} ms at most"
    )
    assert lost <= missing_of(kept.run.notes)
    assert total in there or total in lost
    assert all((kept.path / f"step_{index:04d}.png").is_file() for index in there)
    assert sum(waits) < 10 + 0.05 * total
    assert load.peak - load.before < 500 * MB


# Many who look.


@pytest.fixture
def shelf(tmp_path):
    """A served run with a picture of half a MB in it."""
    with recording(tmp_path / "run", SPACES["sd1"]) as (pipeline, kept):
        pipeline.offer(Step(index=1, total=1, denoised=torch.zeros(1, 4, 8, 8)))
    (kept.path / "step_0001.png").write_bytes(os.urandom(MB // 2))
    server = serve(tmp_path, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port, kept
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(port, path, times=1):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sizes = []
    for _ in range(times):
        connection.request("GET", path)
        sizes.append(len(connection.getresponse().read()))
    connection.close()
    return sizes


def test_fifty_tabs_and_one_behind_a_slow_line_all_get_their_pictures(shelf, tell, night_s):
    port, kept = shelf
    path, content = f"/runs/{kept.run.id}/step_0001.png", (kept.path / "step_0001.png").read_bytes()
    times = 100 if night_s else 2
    with Load(tell, "50 tabs") as load:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            got = slow.recv(10_000)  # and then it takes its time
            with ThreadPoolExecutor(50) as tabs:
                sizes = [tabs.submit(fetch, port, path, times) for _ in range(50)]
                for tab in sizes:
                    load.look()
                    assert tab.result() == [len(content)] * times
            assert fetch(port, "/runs")
            while piece := slow.recv(10_000):
                got += piece
        assert got.endswith(content)
    load.tell(
        f"50 tabs, {50 * times} pictures of half a MB and a slow line: "
        f"at most {(load.peak - load.before) / MB:.0f} MB more"
    )
    assert load.peak - load.before < 400 * MB  # what the tabs themselves hold is in it
    assert sys.getswitchinterval() == 0.005
