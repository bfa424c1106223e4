"""Applies the rules of our web servers to an ASGI application, such as one of FastAPI or gradio."""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any, final

from .local_server import SAFE_HEADERS, AccessRules

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY_VIOLATION = 1008  # code with which a websocket is closed
CONTENT_POLICY = "Content-Security-Policy"


@final
class AccessGate:
    """ASGI middleware that passes on only allowed requests, and adds our headers to every answer.

    Args:
        app: application behind it.
        rules: who may ask.
        page_policy: Content-Security-Policy of pages; everything else has the one of `SAFE_HEADERS`.
        keyless: methods and paths that need no key.
        refusal: function that returns why the application must not see a method and path, or None.
        has_key: whether the server has a key. The server of a host has none.
    """

    def __init__(
        self,
        app: Application,
        rules: AccessRules,
        page_policy: str,
        keyless: Collection[tuple[str, str]] = (),
        refusal: Callable[[str, str], str | None] = lambda _method, _path: None,
        *,
        has_key: bool = True,
    ) -> None:
        self._app, self._rules, self._page_policy = app, rules, page_policy
        self._keyless, self._refusal, self._has_key = keyless, refusal, has_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif why := self._why_refused(scope):
            await (_refuse if scope["type"] == "http" else close_websocket)(why, receive, send)
        else:
            await self._app(scope, receive, self._with_headers(scope, send))

    def _why_refused(self, scope: Scope) -> str | None:
        return self._rules.refusal(_target(scope), _headers(scope), needs_key=self._needs_key(scope)) or self._refusal(
            scope.get("method", "GET"), scope["path"]
        )

    def _needs_key(self, scope: Scope) -> bool:
        return self._has_key and (scope.get("method"), scope["path"]) not in self._keyless

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._add_headers(scope, list(message.get("headers", [])))
            await send(message)

        return send_with_headers

    def _add_headers(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        is_page = any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)
        ours = {**SAFE_HEADERS, **({CONTENT_POLICY: self._page_policy} if is_page else {})}
        names = {name.lower().encode() for name in ours}
        if scope["path"] == "/" and self._needs_key(scope):  # else anyone could get the key from the cookie
            _, port = scope.get("server") or ("", 0)
            ours["Set-Cookie"] = self._rules.cookie(port or 0)
        return [header for header in headers if header[0].lower() not in names] + _encoded(ours)


def _target(scope: Scope) -> str:
    return f"{scope['path']}?{scope.get('query_string', b'').decode('latin-1')}"


def _headers(scope: Scope) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


async def _refuse(why: str, _: Receive, send: Send) -> None:
    body = json.dumps({"error": f"request refused: {why}"}).encode()
    headers = {**SAFE_HEADERS, "Content-Type": "application/json", "Content-Length": str(len(body))}
    headers |= {"Cache-Control": "no-store", "Connection": "close"}  # the rest of the request is not read
    await send({"type": "http.response.start", "status": 403, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": body})


async def close_websocket(why: str, receive: Receive, send: Send) -> None:
    """Refuses to open a websocket."""
    await receive()  # the request to open it
    await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": why})
