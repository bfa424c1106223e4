"""The command `gradio`: who can open the page. A stand-in replaces gradio's own server."""

import types

import pytest
from safelight.cli import gradio as command
from safelight.cli.main import main
from safelight.hosts.gradio import app

SHARED = "https://abc.gradio.live"


class Page:
    """A page that stores the arguments of `launch`."""

    local_url, server_port, share_url, closed = "http://127.0.0.1:7861/", 7861, None, False

    def launch(self, **arguments):
        self.arguments = arguments
        self.share_url = SHARED if arguments["share"] else None

    def close(self):
        self.closed = True


@pytest.fixture
def page(monkeypatch):
    page = Page()
    themes = types.SimpleNamespace(Default=lambda **_: None)
    monkeypatch.setattr(app, "import_gradio", lambda: types.SimpleNamespace(themes=themes))
    monkeypatch.setattr(app, "app", lambda *_, **__: page)
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
        (("--host", "0.0.0.0"), "0.0.0.0", False, "Every machine that can reach this one can use the page"),
        (("--share",), "127.0.0.1", True, f"without a password: {SHARED}"),
    ],
)
def test_the_command_says_who_can_open_the_page(page, tmp_path, capsys, options, host, share, sentence):
    assert main(["gradio", "--pipeline", str(tmp_path), "--out", str(tmp_path / "runs"), *options]) == 0
    printed = capsys.readouterr().out
    assert "http://127.0.0.1:7861/ (Ctrl-C ends it)" in printed
    assert sentence in printed
    assert (page.arguments["server_name"], page.arguments["share"], page.closed) == (host, share, True)
    assert page.arguments["allowed_paths"] == [str(tmp_path / "runs")]


def test_by_default_only_this_machine_can_open_the_page(page, tmp_path):
    app.launch("a pipeline", tmp_path)
    assert (page.arguments["server_name"], page.arguments["share"]) == ("127.0.0.1", False)
