"""Faults while a real server samples: the result is the same, the user gets a note, nothing is left behind.

SAFELIGHT_TRIES=20            tries of each fault at a random moment, instead of two
SAFELIGHT_NIGHT=1             functions hang for minutes, longer than the pipeline waits
"""

import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
import uuid

import pytest
import torch
from PIL import Image
from safelight.cli.view import serve
from safelight.preview.saved_run import SavedRun
from safetensors.torch import save_file

from .conftest import ENDS, FOLDER, serving

STEPS, STEP_MS = 8, 40.0
SEED = 4242
PREVIEW, SAMPLER, TROUBLE = "2", "4", "30"
TRIES = int(os.environ.get("SAFELIGHT_TRIES", "2"))
NIGHT = float(os.environ.get("SAFELIGHT_NIGHT", "0"))
STEPS_NAMED = re.compile(r"\bsteps? (\d+(?:-\d+)?(?:, \d+(?:-\d+)?)*)")
SETTLED_S = 10.0  # until threads and files of a run must be gone
ALIKE_BYTES = 96 << 20  # allowed growth of a server after dozens of runs
BEFORE, AFTER = "before the host's callback", "after the host's callback"

pytestmark = pytest.mark.timeout(300)


def named(notes):
    """All steps that the notes name."""
    found = set()
    for span in STEPS_NAMED.findall("\n".join(notes)):
        for part in span.split(", "):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return found


class Ward:
    """A server whose runs have faults, and the checks that must pass afterwards."""

    def __init__(self, server, wire):
        self.server, self.wire = server, wire
        self._again = itertools.count(1)
        self._digests = {}
        self.play(self.graph(preview={}))  # the first picture of a process takes longer
        self.wait_until_quiet()
        self.rss = self.process()["rss"]

    def graph(self, what=None, *, at=3, times=0, path="", when=AFTER, close_s=0.0, name="runs", preview=None, **how):
        """A graph with a fault; it writes its steps to `<output>/faults/<name>_00001` and so on."""
        how = {"steps": STEPS, "step_ms": STEP_MS, "seed": SEED, "again": next(self._again), **how}
        kept = {"write_intermediates": True, "filename_prefix": f"faults/{name}"}
        graph = self.wire(preview={**kept, **(preview or {})}, **how)
        if what is not None:
            trouble = {"model": ["1", 0], "what": what, "at": at, "times": times, "path": str(path), "when": when}
            graph[TROUBLE] = {"class_type": "LabTrouble", "inputs": {**trouble, "close_s": close_s}}
            graph[PREVIEW]["inputs"]["model"] = [TROUBLE, 0]
        return graph

    def play(self, *graphs, **how):
        return self.server.play(*graphs, **how)

    def digest(self, graph):
        """The result without our node and without faults."""
        stock = {key: value for key, value in graph[SAMPLER]["inputs"].items() if key != "model"}
        model = {key: value for key, value in graph["1"]["inputs"].items() if key not in ("again", "step_ms")}
        key = json.dumps([stock, model], sort_keys=True)
        if key not in self._digests:
            bare = self.wire.without_preview(graph)
            bare.pop(TROUBLE, None)
            bare[SAMPLER]["inputs"]["model"] = ["1", 0]
            bare["1"]["inputs"].update(again=next(self._again), step_ms=0.0)
            self._digests[key] = self.play(bare).digest
        return self._digests[key]

    def process(self):
        return self.server.get("/lab/process").json()

    def wait_until_quiet(self):
        """Waits until threads, objects and files of runs are gone; fails if some stay."""
        end = time.monotonic() + SETTLED_S
        while True:
            told = self.process()
            threads = [name for name in told["threads"] if name.startswith("safelight-")]
            places = str(self.server.output), str(self.server.temp), str(self.server.models)
            open_files = [name for name in told["files"] if name.startswith(places)]
            alive = {name: n for name, n in told["ours"].items() if name in OF_A_RUN}
            if not threads and not alive and not open_files:
                return
            assert time.monotonic() < end, f"left behind: {threads}, {alive}, {open_files}"

    def live(self, played):
        """The manifest of a run as the viewer receives it."""
        run = played.named("safelight.run")[-1].data["run"]
        return self.server.get(f"/safelight/runs/{run}").json()

    def goes_on_beside(self):
        """Checks that another run is saved to its last step while something hangs."""
        graph = self.graph(name="beside", step_ms=0.0)
        played = self.play(graph)
        assert played.ends == ["execution_success"]
        assert played.digest == self.digest(graph)
        assert (self.live(played)["state"], self.live(played)["notes"]) == ("finished", [])

    def goes_on(self):
        """Checks that another run, without a fault, is saved to its last step."""
        graph = self.graph(name="afterwards", step_ms=0.0)
        played = self.play(graph)
        assert played.ends == ["execution_success"], played.named("execution_error")
        assert played.digest == self.digest(graph)
        manifest = self.live(played)
        assert (manifest["state"], manifest["notes"]) == ("finished", [])
        folder = max((self.server.output / "faults").glob("afterwards_*"))
        kept = json.loads((folder / "run.json").read_text())
        assert [step["index"] for step in kept["steps"] if step["files"]] == list(range(1, STEPS + 1))
        assert_whole(folder, kept)


