"""Opens the library on a real InvokeAI's server: `python library.py PACK WORKPLACE`, with the Python that has InvokeAI.

It writes what it saw to `seen.json` in the workplace.
"""

import json
import subprocess
import sys

import requests
from drive import HERE, PACK, PLACE, ROOT, Server, graph_of

TWIN = "safelight_denoise_latents"
PROMPTS = ("a lighthouse at dawn", "a fox in snow")
OTHER_SITE = "http://example.com"


def sampled(server: Server, model: dict, number: int, workflow: dict | None) -> None:
    """A run with pictures, with the workflow in them or not."""
    graph = graph_of(model, TWIN, write_intermediates=True, filename_prefix="safelight/steps")
    graph["nodes"]["noise"]["seed"] = 40 + number
    graph["nodes"]["words"]["prompt"] = PROMPTS[number]
    item = server.wait(server.queue(graph, workflow))
    assert item["status"] == "completed", item.get("error_traceback")


def answer(server: Server, path: str, **headers: str) -> dict:
    """The answer to a request, below the address of the server."""
    got = requests.get(f"{server.at}{path}", headers=headers, timeout=60, allow_redirects=False)
    facts = {"status": got.status_code, "type": got.headers.get("content-type"), "to": got.headers.get("location")}
    facts["policy"] = got.headers.get("content-security-policy")
    return facts | {"json": got.json() if facts["type"] == "application/json" else None, "bytes": len(got.content)}


def looked_at(server: Server) -> dict:
    """What the page, its list, its pictures and its changes answer."""
    library = answer(server, "/safelight/library")
    runs = (library["json"] or {"runs": []})["runs"]
    one = f"/safelight/library/{runs[0]['id']}" if runs else "/safelight/library/none"
    star = requests.post(f"{server.at}{one}/star", json={"star": True}, timeout=60)
    return {
        "page": answer(server, "/safelight/"),
        "bare": answer(server, "/safelight"),
        "library": library,
        "run": answer(server, one),
        "picture": answer(server, f"{one}/{runs[0]['thumbnail']}") if runs else None,
        "workflows": [answer(server, f"/safelight/library/{run['id']}/workflow") for run in runs],
        "star": star.status_code,
        "other_site": answer(server, "/safelight/library", Origin=OTHER_SITE),
        "other_name": answer(server, "/safelight/library", Host="example.com"),
        "ui": answer(server, "/"),
        "api": answer(server, "/api/v1/app/version"),
    }


def main() -> None:
    (ROOT / "nodes").mkdir(parents=True)
    (ROOT / "nodes" / "comfy-safelight-preview").symlink_to(PACK)
    subprocess.run([sys.executable, HERE / "tiny_sd1.py", ROOT / "tiny-sd1"], check=True, capture_output=True)
    workflow = json.loads((PACK / "example_workflows" / "invokeai" / "preview_steps.json").read_text())
    seen: dict = {}
    server = Server()
    try:
        model = server.install(ROOT / "tiny-sd1")
        sampled(server, model, 0, workflow)
        sampled(server, model, 1, None)
        seen["version"], seen["address"] = server.version, f"{server.at}/safelight/"
        seen["first"] = looked_at(server)
        reloaded = requests.post(f"{server.at}/api/v2/custom_nodes/reload", timeout=60)
        seen["reloaded"] = {"status": reloaded.status_code} | looked_at(server)
        seen["log"] = server.log.read_text()
    finally:
        server.stop()
    server = Server(SAFELIGHT_INVOKEAI_LIBRARY="0")
    try:
        seen["off"] = answer(server, "/safelight/library")
    finally:
        server.stop()
        (PLACE / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
