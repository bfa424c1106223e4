"""The pages that a viewer in the browser asks for."""

import asyncio
from typing import Any

from aiohttp import web

from ...decoders.files.regular_file import read_regular_file
from ...preview.sinks.live_runs import LiveRuns
from ...preview.sinks.run_folder import RunFolder

MAX_BYTES = 1 << 30  # of a picture
TYPES = {"jpg": "image/jpeg", "webp": "image/webp", "png": "image/png"}

# A run's id is the only key to its pictures. A picture may be kept for good: a step that is reported twice has the same
# name, but the viewer puts its time behind it. What is missing now may be there in a moment.
FOR_GOOD = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
NOT_AT_ALL = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def register(routes: web.RouteTableDef, runs: LiveRuns) -> None:
    """Adds `/safelight/...` to the host's routes, unless another copy of this pack has."""
    if any(getattr(route, "path", "").startswith("/safelight/") for route in routes):
        return

    @routes.get("/safelight/runs")
    async def list_runs(request: web.Request) -> web.Response:
        """Runs of one node of one workflow, newest first; a workflow without an id is the empty one."""
        node = request.query.get("node")
        if not node:
            return _missing("say which node: /safelight/runs?workflow=<id>&node=<id>")
        folders = runs.of(workflow_id=request.query.get("workflow") or None, node=node)
        return web.json_response([_summary(folder) for folder in folders], headers=NOT_AT_ALL)

    @routes.get("/safelight/runs/{run}")
    async def get_run(request: web.Request) -> web.Response:
        """A run's manifest."""
        folder = runs.folder(request.match_info["run"])
        if folder is None:
            return _missing("no such run, or it made room for newer ones")
        return web.json_response(_manifest(folder), headers=NOT_AT_ALL)

    @routes.get("/safelight/runs/{run}/{file}")
    async def get_file(request: web.Request) -> web.StreamResponse:
        """A picture of a run."""
        path = runs.file(request.match_info["run"], request.match_info["file"])
        try:
            picture = (
                await asyncio.to_thread(read_regular_file, path, MAX_BYTES, links=False) if path is not None else None
            )
        except OSError:  # it is no file of ours, or it made room for another run between the question and the answer
            picture = None
        if path is None or picture is None:
            return _missing("no such picture")
        kind = TYPES.get(path.suffix.removeprefix("."), "application/octet-stream")
        return web.Response(body=picture, headers={**FOR_GOOD, "Content-Type": kind})

    # The host lets a browser keep for an hour that there is no such image.
    @routes.get("/safelight/runs/{rest:.*}")
    async def nothing(_: web.Request) -> web.Response:
        """Whatever else is asked for below."""
        return _missing("no such thing")


def _manifest(folder: RunFolder) -> dict[str, Any]:
    """A run's manifest, with what is told to viewers and written to no file."""
    manifest = folder.manifest()
    return manifest | {"sampler": manifest["sampler"] | {"prompt": folder.run.prompt}}


def _summary(folder: RunFolder) -> dict[str, Any]:
    """What a list of runs shows of one: its newest picture, how far it is, and what it may differ in from others."""
    manifest = folder.manifest()
    pictured = [step for step in manifest["steps"] if step["files"]]
    newest = pictured[-1] if pictured else {"index": None, "files": [None], "at": None}
    sampler = {key: manifest["sampler"][key] for key in ("steps", "seed", "cfg", "name", "scheduler")}
    return {key: manifest[key] for key in ("id", "state", "started", "space", "decoder", "picture")} | {
        "steps": len(pictured),
        "index": newest["index"],
        "total": sampler["steps"],
        "sampler": sampler,
        "thumbnail": newest["files"][0],
        "at": newest["at"],
    }


def _missing(why: str) -> web.Response:
    return web.json_response({"error": why}, status=404, headers=NOT_AT_ALL)