OF_A_RUN = ("Watch", "Pipeline", "Mailbox", "Letter", "Snapshots", "Snapshot", "Developer", "Full", "Files")


def assert_whole(folder, manifest):
    """Checks that every listed file exists and can be opened, and that no partial file is left."""
    listed = {name for step in manifest["steps"] for name in step["files"]}
    for name in listed:
        with Image.open(io.BytesIO((folder / name).read_bytes())) as picture:
            picture.load()
    assert not list(folder.glob(".*")), "a partial file is left"
    unlisted = (
        {path.name for path in folder.glob("step_*.*")} - listed - {f"step_{i:04d}.safetensors" for i in range(99)}
    )
    assert not unlisted


@pytest.fixture(scope="module")
def ward(own_server, wire):
    return Ward(own_server, wire)


@pytest.fixture
def name(request):
    return re.sub(r"\W+", "_", request.node.name)


def newest(ward, name):
    return max((ward.server.output / "faults").glob(f"{name}_[0-9]*"))


def stands(ward, graph, played, name, *, told, surely=True, state="finished", folder=True):
    """Checks what must hold after any fault; returns the live manifest and the saved one.

    A note matches `told`. If not `surely`, there may be no note, because the fault may come too late.
    """
    ends = {"finished": "execution_success", "interrupted": "execution_interrupted", "failed": "execution_error"}
    assert played.ends == [ends[state]], played.named("execution_error")
    if state == "finished":
        assert played.digest == ward.digest(graph)
    live = ward.live(played)
    assert live["state"] == state
    assert [event.data["state"] for event in played.named("safelight.run")][-1] == state
    assert bool(told) == bool(live["notes"]) or not surely, live["notes"]
    if live["notes"]:
        assert any(re.search(told, note) for note in live["notes"]), live["notes"]
        assert len(live["notes"]) <= 6, "a flood of notes"
    kept = None
    if folder:
        place = newest(ward, name)
        kept = json.loads((place / "run.json").read_text())
        assert kept["started"] == live["started"]
        assert kept["id"] != live["id"], "the id in published files must not open the live run"
        assert_whole(place, kept)
        steps = {step["index"] for step in kept["steps"] if step["files"]}
        if state == "finished":
            assert set(range(1, STEPS + 1)) - steps <= named(live["notes"]), (steps, live["notes"])
    ward.wait_until_quiet()
    return live, kept


DECODING = {
    "decoder raises": "the lab's decoder fails",
    "decoder raises what cannot be printed": "StrangeError",
    "decoder asks the interpreter to exit": "SystemExit",
    "decoder gives NaN": "returned no finite number",
    "decoder gives infinities": "returned no finite number",
    "decoder gives two colors": r"expected \[1, 3, H, W\]",
    "decoder gives no pixels": "stopped using|not shown|failed",
    "no memory to load": "out of memory",
    "no memory to decode": "out of memory",
    "no memory to copy": "not shown: .*out of memory",
    "no memory for pixels": "out of memory",
    "nothing can be looked up": "stopped using the search for a decoder",
    "encoder fails": "(files: nothing was saved|screen failed)",
    "viewer cannot be told": "screen failed",
}


