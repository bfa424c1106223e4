"""The rules of our web servers in front of an ASGI application."""

import asyncio
import json

import pytest
from safelight.hosts.access_gate import AccessGate
from safelight.hosts.local_server import AccessRules

RULES = AccessRules()
HOST = (b"host", b"127.0.0.1:7860")
COOKIE = (b"cookie", f"key7860={RULES.key}".encode())
KEYLESS = [("GET", "/started"), ("HEAD", "/")]


async def application(scope, receive, send):
    """Answers every request, and accepts every websocket."""
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        kind = b"text/html; charset=utf-8" if scope["path"] == "/" else b"image/png"
        headers = [(b"content-type", kind), (b"Content-Security-Policy", b"none of ours")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"secret"})


GATE = AccessGate(application, RULES, "page policy", KEYLESS, lambda _, path: "no" if path == "/refused" else None)


def ask(path="/", *headers, method="GET", kind="http", gate=GATE):
    """Returns what the gate sends for a request."""
    path, _, query = path.partition("?")
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": [HOST, *headers]}
    scope |= {"server": ("127.0.0.1", 7860), **({"method": method} if kind == "http" else {})}
    sent = []

    async def receive():
        return {"type": f"{kind}.connect"}

    async def send(message):
        sent.append(message)

    asyncio.run(gate(scope, receive, send))
    return sent


def headers_of(sent):
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def test_the_page_with_the_key_sets_the_cookie_with_which_the_rest_is_asked_for():
    sent = ask(f"/?key={RULES.key}")
    assert (sent[0]["status"], sent[1]["body"]) == (200, b"secret")
    headers = headers_of(sent)
    assert headers["set-cookie"] == RULES.cookie(7860)
    assert headers["content-security-policy"] == "page policy"
    assert headers["referrer-policy"] == "no-referrer"
    sent = ask("/picture", COOKIE)
    assert sent[0]["status"] == 200
    headers = headers_of(sent)
    assert "set-cookie" not in headers
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", ()),
        ("/?key=wrong", ()),
        ("/picture", ()),
        ("/picture", (COOKIE, (b"origin", b"http://example.com"))),
        ("/picture", (COOKIE, (b"sec-fetch-site", b"cross-site"))),
        ("/picture", (COOKIE, (b"host", b"example.com"))),
        ("/refused", (COOKIE,)),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_what_the_rules_refuse_does_not_reach_the_application(path, headers, method):
    sent = ask(path, *headers, method=method)
    assert sent[0]["status"] == 403
    assert "request refused" in json.loads(sent[1]["body"])["error"]
    assert "set-cookie" not in headers_of(sent)
    assert RULES.key not in str(sent)


def test_a_gate_without_a_key_sets_no_cookie_and_refuses_other_sites():
    gate = AccessGate(application, RULES, "page policy", has_key=False)
    sent = ask("/", gate=gate)
    assert sent[0]["status"] == 200
    assert "set-cookie" not in headers_of(sent)
    for header in ((b"origin", b"http://example.com"), (b"sec-fetch-site", b"cross-site"), (b"host", b"example.com")):
        assert ask("/picture", header, gate=gate)[0]["status"] == 403


def test_another_host_name_is_refused_with_the_key():
    global HOST
    own, HOST = HOST, (b"host", b"example.com")
    try:
        assert ask(f"/?key={RULES.key}", COOKIE)[0]["status"] == 403
    finally:
        HOST = own


@pytest.mark.parametrize(("method", "path"), KEYLESS)
def test_what_needs_no_key_gives_none(method, path):
    for query in ("", "?key=wrong"):
        sent = ask(path + query, method=method)
        assert sent[0]["status"] == 200
        assert RULES.key not in str(sent)
    assert ask(path, (b"origin", b"http://example.com"), method=method)[0]["status"] == 403


def test_a_websocket_needs_the_key_and_our_origin():
    own = (b"origin", b"http://127.0.0.1:7860")
    assert ask("/steps", COOKIE, own, kind="websocket") == [{"type": "websocket.accept"}]
    for headers in ((own,), (COOKIE, (b"origin", b"http://example.com"))):
        (closed,) = ask("/steps", *headers, kind="websocket")
        assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


def test_the_start_of_the_application_passes():
    assert ask(kind="lifespan") == [{"type": "lifespan.startup.complete"}]
