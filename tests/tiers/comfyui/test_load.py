"""Long and large runs, many clients and a slow client: memory, threads and files of a real server are bounded.

SAFELIGHT_NIGHT=600           also 20 steps a second with a PNG each, for this number of seconds
"""

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

import pytest

from .conftest import KEY, Played

NIGHT_S = float(os.environ.get("SAFELIGHT_NIGHT", "0"))
MB = 1 << 20
PREVIEW = "2"
SETTLED_S = 20.0
TABS = 50
STRAW_BYTES, STRAW_S = 1000, 0.1  # bytes of a read, and seconds until the next: 10 kB/s
MOST_HANDLES = 60  # more than before a run, while it runs
WAITING_MB = 512  # of queued steps; see `preview/decode/memory_budget.py`

pytestmark = pytest.mark.timeout(max(500, NIGHT_S * 2 + 300))


class Watched:
    """Measures memory, threads and files of a server ten times a second, while a block runs."""

    def __init__(self, server):
        self.server, self.path = server, Path("/proc", str(server.process.pid))
        self.rss_mb, self.handles, self.temp_mb = [], [], []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self.look()

    def _watch(self):
        while not self._stop.wait(0.1):
            self.look()

    def look(self):
        status = (self.path / "status").read_text().splitlines()
        self.rss_mb.append(next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024)
        self.handles.append(sum(1 for _ in (self.path / "fd").iterdir()))
        size = 0
        for folder, _, names in os.walk(self.server.temp):  # skips folders that are deleted meanwhile
            for name in names:
                with contextlib.suppress(OSError):  # the file was deleted for newer runs
                    size += Path(folder, name).stat().st_size
        self.temp_mb.append(size / MB)

    def told(self, what):
        return (
            f"{what}: memory {self.rss_mb[0]:.0f} MB, at most {max(self.rss_mb):.0f}, then {self.rss_mb[-1]:.0f}; "
            f"handles {self.handles[0]}, at most {max(self.handles)}, then {self.handles[-1]}; "
            f"temporary files {self.temp_mb[0]:.1f} MB, at most {max(self.temp_mb):.1f}, then {self.temp_mb[-1]:.1f}"
        )


@pytest.fixture(scope="module")
def loaded(own_server, wire):
    """A server that has already run: caches have grown."""
    for how in ({}, {"latent_format": "Wan21", "flow": True, "frames": 3}):
        own_server.play(wire(**{"latent_format": "SD15", **how}, preview={"write_intermediates": True}))
    return own_server


@pytest.fixture
def tell(capsys):
    def tell(text):
        with capsys.disabled():
            print(f"\n    {text}", flush=True)

    return tell


def quiet(server):
    """Measures a server after its runs have ended."""
    end = time.monotonic() + SETTLED_S
    while True:
        told = server.get("/lab/process").json()
        if not [name for name in told["threads"] if name.startswith("safelight-")]:
            break
        assert time.monotonic() < end, told["threads"]
    assert not [name for name in told["ours"] if name in ("Pipeline", "Mailbox", "Snapshot", "Developer", "Watch")]
    return told


def kept_steps(server, folder):
    """The steps of a saved run whose picture exists, and the notes."""
    manifest = json.loads((server.output / folder / "run.json").read_text())
    assert manifest["state"] == "finished"
    there = {path.name for path in (server.output / folder).iterdir()}
    steps = [step["index"] for step in manifest["steps"] if step["files"] and set(step["files"]) <= there]
    return steps, manifest["notes"]


def budget(server, mb):
    assert server.post("/api/settings", {"Safelight.BudgetMB": mb}).status == 200


def test_a_run_of_a_thousand_steps(loaded, wire, tell):
    graph = wire(steps=1000, preview={"write_intermediates": True, "filename_prefix": "load/thousand"})
    with Watched(loaded) as held:
        played = loaded.play(graph)
        quiet(loaded)
    assert played.ends == ["execution_success"]
    assert played.digest == loaded.play(wire.without_preview(graph)).digest
    steps, notes = kept_steps(loaded, "load/thousand_00001")
    assert (steps, notes) == (list(range(1, 1001)), [])
    size_kb = (loaded.output / "load/thousand_00001/run.json").stat().st_size / 1024
    tell(held.told(f"1000 steps, {len(steps)} pictures, run.json {size_kb:.0f} kB"))
    assert max(held.rss_mb) < held.rss_mb[0] + 300
    assert held.rss_mb[-1] < held.rss_mb[0] + 150
    assert max(held.handles) < held.handles[0] + MOST_HANDLES
    assert held.handles[-1] <= held.handles[0] + 3