@pytest.mark.parametrize("times", [1, 0], ids=["once", "from then on"])
@pytest.mark.parametrize("at", [1, 3, STEPS])
@pytest.mark.parametrize("what", DECODING)
def test_a_fault_adds_a_note_that_names_the_missing_steps(ward, name, what, at, times):
    graph = ward.graph(what, at=at, times=times, name=name)
    played = ward.play(graph)
    once_in_a_run = what in ("no memory to load", "nothing can be looked up") and at > 1
    # The last step may be announced after the sampler has ended, and the fault with it.
    surely = not (what == "viewer cannot be told" and at == STEPS)
    told, folder = None if once_in_a_run else DECODING[what], what != "disk fails" or at > 3
    _, kept = stands(ward, graph, played, name, told=told, surely=surely, folder=folder)
    if times and kept and told:
        assert len([step for step in kept["steps"] if step["files"]]) >= STEPS - 1


@pytest.mark.parametrize(
    "what", ["decoder gives some NaN", "decoder gives some infinities", "decoder gives another size"]
)
def test_a_decoders_output_with_strange_numbers_is_a_picture(ward, name, what):
    graph = ward.graph(what, at=3, times=2, name=name)
    played = ward.play(graph)
    _, kept = stands(ward, graph, played, name, told=None)
    assert len(kept["steps"]) == STEPS


# Weights on the disk


def mlp(path, fill=0.1):
    """A decoder of SD1's latents whose weights are all `fill`."""
    layers = {"in_proj": (12, 4), "hidden_layers.0": (12, 12), "out_proj": (3, 12)}
    state = {f"{name}.weight": torch.full(shape, fill) for name, shape in layers.items()}
    save_file(state | {f"{name}.bias": torch.zeros(shape[0]) for name, shape in layers.items()}, path)


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


def replaced_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replaced_by_another(path):
    path.with_suffix(".new").write_bytes(b"x" * 5000)
    path.with_suffix(".new").replace(path)


SPOILED = [truncated, emptied, removed, replaced_by_a_folder, replaced_by_a_pipe, replaced_by_another]


@pytest.fixture(params=["vae_approx", "safelight"])
def weights(request, ward, name):
    """A decoder file of the user; it is deleted after the test."""
    path = ward.server.models / request.param / f"{name[-60:]}.safetensors"
    path.parent.mkdir(exist_ok=True)
    mlp(path)
    yield path
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_a_decoder_file_damaged_before_a_run_adds_a_note(ward, name, weights, spoil):
    ward.server.inputs_of("SafelightPreview")  # the list of decoders is built
    spoil(weights)
    graph = ward.graph(name=name, preview={"decoder": weights.name})
    played = ward.play(graph)
    _, kept = stands(ward, graph, played, name, told=re.escape(weights.name))
    assert [step["index"] for step in kept["steps"] if step["files"]] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_a_decoder_file_damaged_during_a_run_is_used_to_the_end(ward, name, weights, spoil):
    spoiled = []

    def at_a_step(event):
        if event.name == "safelight.step" and not spoiled:
            spoil(weights)
            spoiled.append(event)

    graph = ward.graph(name=name, preview={"decoder": weights.name})
    played = ward.play(graph, on_event=at_a_step)
    assert spoiled
    live, _ = stands(ward, graph, played, name, told=None)
    assert weights.stem in live["decoder"]["name"]
    again = ward.graph(name=name, preview={"decoder": weights.name})
    played = ward.play(again)
    stands(ward, again, played, name, told=re.escape(weights.name))


def test_a_decoder_file_replaced_during_a_run_is_used_in_the_next(ward, name, weights):
    bright = {}

    def replace(event):
        if event.name == "safelight.step" and event.data["index"] == 2:
            mlp(weights.with_suffix(".new"), fill=-0.3)
            weights.with_suffix(".new").replace(weights)

    for turn in ("before", "after"):
        graph = ward.graph(name=name, preview={"decoder": weights.name})
        played = ward.play(graph, on_event=replace if turn == "before" else None)
        stands(ward, graph, played, name, told=None)
        bright[turn] = [path.read_bytes() for path in sorted(newest(ward, name).glob("step_*.png"))]
    with Image.open(io.BytesIO(bright["before"][-1])) as old, Image.open(io.BytesIO(bright["after"][-1])) as new:
        assert old.tobytes() != new.tobytes()


