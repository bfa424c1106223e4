"""The URLs under which ComfyUI serves its library to the sidebar."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ...errors import GoneError, RunError
from ...preview.file_names import picture_type
from ..saved_library import MAX_BODY_BYTES, limit_of
from .answers import CACHE_FOREVER, NEVER_CACHE, refusal
from .library import ComfyLibrary
from .owners import KEY_HEADER, KEY_HELP, Owners

OWN_SITES = ("same-origin", "none")
BASE = "/safelight/library"


class _RefusedError(Exception):
    """A request that is refused: the status and the reason."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def register_library(routes: web.RouteTableDef, library: ComfyLibrary, owners: Owners) -> None:
    """Adds `/safelight/library/...` to the host's routes, unless another copy of this pack did.

    Lists and changes need the key of a browser in a header. A browser that sends a header of ours for a page of another
    site asks the server before, which never agrees.

    Args:
        routes: the host's routes.
        library: the library.
        owners: who may list which runs.
    """
    if any(getattr(route, "path", "").startswith(BASE) for route in routes):
        return

    _register_lists(routes, library, owners)
    _register_library_pictures(routes, library)
    _register_changes(routes, library, owners)

    # Without this route the host adds a header to its 404 that lets a browser cache it for an hour.
    @routes.get(f"{BASE}/{{rest:.*}}")
    async def get_other_path(_: web.Request) -> web.Response:
        """Any other path."""
        return refusal(404, "there is no such path")


def _register_lists(routes: web.RouteTableDef, library: ComfyLibrary, owners: Owners) -> None:
    @routes.get(BASE)
    async def list_library(request: web.Request) -> web.Response:
        """The runs that this browser may list, or those that changed since it last asked."""

        def changes() -> Any:
            return library.changes(_owner(owners, request), request.query.get("since"), limit_of(request.query))

        answer = await _answer(changes)
        answer.enable_compression()  # 5,000 runs are 5 MB
        return answer

    @routes.get(f"{BASE}/trash")
    async def list_trash(request: web.Request) -> web.Response:
        """The deleted runs."""
        return await _answer(lambda: library.trash() if _owner(owners, request) else [])

    @routes.get(f"{BASE}/{{run}}")
    async def get_manifest(request: web.Request) -> web.Response:
        """A run's manifest."""
        return await _answer(lambda: library.manifest(request.match_info["run"]))


def _register_changes(routes: web.RouteTableDef, library: ComfyLibrary, owners: Owners) -> None:
    @routes.post(f"{BASE}/undo")
    async def post_undo(request: web.Request) -> web.Response:
        """Brings a deleted run back."""
        body = await _body(request)
        token = body.get("undo") if isinstance(body, dict) else None
        return await _answer(lambda: library.undo(_changer(owners, request), token if isinstance(token, str) else ""))

    @routes.post(f"{BASE}/{{run}}/{{action}}")
    async def post_action(request: web.Request) -> web.Response:
        """Changes a run: its star, its note; deletes or saves it."""
        body, (run, action) = await _body(request), (request.match_info[key] for key in ("run", "action"))
        return await _answer(lambda: library.act(_changer(owners, request), run, action, body))


def _register_library_pictures(routes: web.RouteTableDef, library: ComfyLibrary) -> None:
    shrinking = asyncio.Semaphore(4)  # the threads of the server are few

    async def picture(request: web.Request, read: Callable[[str, str], bytes | None], kind: str) -> web.Response:
        content = await asyncio.to_thread(read, request.match_info["run"], request.match_info["file"])
        if content is None:
            return refusal(404, "there is no such picture")
        return web.Response(body=content, headers={**CACHE_FOREVER, "Content-Type": kind})

    @routes.get(f"{BASE}/{{run}}/small/{{file}}")
    async def get_small(request: web.Request) -> web.Response:
        """A picture of a run at the size of a tile."""
        async with shrinking:
            return await picture(request, library.small, "image/jpeg")

    @routes.get(f"{BASE}/{{run}}/{{file}}")
    async def get_picture(request: web.Request) -> web.Response:
        """A picture of a run."""
        kind = picture_type(request.match_info["file"]) or "application/octet-stream"
        return await picture(request, library.picture, kind)


async def _answer(value: Callable[[], Any]) -> web.Response:
    """The answer with a value that a thread of the server creates, or with the reason why there is none."""
    try:
        return web.json_response(await asyncio.to_thread(value), headers=NEVER_CACHE)
    except _RefusedError as error:
        return refusal(error.status, error.why)
    except GoneError as error:
        return refusal(404, str(error))
    except RunError as error:
        return refusal(409, str(error))


async def _body(request: web.Request) -> Any:
    """The JSON of a request; None if it has none, or too much."""
    if request.content_length is None or request.content_length > MAX_BODY_BYTES:
        return None
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        return None


def _owner(owners: Owners, request: web.Request) -> str:
    """The owner that a request comes from.

    Raises:
        _RefusedError: it has no key.
    """
    owner = owners.of(request.headers.get(KEY_HEADER))
    if owner is None:
        raise _RefusedError(403, f"send {KEY_HELP}")
    return owner


def _changer(owners: Owners, request: web.Request) -> str:
    """The owner that a request for a change comes from.

    Raises:
        _RefusedError: it has no key, or a page of another site sent it.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_own = site in OWN_SITES if site is not None else origin is None or urlsplit(origin).netloc == request.host
    if not is_own:
        raise _RefusedError(403, "a page of another site asked for this")
    return _owner(owners, request)
