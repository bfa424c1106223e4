"""A folder of runs, served to this machine only, and of it nothing but what the runs list."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from safelight.cli.main import main
from safelight.cli.view import LOOPBACK, serve
from safelight.errors import PageError
from safelight.preview.run_library import RunLibrary

PICTURE = b"\x89PNG picture"
SECRET = b"nobody's business"


def step(index, *files, **fields):
    return {"index": index, "sigma": 1.0, "at": index / 4, "files": list(files), "decode_ms": 1.0} | fields


def write_run(folder, *, files=("step_0001.png",), **facts):
    """A run's folder with these facts; its id."""
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
    """Asks for paths as they stand; nothing is quoted, no `..` resolved."""

    def __init__(self, port):
        self.port = port

    def ask(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
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
    """Serves folders until the test is over."""
    under_way = []

    def served(folder=tmp_path):
        server = serve(folder, 0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        under_way.append((server, thread))
        return Client(server.server_port)

    yield served
    for server, thread in under_way:
        server.shutdown()
        thread.join()
        server.server_close()


# What there is to see


def test_runs_are_listed_newest_first_from_two_levels_down(tmp_path, served):
    old = write_run(tmp_path / "old", started="2026-01-01T12:00:00.000+02:00")
    new = write_run(tmp_path / "day" / "new", started="2026-01-01T11:00:00.000+00:00")
    middle = write_run(tmp_path, started="2026-01-01T10:30:00.000+00:00")
    write_run(tmp_path / "far" / "too" / "deep")
    assert [run["id"] for run in served().json("/runs")] == [new, middle, old]


def test_a_listed_run_says_what_its_thumbnail_needs(tmp_path, served):
    steps = [step(1, "step_0001.png"), step(3, "step_0003.png"), step(4)]
    run = write_run(tmp_path / "a", files=("step_0001.png", "step_0003.png"), steps=steps, state="interrupted")
    client = served()
    [told] = client.json("/runs")
    version = told.pop("version")
    assert told == {
        "id": run,
        "state": "interrupted",
        "started": "2026-01-01T00:00:00.000+00:00",
        "index": 3,
        "total": 4,
        "file": "step_0003.png",
        "at": 0.75,
        "written": 1_767_225_601_000,
    }
    assert client.ask(f"/runs/{run}/{told['file']}?at=0.75")[2] == PICTURE
    assert client.json("/runs")[0]["version"] == version


def test_it_is_told_when_a_run_was_heard_of_last_where_its_record_says_so(tmp_path, served):
    start, unknown = "2026-01-01T00:00:00+00:00", [None, 1e300, "long"]
    for i, (started, seconds) in enumerate([(start, 2.5), ("", 2.5), *((start, seconds) for seconds in unknown)]):
        write_run(tmp_path / str(i), started=started, seconds=seconds)
    told = sorted(run["written"] or 0 for run in served().json("/runs"))
    assert told == [0, 0, 0, 0, 1_767_225_602_500]


def test_a_run_that_is_still_being_written_is_read_anew(tmp_path, served):
    run = write_run(tmp_path / "a", files=(), state="running")
    client = served()
    [before] = client.json("/runs")
    assert (before["state"], before["index"], before["file"]) == ("running", None, None)
    write_run(tmp_path / "a", files=("step_0001.png", "step_0002.png"), id=run, state="finished")
    [after] = client.json("/runs")
    assert (after["id"], after["state"], after["index"]) == (run, "finished", 2)
    assert after["version"] != before["version"]
    assert len(client.json(f"/runs/{run}")["steps"]) == 2
    assert client.ask(f"/runs/{run}/step_0002.png")[0] == 200


def test_a_run_that_begins_later_appears_and_one_that_is_deleted_goes(tmp_path, served):
    first = write_run(tmp_path / "a")
    client = served()
    second = write_run(tmp_path / "b", started="2026-01-02T00:00:00.000+00:00")
    assert client.ask(f"/runs/{second}/step_0001.png")[0] == 200
    (tmp_path / "a" / "run.json").unlink()
    assert [run["id"] for run in client.json("/runs")] == [second]
    assert client.ask(f"/runs/{first}")[0] == 404


def test_a_copied_run_and_one_with_an_odd_id_are_runs_of_their_own(tmp_path, served):
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
        {"steps": [{"index": 1, "files": [], "sigma": "<b>"}]},
        {"state": "<script>"},
        {"started": 5},
        {"sampler": None},
        {"sampler": {"cfg": float("nan")}},
        {"notes": "no"},
        {"picture": []},
    ],
)
def test_what_is_no_record_of_a_run_is_left_out_with_a_word(tmp_path, served, caplog, broken):
    run = write_run(tmp_path / "good")
    write_run(tmp_path / "bad", **broken)
    client = served()
    client.json("/runs")
    assert [run["id"] for run in client.json("/runs")] == [run]
    assert [str(tmp_path / "bad") in record.getMessage() for record in caplog.records] == [True]


def test_the_page_holds_the_viewer_and_may_ask_nobody_else(tmp_path, served):
    write_run(tmp_path / "a")
    status, headers, body = served().ask("/")
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "text/html; charset=utf-8", "no-store")
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert json.dumps({"folder": tmp_path.name}).encode() in body
    assert str(tmp_path.parent).encode() not in body, "the page says where on the disk the folder is"


# What there is not


