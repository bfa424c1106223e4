"""The pages that a viewer in the browser asks for."""

from typing import Any

from aiohttp import web

from ...preview.folder import RunFolder
from ...preview.live import LiveRuns

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
        return web.json_response(folder.manifest(), headers=NOT_AT_ALL)

    @routes.get("/safelight/runs/{run}/{file}")
    async def get_file(request: web.Request) -> web.StreamResponse:
        """A picture of a run."""
        path = runs.file(request.match_info["run"], request.match_info["file"])
        if path is None or not path.is_file():
            return _missing("no such picture")
        kind = TYPES.get(path.suffix.removeprefix("."), "application/octet-stream")
        return web.FileResponse(path, headers={**FOR_GOOD, "Content-Type": kind})


def _summary(folder: RunFolder) -> dict[str, Any]:
    manifest = folder.manifest()
    pictures = [file for step in manifest["steps"] for file in step["files"][:1]]
    facts = ("id", "state", "started", "space", "decoder", "picture")
    return {key: manifest[key] for key in facts} | {"steps": len(pictures), "thumbnail": (pictures or [None])[-1]}


def _missing(why: str) -> web.Response:
    return web.json_response({"error": why}, status=404, headers=NOT_AT_ALL)
