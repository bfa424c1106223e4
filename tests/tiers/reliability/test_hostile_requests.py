"""Untrusted requests: the two servers give out only the pictures that a run lists."""

import asyncio
import http.client
import json
import socket
import threading
import uuid
from unittest.mock import patch
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from safelight.cli.view import serve
from safelight.decoders.decoder import Card
from safelight.hosts.comfyui.owners import KEY_HEADER, Owners
from safelight.hosts.comfyui.routes import register
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.sinks.live_runs import LiveRuns
from safelight.preview.step import StepInfo

PICTURE = b"\x89PNG picture"
SECRET = b"a secret file"
LIST_KEY = "the key of a browser"
RUN, OTHER = (str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in ("run", "other"))


def fill(folder):
    """Creates the folder of a run with files that no manifest lists."""
    folder.mkdir(parents=True)
    for name in ("unlisted.png", ".x.png", "index.html", "step_0001.safetensors"):
        (folder / name).write_bytes(SECRET)
    (folder / "step_0001.png").write_bytes(PICTURE)


class Server:
    """A server under test, with the id or address of its run, and the headers that let a client in."""

    def __init__(self, port, root, run, headers):
        self.port, self.root, self.run, self.headers = port, root, run, headers

    def send(self, raw, *, ends=False):
        """Sends bytes as they are; returns head and body of the answer. `ends`: closes the sending side afterwards."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as wire:
            wire.sendall(raw)
            if ends:
                wire.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: wire.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return head, body

    def ask(self, path, method="GET", **headers):
        fields = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", **self.headers} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items()), "", ""]
        head, body = self.send("\r\n".join(lines).encode("utf-8", "surrogateescape"))
        return int(head.split()[1]) if head else None, head, body


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    """`safelight view` of a folder that lies beside a secret file."""
    root = tmp_path_factory.mktemp("viewed")
    (root / "secret.png").write_bytes(SECRET)
    fill(root / "runs" / "a")
    entry = {"index": 1, "sigma": 1.0, "at": 0.5, "files": ["step_0001.png", "index.html"], "decode_ms": 1.0}
    facts = {
        "format": "safelight.run/1",
        "id": RUN,
        "state": "finished",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1,
    }
    facts |= {"host": {}, "space": None, "decoder": None, "sampler": {}, "picture": None, "steps": [entry], "notes": []}
    (root / "runs" / "a" / "run.json").write_text(json.dumps(facts))
    server = serve(root / "runs", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Server(server.server_port, "", RUN, {"Cookie": f"key{server.server_port}={server.rules.key}"})
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """The routes of the node in a server of aiohttp, which ComfyUI uses too."""
    root = tmp_path_factory.mktemp("live")
    (root / "secret.png").write_bytes(SECRET)
    runs, owners = LiveRuns(), Owners()
    for address, node in ((RUN, "4"), (OTHER, "5")):
        run = Run(host={"workflow_id": "w", "node": node}, prompt="words")
        with patch.object(uuid, "uuid4", return_value=address):
            folder = runs.new(run, root / "runs", owners.of(LIST_KEY)).folder
        fill(folder.path)
        step = StepInfo(index=1, total=1, sigma=1.0, show="denoised", at_s=0.5)
        card = Card(name="d", space="sd1", kind="test", source="a test")
        picture = DecodedPicture(step=step, pixels=None, shown=(8, 8), card=card, decode_ms=1.0)
        folder.record(picture, "step_0001.png")
    table = web.RouteTableDef()
    register(table, runs, owners, str, lambda *_: None, lambda _: [])
    loop, ready = asyncio.new_event_loop(), threading.Event()
    port = []

    async def start():
        app = web.Application()
        app.add_routes(table)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(site._server.sockets[0].getsockname()[1])
        ready.set()
        return runner

    def work():
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(20)
    yield Server(port[0], "/safelight", RUN, {KEY_HEADER: LIST_KEY})
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture(scope="module", params=["view", "comfyui"])
def server(request):
    return request.getfixturevalue("viewer" if request.param == "view" else "routes")


WAYS_UP = [
    "..",
    ".",
    "%2e%2e",
    "%2E%2E",
    "%252e%252e",
    "..%2f..",
    "..%252f..",
    "..%5c..",
    "..\\..",
    "..%c0%af..",
    "%00",
    "..%00",
]
WAYS_UP += [
    "\uff0e\uff0e",
    "%ef%bc%8e%ef%bc%8e",
    "..;",
    "%2e%2e%2f",
    "....//",
    "~",
    "C:",
    "file:",
    "%0d%0aX-Injected:1",
    "%u002e",
]


@pytest.mark.parametrize("way", WAYS_UP)
@pytest.mark.parametrize(
    "path", ["/runs/{run}/{way}/secret.png", "/runs/{way}/secret.png", "/{way}/secret.png", "/runs/{run}/{way}"]
)
def test_no_path_leads_out_of_the_folder_from_any_part_of_a_url(server, path, way):
    status, head, body = server.ask(server.root + path.format(run=server.run, way=way))
    assert status in (400, 403, 404)
    assert SECRET not in body
    assert b"x-injected" not in head.lower()


NAMES = [
    "unlisted.png",
    ".x.png",
    "index.html",
    "run.json",
    "step_0001.safetensors",
    "STEP_0001.PNG",
    "step_0001.png%00",
    "step_0001.png%20",
]
NAMES += [
    "step_0001.png.",
    "step_0001.png::$DATA",
    "..%2f..%2fsecret.png",
    "%2fetc%2fpasswd",
    "x" * 7000,
    "%0d%0aA:%20b",
    "step_0001.png%0a",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_file_is_served_that_the_run_does_not_list(server, name):
    status, _, body = server.ask(f"{server.root}/runs/{server.run}/{name}")
    assert status in (400, 404)
    assert SECRET not in body


IDS = [
    str(uuid.uuid4()),
    str(uuid.UUID(int=0)),
    RUN.upper(),
    RUN.replace("-", ""),
    RUN[:-1],
    RUN + "0",
    "{" + RUN + "}",
    "*",
    "%25",
    "null",
]
IDS += [
    "undefined",
    "__proto__",
    "-1",
    "0",
    "' OR 1=1",
    "x" * 7000,
    f"{RUN}%00",
    f"%20{RUN}",
    f"{RUN}%0a",
    "%F0%9F%A6%8A",
]


@pytest.mark.parametrize("run", IDS)
def test_a_guessed_id_opens_nothing(server, run):
    for path in (f"/runs/{quote(run, safe='%')}", f"/runs/{quote(run, safe='%')}/step_0001.png"):
        status, head, body = server.ask(server.root + path)
        assert status in (400, 404)
        assert PICTURE not in body
        assert status == 400 or b"no-store" in head


def test_a_run_is_served_to_a_client_that_has_its_id(server):
    assert server.ask(f"{server.root}/runs/{server.run}/step_0001.png?at=0.5")[2].endswith(PICTURE)
    status, _, body = server.ask(f"{server.root}/runs/{server.run}")
    assert status == 200
    assert json.loads(body)["id"] == server.run


@pytest.mark.parametrize(
    "query",
    ["", "?node=", "?workflow=w", "?node=4&workflow=", "?node=4", "?node=*&workflow=w", "?node=4%00&workflow=w"],
)
def test_runs_of_other_nodes_are_not_listed(routes, query):
    status, _, body = routes.ask(f"/safelight/runs{query}")
    assert status in (200, 404)
    assert RUN.encode() not in body
    assert OTHER.encode() not in body


def test_a_node_lists_its_own_runs_without_their_prompts(routes):
    [summary] = json.loads(routes.ask("/safelight/runs?workflow=w&node=4")[2])
    assert (summary["id"], summary["thumbnail"], summary["steps"]) == (RUN, "step_0001.png", 1)
    assert "words" not in json.dumps(summary)


def test_both_servers_list_runs_in_one_form(viewer, routes):
    [saved] = json.loads(viewer.ask("/runs")[2])
    [live] = json.loads(routes.ask("/safelight/runs?workflow=w&node=4")[2])
    assert saved.keys() == live.keys()
    assert saved["sampler"].keys() == live["sampler"].keys()


def test_only_the_manifest_of_a_live_run_has_the_prompt(routes):
    assert json.loads(routes.ask(f"/safelight/runs/{RUN}")[2])["sampler"]["prompt"] == "words"


@pytest.mark.parametrize(
    "key",
    ["", "w", "4", RUN, LIST_KEY[:-1], f"{LIST_KEY}x", LIST_KEY.upper(), "*" * 20, "a" * 257, "\udcff" * 20, "0" * 64],
)
def test_runs_are_not_listed_without_the_key_they_were_queued_with(routes, key):
    status, _, body = routes.ask("/safelight/runs?workflow=w&node=4", **{KEY_HEADER: key})
    assert (status, json.loads(body)) == (200, []) or (status == 403 and b"extra_data" in body)
    assert RUN.encode() not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "X" * 900])
def test_other_methods_do_nothing(server, method):
    for path in ("/runs", f"/runs/{server.run}", f"/runs/{server.run}/step_0001.png"):
        status, _, body = server.ask(server.root + path, method)
        assert status in (400, 404, 405)
        assert PICTURE not in body
    assert server.ask(f"{server.root}/runs/{server.run}")[0] == 200


@pytest.mark.parametrize("size", [9_000, 70_000, 2_000_000])
@pytest.mark.parametrize("where", ["query", "header", "headers", "path"])
def test_a_large_request_does_not_disturb_other_requests(server, where, size):
    try:
        if where == "query":
            server.ask(f"{server.root}/runs/{server.run}?{'x' * size}")
        elif where == "header":
            server.ask(f"{server.root}/runs/{server.run}", X="y" * size)
        elif where == "headers":
            server.ask(f"{server.root}/runs/{server.run}", **{f"X{i}": "y" for i in range(size // 100)})
        else:
            server.ask(f"{server.root}/runs/{'x' * size}")
    except (ConnectionError, http.client.HTTPException):
        pass  # the server closed the connection before it had read all
    assert server.ask(f"{server.root}/runs/{server.run}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost\r\nHost: evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
        {"Sec_Fetch_Site": "nonsense"},
    ],
)
def test_a_page_of_another_site_reads_nothing_from_the_viewer(viewer, headers):
    for path in ("/runs", f"/runs/{RUN}", f"/runs/{RUN}/step_0001.png"):
        status, head, body = viewer.ask(path, **headers)
        assert status == 403
        assert RUN.encode() not in body
        assert PICTURE not in body
        assert b"access-control" not in head.lower()


def test_links_to_the_viewer_and_requests_of_its_own_page_are_answered(viewer):
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert viewer.ask("/", **linked)[0] == 200
    assert viewer.ask("/runs", **linked)[0] == 403
    own = f"http://127.0.0.1:{viewer.port}"
    assert viewer.ask("/runs", Sec_Fetch_Site="same-origin", Origin=own)[0] == 200
    assert viewer.ask("/runs", Sec_Fetch_Site="none")[0] == 200


@pytest.mark.parametrize(
    "header", ["Content-Length: 99", "Transfer-Encoding: chunked", "Content-Length: -1", "Content-Length: x"]
)
def test_the_body_of_a_request_is_not_read_as_a_second_request(viewer, header):
    smuggled = f"GET /runs/{RUN} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head, body = viewer.send(
        f"GET /nothing HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n{smuggled}".encode(), ends=True
    )
    assert (head + body).count(b"HTTP/1.1 ") == 1
    assert RUN.encode() not in body


PIECES = st.one_of(
    st.sampled_from(["", *WAYS_UP, *NAMES, "runs", RUN, OTHER, "safelight", "step_0001.png", "secret.png", "a"]),
    st.text(max_size=12).map(lambda text: quote(text, safe="")),
    st.binary(max_size=8).map(quote),
    st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\r\n "), max_size=8),
)
ALLOWED = {"/", "/runs", f"/runs/{RUN}", f"/runs/{OTHER}", f"/runs/{RUN}/step_0001.png", f"/runs/{OTHER}/step_0001.png"}


@given(
    pieces=st.lists(PIECES, max_size=6), query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
)
@example(pieces=["runs", RUN, "step_0001.png"], query="")
def test_any_url_returns_only_listed_files(server, pieces, query):
    path = "/".join([server.root, *pieces]) or "/"
    status, head, body = server.ask(f"{path}?{query}")
    assert SECRET not in body
    assert b"Traceback" not in body
    assert status in (200, 400, 403, 404)
    if PICTURE in body:
        assert RUN in path or OTHER in path
    assert {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]} <= {
        *(b"content-type", b"content-length", b"cache-control", b"content-security-policy", b"referrer-policy"),
        *(
            b"cross-origin-resource-policy",
            b"x-content-type-options",
            b"connection",
            b"accept-ranges",
            b"allow",
            b"server",
            b"set-cookie",
            b"date",
        ),
    }


@given(raw=st.binary(max_size=300))
@example(raw=b"GET /runs\r\n\r\n")
@example(raw=b"\x16\x03\x01\x02\x00")
@example(raw=b"GET http://evil.example/runs HTTP/1.1\r\nHost: localhost\r\n\r\n")
def test_bytes_that_are_not_http_get_nothing(server, raw):
    _, body = server.send(raw, ends=True)
    assert SECRET not in body
    assert RUN.encode() not in body
