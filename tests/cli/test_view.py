"""`safelight view` serves to this machine only, and of a folder only the files that its runs list."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from safelight.cli.main import main
from safelight.cli.view import serve
from safelight.errors import PageError
from safelight.hosts.local_server import LOOPBACK
from safelight.preview.run_library import RunLibrary

PICTURE = b"\x89PNG picture"
SECRET = b"a secret file"


def step(index, *files, **fields):
    return {"index": index, "sigma": 1.0, "at": index / 4, "files": list(files), "decode_ms": 1.0} | fields


def write_run(folder, *, files=("step_0001.png",), **facts):
    """Writes the folder of a run; returns its id."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format": "safelight.run/1",
        "id": str(uuid.uuid4()),
        "state": "finished",
        "started": "2026-01-01T00:00:00.000+00:00",
        "seconds": 1.0,
        "host": {},
        "space": "sd1",
        "decoder": None,
        "sampler": {"steps": 4},
        "picture": None,
        "steps": [step(index, name) for index, name in enumerate(files, 1)],
        "notes": [],
    } | facts
    for name in files:
        if "/" not in name:
            (folder / name).write_bytes(PICTURE)
    (folder / "run.json").write_text(json.dumps(manifest))
    return manifest["id"]


class Client:
    """A client that sends paths as they are: nothing is quoted, no `..` is resolved."""

    def __init__(self, port, key):
        self.port, self.cookie = port, f"key{port}={key}"

    def ask(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in {"Cookie": self.cookie, **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, path):
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture
def served(tmp_path):
    """Serves folders until the end of the test."""
    servers = []

    def served(folder=tmp_path):
        server = serve(folder, 0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return Client(server.server_port, server.rules.key)

    yield served
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


# What is served


def test_runs_of_all_levels_are_listed_newest_first(tmp_path, served):
    old = write_run(tmp_path / "old", started="2026-01-01T12:00:00.000+02:00")
    new = write_run(tmp_path / "day" / "new", started="2026-01-01T11:00:00.000+00:00")
    middle = write_run(tmp_path, started="2026-01-01T10:30:00.000+00:00")
    deep = write_run(tmp_path.joinpath(*"abcdef"), started="2026-01-01T09:00:00.000+00:00")
    write_run(tmp_path.joinpath(*"abcdeg", "too deep"))
    write_run(tmp_path / ".hidden" / "run")
    assert [run["id"] for run in served().json("/runs")] == [new, middle, old, deep]


def test_a_run_is_listed_with_its_summary(tmp_path, served):
    steps = [step(1, "step_0001.png"), step(3, "step_0003.png"), step(4)]
    run = write_run(tmp_path / "a", files=("step_0001.png", "step_0003.png"), steps=steps, state="interrupted")
    client = served()
    [summary] = client.json("/runs")
    version = summary.pop("version")
    assert summary == {
        "id": run,
        "state": "interrupted",
        "started": "2026-01-01T00:00:00.000+00:00",
        "written": 1_767_225_601_000,
        "space": "sd1",
        "decoder": None,
        "picture": None,
        "sampler": {"steps": 4, "seed": None, "cfg": None, "name": None, "scheduler": None},
        "steps": 2,
        "index": 3,
        "total": 4,
        "thumbnail": "step_0003.png",
        "at": 0.75,
    }
    assert client.ask(f"/runs/{run}/{summary['thumbnail']}?at=0.75")[2] == PICTURE
    assert client.json("/runs")[0]["version"] == version


def test_the_summary_says_when_the_manifest_was_written_if_it_is_known(tmp_path, served):
    start, unknown = "2026-01-01T00:00:00+00:00", [None, 1e300, "long"]
    for i, (started, seconds) in enumerate([(start, 2.5), ("", 2.5), *((start, seconds) for seconds in unknown)]):
        write_run(tmp_path / str(i), started=started, seconds=seconds)
    written = sorted(run["written"] or 0 for run in served().json("/runs"))
    assert written == [0, 0, 0, 0, 1_767_225_602_500]


def test_a_running_run_is_read_again_when_it_changes(tmp_path, served):
    run = write_run(tmp_path / "a", files=(), state="running")
    client = served()
    [before] = client.json("/runs")
    assert (before["state"], before["index"], before["thumbnail"]) == ("running", None, None)
    write_run(tmp_path / "a", files=("step_0001.png", "step_0002.png"), id=run, state="finished")
    [after] = client.json("/runs")
    assert (after["id"], after["state"], after["index"]) == (run, "finished", 2)
    assert after["version"] != before["version"]
    assert len(client.json(f"/runs/{run}")["steps"]) == 2
    assert client.ask(f"/runs/{run}/step_0002.png")[0] == 200


def test_new_runs_appear_and_deleted_runs_disappear(tmp_path, served):
    first = write_run(tmp_path / "a")
    client = served()
    second = write_run(tmp_path / "b", started="2026-01-02T00:00:00.000+00:00")
    assert client.ask(f"/runs/{second}/step_0001.png")[0] == 200
    (tmp_path / "a" / "run.json").unlink()
    assert [run["id"] for run in client.json("/runs")] == [second]
    assert client.ask(f"/runs/{first}")[0] == 404


def test_copied_runs_and_runs_without_a_uuid_get_ids_of_their_own(tmp_path, served):
    same = write_run(tmp_path / "a")
    write_run(tmp_path / "b", id=same)
    write_run(tmp_path / "c", id="../../etc")
    client = served()
    ids = [run["id"] for run in client.json("/runs")]
    assert len(set(ids)) == 3
    assert same in ids
    for run in ids:
        assert str(uuid.UUID(run)) == run
        assert client.json(f"/runs/{run}")["id"] == run
        assert client.ask(f"/runs/{run}/step_0001.png")[0] == 200


@pytest.mark.parametrize(
    "broken",
    [
        {"format": "safelight.run/2"},
        {"steps": None},
        {"steps": [{"index": "1", "files": []}]},
        {"steps": [{"index": 1, "files": "step_0001.png"}]},
        {"steps": [{"index": 1, "files": [None]}]},
        {"steps": [{"index": 1, "files": ["../../secret.png"]}]},
        {"steps": [{"index": 1, "files": ["..\\..\\secret.png"]}]},
        {"steps": [{"index": 1, "files": [".x.png"]}]},
        {"state": []},
        {"sheet": "/secret.png"},
    ],
)
def test_a_run_whose_manifest_is_not_valid_is_skipped_with_one_warning(tmp_path, served, caplog, broken):
    run = write_run(tmp_path / "good")
    write_run(tmp_path / "bad", **broken)
    client = served()
    client.json("/runs")
    assert [run["id"] for run in client.json("/runs")] == [run]
    assert [str(tmp_path / "bad") in record.getMessage() for record in caplog.records] == [True]


def test_the_page_contains_the_viewer_and_may_load_only_from_its_own_server(tmp_path, served):
    write_run(tmp_path / "a")
    status, headers, body = served().ask("/")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "text/html; charset=utf-8", "no-store")
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert json.dumps({"folder": tmp_path.name}).encode() in body
    assert str(tmp_path.parent).encode() not in body, "the page contains the path of the folder"


# What is not served


@pytest.fixture
def secret(tmp_path):
    """A served folder beside a secret file, with several ways from the one to the other; and the id of its run."""
    (tmp_path / "secret.png").write_bytes(SECRET)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.png").write_bytes(SECRET)
    write_run(tmp_path / "elsewhere" / "run")
    root = tmp_path / "runs"
    names = ("step_0001.png", "run.json", "index.html", "link.png", "pipe.png", "folder.png")
    run = write_run(root / "a", files=names[:1], steps=[step(1, *names)])
    (root / "a" / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "a" / "folder.png").mkdir()
    (root / "a" / "unlisted.png").write_bytes(SECRET)
    (root / "a" / ".x.png").write_bytes(SECRET)
    (root / "a" / "index.html").write_bytes(SECRET)
    os.mkfifo(root / "a" / "pipe.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "b").mkdir()
    (root / "b" / "run.json").symlink_to(tmp_path / "elsewhere" / "run" / "run.json")
    return root, run


@pytest.mark.parametrize(
    "path",
    [
        "/runs/{run}/../../../secret.png",
        "/runs/{run}/..%2f..%2fsecret.png",
        "/runs/{run}/%2e%2e/%2e%2e/secret.png",
        "/runs/{run}/..%5c..%5csecret.png",
        "/runs/{run}/{absolute}",
        "/runs/{run}/{quoted}",
        "/runs/{run}/link.png",
        "/runs/{run}/pipe.png",
        "/runs/{run}/folder.png",
        "/runs/{run}/.x.png",
        "/runs/{run}/unlisted.png",
        "/runs/{run}/run.json",
        "/runs/{run}/index.html",
        "/runs/{run}/step_0001.png/",
        "/runs/{run}/step_0001.png%00",
        "/runs/{run}/STEP_0001.PNG",
        "/runs/{run}/",
        "/runs/{upper}",
        "/runs/{other}",
        "/runs/{other}/step_0001.png",
        "/runs/../secret.png",
        "/../secret.png",
        "/secret.png",
        "/%ff",
        "/a/step_0001.png",
    ],
)
def test_no_other_file_is_served_and_browsers_do_not_cache_its_absence(secret, served, path):
    root, run = secret
    absolute = str(root.parent / "secret.png")
    names = {"run": run, "upper": run.upper(), "other": uuid.uuid4(), "absolute": absolute}
    status, headers, body = served(root).ask(path.format(**names, quoted=absolute.replace("/", "%2f")))
    assert (status, headers["Cache-Control"]) == (404, "no-store")
    assert SECRET not in body


def test_links_to_other_folders_are_not_followed(secret, served):
    root, run = secret
    assert [summary["id"] for summary in served(root).json("/runs")] == [run]


def test_a_picture_that_was_replaced_by_a_link_is_not_followed(secret):
    root, run = secret
    library = RunLibrary(root)
    file, size = library.open(run, "step_0001.png")
    with file:
        assert (file.read(), size) == (PICTURE, len(PICTURE))
    (root / "a" / "step_0001.png").unlink()
    (root / "a" / "step_0001.png").symlink_to(root.parent / "secret.png")
    assert library.open(run, "step_0001.png") is None


@pytest.mark.parametrize("path", ["/", "/runs", "/runs/{run}", "/runs/{run}/step_0001.png", "/nothing"])
def test_every_answer_has_cache_and_security_headers(tmp_path, served, path):
    run = write_run(tmp_path / "a")
    _, headers, _ = served().ask(path.format(run=run))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == (
        "private, max-age=31536000, immutable" if path.endswith("step_0001.png") else "no-store"
    )
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LOCALHOST", "[::1]"])
@pytest.mark.parametrize("port", ["", ":8765"])
def test_it_answers_requests_to_names_of_this_machine(tmp_path, served, name, port):
    write_run(tmp_path / "a")
    assert served().ask("/runs", Host=name + port)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["example.com", "localhost.example.com", "127.0.0.1.example.com:80", "", "localhost:80@example.com", "0.0.0.0"],
)
@pytest.mark.parametrize("path", ["/", "/runs"])
def test_it_refuses_host_names_that_another_site_may_point_to_this_machine(tmp_path, served, host, path):
    run = write_run(tmp_path / "a")
    status, _, body = served().ask(path, Host=host)
    assert status == 403
    assert run.encode() not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "NONSENSE"])
