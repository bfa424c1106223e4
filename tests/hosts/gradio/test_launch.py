"""The command `gradio`: who can open the page. A stand-in replaces gradio's own server."""

import os
import re
import socket
import sys
import types
from pathlib import Path

import pytest
from safelight.cli import gradio as command
from safelight.cli.main import main
from safelight.hosts.gradio import app

SHARED = "https://abc.gradio.live"


class Page:
    """A page that stores the arguments of `launch`."""

    local_url, server_port, share_url, closed = "http://127.0.0.1:7861/", 7861, None, False

    def launch(self, server_name=None, num_workers=None, **arguments):
        self.arguments = {"server_name": server_name, "num_workers": num_workers, **arguments}
        self.local_url, self.share_url = Page.local_url, SHARED if arguments["share"] else None

    def close(self):
        self.closed = True


@pytest.fixture
def page(monkeypatch):
    page = Page()
    themes = types.SimpleNamespace(Default=lambda **_: None)
    monkeypatch.setattr(app, "import_gradio", lambda: types.SimpleNamespace(themes=themes))
    monkeypatch.setattr(app, "_page", lambda *_: page)
    monkeypatch.setattr(app, "Session", lambda *_: None)
    monkeypatch.setattr(app, "fields_of", lambda _: [])
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    app.served_files.cache_clear()
    starlette = types.SimpleNamespace(Middleware=lambda _, **settings: settings)
    monkeypatch.setitem(sys.modules, "starlette.middleware", starlette)
    monkeypatch.setattr(command, "import_gradio", lambda: None)
    monkeypatch.setattr(command, "load", lambda *_, **__: "a pipeline")
    event = types.SimpleNamespace(wait=lambda: None)
    monkeypatch.setattr(command.threading, "Event", lambda: event)
    return page


@pytest.mark.parametrize(
    ("options", "host", "share", "sentence"),
    [
        (
            (),
            "127.0.0.1",
            False,
            "Only this machine can open it. If it is a remote one, run `ssh -L 7861:127.0.0.1:7861",
        ),
        (("--host", "0.0.0.0"), "0.0.0.0", False, "Other machines can open it at http://"),
        (("--share",), "127.0.0.1", True, f"Anyone who knows this address can use the page: {SHARED}/?key="),
    ],
)
def test_the_command_says_who_can_open_the_page(page, tmp_path, capsys, options, host, share, sentence):
    assert main(["gradio", "--pipeline", str(tmp_path), "--out", str(tmp_path / "runs"), *options]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"http://127\.0\.0\.1:7861/\?key=[\w-]{32} \(Ctrl-C ends it\)", printed)
    assert sentence in printed
    assert (page.arguments["server_name"], page.arguments["share"], page.closed) == (host, share, True)
    assert page.arguments["allowed_paths"] == [str(app.served_files().folder)]
    (gate,) = page.arguments["app_kwargs"]["middleware"]
    assert (gate["rules"].listens_on, gate["refusal"]) == (host, app.served_files().refusal)
    shared = {"host": ["abc.gradio.live"], "cookie": [f"key={gate['rules'].key}"]}
    assert (gate["rules"].refusal("/", shared) is None) is share


def test_by_default_only_this_machine_can_open_the_page(page, tmp_path):
    app.launch("a pipeline", tmp_path)
    assert (page.arguments["server_name"], page.arguments["share"]) == ("127.0.0.1", False)


def test_gradio_starts_no_server_beside_ours_and_a_version_without_such_servers_gets_no_such_option(page, tmp_path):
    app.launch("a pipeline", tmp_path)
    assert page.arguments["num_workers"] == 0
    assert "mcp_server" not in page.arguments


def test_gradio_stores_its_files_where_no_other_account_reads_them(page, tmp_path):
    app.launch("a pipeline", tmp_path)
    assert Path(os.environ["GRADIO_TEMP_DIR"]) == app.served_files().folder


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--port", "70000"), "--port: expected a port from 0 to 65535, got '70000'"),
        (("--port", "x"), "--port: expected a port"),
        (("--host", "203.0.113.1"), "--host: expected an address or a name of this machine"),
        (("--host", "x" * 300), "--host: expected an address or a name of this machine"),
        (("--device", "purple"), "--device: expected a device of this machine"),
        (("--dtype", "int8"), "--dtype: invalid choice"),
    ],
)
def test_an_option_that_cannot_work_is_refused_at_the_start(page, tmp_path, capsys, options, reason):
    with pytest.raises(SystemExit):
        main(["gradio", "--pipeline", str(tmp_path), *options])
    assert reason in capsys.readouterr().err


def test_a_port_in_use_and_a_file_in_place_of_the_folder_are_refused_at_the_start(page, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "load", None)  # it must not be called
    (tmp_path / "file").write_text("a file")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert main(["gradio", "--pipeline", str(tmp_path), "--out", str(tmp_path / "runs"), "--port", port]) == 2
    assert "cannot be used" in capsys.readouterr().err
    assert main(["gradio", "--pipeline", str(tmp_path), "--out", str(tmp_path / "file")]) == 2
    assert "--out: expected a folder" in capsys.readouterr().err
