"""The URLs under which ComfyUI serves live runs to the viewer, and under some names the viewer itself."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from ...decoders.descriptions import Described
from ...errors import SafelightError, brief
from ...preview.file_names import picture_type
from ...preview.html.texts import languages, texts_of
from ...preview.run_control import RunControl
from ...preview.run_summary import run_summary
from ...preview.sinks.live_export import exported_picture
from ...preview.sinks.live_runs import LiveRun, LiveRuns
from ...preview.sinks.written_run import read_written, written_facts
from .answers import CACHE_FOREVER, NEVER_CACHE, refusal
from .owners import KEY_HEADER, KEY_HELP, Owners

MAX_SERVED_BYTES = 1 << 30  # of a picture
MAX_NEWEST_RUNS = 60  # newest runs of all nodes: a page asks for them every second
PACK = Path(__file__).parents[2]
PACK_FOLDERS = {"extensions": "web", "workflow_templates": "example_workflows"}  # by the begin of their URLs
FRAME = re.compile(r"[0-9]{1,6}")
STEP_NUMBER = re.compile(r"[1-9][0-9]{0,5}")
RUN_REQUESTS = {"pause": RunControl.pause, "go_on": RunControl.go_on, "stop": RunControl.stop}
PLAIN_NAME = re.compile(r"[A-Za-z0-9._~-]+")

FindCached = Callable[[str, str, str | None, str], LiveRun | None]


def register(
    routes: web.RouteTableDef,
    runs: LiveRuns,
    owners: Owners,
    get_decoder: Callable[[str], str],
    find_cached: FindCached,
    describe: Callable[[str], Sequence[Described]],
) -> None:
    """Adds `/safelight/...` to the host's routes, unless another copy of this pack did.

    Args:
        routes: the host's routes.
        runs: runs to serve.
        owners: who may list them.
        get_decoder: function that downloads a published decoder and returns the name of its file.
        find_cached: function that finds the run whose result a prompt took from the host's cache, for an owner, the id
            of the prompt, that of its workflow, and a node.
        describe: function that returns the decoders of a latent space, by its name.
    """
    if any(getattr(route, "path", "").startswith("/safelight/") for route in routes):
        return

    @routes.get("/safelight/runs")
    async def list_runs(request: web.Request) -> web.Response:
        """The runs that this browser queued of one node in one workflow, newest first; with `all=1` its newest runs.

        A workflow without an id has the empty one.
        """
        owner = owners.of(request.headers.get(KEY_HEADER))
        if owner is None:
            return refusal(403, f"send {KEY_HELP}")
        node = request.query.get("node")
        if request.query.get("all"):
            found = runs.of(owner)[:MAX_NEWEST_RUNS]
        elif node:
            found = runs.of(owner, workflow_id=request.query.get("workflow") or None, node=node)
        else:
            return refusal(404, "name the node: /safelight/runs?workflow=<id>&node=<id>")
        return web.json_response([run_summary(_manifest(live)) for live in found], headers=NEVER_CACHE)

    @routes.get("/safelight/runs/{run}")
    async def get_run(request: web.Request) -> web.Response:
        """A run's manifest."""
        live = runs.get(request.match_info["run"])
        if live is None:
            return refusal(404, "there is no such run; it may have been removed to make room for newer runs")
        marks = {"marks": asdict(runs.marks(live.address))}
        return web.json_response(_manifest(live) | marks, headers=NEVER_CACHE)

    _register_texts(routes)
    _register_cached(routes, owners, find_cached)
    _register_workflows(routes, runs)
    _register_written(routes, runs)
    _register_pictures(routes, runs)
    _register_decoders(routes, runs, owners, get_decoder)
    _register_control(routes, runs, owners)

    @routes.get("/safelight/decoders")
    async def list_decoders(request: web.Request) -> web.Response:
        """The decoders of a latent space, with what they are in words."""
        found = await asyncio.to_thread(describe, request.query.get("space", ""))
        return web.json_response([each._asdict() for each in found], headers=NEVER_CACHE)

    # Without this route the host adds a header to its 404 that lets a browser cache it for an hour.
    @routes.get("/safelight/runs/{rest:.*}")
    async def get_other(_: web.Request) -> web.Response:
        """Any other path."""
        return refusal(404, "there is no such path")


def _register_texts(routes: web.RouteTableDef) -> None:
    @routes.get("/safelight/texts/{language}")
    async def get_texts(request: web.Request) -> web.Response:
        """The viewer's texts in a language."""
        language = request.match_info["language"]
        if language not in await asyncio.to_thread(languages):
            return web.Response(status=404)
        return web.json_response(await asyncio.to_thread(texts_of, language), headers=NEVER_CACHE)


