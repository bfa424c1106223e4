"""A real ComfyUI server with this checkout among its custom nodes, and a client like a browser."""

import asyncio
import http.client
import itertools
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = "comfy-safelight-preview"  # hyphens: not a valid module name
HOST = ("SAFELIGHT_COMFYUI", "SAFELIGHT_COMFYUI_PYTHON")  # paths of a checkout and of its Python
START_LIMIT_S = 110.0
ANSWER_LIMIT_S = 90.0  # a run whose files hang ends after 60
ENDS = ("execution_success", "execution_error", "execution_interrupted")
JPEG_PREVIEW, PREVIEW_WITH_METADATA = 1, 4
KEY = "the key that this client sends as a page does"  # without it, the server lists no run

MODEL_DEFAULTS: Mapping[str, Any] = {
    "flow": False,
    "height": 16,
    "width": 24,
    "frames": 1,
    "batch": 1,
    "step_ms": 0.0,
    "fail_at": 0,
    "targets_file": "",
    "again": 0,
    "sound": 0,
}
PREVIEW_DEFAULTS: Mapping[str, Any] = {
    "decoder": "auto",
    "show": "denoised",
    "every_n_steps": 1,
    "max_side_px": 1024,
    "write_intermediates": False,
    "filename_prefix": "safelight/steps",
    "file_format": "png",
    "enlarge": "off",
    "batch": "grid",
    "frames": "first",
}
MODEL, PREVIEW, SPY, SAMPLER, DIGEST = "1", "2", "3", "4", "5"  # node ids in the graphs of `wire`

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Event:
    """A message on a websocket; `size` in bytes, `data` is bytes for a binary one (named `binary<kind>`)."""

    name: str
    data: Any
    size: int


@dataclass(frozen=True)
class Reply:
    """The server's answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Played:
    """The results of prompts: events of their client, events of a second, idle client, and the histories.

    `refusal` is the server's answer if it refused a prompt; then there are no results.
    """

    events: list[Event] = field(default_factory=list)
    overheard: list[Event] = field(default_factory=list)
    prompt_ids: list[str] = field(default_factory=list)
    histories: list[dict[str, Any]] = field(default_factory=list)
    refusal: str | None = None

    def named(self, *names: str) -> list[Event]:
        return [event for event in self.events if event.name in names]

    @property
    def is_queued(self) -> bool:
        """Whether the server still has prompts, according to its events."""
        told = self.named("status")
        return not told or told[-1].data["status"]["exec_info"]["queue_remaining"] != 0

    @property
    def is_shown(self) -> bool:
        """Whether the end of a run has not been announced yet: a sampler does not wait for its screen."""
        states = {event.data["run"]: event.data["state"] for event in self.named("safelight.run")}
        return "running" in states.values()

    @property
    def ends(self) -> list[str]:
        return [event.name for event in self.named(*ENDS)]

    @property
    def digest(self) -> str:
        """The sha256 of the finished latents of the first prompt."""
        return self._told("digest")

    @property
    def held(self) -> bool:
        """Whether only the garbage collector can free the tensors of its sampler, which a LabSpy saw."""
        return self._told("held")

    def _told(self, key: str) -> Any:
        found = [output[key][0] for output in self.histories[0]["outputs"].values() if key in output]
        assert len(found) == 1, f"expected the output of one LabDigest; the prompt ended with {self.named(*ENDS)}"
        return found[0]

    @property
    def previews(self) -> list[bytes]:
        """The host's own preview pictures, as JPEG or PNG bytes."""
        pictures = []
        for event in self.named(f"binary{JPEG_PREVIEW}", f"binary{PREVIEW_WITH_METADATA}"):
            (skip,) = struct.unpack(">I", event.data[4:8])
            pictures.append(event.data[8 + (skip if event.name == f"binary{PREVIEW_WITH_METADATA}" else 0) :])
        return pictures


