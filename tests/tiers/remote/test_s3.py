"""Runs in a bucket of a real S3 server, which hangs or is killed in the middle of a run."""

import http.client
import json
import subprocess
import sys
import threading

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safelight import recording, watch
from safelight.cli import view
from safelight.errors import SinkError, StoreError
from safelight.hosts.local_server import LOOPBACK

KEY, SECRET = "access-key-of-the-test", "secret-key-of-the-test"
LATENTS = torch.linspace(-1, 1, 32 * 64).reshape(1, 32, 8, 8)


def offer(run, *steps):
    for index in steps:
        run.offer(LATENTS, sigma=0.5, index=index)


def test_a_recorded_run_is_in_the_bucket_when_the_block_ends(bucket):
    with recording("s3://bucket/runs/one", "flux2", steps=4) as run:
        offer(run, 1, 2, 3, 4)
    names = {path.name for path in run.folder.path.iterdir()}
    assert bucket.names("runs/one") == names
    for name in names:
        assert bucket.read(f"runs/one/{name}") == (run.folder.path / name).read_bytes()
    assert json.loads(bucket.read("runs/one/run.json"))["state"] == "finished"
    assert (bucket.type_of("runs/one/index.html"), bucket.type_of("runs/one/sheet.png")) == ("text/html", "image/png")
    with pytest.raises(SinkError, match="s3://bucket/runs/one: expected an empty place for the run"):  # noqa: SIM117
        with recording("s3://bucket/runs/one", "flux2"):
            pass


def test_a_loop_of_the_user_is_watched_into_the_bucket(bucket):
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    latents = LATENTS
    with watch(scheduler, space="flux2", out="s3://bucket/runs", keep_latents=True, screen="off") as watched:
        for timestep in scheduler.timesteps:
            latents = scheduler.step(latents * 0.1, timestep, latents).prev_sample
    name = f"steps_{watched.runs[0].run.id[:8]}"
    assert watched.address == f"s3://bucket/runs/{name}"
    assert bucket.names(f"runs/{name}") == {path.name for path in watched.folder.iterdir()}
    assert "step_0004.safetensors" in bucket.names(f"runs/{name}")
    assert watched.notes == [note for note in watched.notes if "copied" not in note]


def test_a_store_that_is_killed_in_the_middle_of_a_run_costs_named_files(s3, bucket, pauses, until, caplog):
    with recording("s3://bucket/runs/one", "flux2", steps=6) as run:
        offer(run, 1, 2)
        until(lambda: {"step_0001.png", "step_0002.png"} <= bucket.names("runs/one"))
        s3.kill()
        offer(run, 3, 4, 5, 6)  # returns, or the test does not end
    manifest = json.loads((run.folder.path / "run.json").read_text())
    assert manifest["state"] == "finished"
    assert [step["files"] for step in manifest["steps"]] == [[f"step_000{index}.png"] for index in range(1, 7)]
    (note,) = manifest["notes"]
    assert note.startswith("not copied: files of steps 3-6, index.html, run.json, sheet.png, steps.webp; ")
    assert f"{run.folder.path} has them: s3://bucket/runs/one: EndpointConnectionError" in note
    assert note in caplog.text
    assert pauses
    for index in range(1, 7):
        assert (run.folder.path / f"step_000{index}.png").stat().st_size


def test_a_store_that_hangs_in_the_middle_of_a_run_gets_all_files_later(s3, bucket, pauses, until):
    with recording("s3://bucket/runs/one", "flux2", steps=6) as run:
        offer(run, 1)
        until(lambda: "step_0001.png" in bucket.names("runs/one"))
        s3.hang()
        offer(run, 2, 3, 4, 5, 6)  # returns, or the test does not end
        until(lambda: len(run.folder.manifest()["steps"]) == 6)  # the worker writes on, too
        s3.go_on()
    assert run.folder.manifest()["notes"] == []
    assert bucket.names("runs/one") == {path.name for path in run.folder.path.iterdir()}