def test_a_pack_with_damaged_weights_still_shows_pictures(ward, name):
    ours = ward.server.base / "custom_nodes" / FOLDER / "weights"
    shipped = {path: path.read_bytes() for path in ours.glob("sd1-*.safetensors")}
    assert shipped
    try:
        for path in shipped:
            truncated(path)
        graph = ward.graph(name=name)
        played = ward.play(graph)
        live, kept = stands(ward, graph, played, name, told="is not the file that shipped.*and .* more like it")
        assert len(kept["steps"]) == STEPS
        assert live["decoder"]["name"]
    finally:
        for path, content in shipped.items():
            path.write_bytes(content)


# Folders on the disk


@pytest.fixture
def mounted(ward):
    """Mounts a small disk in the output folder."""
    places = []

    def mount(name, options):
        place = ward.server.output / "faults" / name
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("below", ["", "a/b/"], ids=["in it", "below it"])
def test_a_read_only_output_folder_adds_a_note(ward, name, mounted, below):
    place = mounted(name, "ro,size=64k")
    graph = ward.graph(preview={"filename_prefix": f"faults/{name}/{below}run"})
    played = ward.play(graph)
    stands(ward, graph, played, name, told="[Rr]ead-only", folder=False)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("kilobytes", [4, 300, 1000])
def test_a_full_disk_loses_only_files_that_notes_name(ward, name, mounted, kilobytes):
    place = mounted(name, f"size={kilobytes}k")
    how = {"height": 64, "width": 96, "seed": SEED + 1}
    graph = ward.graph(preview={"filename_prefix": f"faults/{name}/run", "keep_latents": kilobytes == 1000}, **how)
    played = ward.play(graph)
    live, _ = stands(ward, graph, played, name, told="No space left|has room for", folder=False)
    for folder in place.glob("run_*"):
        assert not list(folder.glob(".*")), "a partial file is left"
        if (folder / "run.json").exists():
            kept = json.loads((folder / "run.json").read_text())
            assert_whole(folder, kept)
            there = {step["index"] for step in kept["steps"] if step["files"]}
            assert set(range(1, STEPS + 1)) - there <= named(live["notes"])
            assert SavedRun.open(folder).pictures(99) is not None


def test_steps_after_the_run_folder_is_deleted_are_named(ward, name):
    place = ward.server.output / "faults" / f"{name}_00001"
    graph = ward.graph("folder is removed", at=4, path=place, name=name)
    played = ward.play(graph)
    live, _ = stands(ward, graph, played, name, told="No such file", folder=False)
    assert {5, 6, 7, 8} <= named(live["notes"])


def test_deleting_the_temporary_folder_leaves_the_saved_run_complete(ward, name):
    graph = ward.graph("folder is removed", at=4, path=ward.server.temp / "safelight", name=name)
    played = ward.play(graph)
    _, kept = stands(ward, graph, played, name, told="screen failed")
    assert [step["index"] for step in kept["steps"] if step["files"]] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("taken", ["step_0006.png", "run.json", "index.html"])
def test_a_folder_at_the_path_of_a_file_loses_only_that_file(ward, name, taken):
    place = ward.server.output / "faults" / f"{name}_00001" / taken
    graph = ward.graph("folder is put there" if "step" in taken else "cancel", at=3, path=place, name=name)
    if "step" not in taken:
        del graph[TROUBLE]
        graph[PREVIEW]["inputs"]["model"] = ["1", 0]

    def swap(event):
        if event.name == "safelight.step" and event.data["index"] == 3 and "step" not in taken:
            place.unlink()
            place.mkdir()

    played = ward.play(graph, on_event=swap)
    live, _ = stands(ward, graph, played, name, told="Is a directory|directory", folder=False)
    if "step" in taken:
        assert 6 in named(live["notes"])
        assert len(list(place.parent.glob("step_*.png"))) == STEPS


def test_a_name_that_exists_gets_the_next_number(ward, name):
    (ward.server.output / "faults").mkdir(exist_ok=True)
    (ward.server.output / "faults" / f"{name}_00001").write_bytes(b"another program's")
    graph = ward.graph(name=name)
    _, kept = stands(ward, graph, ward.play(graph), name, told=None)
    assert newest(ward, name).name == f"{name}_00002"
    assert len(kept["steps"]) == STEPS


