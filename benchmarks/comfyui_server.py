"""Measures a real ComfyUI server from inside, while a client shows the previews."""

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
LAB = PACK / "tests" / "tiers" / "comfyui" / "lab"  # nodes with a model, and nodes that measure
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "runs", "*.egg-info")
START_LIMIT_S, RESPONSE_LIMIT_S = 180.0, 120.0
SAMPLER_STEPS = 20
STEP_MS = 30.0  # of the model, for measurements of the callback
CALLBACK_ROUNDS, RUN_ROUNDS = 5, 15
TEXT_FRAME, SIZE_16_BIT, SIZE_64_BIT = 1, 126, 127  # RFC 6455, 5.2


class SampledLatents(NamedTuple):
    """The latents that a stock KSampler samples: ComfyUI's format, their shape, and whether the model is a flow."""

    latent_format: str
    shape: tuple[int, ...]
    flow: bool


SAMPLED: Mapping[str, SampledLatents] = {
    "SDXL 128x128": SampledLatents("SDXL", (1, 4, 128, 128), flow=False),
    "Wan 2.1, 21 frames": SampledLatents("Wan21", (1, 16, 21, 60, 104), flow=True),
}


class HostPreview(NamedTuple):
    """A preview of a run: ComfyUI's `preview_method`, or a `node` on the model input with these `inputs`."""

    preview_method: str = "none"
    node: str | None = None
    inputs: Mapping[str, Any] = {}


NO_PREVIEW, CORE = "no preview", "ComfyUI, latent2rgb"
LAST_STEP_ONLY = {"every_n_steps": 1000}
HOST_PREVIEWS: Mapping[str, HostPreview] = {
    NO_PREVIEW: HostPreview(),
    CORE: HostPreview("latent2rgb"),
    "Safelight, idle": HostPreview(node="SafelightPreview", inputs=LAST_STEP_ONLY),
    "Safelight, screen": HostPreview(node="SafelightPreview"),
    "Safelight, screen and PNGs": HostPreview(node="SafelightPreview", inputs={"write_intermediates": True}),
    "KJNodes, override": HostPreview(node="ModelPreviewOverrideKJ"),
}
RUN_PREVIEWS = (NO_PREVIEW, CORE, "Safelight, screen and PNGs", "KJNodes, override")


class Times(NamedTuple):
    """Seconds of one run: of each callback, of the whole run, before the first step and after the last."""

    callback: Sequence[float]
    whole: float
    start: float
    end: float


def in_callback(host: "Host") -> list[dict[str, Any]]:
    """Measures the time on the sampler's thread of each preview: per step, before the first and after the last."""
    return [row for name, sampled in SAMPLED.items() for row in _in_callback(host, name, sampled)]


def _in_callback(host: "Host", name: str, sampled: SampledLatents) -> Iterator[dict[str, Any]]:
    times: dict[str, list[Times]] = {method: [] for method in host.previews}
    for _ in range(CALLBACK_ROUNDS + 1):
        for method in host.previews:  # alternating, so that all run on the same machine load
            times[method].append(host.sample(sampled, method, step_ms=STEP_MS))
    counted = {method: runs[1:] for method, runs in times.items()}  # the first run sets up what is needed once
    steps = {method: sorted(s * 1e6 for run in runs for s in run.callback[1:]) for method, runs in counted.items()}
    p50 = {method: statistics.median(times_us) for method, times_us in steps.items()}
    for method, times_us in steps.items():
        added = p50[method] - p50[NO_PREVIEW]
        yield {
            "case": name,
            "method": method,
            "p50 us": p50[method],
            "p95 us": times_us[int(0.95 * len(times_us))],
            "added us": added,
            "times core's": added / (p50[CORE] - p50[NO_PREVIEW]),
            "before the first step, ms": statistics.median(run.start for run in counted[method]) * 1e3,
            "after the last, ms": statistics.median(run.end for run in counted[method]) * 1e3,
        }


