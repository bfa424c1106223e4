"""Lets a real InvokeAI learn from its decodes: `python learning.py PACK WORKPLACE`, with the Python that has InvokeAI.

It writes what it saw to `seen.json` in the workplace.
"""

import json
import subprocess
import sys
import time

import drive
import requests

FOLDER = drive.ROOT / "safelight"
DECODES, LIMIT_S = 6, 300  # the sixth decode is the second one for the test: decoders are compared then


def decode(server: drive.Server, model: dict, seed: int, denoise: str = "denoise_latents", **settings) -> dict:
    """Samples and decodes. The decode node runs even if InvokeAI has its result in its cache."""
    graph = drive.graph_of(model, denoise, vae=True, steps=1, **settings)
    graph["nodes"]["noise"]["seed"] = seed
    graph["nodes"]["vae"]["use_cache"] = False
    return drive.played(server, server.queue(graph), denoise, vae=True)


def switch(server: drive.Server, *, on: bool) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "settings.json").write_text(json.dumps({"learn": on, "learn_idle": False}))
    requests.post(f"{server.at}/api/v2/custom_nodes/reload", timeout=60)


def states() -> list:
    return sorted((FOLDER / "learned").glob("*/state.safetensors"))


def learned(path) -> int:
    """Decodes that a state file has."""
    if not path.exists():
        return 0
    header = path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]
    return json.loads(json.loads(header)["__metadata__"]["facts"])["decodes"]


def wait_for(decodes: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while sum(map(learned, states())) < decodes:
        assert time.monotonic() < deadline, ([*map(learned, states())], decodes)
        time.sleep(0.1)


def with_accounts(seen: dict) -> None:
    """The same with user accounts: nothing is learned."""
    import accounts

    for path in states():
        path.unlink()
    (FOLDER / "settings.json").write_text(json.dumps({"learn": True}))
    client, drive.socketio.Client = drive.socketio.Client, lambda: accounts.NO_CLIENT
    server = drive.Server(INVOKEAI_MULTIUSER="true")
    try:
        accounts.register(server, "setup", "admin")
        with accounts.account(accounts.login(server, "admin")):
            model = server.install(drive.ROOT / "tiny-sd1")
            item = server.wait(server.queue(drive.graph_of(model, "denoise_latents", vae=True)))
            seen["accounts"] = item["status"]
    finally:
        server.stop()
        drive.socketio.Client = client
    seen["accounts_log"] = server.log.read_text()[-20000:]
    seen["files"]["accounts"] = [path.name for path in states()]


def main() -> None:
    (drive.ROOT / "nodes").mkdir(parents=True)
    (drive.ROOT / "nodes" / "comfy-safelight-preview").symlink_to(drive.PACK)
    subprocess.run(
        [sys.executable, drive.HERE / "tiny_sd1.py", drive.ROOT / "tiny-sd1"], check=True, capture_output=True
    )
    seen: dict = {"files": {}}
    server = drive.Server()
    try:
        model = server.install(drive.ROOT / "tiny-sd1")
        seen["own"] = decode(server, model, 100)
        seen["files"]["own"] = [path.name for path in states()]
        switch(server, on=True)
        seen["learning"] = decode(server, model, 100)
        for seed in range(1, DECODES):
            wait_for(seed)
            decode(server, model, seed)
        wait_for(DECODES)
        seen["files"]["on"] = [path.name for path in states()]
        twin = "safelight_denoise_latents"
        seen["twin"] = decode(server, model, 200, twin, write_intermediates=True, filename_prefix="learned/run")
        wait_for(DECODES + 1)
        seen["decoders"] = drive.names(FOLDER)
        manifest = json.loads((drive.ROOT / "outputs" / "learned" / "run_00001" / "run.json").read_text())
        seen["shown"] = manifest["decoder"]["name"]
        switch(server, on=False)
        decode(server, model, 300)
        decode(server, model, 301)  # the learner would have learned from the first one by now, or soon
        seen["decodes"] = sum(map(learned, states()))
    finally:
        server.stop()
    try:
        with_accounts(seen)
    finally:
        (drive.PLACE / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