@pytest.mark.parametrize("prefix", ["x" * 400, "deep/" * 1500, "x/" + "y" * 300, "taken/steps"])
def test_an_impossible_path_is_refused_before_sampling(ward, name, prefix):
    (ward.server.output / "taken").write_bytes(b"a file where a folder should be")
    played = ward.play(ward.graph(preview={"filename_prefix": prefix}))
    if played.refusal is None:
        assert played.ends == ["execution_error"]
        [error] = played.named("execution_error")
        assert error.data["node_id"] == PREVIEW
        assert "filename_prefix" in error.data["exception_message"]
        assert len(error.data["exception_message"]) < 4000
    ward.wait_until_quiet()


# Threads and time


@pytest.mark.parametrize("at", [1, 4, STEPS])
def test_killing_the_worker_loses_only_steps_that_notes_name(ward, name, at):
    for _ in range(TRIES):
        graph = ward.graph("worker is killed", at=at, name=name)
        played = ward.play(graph)
        assert played.ends == ["execution_success"]
        assert played.digest == ward.digest(graph)
        kept = json.loads((newest(ward, name) / "run.json").read_text())
        live = ward.live(played) if played.named("safelight.run") else kept
        assert kept["state"] == "finished"
        assert live["state"] in ("finished", "failed")  # failed, if the live view was being opened
        there = {step["index"] for step in kept["steps"] if step["files"]}
        assert set(range(1, STEPS + 1)) - there <= named(live["notes"]), (there, live["notes"])
        assert_whole(newest(ward, name), kept)
        ward.wait_until_quiet()


@pytest.mark.parametrize("what", ["files hang", "decoder hangs"])
def test_a_hanging_function_delays_the_end_for_a_limited_time_and_is_named(ward, name, what):
    close_s = 0.0 if NIGHT else 1.5
    graph = ward.graph(what, at=4, name=name, close_s=close_s)
    began = time.monotonic()
    played = ward.play(graph)
    took_s = time.monotonic() - began
    assert played.ends == ["execution_success"]
    assert played.digest == ward.digest(graph)
    assert took_s < (60 + 10 if NIGHT else 2 * close_s) + 8
    live = ward.live(played)
    assert live["state"] == "finished", "the viewer shows the run as running forever"
    assert [event.data["state"] for event in played.named("safelight.run")][-1] == "finished"
    assert any("did not finish" in note for note in live["notes"]), live["notes"]
    folder = newest(ward, name)
    there = {int(path.stem[5:]) for path in folder.glob("step_*.png")}
    assert set(range(1, STEPS + 1)) - there <= named(live["notes"]), (there, live["notes"])
    print(f"{what}: the run and its end took {took_s:.1f} s; {live['notes']}")
    ward.goes_on_beside()
    ward.server.post("/lab/release", {})
    ward.wait_until_quiet()
    assert_whole(folder, json.loads((folder / "run.json").read_text()))


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_a_run_can_be_cancelled_at_every_step(ward, name, when):
    for at in range(1, STEPS + 1):
        # Newer versions of ComfyUI check for Cancel at most ten times a second, outside of a model.
        graph = ward.graph("cancel", at=at, name=name, when=when, step_ms=120.0)
        played = ward.play(graph)
        if at == STEPS and when == AFTER:  # the sampler has finished; ComfyUI stops the nodes after it
            assert ward.live(played)["state"] == "finished"
            ward.wait_until_quiet()
            continue
        taken = at + (when == AFTER) - 1
        before = set((ward.server.output / "faults").glob(f"{name}_[0-9]*"))
        _, kept = stands(ward, graph, played, name, told=None, state="interrupted", folder=taken > 0)
        if not taken:
            assert not {path for path in before if not (path / "run.json").exists()}, "an empty folder is left"
            continue
        shown = [step["index"] for step in kept["steps"] if step["files"]]
        assert shown == list(range(1, at + (when == AFTER))), "steps before the Cancel are missing"
    ward.goes_on()


# Clients


def queue(server, graph, client_id=None, **extra):
    body = {"prompt": graph, "extra_data": extra} | ({"client_id": client_id} if client_id else {})
    reply = server.post("/prompt", body)
    assert reply.status == 200, reply.body
    return reply.json()["prompt_id"]


