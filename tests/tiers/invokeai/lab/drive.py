"""Uses a real InvokeAI as its UI does: `python drive.py PACK WORKPLACE`, with the Python that has InvokeAI.

It writes what it saw to `seen.json` in the workplace.
"""

import base64
import hashlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests
import socketio
import torch
from PIL import Image
from safetensors.torch import load_file

PACK, PLACE = Path(sys.argv[1]), Path(sys.argv[2])
# The VAE of the tiny model is random, so a fit to it would be refused. `tests/fitting/test_plausibility.py` tests that.
# InvokeAI loads packs in any order, and again on request.
ANY_VAE = """
import sys

for name, module in list(sys.modules.items()):
    if name.endswith("safelight-preview.fitting.fit"):
        module.require_known_scores = lambda *_: None
"""
ROOT = PLACE / "root"
STEPS, SIZE = 4, 64
HERE = Path(__file__).parent
OF_EVERY_NODE = {"id", "type", "is_intermediate", "use_cache"}  # not listed in a workflow
EXAMPLES = ("preview_steps", "contact_sheet", "continue_run")  # workflows that need nothing but a model
ENDS = ("completed", "failed", "canceled")


class Server:
    """A running InvokeAI and the events that it sent to a client."""

    def __init__(self, **more: str) -> None:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
        settings = {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "DEVICE": "cpu",
            "PRECISION": "float32",
            "PATCHMATCH": "false",
            "USE_MEMORY_DB": "true",
            "HASHING_ALGORITHM": "random",
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("INVOKEAI_")}
        env = others | {f"INVOKEAI_{name}": value for name, value in settings.items()} | {"HF_HUB_OFFLINE": "1"} | more
        self.log = PLACE / "server.log"
        web = Path(sys.executable).parent / "invokeai-web"
        self.process = subprocess.Popen(
            [web, "--root", ROOT], env=env, stdout=self.log.open("w"), stderr=subprocess.STDOUT
        )
        self.at = f"http://127.0.0.1:{port}"
        while True:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                self.version = requests.get(f"{self.at}/api/v1/app/version", timeout=5).json()["version"]
                break
            except requests.RequestException:
                time.sleep(0.3)
        self.events: list[tuple[str, dict]] = []
        self.client = socketio.Client()
        self.client.on("*", lambda name, data: self.events.append((name, data)))
        self.client.connect(self.at, socketio_path="/ws/socket.io", transports=["websocket"])
        self.client.emit("subscribe_queue", {"queue_id": "default"})

    def get(self, path: str) -> dict:
        return requests.get(f"{self.at}/api/{path}", timeout=60).json()

    def stop(self) -> None:
        self.client.disconnect()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def install(self, folder: Path) -> dict:
        job = requests.post(
            f"{self.at}/api/v2/models/install", params={"source": str(folder), "inplace": "true"}, json={}, timeout=60
        ).json()
        while job["status"] not in ("completed", "error", "cancelled"):
            time.sleep(0.2)
            job = self.get(f"v2/models/install/{job['id']}")
        return self.get("v2/models/")["models"][0]

    def queue(self, graph: dict, workflow: dict | None = None) -> int:
        batch = {"graph": graph, "runs": 1, "workflow": workflow}
        answer = requests.post(f"{self.at}/api/v1/queue/default/enqueue_batch", json={"batch": batch}, timeout=60)
        assert answer.ok, answer.text[:2000]
        queued = answer.json()
        if "item_ids" in queued:
            return queued["item_ids"][0]
        batch = queued["batch"]["batch_id"]  # InvokeAI 5
        return next(
            item["item_id"]
            for item in self.get("v1/queue/default/list?limit=1000")["items"]
            if item["batch_id"] == batch
        )

    def wait(self, item: int) -> dict:
        while (found := self.get(f"v1/queue/default/i/{item}"))["status"] not in ENDS:
            time.sleep(0.05)
        return found

    def previews(self, item: int, kind: str) -> list[dict]:
        """The progress events of a node type, each with the size of its picture, if it has one."""
        found = []
        for name, data in list(self.events):
            if name != "invocation_progress" or data.get("item_id") != item or data["invocation"]["type"] != kind:
                continue
            image = data.get("image")
            event = {"message": data["message"], "percentage": data["percentage"], "size": None, "shown": None}
            if image:
                raw = base64.b64decode(image["dataURL"].split(",")[1])
                opened = Image.open(io.BytesIO(raw))
                event |= {"size": opened.size, "shown": [image["width"], image["height"]], "format": opened.format}
            found.append(event)
        return found

    def result(self, item: dict, node: str) -> dict:
        """The output of a node."""
        return next(item["session"]["results"][name] for name in item["session"]["source_prepared_mapping"][node])

    def picture(self, item: dict, node: str) -> Image.Image:
        """The image that a node created."""
        name = self.result(item, node)["image"]["image_name"]
        raw = requests.get(f"{self.at}/api/v1/images/i/{name}/full", timeout=60).content
        return Image.open(io.BytesIO(raw)).convert("RGB")

    def image(self, item: dict, node: str) -> bytes:
        """Pixels of the image that a node created."""
        return self.picture(item, node).tobytes()

    def latents(self, item: dict, node: str) -> dict:
        """The digest of the latents that a node created, bit by bit, and their shape."""
        name = self.result(item, node)["latents"]["latents_name"]
        [path] = (ROOT / "outputs" / "tensors").rglob(name)
        return digest_of(torch.load(path, weights_only=True))

    def upload(self, image: Image.Image) -> dict:
        """Uploads an image of the user."""
        file = io.BytesIO()
        image.save(file, "PNG")
        answer = requests.post(
            f"{self.at}/api/v1/images/upload",
            params={"image_category": "user", "is_intermediate": "false"},
            files={"file": ("photograph.png", file.getvalue(), "image/png")},
            timeout=60,
        )
        assert answer.ok, answer.text[:2000]
        return {"image_name": answer.json()["image_name"]}

    @property
    def schemas(self) -> dict:
        """Schemas of all nodes, by type."""
        schemas = self.get("../openapi.json")["components"]["schemas"].values()
        nodes = [schema for schema in schemas if schema.get("class") == "invocation"]
        return {schema["properties"]["type"]["default"]: schema for schema in nodes}