class Server:
    """A running server; `base` is the folder with its files, `log` the text of its log."""

    def __init__(self, base: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.base, self.port, self.process = base, port, process
        self.output, self.temp, self.models = base / "output", base / "temp", base / "models"

    @property
    def log(self) -> str:
        return (self.base / "server.log").read_text(errors="replace")

    @property
    def version(self) -> str:
        return self.get("/system_stats").json()["system"]["comfyui_version"]

    def get(self, path: str, key: str | None = KEY) -> Reply:
        """Requests `path` unchanged: nothing is quoted, and no `..` is resolved."""
        return self._ask("GET", path, None, {"Safelight-Key": key} if key else {})

    def post(self, path: str, body: Any, key: str | None = None) -> Reply:
        headers = {"Content-Type": "application/json"} | ({"Safelight-Key": key} if key else {})
        return self._ask("POST", path, json.dumps(body), headers)

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT_S)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Reply(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def inputs_of(self, node: str) -> dict[str, Any]:
        """The inputs of a node, in the server's order."""
        info = self.get(f"/object_info/{node}").json()
        assert node in info, f"the server has no node {node}; the end of its log:\n{self.log[-6000:]}"
        return info[node]["input"].get("required", {}) | info[node]["input"].get("optional", {})

    def play(
        self,
        *graphs: Graph,
        workflow: Mapping[str, Any] | None = None,
        on_event: Callable[[Event], None] | None = None,
        metadata_previews: bool = True,
        preview_method: str | None = None,
        key: str | None = KEY,
    ) -> Played:
        """Queues `graphs`, waits until all have ended, in the viewer too, and returns the results.

        `on_event` is called with each message of the client; `preview_method` is for ComfyUI's own previews; `key` is
        the one with which the runs can be listed.
        """
        return asyncio.run(_play(self, graphs, workflow, on_event, metadata_previews, preview_method, key))


async def _play(server: Server, graphs, workflow, on_event, metadata_previews, preview_method, key) -> Played:
    import aiohttp

    played = Played()
    client_id = uuid.uuid4().hex
    socket_of = f"http://127.0.0.1:{server.port}/ws?clientId="
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(socket_of + client_id, max_msg_size=0) as ours,
        session.ws_connect(socket_of + uuid.uuid4().hex, max_msg_size=0) as idle,
    ):
        if metadata_previews:
            await ours.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        for graph in graphs:
            extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
            extra |= {"preview_method": preview_method} if preview_method else {}
            extra |= {"safelight_key": key} if key else {}
            body = {"prompt": graph, "client_id": client_id, "extra_data": extra}
            async with session.post(f"http://127.0.0.1:{server.port}/prompt", json=body) as answer:
                if answer.status != http.HTTPStatus.OK:
                    played.refusal = await answer.text()
                    return played
                played.prompt_ids.append((await answer.json())["prompt_id"])
        running = set(played.prompt_ids)
        while running or played.is_queued or played.is_shown:
            event = await _receive(ours, server)
            played.events.append(event)
            if event.name in ENDS:
                running.discard(event.data["prompt_id"])
            if on_event is not None:
                on_event(event)
        # Both sockets receive all status events in order: with equally many, both have received the same.
        while len([e for e in played.overheard if e.name == "status"]) < len(played.named("status")):
            played.overheard.append(await _receive(idle, server))
    played.histories = [server.get(f"/history/{prompt_id}").json()[prompt_id] for prompt_id in played.prompt_ids]
    return played


async def _receive(websocket, server: Server) -> Event:
    import aiohttp

    try:
        message = await websocket.receive(ANSWER_LIMIT_S)
    except asyncio.TimeoutError:
        pytest.fail(f"no message from the server in {ANSWER_LIMIT_S:.0f} s; the end of its log:\n{server.log[-6000:]}")
    if message.type == aiohttp.WSMsgType.BINARY:
        return Event(f"binary{struct.unpack('>I', message.data[:4])[0]}", message.data, len(message.data))
    if message.type == aiohttp.WSMsgType.TEXT:
        told = json.loads(message.data)
        return Event(told["type"], told["data"], len(message.data.encode()))
    return pytest.fail(f"the server closed the connection; the end of its log:\n{server.log[-6000:]}")


def comfyui_version() -> str:
    """The version of the checkout."""
    return re.search(r'__version__ = "(.+)"', Path(os.environ[HOST[0]], "comfyui_version.py").read_text())[1]


