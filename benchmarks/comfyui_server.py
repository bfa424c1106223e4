"""A real ComfyUI, timed from within while somebody looks on."""

import http.client
import itertools
import json
import os
import queue
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file

from .latent_cases import picture_like

PACK = Path(__file__).resolve().parents[1]
LAB = PACK / "tests" / "comfyui" / "lab"  # the model, and the nodes that take the time
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "runs", "*.egg-info")
START_LIMIT_S, ANSWER_LIMIT_S = 180.0, 120.0
STEPS = 20
STEP_MS = 30.0  # of the model, where it is not the question
CALLBACK_ROUNDS, RUN_ROUNDS = 5, 15
TEXT, EXTENDED, LONG = 1, 126, 127  # RFC 6455, 5.2


class Sampled(NamedTuple):
    """What a stock KSampler samples: the host's name of a latent format, the shape of its latents."""

    latent_format: str
    shape: tuple[int, ...]
    flow: bool


SAMPLED: Mapping[str, Sampled] = {
    "SDXL 128x128": Sampled("SDXL", (1, 4, 128, 128), flow=False),
    "Wan 2.1, 21 frames": Sampled("Wan21", (1, 16, 21, 60, 104), flow=True),
}


class Way(NamedTuple):
    """How a run is shown: by the host's own `preview_method`, by a `node` on the model line with these `inputs`."""

    preview_method: str = "none"
    node: str | None = None
    inputs: Mapping[str, Any] = {}


NOTHING, CORE = "nothing", "ComfyUI, latent2rgb"
SEEN_LAST = {"every_n_steps": 1000}
WAYS: Mapping[str, Way] = {
    NOTHING: Way(),
    CORE: Way("latent2rgb"),
    "Safelight, idle": Way(node="SafelightPreview", inputs=SEEN_LAST),
    "Safelight, screen": Way(node="SafelightPreview"),
    "Safelight, screen and PNGs": Way(node="SafelightPreview", inputs={"write_intermediates": True}),
    "KJNodes, override": Way(node="ModelPreviewOverrideKJ"),
}
IN_RUNS = (NOTHING, CORE, "Safelight, screen and PNGs", "KJNodes, override")


class Times(NamedTuple):
    """Seconds of one run: in the callback, each step; of the whole; before the first step and after the last."""

    callback: Sequence[float]
    whole: float
    start: float
    end: float


def in_callback(host: "Host") -> list[dict[str, Any]]:
    """Time on the sampler's thread of each way: at a step, before the first one, after the last."""
    return [row for name, sampled in SAMPLED.items() for row in _in_callback(host, name, sampled)]


def _in_callback(host: "Host", name: str, sampled: Sampled) -> Iterator[dict[str, Any]]:
    times: dict[str, list[Times]] = {way: [] for way in host.ways}
    for _ in range(CALLBACK_ROUNDS + 1):
        for way in host.ways:  # in every round each has its turn, so that all meet the same machine
            times[way].append(host.sample(sampled, way, step_ms=STEP_MS))
    kept = {way: runs[1:] for way, runs in times.items()}  # the first sets up what is set up once
    steps = {way: sorted(s * 1e6 for run in runs for s in run.callback[1:]) for way, runs in kept.items()}
    p50 = {way: statistics.median(taken) for way, taken in steps.items()}
    for way, taken in steps.items():
        added = p50[way] - p50[NOTHING]
        yield {
            "case": name,
            "way": way,
            "p50 us": p50[way],
            "p95 us": taken[int(0.95 * len(taken))],
            "added us": added,
            "of core's": added / (p50[CORE] - p50[NOTHING]),
            "before the first step, ms": statistics.median(run.start for run in kept[way]) * 1e3,
            "after the last, ms": statistics.median(run.end for run in kept[way]) * 1e3,
        }