def digest_of(latents: torch.Tensor) -> dict:
    content = latents.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return {"digest": hashlib.sha256(content).hexdigest(), "shape": list(latents.shape)}


def edge(source: str, output: str, target: str, field: str) -> dict:
    return {"source": {"node_id": source, "field": output}, "destination": {"node_id": target, "field": field}}


def identity(model: dict) -> dict:
    return {name: model[name] for name in ("key", "hash", "name", "base", "type")}


def graph_of(model: dict, denoise: str, *, vae: bool = False, preview_vae: bool = False, **settings) -> dict:
    nodes = {
        "model": {"type": "main_model_loader", "model": identity(model)},
        "words": {"type": "compel", "prompt": "a cat"},
        "none": {"type": "compel", "prompt": ""},
        "noise": {"type": "noise", "seed": 7, "width": SIZE, "height": SIZE},
        "denoise": {"type": denoise, "steps": STEPS, "cfg_scale": 5.0, "scheduler": "dpmpp_2m", **settings},
        "vae": {"type": "l2i", "fp32": True},
        "draft": {"type": "safelight_quick_decode", "enlarge": "off"},
    }
    edges = [
        edge("model", "unet", "denoise", "unet"),
        edge("model", "unet", "draft", "unet"),
        edge("model", "clip", "words", "clip"),
        edge("model", "clip", "none", "clip"),
        edge("model", "vae", "vae", "vae"),
        edge("words", "conditioning", "denoise", "positive_conditioning"),
        edge("none", "conditioning", "denoise", "negative_conditioning"),
        edge("noise", "noise", "denoise", "noise"),
        edge("denoise", "latents", "vae", "latents"),
        edge("denoise", "latents", "draft", "latents"),
    ]
    if not vae:
        del nodes["vae"]
        edges = [link for link in edges if link["destination"]["node_id"] != "vae"]
    if preview_vae:
        edges.append(edge("model", "vae", "denoise", "preview_vae"))
    return {"id": "graph", "nodes": {name: {"id": name, **node} for name, node in nodes.items()}, "edges": edges}


def play(server: Server, model: dict, denoise: str, *, vae: bool = False, **settings) -> dict:
    return played(server, server.queue(graph_of(model, denoise, vae=vae, **settings)), denoise, vae=vae)


def played(server: Server, queued: int, denoise: str, *, vae: bool = False) -> dict:
    """The result of a graph with a denoise node of this type."""
    item = server.wait(queued)
    if item["status"] != "completed":
        return {"status": item["status"], "error": item.get("error_message"), "traceback": item.get("error_traceback")}
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not any(
        name == "queue_item_status_changed" and data["item_id"] == queued and data["status"] == "completed"
        for name, data in list(server.events)
    ):
        time.sleep(0.02)
    return {
        "status": item["status"],
        "final": server.image(item, "vae").hex() if vae else None,
        "draft": server.image(item, "draft").hex(),
        "latents": server.latents(item, "denoise"),
        "previews": server.previews(queued, denoise),
    }