def put_checkout(place: Path) -> None:
    """Copies the files that git tracks or would add, as a clone would contain them."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, place / name)


@contextmanager
def serving(base: Path, folder: str, *flags: str, put: Callable[[Path], None] = put_checkout) -> Iterator[Server]:
    """Runs a server with this checkout in `custom_nodes/<folder>` during the `with` block.

    `put` writes the pack into a folder, if it is another one. After a server has ended, another one can run in the
    same `base`, as after a restart.
    """
    checkout, python = (os.environ[name] for name in HOST)
    for name in ("custom_nodes", "input", "output", "temp", "models/vae_approx", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    put(base / "custom_nodes" / folder)
    lab, ignore = Path(__file__).with_name("lab"), shutil.ignore_patterns("__pycache__")
    shutil.copytree(lab, base / "custom_nodes" / "lab", ignore=ignore, dirs_exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base)]
    command += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--preview-method", "latent2rgb", *flags]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "COV"))}
    with (base / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=subprocess.STDOUT)
        server = Server(base, port, process)
        try:
            wait_until_it_answers(server)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run_folders(first: Path) -> list[Path]:
    """The folders of all runs of a prompt, in the order in which they began; `first` is that of the first."""
    return [first, *sorted(first.glob("run_*"))]


def wait_until_it_answers(server: Server) -> None:
    for _ in range(int(START_LIMIT_S / 0.1)):
        try:
            if server.get("/system_stats").status == http.HTTPStatus.OK:
                return
        except OSError:
            pass
        try:
            server.process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the server ended with {server.process.returncode}; the end of its log:\n{server.log[-6000:]}")
    pytest.fail(f"the server does not answer within {START_LIMIT_S} s; the end of its log:\n{server.log[-6000:]}")


class Wiring:
    """Builds graphs, each with its own seed unless one is given, because a cached sampler does not sample."""

    def __init__(self) -> None:
        self._seeds = itertools.count(1000)

    def __call__(
        self,
        latent_format: str = "SD15",
        *,
        preview: Mapping[str, Any] | None = None,
        spy: str | None = None,
        steps: int = 4,
        sampler: str = "euler",
        seed: int | None = None,
        **model: Any,
    ) -> Graph:
        """A stock KSampler on the lab's model, through a SafelightPreview if `preview` holds inputs of it."""
        graph = {
            MODEL: {
                "class_type": "LabModel",
                "inputs": {
                    "latent_format": latent_format,
                    **MODEL_DEFAULTS,
                    **model,
                },
            }
        }
        line = [MODEL, 0]
        if preview is not None:
            inputs = {"model": line, **PREVIEW_DEFAULTS, **preview}
            graph[PREVIEW] = {"class_type": "SafelightPreview", "inputs": inputs}
            line = [PREVIEW, 0]
        if spy is not None:
            graph[SPY] = {"class_type": "LabSpy", "inputs": {"model": line, "file": spy}}
            line = [SPY, 0]
        graph[SAMPLER] = {
            "class_type": "KSampler",
            "inputs": {
                "model": line,
                "positive": [MODEL, 1],
                "negative": [MODEL, 1],
                "latent_image": [MODEL, 2],
                "seed": next(self._seeds) if seed is None else seed,
                "steps": steps,
                "cfg": 1.0,
                "sampler_name": sampler,
                "scheduler": "normal",
                "denoise": 1.0,
            },
        }
        graph[DIGEST] = {"class_type": "LabDigest", "inputs": {"samples": [SAMPLER, 0]}}
        return graph

    @staticmethod
    def without_preview(graph: Graph) -> Graph:
        """The same graph without SafelightPreview."""
        bare = json.loads(json.dumps({key: node for key, node in graph.items() if key != PREVIEW}))
        for node in bare.values():
            if node["inputs"].get("model") == [PREVIEW, 0]:
                node["inputs"]["model"] = graph[PREVIEW]["inputs"]["model"]
        return bare


@pytest.fixture(scope="session")
def wire() -> Wiring:
    return Wiring()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that most tests share."""
    with serving(tmp_path_factory.mktemp("comfyui"), FOLDER) as server:
        yield server


@pytest.fixture(scope="session")
def quiet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with --disable-metadata, and the pack under another name."""
    with serving(tmp_path_factory.mktemp("comfyui"), "Safelight main (copy)", "--disable-metadata") as server:
        yield server


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for one module, for tests that leave decoders behind."""
    with serving(tmp_path_factory.mktemp("comfyui"), FOLDER) as server:
        yield server


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Callable[[Server], Server]]:
    """Starts a server with the models of another one."""
    with ExitStack() as servers:

        def restart(before: Server) -> Server:
            server = servers.enter_context(serving(tmp_path / "comfyui", FOLDER))
            shutil.copytree(before.models, server.models, dirs_exist_ok=True)
            return server

        yield restart


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, Server):
        report.sections.append(("the end of the server's log", server.log[-6000:]))
    return report
