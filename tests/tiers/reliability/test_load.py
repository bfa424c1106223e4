"""Long and large runs: memory and open files stay within limits; the figures are printed.

SAFELIGHT_NIGHT=600 pytest tests/tiers/reliability/test_load.py
"""

import http.client
import os
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safelight.cli.view import serve
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.script import recording
from safelight.preview.options import RunOptions
from safelight.preview.run import Run
from safelight.preview.saved_run import SavedRun
from safelight.preview.sinks.base import Sink
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.start import Outputs, start
from safelight.preview.step import Step

pytestmark = [
    pytest.mark.usefixtures("leaves_no_thread"),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to measure memory and open files"),
]
MB = 1 << 20
STEPS_PER_SECOND = 20


def rss_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


class Load:
    """Measures the memory and the open files of a block: at most, and after it."""

    def __init__(self, print_figure, name):
        self.print_figure, self.name = print_figure, name

    def __enter__(self):
        self.before, self.open = rss_bytes(), open_files()
        self.peak, self.peak_open, self.began = self.before, self.open, time.monotonic()
        return self

    def measure(self):
        self.peak, self.peak_open = max(self.peak, rss_bytes()), max(self.peak_open, open_files())

    def __exit__(self, *_):
        self.measure()
        self.grown, self.left_open = rss_bytes() - self.before, open_files() - self.open

    def report(self, text=""):
        """Prints the figures. Fails if files are still open."""
        self.print_figure(
            f"{self.name}: {time.monotonic() - self.began:.1f} s, at most {(self.peak - self.before) / MB:.0f} MB "
            f"and {self.peak_open - self.open} open files more, in the end {self.grown / MB:.0f} MB "
            f"and {self.left_open} open files more" + (f"; {text}" if text else "")
        )
        assert self.left_open <= 0


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def watched(folder, space, **options):
    """A pipeline that writes a file for each step, as a host's does; returns it and the run's folder."""
    run = Run(space=space)
    run_folder = RunFolder(folder, run)
    find = partial(Catalogue().candidates, SPACES[space])
    options = RunOptions(write_intermediates=True, max_side_px=0, **{"batch": "first"} | options)
    return start(run, SPACES[space], options, Outputs(folder=run_folder), candidates=find), run_folder


class Pace(Sink):
    """Lets a sampler be at most `ahead` steps ahead of the files."""

    name = "pace"

    def __init__(self, ahead=12):
        self._room = threading.Semaphore(ahead)

    def wait(self):
        assert self._room.acquire(timeout=60)

    def show(self, picture):
        self._room.release()


def test_memory_does_not_grow_over_a_run_of_a_thousand_steps(tmp_path, print_figure):
    latents, pace, threads = torch.zeros(1, 4, 8, 8), Pace(), torch.get_num_threads()
    torch.set_num_threads(1)  # on busy cores, two threads wait for each other at every step
    with (
        Load(print_figure, "1000 steps") as load,
        recording(tmp_path / "run", SPACES["sd1"], sinks=[pace]) as (pipeline, run_folder),
    ):
        for index in range(1, 1001):
            pace.wait()
            pipeline.offer(Step(index=index, total=1000, sigma=1.0, denoised=latents))
            if index % 100 == 0:
                load.measure()
    torch.set_num_threads(threads)
    load.report(f"{size(tmp_path) / MB:.1f} MB of files")
    assert load.peak - load.before < 150 * MB
    assert len(SavedRun.open(run_folder.path).steps) == 1000
    assert run_folder.run.notes == []


def test_memory_does_not_grow_over_several_video_runs(tmp_path, print_figure, night_s):
    runs = 24 if night_s else 4
    latents = torch.randn(1, 16, 21, 8, 12, generator=torch.Generator().manual_seed(0))  # 81 frames
    grown = []
    with Load(print_figure, f"{runs} runs of 81 frames") as load:
        for i in range(runs):
            pipeline, run_folder = watched(tmp_path / f"{i}", "wan21", frames="animated")
            for index in range(1, 5):
                pipeline.offer(Step(index=index, total=4, sigma=1.0, denoised=latents))
            pipeline.close("finished")
            load.measure()
            grown.append(rss_bytes())
            assert run_folder.run.notes == []
            with Image.open(run_folder.path / "step_0004.webp") as moving:
                assert moving.n_frames == 21
    load.report()
    assert grown[-1] - grown[1] < 60 * MB