def test_other_methods_are_refused(tmp_path, served, method):
    write_run(tmp_path / "a")
    status, headers, _ = served().ask("/runs", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_answers_like_get_without_a_body(tmp_path, served):
    run = write_run(tmp_path / "a")
    client = served()
    for path in ("/", "/runs", f"/runs/{run}/step_0001.png", "/nothing"):
        (status, headers, _), (head_status, head_headers, body) = client.ask(path), client.ask(path, "HEAD")
        assert (status, headers["Content-Length"], headers["Content-Type"]) == (
            head_status,
            head_headers["Content-Length"],
            head_headers["Content-Type"],
        )
        assert body == b""


@pytest.mark.parametrize(
    "nonsense", [b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n", b"GET " + b"x" * 70_000]
)
def test_bytes_that_are_not_http_do_no_harm(tmp_path, served, capfd, nonsense):
    write_run(tmp_path / "a")
    client = served()
    with socket.create_connection((LOOPBACK, client.port), timeout=20) as raw:
        raw.sendall(nonsense)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    assert client.ask("/runs")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_it_listens_on_the_loopback_address_only(tmp_path):
    write_run(tmp_path / "a")
    with serve(tmp_path, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


# On the command line


@pytest.mark.parametrize(("name", "found"), [("empty", "no run"), ("nowhere", "no folder")])
def test_a_folder_without_runs_is_an_error(tmp_path, capsys, name, found):
    (tmp_path / "empty" / "something").mkdir(parents=True)
    assert main(["view", str(tmp_path / name), "--no-open"]) == 2
    assert capsys.readouterr().err == (
        f"safelight: {tmp_path / name}: expected runs (folders with a run.json, at most 6 levels down, not hidden), "
        f"found {found}\n"
    )


def test_a_port_in_use_is_an_error_if_the_user_chose_it_and_else_replaced(tmp_path, monkeypatch):
    write_run(tmp_path / "a")
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PageError, match=f"port {port} cannot be used .*; choose another, or 0 for a free one"):
            serve(tmp_path, port)
        monkeypatch.setattr("safelight.cli.view.DEFAULT_PORT", port)
        with serve(tmp_path) as server:
            assert server.server_port != port


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_an_invalid_port_is_refused(tmp_path, capsys, port):
    with pytest.raises(SystemExit):
        main(["view", str(tmp_path), "--port", port])
    assert "--port" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_control_c_ends_it_cleanly(tmp_path):
    write_run(tmp_path / "a")
    script = "import sys; from safelight.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "view", str(tmp_path), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path("/")) as viewing:
        line = viewing.stdout.readline()
        assert line.startswith(f"1 run in {tmp_path}: http://127.0.0.1:")
        viewing.send_signal(signal.SIGINT)
        out, err = viewing.communicate(timeout=60)
    assert (viewing.returncode, out.strip(), err) == (0, "", "")


# The key, ranges, and files that change


def test_without_the_key_there_is_no_page_no_list_and_no_picture(tmp_path, served):
    run = write_run(tmp_path / "a")
    client = served()
    for path in ("/", "/runs", f"/runs/{run}", f"/runs/{run}/step_0001.png"):
        status, _, body = client.ask(path, Cookie="")
        assert (status, b"the key is missing" in body) == (403, True), path


def test_the_page_with_the_key_sets_a_cookie_that_opens_the_rest(tmp_path, served):
    write_run(tmp_path / "a")
    client = served()
    key = client.cookie.partition("=")[2]
    status, headers, _ = client.ask(f"/?key={key}", Cookie="")
    assert status == 200
    cookie, *rules = headers["Set-Cookie"].split("; ")
    assert set(rules) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert client.ask("/runs", Cookie=cookie)[0] == 200


def test_the_printed_address_has_the_key(tmp_path):
    write_run(tmp_path / "a")
    with serve(tmp_path, 0) as server:
        assert server.url == f"{server.address}?key={server.rules.key}"


def test_a_part_of_a_file_is_sent_on_request(tmp_path, served):
    run = write_run(tmp_path / "a")
    client = served()
    path = f"/runs/{run}/step_0001.png"
    status, headers, body = client.ask(path, Range="bytes=2-5")
    assert (status, body) == (206, PICTURE[2:6])
    assert headers["Content-Range"] == f"bytes 2-5/{len(PICTURE)}"
    assert client.ask(path)[1]["Accept-Ranges"] == "bytes"
    assert client.ask(path, Range="bytes=99999-")[0] == 416
    status, headers, body = client.ask(path, Range="bytes=2-5", **{"If-Range": '"an earlier file"'})
    assert (status, body) == (200, PICTURE)


@pytest.mark.parametrize("change", [-4, 7])
def test_a_file_that_changes_while_it_is_sent_never_spills_into_the_next_answer(tmp_path, served, monkeypatch, change):
    run = write_run(tmp_path / "a")
    client = served()
    content = PICTURE[:change] if change < 0 else PICTURE + b"HTTP/1."[:change]
    opened = RunLibrary.open

    def changed(self, run_id, name):
        file, size = opened(self, run_id, name)
        (tmp_path / "a" / name).write_bytes(content)
        return file, size

    monkeypatch.setattr(RunLibrary, "open", changed)
    with socket.create_connection((LOOPBACK, client.port), timeout=20) as raw:
        request = f"GET /runs/{run}/step_0001.png HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\n\r\n"
        raw.sendall(request.encode())
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(PICTURE)}".encode() in head
    assert body == content[: len(PICTURE)]


def test_after_a_file_that_was_cut_meanwhile_no_other_answer_is_sent(tmp_path, served, monkeypatch):
    """The browser would take it for the rest of the file."""
    run = write_run(tmp_path / "a")
    client = served()
    opened = RunLibrary.open

    def cut(self, run_id, name):
        file, size = opened(self, run_id, name)
        (tmp_path / "a" / name).write_bytes(PICTURE[:-4])
        return file, size

    monkeypatch.setattr(RunLibrary, "open", cut)
    request = f"GET /runs/{run}/step_0001.png HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\n\r\n"
    with socket.create_connection((LOOPBACK, client.port), timeout=20) as raw:
        raw.sendall(request.encode() * 2)
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.partition(b"\r\n\r\n")[2] == PICTURE[:-4]


def test_a_client_that_still_sends_can_read_why_it_was_refused(tmp_path, served, monkeypatch):
    """The system resets a connection that is closed with unread bytes, and a reset drops the answer."""
    write_run(tmp_path / "a")
    monkeypatch.setattr("safelight.cli.view.LINGER_S", 60.0)
    client = served()
    request = (
        f"POST /library/a/star HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\nContent-Length: 99\r\n\r\n"
    )
    with socket.create_connection((LOOPBACK, client.port), timeout=20) as wire:
        wire.sendall(request.encode())
        assert wire.recv(12) == b"HTTP/1.1 400"
        while wire.recv(65536):
            pass
        for _ in range(3):  # the first one after a reset still succeeds
            wire.sendall(b"x" * 33)


def test_connections_are_limited_and_end_without_an_answer_beyond(tmp_path, served, monkeypatch):
    write_run(tmp_path / "a")
    monkeypatch.setattr("safelight.cli.view.MAX_CONNECTIONS", 2)
    client = served()
    with (
        socket.create_connection((LOOPBACK, client.port), timeout=20) as first,
        socket.create_connection((LOOPBACK, client.port), timeout=20) as second,
    ):
        request = f"GET /runs HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\n\r\n".encode()
        for wire in (first, second):  # both are held open by their own threads
            wire.sendall(request)
            assert wire.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection((LOOPBACK, client.port), timeout=20) as third:
            assert third.recv(10) == b""
    # The threads of the first two end, and others are answered again.
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with suppress(OSError, http.client.HTTPException):
            assert client.ask("/runs")[0] == 200
            break
    else:
        pytest.fail("no connection is answered any more")