def ended(server, prompt_id):
    """The history of a prompt, without a websocket client."""
    end = time.monotonic() + 60
    while not (found := server.get(f"/history/{prompt_id}").json()):
        assert time.monotonic() < end
    return found[prompt_id]


def digest_in(history):
    [digest] = [output["digest"][0] for output in history["outputs"].values() if "digest" in output]
    return digest


@pytest.mark.parametrize("client", [None, "a client that never connects"])
def test_a_run_is_saved_if_its_client_never_connects(ward, name, client):
    graph = ward.graph(name=name)
    history = ended(ward.server, queue(ward.server, graph, client and uuid.uuid4().hex))
    assert history["status"]["status_str"] == "success"
    assert digest_in(history) == ward.digest(graph)
    kept = json.loads((newest(ward, name) / "run.json").read_text())
    assert (kept["state"], kept["notes"], len(kept["steps"])) == ("finished", [], STEPS)
    assert_whole(newest(ward, name), kept)
    ward.wait_until_quiet()


@pytest.mark.parametrize("back", [False, True], ids=["for good", "until it comes back"])
def test_a_client_that_disconnects_during_a_run_changes_nothing(ward, name, back):
    import asyncio

    import aiohttp

    graph, client = ward.graph(name=name, step_ms=120.0), uuid.uuid4().hex
    address = f"http://127.0.0.1:{ward.server.port}/ws?clientId={client}"

    async def until(socket, test):
        while True:
            message = await socket.receive(30)
            if message.type == aiohttp.WSMsgType.TEXT and test(told := json.loads(message.data)):
                return told

    async def come_and_go():
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(address) as socket:
                prompt_id = queue(ward.server, graph, client)
                first = await until(socket, lambda told: told["type"] == "safelight.step")
            if not back:
                return prompt_id, first, None
            async with session.ws_connect(address) as socket:
                last = await until(socket, lambda told: told["type"] == "safelight.run")
                return prompt_id, first, last

    prompt_id, first, last = asyncio.run(come_and_go())
    history = ended(ward.server, prompt_id)
    assert digest_in(history) == ward.digest(graph)
    ward.wait_until_quiet()  # a prompt does not wait for its screen
    manifest = ward.server.get(f"/safelight/runs/{first['data']['run']}").json()
    assert (manifest["state"], manifest["notes"]) == ("finished", [])
    assert last is None or (last["data"]["state"], last["data"]["run"]) == ("finished", manifest["id"])
    ward.wait_until_quiet()


def test_two_prompts_in_the_queue_are_two_runs(ward, name):
    graphs = [ward.graph(name=name, seed=SEED + i) for i in range(2)]
    played = ward.play(*graphs)
    assert played.ends == ["execution_success"] * 2
    runs = dict.fromkeys(event.data["run"] for event in played.named("safelight.run"))
    assert len(runs) == 2
    for graph, prompt_id, run in zip(graphs, played.prompt_ids, runs, strict=True):
        assert digest_in(ward.server.get(f"/history/{prompt_id}").json()[prompt_id]) == ward.digest(graph)
        manifest = ward.server.get(f"/safelight/runs/{run}").json()
        assert (manifest["host"]["prompt_id"], manifest["notes"], len(manifest["steps"])) == (prompt_id, [], STEPS)


def test_each_of_two_clients_receives_events_of_its_own_run(ward, name):
    import asyncio

    import aiohttp

    graphs = [ward.graph(name=f"{name}_{who}", seed=SEED + who) for who in (0, 1)]
    prompts = {}

    async def one(session, who):
        client = uuid.uuid4().hex
        heard = []
        async with session.ws_connect(f"http://127.0.0.1:{ward.server.port}/ws?clientId={client}") as socket:
            prompts[who] = queue(ward.server, graphs[who], client)
            while not heard or heard[-1]["type"] not in ENDS:
                message = await socket.receive(60)
                if message.type == aiohttp.WSMsgType.TEXT:
                    heard.append(json.loads(message.data))
        return heard

    async def both():
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(one(session, 0), one(session, 1))

    heard = asyncio.run(both())
    runs = [{told["data"]["run"] for told in some if told["type"].startswith("safelight.")} for some in heard]
    assert [len(some) for some in runs] == [1, 1]
    assert runs[0] != runs[1]
    for who in (0, 1):
        history = ended(ward.server, prompts[who])
        assert digest_in(history) == ward.digest(graphs[who])
        [run] = runs[who]
        assert ward.server.get(f"/safelight/runs/{run}").json()["host"]["prompt_id"] == prompts[who]
    ward.wait_until_quiet()


