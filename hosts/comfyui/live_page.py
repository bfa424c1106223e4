"""Shows the runs of a browser outside of ComfyUI's page: as a page, as events, and as a stream of pictures."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from ...preview.html.bundle import bundle
from ...preview.html.document import document
from ...preview.images.small_picture import small_picture
from ...preview.run_summary import run_summary
from ...preview.sinks.live_runs import LiveRuns
from .answers import NEVER_CACHE, refusal
from .owners import KEY_HEADER, KEY_HELP, Owners

BASE = "/safelight/live"
LOOK_S = 0.2  # how often a stream looks for news
MAX_STREAMS = 16  # of all clients: each keeps a connection
MAX_PICTURE_BYTES = 32 << 20
BOUNDARY = "safelight-frame"
MULTIPART = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
SENDINGS = 2  # of a picture after which none comes: Chromium shows a part when the next one begins
STILL_SIDE_PX = 2048  # of the first frame of a video


def register_live(routes: web.RouteTableDef, runs: LiveRuns, owners: Owners) -> None:
    """Adds `/safelight/live...` to the host's routes, unless another copy of this pack did.

    The page itself has no run in it. A request for runs needs the key of the browser that queued them.

    Args:
        routes: the host's routes.
        runs: runs to show.
        owners: who may see them.
    """
    if any(getattr(route, "path", "").startswith(BASE) for route in routes):
        return
    streams = Streams()

    @routes.get(BASE)
    async def get_page(_: web.Request) -> web.Response:
        """The viewer as a page of its own."""
        page = await asyncio.to_thread(_page)
        policy = f"{page.policy}; frame-ancestors 'self'"  # a browser ignores this part in the page itself
        headers = {**NEVER_CACHE, "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
        return web.Response(text=page.html, content_type="text/html", headers=headers)

    @routes.get(f"{BASE}/events")
    async def get_events(request: web.Request) -> web.StreamResponse:
        """Server-sent events: the short form of each run that changed."""
        return await streams.send(request, owners, "text/event-stream", lambda owner: _events(runs, owner))

    @routes.get(f"{BASE}.mjpg")
    async def get_mjpg(request: web.Request) -> web.StreamResponse:
        """The newest picture of the newest run as a JPEG, as often as it changes, for recording programs."""
        return await streams.send(request, owners, MULTIPART, lambda owner: _frames(runs, owner, moving=False))

    @routes.get(f"{BASE}.webp")
    async def get_webp(request: web.Request) -> web.StreamResponse:
        """The same for `<img>` in a browser: a video is an animated WebP, which the browser plays."""
        return await streams.send(request, owners, MULTIPART, lambda owner: _frames(runs, owner, moving=True))


class Streams:
    """The streams that are open, and their number."""

    def __init__(self) -> None:
        self._open = 0

    async def send(
        self, request: web.Request, owners: Owners, kind: str, parts: Callable[[str], AsyncIterator[bytes]]
    ) -> web.StreamResponse:
        """Answers with a stream that ends when the client leaves.

        Programs that send no headers give the key in the address: `?key=...`.

        Args:
            request: the request.
            owners: who may see runs.
            kind: content type.
            parts: function that returns the parts of the stream for an owner.
        """
        owner = owners.of(request.headers.get(KEY_HEADER) or request.query.get("key"))
        if owner is None:
            return refusal(403, f"send {KEY_HELP}, or as ?key= in the address")
        if self._open >= MAX_STREAMS:
            return refusal(503, f"{MAX_STREAMS} streams are open: close one")
        self._open += 1
        try:
            response = web.StreamResponse(headers={**NEVER_CACHE, "Content-Type": kind})
            await response.prepare(request)
            async for part in parts(owner):
                await response.write(part)
            return response
        finally:
            self._open -= 1


async def _events(runs: LiveRuns, owner: str) -> AsyncIterator[bytes]:
    sent: dict[str, str] = {}
    ended: set[str] = set()  # runs that never change again
    yield b"retry: 2000\n\n"
    while True:
        for live in reversed(runs.of(owner)):
            if live.address in ended:
                continue
            if live.folder.state != "running":
                ended.add(live.address)
            content = json.dumps(run_summary(live.folder.manifest() | {"id": live.address}))
            if sent.get(live.address) != content:
                sent[live.address] = content
                yield f"event: run\ndata: {content}\n\n".encode()
        await asyncio.sleep(LOOK_S)


async def _frames(runs: LiveRuns, owner: str, *, moving: bool) -> AsyncIterator[bytes]:
    shown: tuple[str, str, Any] | None = None
    part, left = None, 0
    while True:
        newest = _newest_picture(runs, owner)
        if newest is not None and newest != shown:
            shown, left = newest, SENDINGS
            address, name, _ = newest
            part = await asyncio.to_thread(_part, runs, address, name, moving)
        if part is not None and left:
            left -= 1
            yield f"--{BOUNDARY}\r\n".encode() + part
        await asyncio.sleep(LOOK_S)


def _part(runs: LiveRuns, address: str, name: str, moving: bool) -> bytes | None:
    """A picture with its headers; None if it is gone. A video is its first frame, unless it may be moving."""
    content, kind = runs.read(address, name, MAX_PICTURE_BYTES), "image/jpeg"
    if name.endswith(".webp"):
        if moving:
            kind = "image/webp"
        elif content is not None:
            content = small_picture(content, STILL_SIDE_PX)
    if content is None:
        return None
    return f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content + b"\r\n"


def _newest_picture(runs: LiveRuns, owner: str) -> tuple[str, str, Any] | None:
    """Address, file and time of the newest picture; None if there is none."""
    for live in runs.of(owner):
        for step in reversed(live.folder.manifest()["steps"]):
            if step["files"]:
                return live.address, step["files"][0], step["at"]
    return None


def _page() -> Any:
    return document({}, bundle("live-page"), connect_src="'self'", img_src="'self' data: blob:")