def _register_cached(routes: web.RouteTableDef, owners: Owners, find_cached: FindCached) -> None:
    @routes.get("/safelight/cached")
    async def get_cached(request: web.Request) -> web.Response:
        """The run whose result a prompt took from ComfyUI's cache; null if there is none."""
        owner = owners.of(request.headers.get(KEY_HEADER))
        if owner is None:
            return refusal(403, f"send {KEY_HELP}")
        prompt, workflow, node = (request.query.get(name) for name in ("prompt", "workflow", "node"))
        if not prompt or not node:
            return refusal(404, "name the prompt and the node: /safelight/cached?prompt=<id>&workflow=<id>&node=<id>")
        live = await asyncio.to_thread(find_cached, owner, prompt, workflow or None, node)
        facts = ("id", "started")
        found = live and {
            **{key: _manifest(live)[key] for key in facts},
            "workflow": live.folder.run.host.get("workflow_id"),
        }
        return web.json_response(found, headers=NEVER_CACHE)


def _register_workflows(routes: web.RouteTableDef, runs: LiveRuns) -> None:
    @routes.get("/safelight/runs/{run}/workflow")
    async def get_workflow(request: web.Request) -> web.Response:
        """The workflow and the prompt of a run; null for one that it does not have."""
        live = runs.get(request.match_info["run"])
        texts = {} if live is None else await asyncio.to_thread(live.export.texts)
        if not texts:
            return refusal(404, "this run has no workflow: it was removed, or ComfyUI runs with --disable-metadata")
        parts = (f'"{key}": {texts.get(key, "null")}' for key in ("workflow", "prompt"))  # they are JSON already
        return web.Response(text=f"{{{', '.join(parts)}}}", content_type="application/json", headers=NEVER_CACHE)


def _register_written(routes: web.RouteTableDef, runs: LiveRuns) -> None:
    @routes.get("/safelight/runs/{run}/written/{path:.+}")
    async def get_written(request: web.Request) -> web.Response:
        """A file that the run has written into the output folder."""
        live, path = runs.get(request.match_info["run"]), request.match_info["path"]
        found = live and await asyncio.to_thread(read_written, live.export, path, MAX_SERVED_BYTES)
        if not found:
            return refusal(404, "there is no such file in the run's folder")
        policy = {} if found.policy is None else {"Content-Security-Policy": found.policy}
        return web.Response(body=found.content, headers={**NEVER_CACHE, "Content-Type": found.mime_type, **policy})


def _register_pictures(routes: web.RouteTableDef, runs: LiveRuns) -> None:
    exporting = asyncio.Semaphore(1)  # all frames of a video need hundreds of MB, and the threads of the server are few

    @routes.get("/safelight/runs/{run}/{file}")
    async def get_file(request: web.Request) -> web.StreamResponse:
        """A picture of a run."""
        address, name = request.match_info["run"], request.match_info["file"]
        picture = await asyncio.to_thread(runs.read, address, name, MAX_SERVED_BYTES)
        if picture is None:
            return refusal(404, "there is no such picture")
        mime_type = picture_type(name) or "application/octet-stream"
        return web.Response(body=picture, headers={**CACHE_FOREVER, "Content-Type": mime_type})

    @routes.get("/safelight/runs/{run}/exports/{file}")
    async def get_export(request: web.Request) -> web.Response:
        """A picture of a run as a file to save, with `frame=3` that frame of a video, from 0."""
        live, frame = runs.get(request.match_info["run"]), request.query.get("frame")
        if frame is not None and not FRAME.fullmatch(frame):
            return refusal(400, f"frame: expected a number from 0, got {brief(frame)}")
        number = None if frame is None else int(frame)
        file = request.match_info["file"]
        async with exporting:
            picture = live and await asyncio.to_thread(exported_picture, live, file, number, MAX_SERVED_BYTES)
        if not picture:
            return refusal(404, "the picture of this run is gone; newer runs needed the space")
        headers = {"Content-Type": picture_type(picture.name), "Content-Disposition": _inline(picture.name)}
        return web.Response(body=picture.content, headers={**NEVER_CACHE, **headers})


def _register_decoders(
    routes: web.RouteTableDef, runs: LiveRuns, owners: Owners, get_decoder: Callable[[str], str]
) -> None:
    downloading = asyncio.Semaphore(1)  # downloads that wait take no threads, which pictures need

    @routes.post("/safelight/runs/{run}/decoders/{name}")
    async def post_decoder(request: web.Request) -> web.Response:
        """Downloads the decoder that a note of the run offers.

        The header makes the browser ask first if a page of another site sends the request.
        """
        live, name = runs.get(request.match_info["run"]), request.match_info["name"]
        if owners.of(request.headers.get(KEY_HEADER)) is None:
            return refusal(403, f"send {KEY_HELP}")
        if live is None or name not in live.folder.run.offers.values():
            return refusal(404, "no note of this run offers this decoder")
        try:
            async with downloading:
                file = await asyncio.to_thread(get_decoder, name)
            return web.json_response({"file": file}, headers=NEVER_CACHE)
        except SafelightError as error:
            return refusal(502, str(error))