@pytest.mark.parametrize("way", ["LabNested", "LabTogether"])
def test_two_runs_that_interleave_in_one_prompt_do_not_mix(ward, name, way):
    def graph(preview):
        made = ward.graph(name=name, step_ms=30.0)
        stock = made[SAMPLER]["inputs"]
        given = {key: stock[key] for key in ("positive", "negative", "latent_image", "seed", "steps")}
        inputs = {**given, "model": stock["model"]}
        # Each sampler has its own model: ComfyUI's models do not support two.
        made["40"] = {"class_type": "LabModel", "inputs": {**made["1"]["inputs"], "step_ms": 45.0}}
        second = {**made[PREVIEW]["inputs"], "model": ["40", 0], "filename_prefix": f"faults/{name}_second"}
        made["41"] = {"class_type": "SafelightPreview", "inputs": second}
        inputs["other"] = ["41", 0]
        inputs |= {"at": 3} if way == "LabNested" else {}
        made[SAMPLER] = {"class_type": way, "inputs": inputs}
        made["42"] = {"class_type": "LabDigest", "inputs": {"samples": [SAMPLER, 1]}}
        if not preview:
            made = ward.wire.without_preview(made)
            del made["41"]
            made[SAMPLER]["inputs"]["other"] = ["40", 0]
        return made

    def digests(played):
        return {key: told["digest"] for key, told in played.histories[0]["outputs"].items() if "digest" in told}

    bare = ward.play(graph(preview=False))
    if bare.ends != ["execution_success"]:
        pytest.skip(f"the host itself does not: {bare.named('execution_error')[0].data['exception_message']}")
    played = ward.play(graph(preview=True))
    assert played.ends == ["execution_success"], played.named("execution_error")
    assert len(digests(played)) == 2
    assert digests(played) == digests(bare)
    folders = [ward.server.output / "faults" / f"{prefix}_00001" for prefix in (name, f"{name}_second")]
    manifests = [json.loads((folder / "run.json").read_text()) for folder in folders]
    assert manifests[0]["id"] != manifests[1]["id"]
    for folder, manifest in zip(folders, manifests, strict=True):
        assert (manifest["state"], manifest["notes"]) == ("finished", [])
        assert [step["index"] for step in manifest["steps"] if step["files"]] == list(range(1, STEPS + 1))
        assert_whole(folder, manifest)
    seeds = {manifest["sampler"]["seed"] for manifest in manifests}
    assert seeds == {SEED, SEED + 1}
    ward.wait_until_quiet()


# The server ends


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_server_that_is_stopped_leaves_a_run_that_can_be_opened(tmp_path, wire, how):
    with serving(tmp_path / "host", FOLDER) as server:
        kept = {"write_intermediates": True, "filename_prefix": "stopped/run", "keep_latents": True}
        graph = wire(preview={**kept, "sheet": True, "animation": "webp"}, steps=60, step_ms=100.0, height=32, width=48)
        trouble = {"model": ["1", 0], "what": "half a file", "at": 25, "times": 0, "path": "", "when": AFTER}
        if how is signal.SIGKILL:
            graph[TROUBLE] = {"class_type": "LabTrouble", "inputs": {**trouble, "close_s": 0.0}}
            graph[PREVIEW]["inputs"]["model"] = [TROUBLE, 0]
        queue(server, graph, uuid.uuid4().hex)
        folder, end = server.output / "stopped" / "run_00001", time.monotonic() + 60
        wanted = ".step_0025.png.*.part" if how is signal.SIGKILL else "step_0025.png"
        while not list(folder.glob(wanted)):
            assert time.monotonic() < end, server.log[-3000:]
        server.process.send_signal(how)
        server.process.wait(60)
        half = list(folder.glob(".*.part"))
        assert how is not signal.SIGKILL or half, "the server was not writing a file"
    opened(folder, STATES[how])
    if how is not signal.SIGKILL:
        return
    # The next server leaves the folder as it is and uses the next number.
    with serving(tmp_path / "next", FOLDER) as server:
        shutil.copytree(folder, server.output / "stopped" / "run_00001")
        before = (server.output / "stopped" / "run_00001" / "run.json").read_bytes()
        played = server.play(wire(preview={**kept}))
        assert played.ends == ["execution_success"]
        assert (server.output / "stopped" / "run_00002" / "run.json").exists()
        assert (server.output / "stopped" / "run_00001" / "run.json").read_bytes() == before