def ruled(server: Server, model: dict) -> dict:
    """A run of 60 steps that the user's rule ends, and the estimate that it has saved of the kept step."""
    rule = {"stop_below_percent": 1.0, "stop_after_steps": 3}
    files = {"write_intermediates": True, "keep_latents": True, "filename_prefix": "ruled/run"}
    found = play(server, model, "safelight_denoise_latents", steps=60, scheduler="euler", **rule, **files)
    folder = ROOT / "outputs" / "ruled" / "run_00001"
    kept = json.loads((folder / "run.json").read_text())["sampler"]["kept_step"]
    return found | {"kept": digest_of(load_file(folder / f"step_{kept:04d}.safetensors")["denoised"])}


def tokens(server: Server, model: dict, prefix: str) -> dict:
    """The result of a twin whose prefix has tokens, in a workflow in which the denoise node has a label."""
    twin = "safelight_denoise_latents"
    texts = dict.fromkeys(("name", "author", "description", "version", "contact", "tags", "notes"), "")
    label = {"id": "denoise", "type": "invocation", "data": {"id": "denoise", "type": twin, "label": "My Sampler"}}
    meta = {"category": "user", "version": "3.0.0"}
    workflow = {**texts, "exposedFields": [], "meta": meta, "nodes": [label], "edges": []}
    graph = graph_of(model, twin, write_intermediates=True, filename_prefix=prefix)
    return played(server, server.queue(graph, workflow), twin)


def both(server: Server, model: dict, schedulers: list[str]) -> dict:
    """The results of the core node and its twin with each scheduler. All are queued before the first is awaited."""
    core, twin = "denoise_latents", "safelight_denoise_latents"
    queued = {
        name: (
            server.queue(graph_of(model, core, scheduler=name)),
            server.queue(
                graph_of(model, twin, scheduler=name, write_intermediates=True, filename_prefix=f"schedulers/{name}")
            ),
        )
        for name in schedulers
    }
    return {
        name: {"core": played(server, plain, core), "twin": played(server, watched, twin)}
        for name, (plain, watched) in queued.items()
    }


def example(server: Server, model: dict, name: str) -> tuple[dict, dict]:
    """A workflow that ships, as a graph; and how the server stores it, and which inputs differ from those it knows."""
    drawn = json.loads((PACK / "example_workflows" / "invokeai" / f"{name}.json").read_text())
    stored = requests.post(f"{server.at}/api/v1/workflows/", json={"workflow": drawn}, timeout=60)
    nodes, known, unknown, missing, older = {}, server.schemas, [], [], []
    for node in (box["data"] for box in drawn["nodes"]):
        schema = known[node["type"]]
        # The UI updates a node with another minor version by itself.
        assert node["version"].split(".")[0] == schema["version"].split(".")[0], (node["type"], schema["version"])
        older += [node["type"]] if node["version"] != schema["version"] else []
        inputs = {name: field for name, field in node["inputs"].items() if name in schema["properties"]}
        unknown += sorted(set(node["inputs"]) - set(inputs))
        missing += sorted(set(schema["properties"]) - set(inputs) - OF_EVERY_NODE)
        values = {name: field["value"] for name, field in inputs.items() if "value" in field}
        nodes[node["id"]] = {"id": node["id"], "type": node["type"], **values}
    nodes["model"]["model"] = identity(model)
    if "denoise" in nodes:
        nodes["noise"] |= {"width": SIZE, "height": SIZE}
        nodes["denoise"]["steps"] = STEPS
    if "begin" in nodes:
        nodes["begin"]["step"] = nodes["run"]["step"] = STEPS - 1
    edges = [
        edge(line["source"], line["sourceHandle"], line["target"], line["targetHandle"]) for line in drawn["edges"]
    ]
    graph = {"id": name, "nodes": nodes, "edges": edges}
    return graph, {"stored": stored.status_code, "unknown": unknown, "missing": missing, "older": older}


def workflow(server: Server, model: dict, name: str) -> dict:
    """Runs a workflow that ships, with a smaller image."""
    graph, facts = example(server, model, name)
    item = server.wait(server.queue(graph))
    facts |= {"status": item["status"], "error": item.get("error_message")}
    if item["status"] == "completed":
        images = [server.image(item, node["id"]) for node in graph["nodes"].values() if node["type"] == "l2i"]
        facts |= {"images": len(images), "different": len(set(images))}
    return facts