def _register_control(routes: web.RouteTableDef, runs: LiveRuns, owners: Owners) -> None:
    @routes.post("/safelight/runs/{run}/control/{request}")
    async def post_control(request: web.Request) -> web.Response:
        """Asks a running run to `pause`, to `go_on`, or to `stop` and keep a step: `step=12`, else its current one.

        Only the browser that queued a run may ask.
        """
        live, owner = runs.get(request.match_info["run"]), owners.of(request.headers.get(KEY_HEADER))
        if owner is None:
            return refusal(403, f"send {KEY_HELP}")
        if live is None or live.owner != owner:
            return refusal(404, "there is no such run, or another browser queued it")
        name, step = request.match_info["request"], request.query.get("step")
        if name not in RUN_REQUESTS:
            return refusal(400, f"expected {', '.join(RUN_REQUESTS)}, got {brief(name)}")
        if live.folder.state != "running":
            return refusal(409, "this run has ended")
        if step is not None:
            if name != "stop" or not STEP_NUMBER.fullmatch(step):
                return refusal(400, f"step: expected a number from 1, for stop, got {brief(step)}")
            if not _may_keep(live, int(step)):
                return refusal(
                    409,
                    f"step {step} cannot be kept: its latents are not saved. Keep the current step, or switch on "
                    "keep_latents before a run",
                )
        control = live.folder.run.control
        control.stop(int(step or 0)) if name == "stop" else RUN_REQUESTS[name](control)
        return web.json_response({"paused": control.paused}, headers=NEVER_CACHE)


def _may_keep(live: LiveRun, step: int) -> bool:
    """Whether the latents of a step are on disk, in the run's own folder or in the one that it writes for the user."""
    folders = [folder for folder in (live.folder, live.export.written) if folder]
    return any((folder.step(step) or {}).get("latent") for folder in folders)


def register_pack(routes: web.RouteTableDef, pack: Path = PACK) -> None:
    """Serves the help pages for every language, and in a folder whose name needs quoting in a URL, all files.

    ComfyUI's page asks for the help in the user's language first: `docs/<node>/<language>.md`. Where it does not exist,
    the answer is the English one: after a 404 the page would ask for it, but the log would have an error.

    ComfyUI announces those files and adds static routes, which aiohttp 3.14 compares in quoted form with the
    URL in unquoted form, so they match no request.

    Source: aiohttp 3.14 `web_urldispatcher.py`, `StaticResource.resolve`.
    """
    help_page = "docs/{node:[A-Za-z]+}/{language:[A-Za-z-]+}.md"
    if PLAIN_NAME.fullmatch(pack.name):
        # By its name, because aiohttp asks the route with the longest fixed begin first.
        routes.get(f"/extensions/{pack.name}/{help_page}")(_help_in(pack))
        return
    # Each character as an escape: braces would end the part of the route that names the folder.
    name = "".join(f"\\U{ord(character):08x}" for character in pack.name.replace("%", "%25"))
    routes.get(f"/extensions/{{pack:{name}}}/{help_page}")(_help_in(pack))
    for address, folder in PACK_FOLDERS.items():
        routes.get(f"/{address}/{{pack:{name}}}/{{file:.+}}")(_files_of((pack / folder).resolve()))


def _help_in(pack: Path) -> Any:
    async def get_help(request: web.Request) -> web.StreamResponse:
        """The help page of a node in a language, or else in English."""
        node, language = request.match_info["node"], request.match_info["language"]
        pages = (pack / "web/docs" / node / f"{language}.md", pack / "web/docs" / f"{node}.md")
        found = next((page for page in pages if page.is_file()), None)
        return web.Response(status=404) if found is None else web.FileResponse(found)

    return get_help


def _files_of(root: Path) -> Any:
    async def get_file(request: web.Request) -> web.StreamResponse:
        """A file in the folder `root`."""
        try:
            path = (root / request.match_info["file"]).resolve()
            if path.is_relative_to(root) and path.is_file():
                return web.FileResponse(path)
        except (OSError, ValueError):  # too long, or a NUL character
            pass
        return web.Response(status=404)

    return get_file


def _manifest(live: LiveRun) -> dict[str, Any]:
    """A run's manifest for its viewer.

    Its id is the address. It has the prompt and the offers of its notes, which viewers show and no file contains.
    """
    manifest, run = live.folder.manifest(), live.folder.run
    own = {"id": live.address, "sampler": manifest["sampler"] | {"prompt": run.prompt}, "prefix": live.export.prefix}
    if live.owner is not None and manifest["state"] == "running":
        kept = [step["index"] for step in manifest["steps"] if _may_keep(live, step["index"])]
        own |= {"control": {"paused": run.control.paused, "kept": kept}}
    written = written_facts(live.export)
    own |= {} if written is None else {"written": written}
    offers = {"offers": run.offers, "notes": [*manifest["notes"], *run.offers]} if run.offers else {}
    return manifest | own | offers


def _inline(name: str) -> str:
    """A header that names a file, which a tab shows and does not download."""
    return f"inline; filename*=UTF-8''{quote(name, safe='')}"