# A server that receives SIGTERM may finish the run, if its threads can.
STATES = {
    signal.SIGKILL: ("running",),
    signal.SIGTERM: ("running",),
    signal.SIGINT: ("running", "interrupted", "failed", "finished"),
}


def opened(folder, states=("running",)):
    """The folder of a run that was stopped contains the files that its record lists."""
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["state"] in states
    listed = {name for step in manifest["steps"] for name in step["files"]}
    assert listed, "the record is written once a second"
    for path in folder.glob("step_*.png"):
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            picture.load()
    assert listed <= {path.name for path in folder.glob("step_*.png")}
    run = SavedRun.open(folder)
    assert len(run.pictures(1000)) == len(listed)
    assert run.latents() is not None
    page = (folder / "index.html").read_text()
    assert manifest["id"] in page
    assert "</html>" in page
    with serve(folder.parent, 0) as viewer:
        answering = threading.Thread(target=viewer.serve_forever)
        answering.start()
        try:
            with urllib.request.urlopen(viewer.url) as answer:
                assert answer.status == 200
            runs = [kept for kept in viewer.library.runs().values() if kept.folder == folder.resolve()]
            assert [kept.id for kept in runs] == [manifest["id"]]
            for name in listed:
                file, size = viewer.library.open(manifest["id"], name)
                with file:
                    assert len(file.read()) == size
        finally:
            viewer.shutdown()
            answering.join()


@pytest.mark.timeout(3000)
def test_a_server_that_is_killed_at_any_moment_leaves_a_run_that_can_be_opened(tmp_path, wire):
    moments = random.Random(7)
    for turn in range(TRIES):
        with serving(tmp_path / str(turn), FOLDER) as server:
            kept = {"write_intermediates": True, "filename_prefix": "killed/run", "keep_latents": True}
            graph = wire(preview={**kept, "max_side_px": 0}, steps=400, step_ms=30.0, height=64, width=64)
            queue(server, graph, uuid.uuid4().hex)
            folder, end = server.output / "killed" / "run_00001", time.monotonic() + 300
            wanted = moments.randint(60, 120)
            while not (folder / f"step_{wanted:04d}.png").exists():
                assert time.monotonic() < end, server.log[-3000:]
            server.process.kill()
            server.process.wait(60)
        opened(folder)


@pytest.mark.parametrize("times", [1, 4, 0], ids=["once", "four times", "from then on"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 6, 9, 13, 18])
def test_a_failing_disk_loses_only_files_that_notes_name(ward, name, at, times):
    """Any write of a run may fail: of its record, its page and its pictures."""
    graph = ward.graph("disk fails", at=at, times=times, name=name)
    played = ward.play(graph)
    assert played.ends == ["execution_success"]
    assert played.digest == ward.digest(graph)
    live = ward.live(played)
    assert any("Input/output error" in note for note in live["notes"]), live["notes"]
    assert len(live["notes"]) <= 8
    for folder in (ward.server.output / "faults").glob(f"{name}_*"):
        assert not list(folder.glob(".*")), "a partial file is left"
        pictures = {int(path.stem[5:]) for path in folder.glob("step_*.png")}
        assert set(range(1, STEPS + 1)) - pictures <= named(live["notes"]), (pictures, live["notes"])
        if (folder / "run.json").exists():
            kept = json.loads((folder / "run.json").read_text())
            listed = {file for step in kept["steps"] for file in step["files"]}
            assert all((folder / file).exists() for file in listed)
            assert not times or kept["state"] == "finished", live["notes"]
    ward.wait_until_quiet()


def test_after_all_faults_the_server_samples_and_saves_as_before(ward):
    ward.goes_on()


def test_the_servers_memory_is_as_before_the_faults(ward):
    """The last test on this server."""
    ward.wait_until_quiet()
    grown = ward.process()["rss"] - ward.rss
    print(f"grown by {grown / 2**20:.0f} MB since the first run")
    assert grown < ALIKE_BYTES