@pytest.fixture
def secret(tmp_path):
    """A served folder beside a file that nobody may see, and in it all sorts of ways to that file."""
    (tmp_path / "secret.png").write_bytes(SECRET)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.png").write_bytes(SECRET)
    write_run(tmp_path / "elsewhere" / "run")
    root = tmp_path / "runs"
    names = ("step_0001.png", "../../secret.png", str(tmp_path / "secret.png"), "..\\..\\secret.png", "run.json")
    run = write_run(
        root / "a", files=names[:1], steps=[step(1, *names, "link.png", "pipe.png", "folder.png", ".x.png")]
    )
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
def test_nothing_else_can_be_had_and_its_absence_is_not_remembered(secret, served, path):
    root, run = secret
    absolute = str(root.parent / "secret.png")
    names = {"run": run, "upper": run.upper(), "other": uuid.uuid4(), "absolute": absolute}
    status, headers, body = served(root).ask(path.format(**names, quoted=absolute.replace("/", "%2f")))
    assert (status, headers["Cache-Control"]) == (404, "no-store")
    assert SECRET not in body


def test_links_to_other_folders_are_not_followed(secret, served):
    root, run = secret
    assert [told["id"] for told in served(root).json("/runs")] == [run]


def test_a_picture_that_became_a_link_since_is_not_followed(secret):
    root, run = secret
    shelf = RunLibrary(root)
    file, size = shelf.open(run, "step_0001.png")
    with file:
        assert (file.read(), size) == (PICTURE, len(PICTURE))
    (root / "a" / "step_0001.png").unlink()
    (root / "a" / "step_0001.png").symlink_to(root.parent / "secret.png")
    assert shelf.open(run, "step_0001.png") is None


@pytest.mark.parametrize("path", ["/", "/runs", "/runs/{run}", "/runs/{run}/step_0001.png", "/nothing"])
def test_every_answer_says_how_it_may_be_kept_and_used(tmp_path, served, path):
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
def test_it_answers_to_names_of_this_machine(tmp_path, served, name, port):
    write_run(tmp_path / "a")
    assert served().ask("/runs", Host=name + port)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["example.com", "localhost.example.com", "127.0.0.1.example.com:80", "", "localhost:80@example.com", "0.0.0.0"],
)
@pytest.mark.parametrize("path", ["/", "/runs"])
def test_it_does_not_answer_to_a_name_that_another_site_may_have_given_it(tmp_path, served, host, path):
    run = write_run(tmp_path / "a")
    status, _, body = served().ask(path, Host=host)
    assert status == 403
    assert run.encode() not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "NONSENSE"])
def test_no_other_method_is_known(tmp_path, served, method):
    write_run(tmp_path / "a")
    status, headers, _ = served().ask("/runs", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_head_says_what_get_would_without_its_body(tmp_path, served):
    run = write_run(tmp_path / "a")
    client = served()
    for path in ("/", "/runs", f"/runs/{run}/step_0001.png", "/nothing"):
        (status, headers, _), (same, told, body) = client.ask(path), client.ask(path, "HEAD")
        assert (status, headers["Content-Length"], headers["Content-Type"]) == (
            same,
            told["Content-Length"],
            told["Content-Type"],
        )
        assert body == b""


@pytest.mark.parametrize(
    "nonsense", [b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n", b"GET " + b"x" * 70_000]
)
def test_what_is_no_http_does_no_harm(tmp_path, served, capfd, nonsense):
    write_run(tmp_path / "a")
    client = served()
    with socket.create_connection((LOOPBACK, client.port), timeout=20) as raw:
        raw.sendall(nonsense)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    assert client.ask("/runs")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_it_listens_to_this_machine_only(tmp_path):
    write_run(tmp_path / "a")
    with serve(tmp_path, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


# On the command line


@pytest.mark.parametrize(("name", "there"), [("empty", "no run"), ("nowhere", "no folder")])
def test_a_folder_without_runs_is_said_to_have_none(tmp_path, capsys, name, there):
    (tmp_path / "empty" / "something").mkdir(parents=True)
    assert main(["view", str(tmp_path / name), "--no-open"]) == 2
    assert capsys.readouterr().err == (
        f"safelight: {tmp_path / name}: expected runs (folders with a run.json, at most 2 levels down), found {there}\n"
    )


def test_a_port_that_is_taken_is_named_if_it_was_asked_for_and_left_alone_if_not(tmp_path, monkeypatch):
    write_run(tmp_path / "a")
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PageError, match=f"port {port} cannot be had .*; choose another, or 0 for a free one"):
            serve(tmp_path, port)
        monkeypatch.setattr("safelight.cli.view.PORT", port)
        with serve(tmp_path) as server:
            assert server.server_port != port


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_what_is_no_port_is_refused(tmp_path, capsys, port):
    with pytest.raises(SystemExit):
        main(["view", str(tmp_path), "--port", port])
    assert "--port" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_control_c_ends_it_cleanly(tmp_path):
    write_run(tmp_path / "a")
    script = "import sys; from safelight.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "view", str(tmp_path), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path("/")) as viewing:
        told = viewing.stdout.readline()
        assert told.startswith(f"1 run in {tmp_path}: http://127.0.0.1:")
        viewing.send_signal(signal.SIGINT)
        out, err = viewing.communicate(timeout=60)
    assert (viewing.returncode, out.strip(), err) == (0, "", "")
