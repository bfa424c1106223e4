"""Malicious requests to a real server: they get nothing, and the next request is answered."""

import http.client
import json
import socket
import uuid
from urllib.parse import quote

import pytest

from ... import older
from .conftest import KEY

PREVIEW = "2"
ROUTES = ("/safelight/runs", "/safelight/runs/{run}", "/safelight/runs/{run}/{file}", "/safelight/runs/{run}/a/b")
CHANGING = ("POST", "PUT", "PATCH", "DELETE", "PROPFIND", "CONNECT", "TRACE", "MKCOL", "SAFELIGHT")
FOREIGN = ("https://evil.example", "http://127.0.0.1.evil.example", "null", "file://", "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def live(server, wire):
    """A run: the values for `{run}` and `{file}` in ROUTES, and the id of its workflow."""
    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    told = server.play(wire(preview={}), workflow=workflow).named("safelight.step")[-1].data
    return {"run": told["run"], "file": told["files"][0], "workflow": workflow["id"]}


def ask(server, path, method="GET", headers=(), body=None):
    """Requests `path` unchanged, with the key of the run's client; returns the status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {"Safelight-Key": KEY, **dict(headers)}.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def raw(server, request):
    """The answer to bytes that are not a valid request."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as link:
        link.sendall(request)
        link.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := link.recv(65536):
            answer += piece
    return answer


@pytest.fixture(autouse=True)
def goes_on(server, live):
    """Checks after each test that the run can be fetched as before, and that our code logged no error."""
    before = server.get(f"/safelight/runs/{live['run']}").body
    seen = len(server.log)
    yield
    assert server.get(f"/safelight/runs/{live['run']}").body == before
    assert "safelight" not in "".join(
        part for part in server.log[seen:].splitlines(keepends=True) if "Traceback" in part or "File" in part
    )


@pytest.mark.parametrize("method", CHANGING)
@pytest.mark.parametrize("route", ROUTES)
def test_methods_that_change_something_are_refused(server, live, route, method):
    status, headers, _ = ask(server, route.format(**live), method, body=b'{"state": "failed"}')
    assert status in (400, 403, 404, 405, 501)
    assert "location" not in headers


@pytest.mark.parametrize("route", ROUTES[:3])
def test_head_is_answered_without_a_body(server, live, route):
    path = route.format(**live) + (f"?workflow={live['workflow']}&node={PREVIEW}" if route == ROUTES[0] else "")
    status, headers, body = ask(server, path, "HEAD")
    assert (status, body) == (200, b"")
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "query",
    [
        "node=" + "9" * 7000,
        "&".join(f"node={i}" for i in range(900)),
        "node=2&workflow=" + "%00" * 2000,
        "node=%0d%0aSet-Cookie:%20a=b",
        "node=" + quote("\U0001f600" * 500),
        "node=2&workflow=__proto__",
        "node=../../etc/passwd",
        "node=%ff%fe",
        "node[]=2",
        "&" * 5000,
    ],
    ids=lambda query: query[:24],
)
def test_huge_and_strange_queries_find_nothing(server, live, query):
    status, headers, body = ask(server, f"/safelight/runs?{query}")
    assert status in (200, 400, 404)
    assert "set-cookie" not in headers
    if status == 200:
        assert json.loads(body) == []


@pytest.mark.parametrize("size", [9_000, 100_000, 3_000_000])
@pytest.mark.parametrize("where", ["query", "path", "header"])
def test_an_endless_request_is_cut_off(server, where, size):
    filler = b"a" * size
    line = {
        "query": b"GET /safelight/runs?node=" + filler + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "path": b"GET /safelight/runs/" + filler + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "header": b"GET /safelight/runs/a HTTP/1.1\r\nHost: x\r\nA: " + filler + b"\r\n\r\n",
    }[where]
    try:
        answer = raw(server, line)
    except OSError:
        return  # truncated
    assert not answer or answer.split(b" ")[1][:1] == b"4", answer[:200]


def some_ids():
    real = str(uuid.uuid4())
    yield from (real, real.upper(), real.replace("-", ""), "{" + real + "}", f"urn:uuid:{real}", "0" * 36, "*", "%2a")
    yield from ("..", "%2e%2e", ".", "null", "undefined", "-1", "0", "__proto__", "constructor", "run.json", "%00")
    yield from (
        "a" * 3000,
        quote("'; drop table runs; --"),
        quote("<script>alert(1)</script>"),
        "%ff",
        quote("ü" * 300),
    )


@pytest.mark.parametrize("run", list(some_ids()), ids=lambda run: run[:20])
@pytest.mark.parametrize("route", ROUTES[1:])
def test_a_guessed_run_id_is_not_found(server, live, route, run):
    status, headers, body = ask(server, route.format(run=run, file=live["file"]))
    if status == 403:
        return  # ComfyUI itself refuses the request
    assert status in (400, 404)
    assert b"<script>" not in body
    assert headers["content-type"].startswith(("application/json", "text/plain"))
    if headers["content-type"].startswith("application/json"):
        assert headers["cache-control"] == "no-store"


def test_runs_are_listed_only_for_a_workflow_that_the_request_names(server, live):
    for query in ("", "?node=2", "?node=2&workflow=", f"?node=3&workflow={live['workflow']}", "?node=*&workflow=*"):
        assert live["run"].encode() not in ask(server, f"/safelight/runs{query}")[2]
    mine = ask(server, f"/safelight/runs?node={PREVIEW}&workflow={live['workflow']}")
    assert live["run"].encode() in mine[2]


@pytest.mark.parametrize("route", ROUTES[:3])
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_site_cannot_read_answers(server, live, route, origin):
    path = route.format(**live) + (f"?workflow={live['workflow']}&node={PREVIEW}" if route == ROUTES[0] else "")
    status, headers, body = ask(server, path, headers={"Origin": origin})
    assert "access-control-allow-origin" not in headers, "another site may send a request, but must not read the answer"
    if status == 200:
        assert origin in ("null", "file://")  # without Host the server cannot compare it; browsers always send it
    else:
        assert (status, body) == (403, b"")


@pytest.mark.parametrize("route", ROUTES[:3])
def test_a_cross_site_request_is_refused(server, live, route):
    status, _, body = ask(server, route.format(**live), headers={"Sec-Fetch-Site": "cross-site"})
    older.expect(status != 200, "ComfyUI", server.version, "check of Sec-Fetch-Site")
    assert (status, body) == (403, b"")


def test_a_picture_is_served_as_a_picture_only(server, live):
    _, headers, body = ask(server, ROUTES[2].format(**live))
    assert (headers["content-type"], headers["x-content-type-options"]) == ("image/jpeg", "nosniff")
    assert body[:3] == b"\xff\xd8\xff"
    assert b"prompt" not in body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /safelight/runs/../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /safelight/runs/%2e%2e/%2e%2e/x\r\nX: y HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://evil.example/safelight/runs HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET \\safelight\\runs HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /safelight/runs HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /safelight/runs/\x00\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /safelight/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ],
    ids=lambda request: str(request[:30]),
)
def test_an_invalid_request_gets_no_file(server, live, request_bytes):
    try:
        answer = raw(server, request_bytes)
    except (ConnectionResetError, BrokenPipeError):
        return
    assert b"root:" not in answer
    assert live["run"].encode() not in answer