def test_a_batch_of_64_has_64_files_for_each_step(tmp_path, print_figure):
    latents = torch.zeros(64, 4, 16, 16)
    with Load(print_figure, "batch of 64") as load:
        pipeline, run_folder = watched(tmp_path / "run", "sd1", batch="all files")
        for index in range(1, 7):
            pipeline.offer(Step(index=index, total=6, sigma=1.0, denoised=latents))
            load.measure()
        pipeline.close("finished")
    load.report()
    assert [len(step["files"]) for step in run_folder.manifest()["steps"]] == [64] * 6
    assert load.peak - load.before < 300 * MB


def test_a_run_of_4096_px_has_files_of_4096_px(tmp_path, print_figure):
    with Load(print_figure, "4096 px") as load:
        pipeline, run_folder = watched(tmp_path / "run", "sd1", enlarge="lanczos")
        for index in range(1, 3):
            pipeline.offer(Step(index=index, total=2, sigma=1.0, denoised=torch.zeros(1, 4, 512, 512)))
            load.measure()
        pipeline.close("finished")
    load.report()
    with Image.open(run_folder.path / "step_0002.png") as image:
        assert image.size == (4096, 4096)
    assert run_folder.run.notes == []
    assert load.peak - load.before < 1200 * MB


def named_as_missing(notes):
    """The numbers of the steps that the notes call "not saved"."""
    steps = set()
    for note in notes:
        for first, last in re.findall(r"(\d+)(?:-(\d+))?(?=[, ]|$)", note.partition("not saved")[0]):
            steps |= set(range(int(first), int(last or first) + 1))
    return steps


def test_a_fast_sampler_with_large_pngs_loses_no_step_without_a_note(tmp_path, print_figure, night_s):
    """The long form samples 20 steps per second, the short form as fast as the pipeline takes them."""
    total = int(night_s * STEPS_PER_SECOND) or 24
    pace, waits = threading.Event(), []
    with Load(print_figure, f"{total} steps with PNGs of 1024 px") as load:
        pipeline, run_folder = watched(tmp_path / "run", "sd1", enlarge="lanczos")
        due = time.monotonic()
        for index in range(1, total + 1):
            x0 = torch.randn(1, 4, 128, 128, generator=torch.Generator().manual_seed(index))
            began = time.monotonic()
            pipeline.offer(Step(index=index, total=total, sigma=1.0, denoised=x0))
            waits.append(time.monotonic() - began)
            due += 1 / STEPS_PER_SECOND
            if night_s and due > time.monotonic():
                pace.wait(due - time.monotonic())
            if index % 10 == 0:
                load.measure()
        pipeline.close("finished", 120)
    saved = {step["index"] for step in run_folder.manifest()["steps"] if step["files"]}
    lost = set(range(1, total + 1)) - saved
    load.report(
        f"{len(saved)} files, {len(lost)} steps named as missing, {size(tmp_path) / MB:.0f} MB of files, "
        f"the sampler waited {sum(waits):.1f} s in all, {1000 * max(waits):.0f} ms at most"
    )
    assert lost <= named_as_missing(run_folder.run.notes)
    assert total in saved or total in lost
    assert all((run_folder.path / f"step_{index:04d}.png").is_file() for index in saved)
    assert sum(waits) < 10 + 0.05 * total
    assert load.peak - load.before < 500 * MB


# Many viewers


@pytest.fixture
def served_run(tmp_path):
    """A server of a run with a picture of half a MB: its port, and the run's folder."""
    with recording(tmp_path / "run", SPACES["sd1"]) as (pipeline, run_folder):
        pipeline.offer(Step(index=1, total=1, denoised=torch.zeros(1, 4, 8, 8)))
    (run_folder.path / "step_0001.png").write_bytes(os.urandom(MB // 2))
    server = serve(tmp_path, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server, run_folder
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


def test_fifty_tabs_and_a_slow_client_all_get_their_pictures(served_run, print_figure, night_s):
    server, run_folder = served_run
    port, content = server.server_port, (run_folder.path / "step_0001.png").read_bytes()
    path = f"/runs/{run_folder.run.id}/step_0001.png?key={server.rules.key}"
    times = 100 if night_s else 2
    with Load(print_figure, "50 tabs") as load:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            received = slow.recv(10_000)  # it reads the rest after all the others
            with ThreadPoolExecutor(50) as tabs:
                sizes = [tabs.submit(fetch, port, path, times) for _ in range(50)]
                for tab in sizes:
                    load.measure()
                    assert tab.result() == [len(content)] * times
            assert fetch(port, f"/runs?key={server.rules.key}")
            while piece := slow.recv(10_000):
                received += piece
        assert received.endswith(content)
    load.print_figure(
        f"50 tabs, {50 * times} pictures of half a MB and a slow client: "
        f"at most {(load.peak - load.before) / MB:.0f} MB more"
    )
    assert load.peak - load.before < 400 * MB  # the memory of the clients is included
    assert sys.getswitchinterval() == 0.005