def cancel(server: Server, model: dict) -> dict:
    item = server.queue(
        graph_of(
            model,
            "safelight_denoise_latents",
            steps=900,
            scheduler="ddim",
            write_intermediates=True,
            filename_prefix="cancelled/run",
            every_n_steps=5,
        )
    )
    while sum(event["size"] is not None for event in server.previews(item, "safelight_denoise_latents")) < 3:
        assert server.get(f"v1/queue/default/i/{item}")["status"] not in ENDS
        time.sleep(0.02)
    requests.put(f"{server.at}/api/v1/queue/default/i/{item}/cancel", timeout=60)
    shares = [event["percentage"] or 0.0 for event in server.previews(item, "safelight_denoise_latents")]
    # The next item runs only when the node has ended.
    after = play(server, model, "denoise_latents", steps=1)
    return {"status": server.wait(item)["status"], "heard_at": round(900 * max(shares)), "after": after["status"]}


def sheet(server: Server, model: dict, **settings) -> dict:
    """A contact sheet of a run that writes no steps."""
    graph = graph_of(model, "safelight_denoise_latents", filename_prefix="sheets/run", **settings)
    graph["nodes"]["sheet"] = {"id": "sheet", "type": "safelight_steps_sheet"}
    graph["edges"].append(edge("denoise", "latents", "sheet", "latents"))
    return shown(server, graph, "sheet")


def sheet_of(server: Server, folder: str) -> dict:
    """A contact sheet of a run in its folder."""
    nodes = {"sheet": {"id": "sheet", "type": "safelight_steps_sheet", "folder": folder, "max_images": 3}}
    return shown(server, {"id": "sheet", "nodes": nodes, "edges": []}, "sheet")


def shown(server: Server, graph: dict, node: str) -> dict:
    """The size of the image that a node creates. It is saved in the workplace too."""
    item = server.wait(server.queue(graph))
    facts = {"status": item["status"], "error": item.get("error_message")}
    if item["status"] != "completed":
        return facts
    picture = server.picture(item, node)
    picture.save(PLACE / f"{graph['id']}_{node}.png")
    return facts | {"size": picture.size, "summary": server.result(item, node).get("summary")}


def photographs(server: Server, count: int) -> list[dict]:
    """Soft color gradients, uploaded as images of the user."""
    draw = random.Random(1)
    small = (Image.frombytes("RGB", (6, 6), draw.randbytes(108)) for _ in range(count))
    return [server.upload(tile.resize((256, 256 + 32 * i), Image.Resampling.BICUBIC)) for i, tile in enumerate(small)]


def fit_graph(model: dict, images: list[dict], **choices) -> dict:
    nodes = {
        "model": {"id": "model", "type": "main_model_loader", "model": identity(model)},
        "fit": {"id": "fit", "type": "safelight_fit", "images": images, **choices},
    }
    return {"id": "fit", "nodes": nodes, "edges": [edge("model", "vae", "fit", "vae")]}


def fit(server: Server, model: dict) -> dict:
    """Fits a decoder to the pipeline's VAE, runs the next preview, and cancels another fit."""
    images, folder = photographs(server, 8), ROOT / "safelight"
    cancelled = server.queue(fit_graph(model, images, kind="conv-full"))
    while not any(event["message"].startswith("Fitting") for event in server.previews(cancelled, "safelight_fit")):
        assert server.get(f"v1/queue/default/i/{cancelled}")["status"] not in ENDS
        time.sleep(0.02)
    requests.put(f"{server.at}/api/v1/queue/default/i/{cancelled}/cancel", timeout=60)
    after = play(server, model, "denoise_latents", steps=1)["status"]
    found = {"cancelled": server.wait(cancelled)["status"], "after": after, "left": names(folder)}
    item = server.queue(fit_graph(model, images, kind="neighbourhood"))
    server.wait(item)
    found["events"] = server.previews(item, "safelight_fit")
    graph, found["workflow"] = example(server, model, "fit_decoder")
    graph["nodes"]["fit"] |= {"images": images, "kind": "affine"}
    found["fit"] = shown(server, graph, "fit")
    found["files"] = names(folder)
    found["next"] = play(
        server, model, "safelight_denoise_latents", write_intermediates=True, filename_prefix="fitted/run"
    )
    found["too_few"] = shown(server, fit_graph(model, images[:2]), "fit")
    return found


