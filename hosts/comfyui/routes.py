"""The URLs under which ComfyUI serves live runs to the viewer, and under some names the viewer itself."""

import asyncio
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from ...decoders.files.regular_file import read_regular_file
from ...preview.file_names import picture_type
from ...preview.run_summary import run_summary
from ...preview.sinks.live_runs import LiveRuns
from ...preview.sinks.run_folder import RunFolder

MAX_SERVED_BYTES = 1 << 30  # of a picture
PACK = Path(__file__).parents[2]
PACK_FOLDERS = {"extensions": "web", "workflow_templates": "example_workflows"}  # by the begin of their URLs
PLAIN_NAME = re.compile(r"[A-Za-z0-9._~-]+")

# A run's id is the only key to its pictures. A browser may cache a picture forever: a step that is reported twice has
# the same file name, but the viewer adds its time to the URL. A picture that is missing now may exist a moment later.
CACHE_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
NEVER_CACHE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def register(routes: web.RouteTableDef, runs: LiveRuns) -> None:
    """Adds `/safelight/...` to the host's routes, unless another copy of this pack did."""
    if any(getattr(route, "path", "").startswith("/safelight/") for route in routes):
        return

    @routes.get("/safelight/runs")
    async def list_runs(request: web.Request) -> web.Response:
        """The runs of one node in one workflow, newest first. A workflow without an id has the empty one."""
        node = request.query.get("node")
        if not node:
            return _not_found("name the node: /safelight/runs?workflow=<id>&node=<id>")
        folders = runs.of(workflow_id=request.query.get("workflow") or None, node=node)
        return web.json_response([run_summary(folder.manifest()) for folder in folders], headers=NEVER_CACHE)

    @routes.get("/safelight/runs/{run}")
    async def get_run(request: web.Request) -> web.Response:
        """A run's manifest."""
        folder = runs.folder(request.match_info["run"])
        if folder is None:
            return _not_found("there is no such run; it may have been removed to make room for newer runs")
        return web.json_response(_manifest_with_prompt(folder), headers=NEVER_CACHE)

    @routes.get("/safelight/runs/{run}/{file}")
    async def get_file(request: web.Request) -> web.StreamResponse:
        """A picture of a run."""
        path = runs.file(request.match_info["run"], request.match_info["file"])
        if path is None:
            return _not_found("there is no such picture")
        try:
            picture = await asyncio.to_thread(read_regular_file, path, MAX_SERVED_BYTES, links=False)
        except OSError:  # no regular file, or the run was removed since the path was found
            return _not_found("there is no such picture")
        mime_type = picture_type(path.name) or "application/octet-stream"
        return web.Response(body=picture, headers={**CACHE_FOREVER, "Content-Type": mime_type})

    # Without this route the host adds a header to its 404 that lets a browser cache it for an hour.
    @routes.get("/safelight/runs/{rest:.*}")
    async def get_other(_: web.Request) -> web.Response:
        """Any other path."""
        return _not_found("there is no such path")


def register_pack(routes: web.RouteTableDef, pack: Path = PACK) -> None:
    """Serves this pack's scripts, help pages and example workflows, if the name of its folder needs quoting in a URL.

    ComfyUI announces them under that name and adds static routes, which aiohttp 3.14 compares in quoted form with the
    URL in unquoted form, so they match no request.

    Source: aiohttp 3.14 `web_urldispatcher.py`, `StaticResource.resolve`.
    """
    if PLAIN_NAME.fullmatch(pack.name):
        return
    # Each character as an escape: braces would end the part of the route that names the folder.
    name = "".join(f"\\U{ord(character):08x}" for character in pack.name.replace("%", "%25"))
    for address, folder in PACK_FOLDERS.items():
        routes.get(f"/{address}/{{pack:{name}}}/{{file:.+}}")(_files_of((pack / folder).resolve()))


def _files_of(root: Path) -> Any:
    async def get_file(request: web.Request) -> web.StreamResponse:
        """A file in the folder `root`."""
        try:
            path = (root / request.match_info["file"]).resolve()
            found = path.is_relative_to(root) and path.is_file()
        except (OSError, ValueError):  # too long, or a NUL character
            found = False
        return web.FileResponse(path) if found else web.Response(status=404)

    return get_file


def _manifest_with_prompt(folder: RunFolder) -> dict[str, Any]:
    """A run's manifest with the prompt, which viewers show and no file contains."""
    manifest = folder.manifest()
    return manifest | {"sampler": manifest["sampler"] | {"prompt": folder.run.prompt}}


def _not_found(why: str) -> web.Response:
    return web.json_response({"error": why}, status=404, headers=NEVER_CACHE)
