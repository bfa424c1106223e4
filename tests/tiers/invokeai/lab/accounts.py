"""Uses a real InvokeAI with two accounts: `python accounts.py PACK WORKPLACE`, with the Python that has InvokeAI.

It writes what it saw to `seen.json` in the workplace.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import drive
import requests
from requests import sessions

PASSWORD = "Safelight-2026-word"
NO_CLIENT = SimpleNamespace(**{name: lambda *_, **__: None for name in ("on", "connect", "emit", "disconnect")})
PREFIX = "%date:yyyy%/%seed%_%width%"


@contextmanager
def account(token: str) -> Iterator[None]:
    """Sends all requests as this account."""
    before = sessions.default_headers
    sessions.default_headers = lambda: {**before(), "Authorization": f"Bearer {token}"}
    try:
        yield
    finally:
        sessions.default_headers = before


def answer(reply: requests.Response) -> dict:
    assert reply.ok, reply.text[:2000]
    return reply.json()


def login(server: drive.Server, name: str) -> str:
    facts = {"email": f"{name}@example.com", "password": PASSWORD}
    return answer(requests.post(f"{server.at}/api/v1/auth/login", json=facts, timeout=60))["token"]


def register(server: drive.Server, path: str, name: str) -> None:
    facts = {"email": f"{name}@example.com", "display_name": name, "password": PASSWORD}
    answer(requests.post(f"{server.at}/api/v1/auth/{path}", json=facts, timeout=60))


def main() -> None:
    (drive.ROOT / "nodes").mkdir(parents=True)
    (drive.ROOT / "nodes" / "comfy-safelight-preview").symlink_to(drive.PACK)
    tiny = drive.ROOT / "tiny-sd1"
    subprocess.run([sys.executable, drive.HERE / "tiny_sd1.py", tiny], check=True, capture_output=True)
    drive.socketio.Client = lambda: NO_CLIENT
    seen: dict = {}
    server = drive.Server(INVOKEAI_MULTIUSER="true")
    try:
        register(server, "setup", "admin")
        with account(login(server, "admin")):
            model = server.install(tiny)
            for name in ("ann", "ben"):
                register(server, "users", name)
        with account(login(server, "ann")):
            seen["ann"] = requests.get(f"{server.at}/api/v1/auth/me", timeout=60).json()["user_id"]
            graph = drive.graph_of(
                model,
                "safelight_denoise_latents",
                scheduler="heun",
                write_intermediates=True,
                filename_prefix=PREFIX,
                to_gallery=True,
                is_intermediate=True,
            )
            item = server.wait(server.queue(graph))
            seen["run"] = {"status": item["status"], "error": item.get("error_message")}
            folder = seen["folder"] = server.result(item, "denoise")["run_folder"]
            found = server.get("v1/images/?categories=other&is_intermediate=false&limit=100")["items"]
            names = sorted(found, key=lambda image: image["created_at"])
            seen["gallery"] = [
                {
                    "metadata": server.get(f"v1/images/i/{image['image_name']}/metadata"),
                    "size": [image["width"], image["height"]],
                }
                for image in names
            ]
            seen["own_sheet"] = drive.sheet_of(server, folder)
            seen["connected_sheet"] = drive.sheet(server, model)
        with account(login(server, "ben")):
            users = drive.ROOT / "outputs" / "safelight_users"
            typed = [folder, f"safelight_users/{seen['ann']}/{folder}", f"../{seen['ann']}/{folder}"]
            typed.append(str(users / seen["ann"] / folder))
            seen["other_sheets"] = [drive.sheet_of(server, path) for path in typed]
            graph = drive.graph_of(
                model,
                "safelight_denoise_latents",
                write_intermediates=True,
                filename_prefix=f"../{seen['ann']}/x",
            )
            item = server.wait(server.queue(graph))
            seen["other_prefix"] = {"status": item["status"], "error": item.get("error_message")}
            graph = drive.graph_of(model, "safelight_denoise_latents", preview_decoder="gone")
            graph["nodes"]["draft"] |= {"decoder": "gone.safetensors", "space": "gone"}
            seen["gone"] = server.wait(server.queue(graph))["status"]
    finally:
        server.stop()
        (drive.PLACE / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
