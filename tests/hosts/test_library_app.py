"""The page with all runs as an ASGI application below a path of a host's server."""

import asyncio
import json
import re
import uuid

import pytest
from safelight.hosts.library_app import LibraryApp
from safelight.hosts.library_site import LibrarySite
from safelight.hosts.local_server import AccessRules
from safelight.hosts.saved_library import MAX_BODY_BYTES, SavedLibrary

PREFIX = "/safelight"
OWN = "http://127.0.0.1:9090"
ID = str(uuid.UUID(int=1))
PICTURE = b"picture of a step"


class Answer:
    def __init__(self, sent):
        begin, *rest = sent
        self.status = begin["status"]
        self.headers = {name.decode(): value.decode() for name, value in begin["headers"]}
        self.body = b"".join(message["body"] for message in rest)
        assert not rest[-1].get("more_body", False)

    @property
    def json(self):
        return json.loads(self.body)


@pytest.fixture
def ask(tmp_path):
    """Asks the application as a server does that has it below a path."""
    folder = tmp_path / "safelight" / "steps_00001"
    folder.mkdir(parents=True)
    (folder / "step_0001.png").write_bytes(PICTURE)
    manifest = {
        "format": "safelight.run/1",
        "id": ID,
        "state": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "host": {"name": "invokeai"},
        "sampler": {"steps": 1, "prompt": "a fox", "seed": 5, "model": {"name": "dream", "hash": None}},
        "steps": [{"index": 1, "sigma": 1.0, "at": 0.5, "files": ["step_0001.png"]}],
    }
    (folder / "run.json").write_text(json.dumps(manifest))
    app = LibraryApp(LibrarySite(SavedLibrary(tmp_path), {"program": "InvokeAI"}), AccessRules(), PREFIX)

    def ask(path="/", *headers, method="GET", body=b"", whole_path=True, root_path=PREFIX, blocks=()):
        path, _, query = path.partition("?")
        sent, waiting = [], [body] if not blocks else list(blocks)
        given = {"host": "127.0.0.1:9090", **dict(headers)}
        scope = {
            "type": "http",
            "method": method,
            "path": f"{PREFIX}{path}" if whole_path else path,
            "root_path": root_path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }

        async def receive():
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

        async def send(message):
            sent.append(message)

        asyncio.run(app(scope, receive, send))
        ask.unread = len(waiting)
        return Answer(sent)

    return ask


@pytest.mark.parametrize("whole_path", [True, False])  # newer and older versions of Starlette
def test_the_page_and_its_runs_are_answered_below_the_path(ask, whole_path):
    page = ask(whole_path=whole_path)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert re.search(rb'"program": ?"InvokeAI"', page.body)
    assert "script-src 'sha256-" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "set-cookie" not in page.headers
    [run] = ask("/library", whole_path=whole_path).json["runs"]
    assert (run["prompt"], run["model"], run["sampler"]["seed"], run["host"]) == ("a fox", "dream", 5, "invokeai")
    assert ask("/runs?limit=0", whole_path=whole_path).json == []


def test_the_path_without_its_last_slash_leads_to_the_page(ask):
    answer = ask(PREFIX, whole_path=False, root_path="")
    assert (answer.status, answer.headers["location"], answer.body) == (307, "safelight/", b"")


@pytest.mark.parametrize(
    ("headers", "status", "body", "span"),
    [
        ([], 200, PICTURE, None),
        ([("range", "bytes=3-6")], 206, PICTURE[3:7], "bytes 3-6/17"),
        ([("range", "bytes=3-6"), ("if-range", "x")], 200, PICTURE, None),
    ],
)
def test_pictures_are_sent_whole_or_in_part(ask, headers, status, body, span):
    answer = ask(f"/library/{ID}/step_0001.png", *headers)
    assert (answer.status, answer.body, answer.headers.get("content-range")) == (status, body, span)
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_range_outside_a_picture_is_refused(ask):
    answer = ask(f"/library/{ID}/step_0001.png", ("range", "bytes=99-"))
    assert answer.status == 416
    assert "outside a file of 17 bytes" in answer.json["error"]


def test_head_answers_like_get_without_a_body(ask):
    for path in ("/", "/library", f"/library/{ID}/step_0001.png"):
        got, head = ask(path), ask(path, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


def test_a_run_is_changed_by_json_of_the_same_page(ask):
    own = [("content-type", "application/json"), ("origin", OWN)]
    answer = ask(f"/library/{ID}/star", *own, method="POST", blocks=[b'{"star"', b": true}"])
    assert answer.json["run"]["star"] is True
    assert ask("/library").json["runs"][0]["star"] is True


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        ([("origin", "http://example.com")], "GET"),
        ([("sec-fetch-site", "cross-site")], "GET"),
        ([("host", "example.com")], "GET"),
        ([("content-type", "application/json"), ("origin", "http://example.com")], "POST"),
    ],
)
def test_pages_of_other_sites_are_refused(ask, headers, method):
    answer = ask(f"/library/{ID}/star" if method == "POST" else "/library", *headers, method=method, body=b"{}")
    assert answer.status == 403
    assert "request refused" in answer.json["error"]
    assert ask("/library").json["runs"][0]["star"] is False


def test_what_is_no_json_of_an_allowed_length_changes_nothing(ask):
    kind = ("content-type", "application/json")
    assert ask(f"/library/{ID}/star", method="POST", body=b'{"star": true}').status == 400
    assert ask(f"/library/{ID}/star", kind, method="POST", body=b"{").status == 400
    large = [b" " * MAX_BODY_BYTES, b" ", b"more", b"and more"]
    assert ask(f"/library/{ID}/star", kind, method="POST", blocks=large).status == 400
    assert ask.unread == 2
    assert ask("/library").json["runs"][0]["star"] is False


def test_other_methods_and_paths_are_refused(ask):
    assert ask("/library", method="DELETE").status == 405
    assert ask("/nothing").status == 404
    assert ask(f"/library/{ID}/workflow").status == 404


@pytest.mark.parametrize("path", [PREFIX, f"{PREFIX}/", f"{PREFIX}/library"])
def test_a_websocket_is_refused(tmp_path, path):
    """An application that answers nothing is an error in the log of the host's server."""
    app = LibraryApp(LibrarySite(SavedLibrary(tmp_path)), AccessRules(), PREFIX)
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": path, "root_path": PREFIX, "headers": [(b"host", b"127.0.0.1:9090")]}
    asyncio.run(app(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
