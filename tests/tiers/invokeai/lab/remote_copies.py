"""Copies saved runs of a real InvokeAI to a store of the tests: `python remote_copies.py PACK WORKPLACE`."""

import json
import subprocess
import sys
import time
from pathlib import Path

from drive import HERE, PACK, PLACE, ROOT, Server, graph_of

TWIN = "safelight_denoise_latents"
SETTINGS = ROOT / "safelight" / "settings.json"
STORE = ROOT / "store"
LIMIT_S = 60
# A node pack that knows the addresses `labstore://`: folders in `STORE`.
LAB_STORE = f"""
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem


class LabStore(LocalFileSystem):
    protocol = "labstore"

    @classmethod
    def _strip_protocol(cls, path):
        return str(path).replace("labstore:/", {STORE.as_posix()!r}).rstrip("/")

    def pipe_file(self, path, value, **_):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(value)


fsspec.register_implementation("labstore", LabStore)
"""


def sampled(server: Server, model: dict, address: str, prefix: str) -> Path:
    """The folder of a saved run, with this address in the settings."""
    SETTINGS.parent.mkdir(exist_ok=True)
    SETTINGS.write_text(json.dumps({"remote": address}))
    graph = graph_of(model, TWIN, write_intermediates=True, filename_prefix=prefix)
    item = server.wait(server.queue(graph))
    assert item["status"] == "completed", item.get("error_traceback")
    return ROOT / "outputs" / server.result(item, "denoise")["run_folder"]


def files_in(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_bytes().hex() for path in folder.rglob("*.*")}


def copy_in_the_store() -> Path:
    """The folder of the only copy, when its final record is there."""
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        for record in STORE.rglob("run.json"):
            if json.loads(record.read_bytes())["state"] == "finished":
                return record.parent
        time.sleep(0.05)
    raise AssertionError("no final record came to the store")


def main() -> None:
    (ROOT / "nodes" / "labstore").mkdir(parents=True)
    (ROOT / "nodes" / "labstore" / "__init__.py").write_text(LAB_STORE)
    (ROOT / "nodes" / "comfy-safelight-preview").symlink_to(PACK)
    subprocess.run([sys.executable, HERE / "tiny_sd1.py", ROOT / "tiny-sd1"], check=True, capture_output=True)
    seen: dict = {}
    server = Server()
    try:
        model = server.install(ROOT / "tiny-sd1")
        folder = sampled(server, model, "labstore://bucket/runs", "kept/run")
        copied = copy_in_the_store()
        seen["place"] = copied.relative_to(STORE).as_posix()
        seen["id"] = json.loads((folder / "run.json").read_bytes())["id"]
        seen["same"] = files_in(copied) == files_in(folder)
        seen["names"] = sorted(files_in(copied))
        refused = sampled(server, model, f"file://{ROOT}/elsewhere", "refused/run")
        seen["refused"] = json.loads((refused / "run.json").read_bytes())["notes"]
        seen["elsewhere"] = (ROOT / "elsewhere").exists()
    finally:
        server.stop()
        (PLACE / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