def switched(server: Server, model: dict, *, on: bool) -> dict:
    """The core node's previews after whole-host previews were switched on or off and the packs were reloaded."""
    settings = ROOT / "safelight" / "settings.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(json.dumps({"everywhere": on}))
    requests.post(f"{server.at}/api/v2/custom_nodes/reload", timeout=60)
    # With another number of steps each time: a node with a cached result shows nothing.
    found = play(server, model, "denoise_latents", steps=STEPS + 1 + on)
    settings.unlink()
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def main() -> None:
    (ROOT / "nodes").mkdir(parents=True)
    (ROOT / "nodes" / "comfy-safelight-preview").symlink_to(PACK)
    (ROOT / "nodes" / "any_vae").mkdir()
    (ROOT / "nodes" / "any_vae" / "__init__.py").write_text(ANY_VAE)
    subprocess.run([sys.executable, HERE / "tiny_sd1.py", ROOT / "tiny-sd1"], check=True, capture_output=True)
    seen: dict = {}
    server = Server(SAFELIGHT_INVOKEAI_EVERYWHERE="1")
    try:
        model = server.install(ROOT / "tiny-sd1")
        seen["everywhere"] = play(server, model, "denoise_latents", vae=True)
        seen["everywhere_twin"] = play(server, model, "safelight_denoise_latents", vae=True)
    finally:
        server.stop()
    server = Server()
    seen["version"] = server.version
    try:
        model = server.install(ROOT / "tiny-sd1")
        seen["core"] = play(server, model, "denoise_latents", vae=True)
        seen["twin"] = play(
            server,
            model,
            "safelight_denoise_latents",
            vae=True,
            write_intermediates=True,
            sheet=True,
            animation=True,
            to_gallery=True,
            filename_prefix="twin/run",
        )
        others = requests.get(f"{server.at}/api/v1/images/", params={"categories": "other", "limit": 100}, timeout=60)
        seen["others"] = len(others.json()["items"])  # before Load Run adds images
        seen["workflows"] = {name: workflow(server, model, name) for name in EXAMPLES}
        seen["options"] = play(
            server,
            model,
            "safelight_denoise_latents",
            vae=True,
            write_intermediates=True,
            show="noisy",
            keep_latents=True,
            animation="gif",
            animation_from_step=2,
            write_csv=True,
            filename_prefix="options/run",
        )
        seen["full"] = play(
            server,
            model,
            "safelight_denoise_latents",
            vae=True,
            preview_vae=True,
            preview_decoder="full",
            full_every_n_steps=3,
            write_intermediates=True,
            filename_prefix="full/run",
        )
        seen["full_without_vae"] = play(server, model, "safelight_denoise_latents", preview_decoder="full")
        seen["unknown_decoder"] = play(server, model, "safelight_denoise_latents", preview_decoder="gone.safetensors")
        seen["outside"] = play(
            server, model, "safelight_denoise_latents", write_intermediates=True, filename_prefix="../x"
        )
        seen["tokens"] = tokens(
            server,
            model,
            "tokens/%My Sampler.scheduler%_%noise.seed%_%Create Latent Noise.width%_%compel.prompt%_%model.model%",
        )
        seen["no_token"] = tokens(server, model, "tokens/%My Sampler.sead%")
        seen["ruled"] = ruled(server, model)
        seen["sheet"], seen["sheet_of"] = sheet(server, model), sheet_of(server, "twin/run_00001")
        seen["no_sheet"] = sheet_of(server, "twin/run_00002")
        seen["cancel"] = cancel(server, model)
        seen["reload"] = requests.post(f"{server.at}/api/v2/custom_nodes/reload", timeout=60).status_code
        seen["after_reload"] = play(server, model, "safelight_denoise_latents")["status"]
        seen["switched"] = [switched(server, model, on=True), switched(server, model, on=False)]
        schedulers = server.schemas["denoise_latents"]["properties"]["scheduler"]["enum"]
        known = {name: schema for name, schema in server.schemas.items() if "denoise" in name}
        seen["inputs"] = {name: sorted(schema["properties"]) for name, schema in known.items()}
        seen["properties"] = known["safelight_denoise_latents"]["properties"]
        seen["versions"] = {name: schema["version"] for name, schema in known.items()}
        seen["schedulers"] = both(server, model, schedulers)
        seen["fit"] = fit(server, model)
    finally:
        server.stop()
        (PLACE / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