def whole_runs(host: "Host", step_ms: float = 50.0) -> list[dict[str, Any]]:
    """Measures the additional time of a run, compared with one without previews: the median of consecutive pairs."""
    return [
        {"case": name, "step": f"{kind} {step_ms:g} ms"} | _slowdowns(host, sampled, **{kind: step_ms})
        for name, sampled in SAMPLED.items()
        for kind in ("waits", "computes")
    ]


def _slowdowns(host: "Host", sampled: SampledLatents, *, waits: float = 0.0, computes: float = 0.0) -> dict[str, str]:
    methods = [method for method in RUN_PREVIEWS if method in host.previews]
    ratios: dict[str, list[float]] = {method: [] for method in methods[1:]}
    for round_ in range(RUN_ROUNDS + 1):
        order = methods if round_ % 2 else methods[::-1]  # the first one changes
        whole = {method: host.sample(sampled, method, step_ms=waits, work_ms=computes).whole for method in order}
        for method in methods[1:] if round_ else ():
            ratios[method].append(whole[method] / whole[NO_PREVIEW])
    return {method: f"{statistics.median(values) - 1:+.1%}" for method, values in ratios.items()}


class Host:
    """A running server, with a client that shows its previews.

    Attributes:
        previews: previews that this server has.
        url: its address.
    """

    def __init__(self, base: Path, port: int) -> None:
        self._base, self._port = base, port
        self.url = f"http://127.0.0.1:{port}"
        self._client = Client(port)
        self._seeds = itertools.count(1)
        nodes = self._get("/object_info")
        self.previews = {
            name: method for name, method in HOST_PREVIEWS.items() if method.node is None or method.node in nodes
        }
        self._defaults = {
            method.node: _default_inputs(nodes[method.node]) for method in self.previews.values() if method.node
        }

    def close(self) -> None:
        """Disconnects the client."""
        self._client.close()

    def sample(self, sampled: SampledLatents, method: str, *, step_ms: float = 0.0, work_ms: float = 0.0) -> Times:
        """Runs a stock KSampler and returns its times."""
        graph = self._graph(sampled, HOST_PREVIEWS[method], step_ms, work_ms)
        extra = {"preview_method": HOST_PREVIEWS[method].preview_method}
        body = {"prompt": graph, "client_id": self._client.id, "extra_data": extra}
        prompt_id = _request(self._port, "/prompt", json.dumps(body))["prompt_id"]
        self._client.wait_for(prompt_id)
        outputs = self._get(f"/history/{prompt_id}")[prompt_id]["outputs"]
        if "times" not in outputs:
            raise RuntimeError(f"ComfyUI failed to sample; the end of its log:\n{_log(self._base)}")
        clock = json.loads(outputs["times"]["times"][0])
        start, end = clock["began"] - clock["entered"], clock["left"] - clock["ended"]
        return Times(clock["callback"], clock["left"] - clock["entered"], start, end)

    def _graph(self, sampled: SampledLatents, preview: HostPreview, step_ms: float, work_ms: float) -> dict[str, Any]:
        frames, height, width = (1, *sampled.shape[2:])[-3:]
        model = {"latent_format": sampled.latent_format, "flow": sampled.flow, "targets_file": self._target(sampled)}
        model |= {"height": height, "width": width, "frames": frames, "batch": 1, "step_ms": step_ms}
        graph = {"model": _node("LabModel", **model, fail_at=0, again=0)}

        def add(name: str, node: str, **inputs: Any) -> None:
            graph[name] = _node(node, model=[next(reversed(graph)), 0], **inputs)

        if work_ms:
            add("work", "LabWork", work_ms=work_ms)
        add("outside", "LabOutside")
        if preview.node is not None:
            add("preview", preview.node, **{**self._defaults[preview.node], **preview.inputs})
        add("inside", "LabInside")
        connections = {"positive": ["model", 1], "negative": ["model", 1], "latent_image": ["model", 2]}
        settings = {"steps": SAMPLER_STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
        add("sampler", "KSampler", seed=next(self._seeds), **connections, **settings)
        graph["times"] = _node("LabTimes", samples=["sampler", 0])
        return graph

    def _target(self, sampled: SampledLatents) -> str:
        """Writes a file with the final latents of the sampler, and returns its path."""
        file = self._base / f"{sampled.latent_format}.safetensors"
        if not file.exists():
            save_file({"latents": picture_like(sampled.shape)}, file)
        return str(file)

    def _get(self, path: str) -> Any:
        return _request(self._port, path)


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _default_inputs(info: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the default inputs of a node, from ComfyUI's description of it."""
    inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
    defaults = {}
    for name, (kind, *facts) in inputs.items():
        settings = facts[0] if facts else {}
        choices = kind if isinstance(kind, list) else settings.get("options")
        default = settings.get("default", choices[0] if choices else None)
        if default is not None:
            defaults[name] = default
    return defaults


class Client:
    """Does what the viewer does: receives steps from a websocket, and fetches the picture of each."""

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
        """Disconnects."""
        with suppress(OSError):  # the server may have closed the connection
            self._socket.shutdown(socket.SHUT_RDWR)
        self._listening.join()

    def wait_for(self, prompt_id: str) -> None:
        """Waits until a prompt has ended, with or without an error, and is in the history."""
        while self._ended.get(timeout=RESPONSE_LIMIT_S) != prompt_id:
            pass

    def _listen(self) -> None:
        with self._socket, closing(http.client.HTTPConnection("127.0.0.1", self._port)) as pictures:
            self._follow(pictures)

    def _follow(self, pictures: http.client.HTTPConnection) -> None:
        ended = None
        for message in messages(self._socket):
            event = json.loads(message)
            data = event.get("data", {})
            if event["type"] == "safelight.step":
                for file in data.get("files", ()):
                    pictures.request("GET", f"/safelight/runs/{data['run']}/{file}")
                    pictures.getresponse().read()
            elif event["type"] in ("execution_success", "execution_error"):
                ended = data["prompt_id"]
            elif event["type"] == "status" and ended and not data["status"]["exec_info"]["queue_remaining"]:
                self._ended.put(ended)
                ended = None


def messages(connection: socket.socket) -> Iterator[bytes]:
    """Yields the text messages of a websocket, after the handshake, until the server closes it."""
    with connection.makefile("rb") as stream:
        while stream.readline().strip():
            pass  # the response to the handshake
        while head := stream.read(2):
            kind, size = head[0] & 0x0F, head[1] & 0x7F
            if size in (SIZE_16_BIT, SIZE_64_BIT):
                size = int.from_bytes(stream.read(2 if size == SIZE_16_BIT else 8), "big")
            content = stream.read(size)
            if kind == TEXT_FRAME:
                yield content


@contextmanager
def serving(checkout: Path, python: Path, rivals: Sequence[Path]) -> Iterator[Host]:
    """Runs ComfyUI with this package, the lab and `rivals` as custom nodes, until the end of the `with` block."""
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
            process = subprocess.Popen(  # noqa: S603 - the Python that the caller names
                command, cwd=checkout, env=dict(os.environ), stdout=log, stderr=subprocess.STDOUT
            )
            try:
                _wait_for_server(port, process, base)
                with closing(Host(base, port)) as host:
                    yield host
            finally:
                process.terminate()
                process.wait()


def _wait_for_server(port: int, process: "subprocess.Popen[bytes]", base: Path) -> None:
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            _request(port, "/system_stats")
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"ComfyUI does not respond; the end of its log:\n{_log(base)}")


def _request(port: int, path: str, body: str | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RESPONSE_LIMIT_S)
    try:
        connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{path}: ComfyUI responded {response.status}: {content[:2000].decode(errors='replace')}")
    return json.loads(content)


def _log(base: Path) -> str:
    return (base / "server.log").read_text(errors="replace")[-4000:]
