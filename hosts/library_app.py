"""The page with all runs of a folder as an ASGI application, for the server of a host."""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import closing
from http import HTTPStatus
from typing import Any, BinaryIO, final

from .access_gate import AccessGate, Receive, Scope, Send, close_websocket
from .library_site import BLOCK_BYTES, LibrarySite, SiteAnswer, refusal
from .local_server import AccessRules, byte_range
from .saved_library import MAX_BODY_BYTES

READING, CHANGING = ("GET", "HEAD"), "POST"
Header = tuple[str, str]


@final
class LibraryApp:
    """Serves the page below a path of another application.

    Args:
        site: the page.
        rules: which requests are meant for this server. The key of the rules is not needed.
        prefix: path under which the application is mounted, such as `/safelight`.
    """

    def __init__(self, site: LibrarySite, rules: AccessRules, prefix: str) -> None:
        self._site, self._prefix = site, prefix
        policy = f"{site.page.policy}; frame-ancestors 'none'"
        self._gate = AccessGate(self._serve, rules, policy, has_key=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Newer versions of Starlette give a mounted application the whole path, older ones only the part below it.
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "websocket":
            await close_websocket("this page has none", receive, send)
        elif path == self._prefix:
            await _send_start(send, HTTPStatus.TEMPORARY_REDIRECT, [("Location", f"{self._prefix.lstrip('/')}/")])
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._gate({**scope, "path": path or "/"}, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method in READING:
            query = scope.get("query_string", b"").decode("latin-1")
            answer = await asyncio.to_thread(self._site.get, path, query)
        elif method == CHANGING:
            mime_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
            content = await _body(receive)
            answer = await asyncio.to_thread(self._site.post, path, mime_type, content)
        else:
            answer = refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only GET, HEAD and POST are supported here")
        await _send(answer, scope, send)


async def _body(receive: Receive) -> bytes:
    """The content of a request. Of one that is too long, only so much is read that it is refused."""
    content, is_complete = b"", False
    while not is_complete and len(content) <= MAX_BODY_BYTES:
        message: MutableMapping[str, Any] = await receive()
        content += message.get("body", b"")
        is_complete = not message.get("more_body", False)
    return content


async def _send(answer: SiteAnswer, scope: Scope, send: Send) -> None:
    headers: list[Header] = [
        ("Content-Type", answer.mime_type),
        ("Cache-Control", answer.cache),
        *answer.headers.items(),
    ]
    if answer.file is not None:
        with closing(answer.file[0]):
            await _send_file(answer, scope, send, headers)
        return
    await _send_start(send, answer.status, [*headers, ("Content-Length", str(len(answer.body)))])
    await send({"type": "http.response.body", "body": answer.body if scope["method"] != "HEAD" else b""})


async def _send_file(answer: SiteAnswer, scope: Scope, send: Send, headers: list[Header]) -> None:
    """Sends the open file of an answer, or the range of it that is asked for."""
    file, size = answer.file or (None, 0)
    asked = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        span = byte_range(None if b"if-range" in asked else asked.get(b"range"), size)
    except ValueError as error:
        await _send(refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, str(error)), scope, send)
        return
    start, end = span or (0, size)
    status = HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT
    more = [("Accept-Ranges", "bytes"), ("Content-Length", str(end - start))]
    more += [] if span is None else [("Content-Range", f"bytes {start}-{end - 1}/{size}")]
    await _send_start(send, status, [*headers, *more])
    blocks = iter(()) if file is None or scope["method"] == "HEAD" else _blocks(file, start, end - start)
    while block := await asyncio.to_thread(next, blocks, b""):
        await send({"type": "http.response.body", "body": block, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _blocks(file: BinaryIO, start: int, count: int) -> Iterator[bytes]:
    """The bytes of a part of a file."""
    file.seek(start)
    while count and (block := file.read(min(count, BLOCK_BYTES))):
        yield block
        count -= len(block)


async def _send_start(send: Send, status: HTTPStatus, headers: list[Header]) -> None:
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": int(status), "headers": encoded})