def whole_runs(host: "Host", step_ms: float = 50.0) -> list[dict[str, Any]]:
    """How much longer a run takes than one that shows nothing: the median of ratios of neighbours."""
    return [
        {"case": name, "a step": f"{kind} {step_ms:g} ms"} | _slowdowns(host, sampled, **{kind: step_ms})
        for name, sampled in SAMPLED.items()
        for kind in ("waits", "computes")
    ]


def _slowdowns(host: "Host", sampled: Sampled, *, waits: float = 0.0, computes: float = 0.0) -> dict[str, str]:
    ways = [way for way in IN_RUNS if way in host.ways]
    ratios: dict[str, list[float]] = {way: [] for way in ways[1:]}
    for turn in range(RUN_ROUNDS + 1):
        order = ways if turn % 2 else ways[::-1]  # what comes first is not always the same
        whole = {way: host.sample(sampled, way, step_ms=waits, work_ms=computes).whole for way in order}
        for way in ways[1:] if turn else ():
            ratios[way].append(whole[way] / whole[NOTHING])
    return {way: f"{statistics.median(some) - 1:+.1%}" for way, some in ratios.items()}


class Host:
    """A server that answers, with a client that looks on.

    Attributes:
        ways: that this server can show a run.
    """

    def __init__(self, base: Path, port: int) -> None:
        self._base, self._port = base, port
        self._client = Client(port)
        self._seeds = itertools.count(1)
        known = self._get("/object_info")
        self.ways = {name: way for name, way in WAYS.items() if way.node is None or way.node in known}
        self._defaults = {way.node: _defaults(known[way.node]) for way in self.ways.values() if way.node}

    def close(self) -> None:
        """Looks on no longer."""
        self._client.close()

    def sample(self, sampled: Sampled, way: str, *, step_ms: float = 0.0, work_ms: float = 0.0) -> Times:
        """Runs a stock KSampler."""
        graph = self._graph(sampled, WAYS[way], step_ms, work_ms)
        extra = {"preview_method": WAYS[way].preview_method}
        body = {"prompt": graph, "client_id": self._client.id, "extra_data": extra}
        prompt_id = _ask(self._port, "/prompt", json.dumps(body))["prompt_id"]
        self._client.wait_for(prompt_id)
        outputs = self._get(f"/history/{prompt_id}")[prompt_id]["outputs"]
        if "times" not in outputs:
            raise RuntimeError(f"ComfyUI failed to sample; the end of its log:\n{_log(self._base)}")
        seen = json.loads(outputs["times"]["times"][0])
        start, end = seen["began"] - seen["entered"], seen["left"] - seen["ended"]
        return Times(seen["callback"], seen["left"] - seen["entered"], start, end)

    def _graph(self, sampled: Sampled, way: Way, step_ms: float, work_ms: float) -> dict[str, Any]:
        frames, height, width = (1, *sampled.shape[2:])[-3:]
        model = {"latent_format": sampled.latent_format, "flow": sampled.flow, "targets_file": self._target(sampled)}
        model |= {"height": height, "width": width, "frames": frames, "batch": 1, "step_ms": step_ms}
        graph = {"model": _node("LabModel", **model, fail_at=0, again=0)}

        def put(name: str, node: str, **inputs: Any) -> None:
            graph[name] = _node(node, model=[next(reversed(graph)), 0], **inputs)

        if work_ms:
            put("work", "LabWork", work_ms=work_ms)
        put("outside", "LabOutside")
        if way.node is not None:
            put("preview", way.node, **{**self._defaults[way.node], **way.inputs})
        put("inside", "LabInside")
        line = {"positive": ["model", 1], "negative": ["model", 1], "latent_image": ["model", 2]}
        how = {"steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
        put("sampler", "KSampler", seed=next(self._seeds), **line, **how)
        graph["times"] = _node("LabTimes", samples=["sampler", 0])
        return graph

    def _target(self, sampled: Sampled) -> str:
        """A file with the latents that the sampler ends in."""
        file = self._base / f"{sampled.latent_format}.safetensors"
        if not file.exists():
            save_file({"latents": picture_like(sampled.shape)}, file)
        return str(file)

    def _get(self, path: str) -> Any:
        return _ask(self._port, path)


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _defaults(info: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a node's fields before anybody has touched them."""
    fields = info["input"].get("required", {}) | info["input"].get("optional", {})
    found = {}
    for name, (kind, *facts) in fields.items():
        told = facts[0] if facts else {}
        choices = kind if isinstance(kind, list) else told.get("options")
        default = told.get("default", choices[0] if choices else None)
        if default is not None:
            found[name] = default
    return found


class Client:
    """Looks on as the viewer does: is told of steps by a websocket, fetches the picture of each."""

    def __init__(self, port: int) -> None:
        self.id = uuid.uuid4().hex
        self._port = port
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(
            f"GET /ws?clientId={self.id} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: c2FmZWxpZ2h0IGJlbmNoIQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def close(self) -> None:
        """Looks on no longer."""
        with suppress(OSError):  # the server may have gone first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._listening.join()

    def wait_for(self, prompt_id: str) -> None:
        """Returns once this prompt has ended, well or not, and the history has it."""
        while self._ended.get(timeout=ANSWER_LIMIT_S) != prompt_id:
            pass

    def _listen(self) -> None:
        with self._socket, closing(http.client.HTTPConnection("127.0.0.1", self._port)) as pictures:
            self._look_on(pictures)

    def _look_on(self, pictures: http.client.HTTPConnection) -> None:
        ended = None
        for message in messages(self._socket):
            told = json.loads(message)
            data = told.get("data", {})
            if told["type"] == "safelight.step":
                for file in data.get("files", ()):
                    pictures.request("GET", f"/safelight/runs/{data['run']}/{file}")
                    pictures.getresponse().read()
            elif told["type"] in ("execution_success", "execution_error"):
                ended = data["prompt_id"]
            elif told["type"] == "status" and ended and not data["status"]["exec_info"]["queue_remaining"]:
                self._ended.put(ended)
                ended = None


def messages(connection: socket.socket) -> Iterator[bytes]:
    """The text messages of a websocket that was asked for, until its other end closes."""
    with connection.makefile("rb") as stream:
        while stream.readline().strip():
            pass  # what the server answers to the request
        while head := stream.read(2):
            kind, size = head[0] & 0x0F, head[1] & 0x7F
            if size in (EXTENDED, LONG):
                size = int.from_bytes(stream.read(2 if size == EXTENDED else 8), "big")
            content = stream.read(size)
            if kind == TEXT:
                yield content


@contextmanager
def serving(checkout: Path, python: Path, rivals: Sequence[Path]) -> Iterator[Host]:
    """ComfyUI with this pack, the lab and `rivals` among its custom nodes, until the end of the `with` block."""
    with tempfile.TemporaryDirectory(prefix="safelight-benchmark-") as temp:
        base = Path(temp)
        for name in ("custom_nodes", "input", "output", "temp", "models/vae_approx", "user"):
            (base / name).mkdir(parents=True)
        for name, folder in {"safelight": PACK, "lab": LAB, **{rival.name: rival for rival in rivals}}.items():
            shutil.copytree(folder, base / "custom_nodes" / name, ignore=NOT_COPIED)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
        command += ["--base-directory", temp, "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        with (base / "server.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the host that the caller named
                command, cwd=checkout, env=dict(os.environ), stdout=log, stderr=subprocess.STDOUT
            )
            try:
                _wait_until_it_answers(port, process, base)
                with closing(Host(base, port)) as host:
                    yield host
            finally:
                process.terminate()
                process.wait()


def _wait_until_it_answers(port: int, process: "subprocess.Popen[bytes]", base: Path) -> None:
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            _ask(port, "/system_stats")
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"ComfyUI does not answer; the end of its log:\n{_log(base)}")


def _ask(port: int, path: str, body: str | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{path}: ComfyUI answered {answer.status}: {content[:2000].decode(errors='replace')}")
    return json.loads(content)


def _log(base: Path) -> str:
    return (base / "server.log").read_text(errors="replace")[-4000:]