def test_two_dozen_runs_of_81_frames_stay_within_the_budget(loaded, wire, tell):
    budget(loaded, 1)
    try:
        with Watched(loaded) as held:
            for turn in range(24):
                preview = {"frames": "animated", "write_intermediates": turn == 23, "filename_prefix": "load/video"}
                how = {"flow": True, "frames": 21, "height": 30, "width": 52, "steps": 4}
                played = loaded.play(wire("Wan21", preview=preview, **how))
                assert played.ends == ["execution_success"]
            quiet(loaded)
    finally:
        budget(loaded, 512)
    steps, notes = kept_steps(loaded, "load/video_00001")
    assert (steps, notes) == ([1, 2, 3, 4], [])
    tell(held.told("24 runs of 81 frames, 1 MB for live runs"))
    assert held.temp_mb[-1] < 1 + max(_run_mb(loaded)), "more than the budget and the last run"
    assert max(held.temp_mb[len(held.temp_mb) // 2 :]) < 1 + 2 * max(_run_mb(loaded))
    assert held.rss_mb[-1] < held.rss_mb[0] + 400
    assert held.handles[-1] <= held.handles[0] + 3


def _run_mb(server):
    folders = [place for place in (server.temp / "safelight").iterdir() if place.is_dir()]
    return [sum(file.stat().st_size for file in place.iterdir()) / MB for place in folders]


def test_a_batch_of_64(loaded, wire, tell):
    preview = {"write_intermediates": True, "batch": "all files", "filename_prefix": "load/batch"}
    graph = wire("SDXL", batch=64, height=32, width=32, steps=6, preview=preview)
    with Watched(loaded) as held:
        played = loaded.play(graph)
        quiet(loaded)
    assert played.digest == loaded.play(wire.without_preview(graph)).digest
    steps, notes = kept_steps(loaded, "load/batch_00001")
    files = list((loaded.output / "load/batch_00001").glob("step_*.png"))
    tell(held.told(f"a batch of 64, {len(files)} files"))
    assert (steps, len(files)) == (list(range(1, 7)), 64 * 6)
    assert all("batch" in note for note in notes)
    assert held.rss_mb[-1] < held.rss_mb[0] + 300
    assert max(held.handles) < held.handles[0] + MOST_HANDLES


@pytest.mark.parametrize("decoder", ["auto", "full"])
def test_a_latent_of_4096_px(loaded, wire, tell, decoder):
    name = f"load/large_{decoder}"
    preview = {"write_intermediates": True, "filename_prefix": name, "decoder": decoder, "max_side_px": 0}
    graph = wire("SDXL", height=512, width=512, steps=4, preview=preview)
    bare = wire.without_preview(graph)
    if decoder == "full":
        graph["33"] = {"class_type": "LabDecoder", "inputs": {"tiny": False, "broken": False}}
        graph[PREVIEW]["inputs"]["vae"] = ["33", 0]
    with Watched(loaded) as held:
        played = loaded.play(graph)
        quiet(loaded)
    with Watched(loaded) as without:
        assert loaded.play(bare).digest == played.digest
    steps, _ = kept_steps(loaded, f"{name}_00001")
    tell(held.told(f"a 4096 px latent, decoder {decoder}"))
    tell(without.told("the same without Safelight"))
    assert steps == [1, 2, 3, 4]
    assert max(held.rss_mb) - held.rss_mb[0] < max(without.rss_mb) - without.rss_mb[0] + 3 * WAITING_MB
    assert held.rss_mb[-1] < held.rss_mb[0] + 600


async def _tab(session, server, workflow, stop, seen):
    """A tab that shows the node: it listens, and fetches all pictures as fast as it can."""
    base = f"http://127.0.0.1:{server.port}"
    async with session.ws_connect(f"{base}/ws?clientId={uuid.uuid4().hex}", max_msg_size=0):
        while not stop.is_set():
            query = {"params": {"workflow": workflow, "node": PREVIEW}, "headers": {"Safelight-Key": KEY}}
            async with session.get(f"{base}/safelight/runs", **query) as answer:
                assert answer.status == 200
                runs = await answer.json()
            for run in runs[:1]:
                async with session.get(f"{base}/safelight/runs/{run['id']}") as answer:
                    assert answer.status == 200
                    manifest = await answer.json()
                for name in [file for step in manifest["steps"][-3:] for file in step["files"]]:
                    async with session.get(f"{base}/safelight/runs/{run['id']}/{name}") as answer:
                        seen[answer.status] = seen.get(answer.status, 0) + 1
                        assert (await answer.read())[:3] == b"\xff\xd8\xff"
            await asyncio.sleep(0)


def test_fifty_tabs_fetch_pictures_at_the_same_time(loaded, wire, tell):
    import aiohttp

    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    kept = {"write_intermediates": True, "filename_prefix": "load/tabs"}
    graph = wire(steps=60, step_ms=60.0, preview=kept)
    played, seen, stop = [], {}, threading.Event()

    def play():
        try:
            played.append(loaded.play(graph, workflow=workflow))
        finally:
            stop.set()

    async def look():
        asking = threading.Thread(target=play)
        asking.start()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(_tab(session, loaded, workflow["id"], stop, seen) for _ in range(TABS)))
        asking.join()

    with Watched(loaded) as held:
        began = time.monotonic()
        asyncio.run(look())
        took_s = time.monotonic() - began
        quiet(loaded)
    assert played[0].ends == ["execution_success"]
    assert played[0].digest == loaded.play(wire.without_preview(graph)).digest
    steps, notes = kept_steps(loaded, "load/tabs_00001")
    assert (steps, notes) == (list(range(1, 61)), [])
    tell(held.told(f"{TABS} tabs, {sum(seen.values())} pictures in {took_s:.1f} s, answers {seen}"))
    assert set(seen) == {200}
    assert seen[200] >= TABS
    assert max(held.handles) < held.handles[0] + 3 * TABS + MOST_HANDLES
    assert held.rss_mb[-1] < held.rss_mb[0] + 150


def test_a_client_with_10_kb_a_second_delays_no_run(loaded, wire, tell):
    """A client receives every step and fetches a picture over a slow link; both last longer than the run."""
    client, workflow = uuid.uuid4().hex, {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    straws, stop, swallowed = [], threading.Event(), []

    def straw(request):
        """A connection with a slow reader."""
        with socket.socket() as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            link.settimeout(30)
            link.connect(("127.0.0.1", loaded.port))
            link.sendall(request)
            swallowed.append(0)
            mine = len(swallowed) - 1
            while not stop.wait(STRAW_S):  # the speed of the link
                with contextlib.suppress(TimeoutError):
                    link.settimeout(0.01)
                    swallowed[mine] += len(link.recv(STRAW_BYTES))

    def ask(request):
        straws.append(threading.Thread(target=straw, args=(request,)))
        straws[-1].start()

    host = f"Host: 127.0.0.1:{loaded.port}\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    ask(f"GET /ws?clientId={client} HTTP/1.1\r\n{host}{upgrade}{key}\r\n".encode())
    large = loaded.play(wire("SDXL", height=128, width=128, preview={"max_side_px": 0}), workflow=workflow)
    run = large.named("safelight.step")[-1].data
    asked = f"GET /safelight/runs/{run['run']}/{run['files'][0]} HTTP/1.1\r\n{host}\r\n"
    ask(asked.encode())
    graph = wire(steps=200, step_ms=20.0, preview={"write_intermediates": True, "filename_prefix": "load/straw"})
    try:
        with Watched(loaded) as held:
            began = time.monotonic()
            body = {"prompt": graph, "client_id": client, "extra_data": {"preview_method": "none"}}
            prompt_id = loaded.post("/prompt", body).json()["prompt_id"]
            while not (history := loaded.get(f"/history/{prompt_id}").json()):
                assert time.monotonic() < began + 120
                stop.wait(0.05)
            took_s = time.monotonic() - began
            quiet(loaded)
    finally:
        stop.set()
        for thread in straws:
            thread.join()
    [digest] = [told["digest"][0] for told in history[prompt_id]["outputs"].values() if "digest" in told]
    assert digest == loaded.play(wire.without_preview(graph)).digest
    steps, notes = kept_steps(loaded, "load/straw_00001")
    assert (steps, notes) == (list(range(1, 201)), [])
    tell(held.told(f"10 kB/s: 200 steps of 20 ms in {took_s:.1f} s, {swallowed} bytes were taken"))
    assert took_s < 4 + 16, "the sampler waited"
    assert held.rss_mb[-1] < held.rss_mb[0] + 100


@pytest.mark.skipif(not NIGHT_S, reason="set SAFELIGHT_NIGHT to the seconds that it is to go on, such as 600")
def test_twenty_steps_a_second_with_a_png_each_for_a_long_time(loaded, wire, tell):
    budget(loaded, 16)
    try:
        with Watched(loaded) as held:
            began, runs, slow = time.monotonic(), 0, 0
            while time.monotonic() < began + NIGHT_S:
                runs += 1
                steps = min(2000, max(100, round(20 * (began + NIGHT_S - time.monotonic()))))
                preview = {"write_intermediates": True, "filename_prefix": "load/night"}
                played: Played = loaded.play(
                    wire("SDXL", height=64, width=64, steps=steps, step_ms=50.0, preview=preview)
                )
                assert played.ends == ["execution_success"]
                kept, notes = kept_steps(loaded, f"load/night_{runs:05d}")
                assert (kept, notes) == (list(range(1, steps + 1)), [])
                slow += steps
            took_s = time.monotonic() - began
            quiet(loaded)
    finally:
        budget(loaded, 512)
    tell(held.told(f"{slow} steps with PNGs in {took_s:.0f} s, {runs} runs, 16 MB for live runs"))
    assert max(held.rss_mb) < held.rss_mb[0] + 400
    assert held.handles[-1] <= held.handles[0] + 3
