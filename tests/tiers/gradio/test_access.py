"""What the page answers to other sites, other accounts of the machine, and requests for files that it must not give."""

import http.client
import json
import os
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

FILE = "/gradio_api/file="


class Caller:
    """Asks the page as a program that sets its own headers."""

    def __init__(self, url):
        self.port = urlsplit(url).port
        self.key = urlsplit(url).query

    def __call__(self, path, method="GET", *, key=True, body=None, **headers):
        """Returns status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"{path}{'&' if '?' in path else '?'}{self.key}" if key else path
        headers.setdefault("Host", f"127.0.0.1:{self.port}")
        connection.putrequest(method, path, skip_host=True)
        for name, value in {**headers, **({"Content-Length": str(len(body))} if body else {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        try:
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


@pytest.fixture
def ask(served):
    return Caller(served.url)


@pytest.fixture
def files(served, hand):
    """The files of a run that has ended: the addresses that the page shows."""
    hand("wait", "button:has-text('Generate')")
    hand("fill", "input[type=number][aria-label*='Steps']", text="2")
    hand("press", keys=["Tab"])
    hand("click", "button:has-text('Generate')")
    served.go_on(2)
    hand("says", ".prose.safelight-status", text="finished")
    return urlsplit(hand("see", "[data-testid=image] img, .image-frame img, .image-container img")["src"]).path


def test_the_page_opens_with_its_key(ask, served):
    status, headers, body = ask("/")
    assert status == 200
    assert b"gradio" in body
    assert headers["set-cookie"].startswith(f"key{ask.port}=")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    cookie = headers["set-cookie"].partition(";")[0]
    assert ask("/config", key=False, Cookie=cookie)[0] == 200


PATHS = ["/", "/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x", "/theme.css", "/assets/x.js"]


@pytest.mark.parametrize("path", [*PATHS, "/gradio_api/startup-events/", "/monitoring"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_an_account_without_the_key_gets_nothing(ask, path, method):
    if (method, path) == ("HEAD", "/"):
        return  # gradio asks its own server this while it starts; the answer is tested below
    for wrong in ("", "?key=", f"?{ask.key[:-1]}", "?key=%00"):
        status, headers, body = ask(path + wrong, method, key=False)
        assert status == 403
        assert "set-cookie" not in headers
        assert b"request refused" in body or method == "HEAD"


def test_what_gradio_asks_itself_reveals_nothing(ask):
    status, headers, body = ask("/", "HEAD", key=False)
    assert (status, body) == (200, b"")
    assert "set-cookie" not in headers
    status, headers, body = ask("/gradio_api/startup-events", key=False)
    assert (status, body) == (200, b"false"), "gradio has started its queue itself"
    assert "set-cookie" not in headers


@pytest.mark.parametrize("host", ["example.com", "example.com:7860", "127.0.0.1.example.com", "", "0.0.0.0:7860"])
@pytest.mark.parametrize("path", PATHS)
def test_a_site_that_gives_its_name_our_address_gets_nothing(ask, host, path):
    for method in ("GET", "POST"):
        status, _, body = ask(path, method, Host=host, Origin=f"http://{host}")
        assert status in (400, 403), "400: the server itself refuses an empty name"
        assert b"gradio_config" not in body


@pytest.mark.parametrize("origin", ["http://example.com", "null", "http://localhost:1", "https://127.0.0.1:1"])
def test_a_page_of_another_site_can_run_nothing(ask, origin):
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
    join = "/gradio_api/queue/join"
    assert ask(join, "POST", body=body, Origin=origin, Content_Type="application/json")[0] == 403
    assert ask(join, "POST", body=body, Sec_Fetch_Site="cross-site", Content_Type="text/plain")[0] == 403


def test_a_websocket_is_closed(ask):
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    status, *_ = ask("/gradio_api/queue/join", key=False, **upgrade, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    assert status in (403, 400, 426)


def test_files_of_a_run_are_given_out_and_nothing_else(ask, served, files):
    runs = served.folder / "runs"
    assert ask(files)[0] == 200
    assert ask(files, key=False)[0] == 403
    (run, *_) = runs.iterdir()
    planted = [run / name for name in ("page.html", "drawing.svg", ".env", "planted.png")]
    for path in planted:
        path.write_text("<script>alert(1)</script> secret")
    listed = [path for path in run.iterdir() if path.is_file()]
    assert len(listed) > len(planted)
    for path in [*listed, runs, Path("/etc/passwd"), served.folder / "log.txt", runs / "../log.txt"]:
        status, _, body = ask(f"{FILE}{path}")
        assert status == 403, path
        assert b"secret" not in body
    shown = files.removeprefix(FILE)
    for path in (f"{shown}/../../x.html", "http://127.0.0.1:1/x.png", f"{shown}%00.png", f"{shown}.html", "../x.png"):
        assert ask(f"{FILE}{path}")[0] in (403, 404), path


@pytest.mark.parametrize(
    "path",
    ["upload", "upload_progress?upload_id=x", "proxy=http://127.0.0.1:1/", "deep_link", "runs", "process_recording"],
)
def test_other_services_of_gradio_are_off(ask, path):
    for method in ("GET", "POST"):
        status, _, body = ask(f"/gradio_api/{path}", method, body=b"x" if method == "POST" else None)
        assert status == 403
        assert b"no such address" in body


def test_the_copies_of_pictures_can_be_read_by_this_account_only(files):
    folder = Path(files.removeprefix(FILE))
    while not folder.name.startswith("safelight-gradio-"):
        folder = folder.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()


def test_the_page_listens_on_this_machine_only(ask):
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own, ask.port), timeout=5)