def test_no_bucket_is_created(bucket):
    with recording("s3://no-such-bucket/runs/one", "flux2", steps=1) as run:
        offer(run, 1)
    (note,) = run.folder.manifest()["notes"]
    assert "The specified bucket does not exist" in note
    assert bucket.buckets() == ["bucket"]


class Viewer:
    """`safelight view` of the bucket, over HTTP."""

    def __init__(self):
        self.server = view.serve("s3://bucket/runs", 0)
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def ask(self, path, value=None):
        connection = http.client.HTTPConnection(LOOPBACK, self.server.server_port, timeout=60)
        cookie = f"key{self.server.server_port}={self.server.rules.key}"
        method, body = ("GET", None) if value is None else ("POST", json.dumps(value))
        connection.request(method, path, body, {"Cookie": cookie, "Content-Type": "application/json"})
        content = connection.getresponse().read()
        connection.close()
        return content

    def close(self):
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def viewer(bucket):
    with recording("s3://bucket/runs/day/one", "flux2", steps=2) as run:
        offer(run, 1, 2)
    viewer = Viewer()
    yield viewer
    viewer.close()


def test_the_viewer_shows_the_bucket_and_saves_a_star_in_it(viewer, bucket):
    (run,) = json.loads(viewer.ask("/library"))["runs"]
    assert (run["folder"], run["state"], run["files"]) == ("day/one", "finished", 2)
    assert viewer.ask(f"/library/{run['id']}/step_0002.png") == bucket.read("runs/day/one/step_0002.png")
    viewer.ask(f"/library/{run['id']}/star", {"star": True})
    assert json.loads(bucket.read("runs/day/one/marks.json"))["star"]


def test_the_viewer_goes_on_while_the_store_is_away(viewer, s3, bucket, monkeypatch):
    monkeypatch.setattr("safelight.hosts.saved_library.QUICK_S", 600.0)
    (run,) = json.loads(viewer.ask("/library"))["runs"]
    picture = viewer.ask(f"/library/{run['id']}/step_0001.png")
    s3.kill()
    assert json.loads(viewer.ask("/library"))["runs"] == [run]
    assert viewer.ask(f"/library/{run['id']}/step_0001.png") == picture
    assert b"error" in viewer.ask(f"/library/{run['id']}/step_0002.png")  # it was not asked for before


def test_a_store_that_is_away_from_the_begin_is_an_error(s3, bucket):
    s3.kill()
    with pytest.raises(StoreError, match="s3://bucket/runs: EndpointConnectionError"):
        view.serve("s3://bucket/runs", 0)


def test_no_file_no_page_and_no_line_of_the_log_contains_a_credential(viewer, s3, bucket, pauses, caplog):
    caplog.set_level("INFO")
    caplog.set_level("DEBUG", "safelight")
    (run,) = json.loads(viewer.ask("/library"))["runs"]
    answers = [viewer.ask(path) for path in ("/", "/library", f"/library/{run['id']}")]
    stored = [bucket.read(name) for name in bucket.names()]
    with recording("s3://bucket/runs/two", "flux2", steps=2) as failed:
        s3.kill()
        offer(failed, 1, 2)
    written = [path.read_bytes() for path in failed.folder.path.iterdir()]
    for content in (*answers, *stored, *written, caplog.text.encode()):
        assert KEY.encode() not in content
        assert SECRET.encode() not in content
    assert "not copied: files of steps 1-2" in caplog.text


def test_the_commands_use_the_bucket(bucket):
    def safelight(*arguments):
        command = [sys.executable, "-m", "safelight", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "s3://bucket/runs/demo_" in safelight("demo", "--steps", "2", "--out", "s3://bucket/runs")
    assert safelight("index", "s3://bucket/runs") == "1 run: s3://bucket/runs/library.html\n"
    assert bucket.type_of("runs/library.html") == "text/html"
