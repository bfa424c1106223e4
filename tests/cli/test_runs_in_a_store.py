"""`safelight demo`, `view` and `index` with the address of a store."""

import http.client
import json
import re
import threading

import pytest
from safelight.cli import view
from safelight.cli.main import main
from safelight.errors import PageError
from safelight.hosts.local_server import LOOPBACK


@pytest.fixture
def demo(memory, capsys):
    """The address of a run that `safelight demo` wrote."""
    assert main(["demo", "--out", "memory://bucket/runs/", "--steps", "3"]) == 0
    return re.search(r"memory://bucket/runs/demo_[0-9a-f]{8}", capsys.readouterr().out)[0]


@pytest.fixture
def ask(demo):
    """A function that asks `safelight view` of the store; JSON is decoded."""
    server = view.serve("memory://bucket/runs", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    cookie = f"key{server.server_port}={server.rules.key}"

    def ask(path, value=None):
        connection = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=60)
        headers = {"Cookie": cookie, "Content-Type": "application/json"}
        method, body = ("GET", None) if value is None else ("POST", json.dumps(value))
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return json.loads(content) if answer.getheader("Content-Type") == "application/json" else content

    yield ask
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_demo_is_in_the_store(demo, memory):
    folder = demo.removeprefix("memory:/")
    assert json.loads(memory.cat_file(f"{folder}/run.json"))["state"] == "finished"
    assert memory.exists(f"{folder}/step_0003.png")
    assert memory.exists(f"{folder}/index.html")


def test_the_viewer_shows_runs_and_pictures_of_the_store(ask, demo, memory):
    library = ask("/library")
    (run,) = library["runs"]
    assert (library["path"], run["folder"], run["state"]) == ("memory://bucket/runs", demo[-13:], "finished")
    assert b"memory://bucket/runs" in ask("/")
    stored = memory.cat_file(f"{demo.removeprefix('memory:/')}/step_0003.png")
    assert ask(f"/library/{run['id']}/step_0003.png") == stored
    assert ask(f"/library/{run['id']}/small/step_0003.png")[:2] == b"\xff\xd8"  # a JPEG


def test_a_star_is_in_the_store_and_delete_says_why_not(ask, demo, memory):
    run_id = ask("/library")["runs"][0]["id"]
    assert ask(f"/library/{run_id}/star", {"star": True})["run"]["star"]
    assert json.loads(memory.cat_file(f"{demo.removeprefix('memory:/')}/marks.json"))["star"]
    assert "delete it with a program of this store" in ask(f"/library/{run_id}/delete", {})["error"]
    assert memory.exists(f"{demo.removeprefix('memory:/')}/run.json")


def test_the_index_is_a_page_in_the_store(demo, memory, capsys):
    assert main(["index", "memory://bucket/runs"]) == 0
    assert capsys.readouterr().out == "1 run: memory://bucket/runs/library.html\n"
    assert demo.rpartition("/")[2].encode() in memory.cat_file("/bucket/runs/library.html")


def test_a_store_without_runs_says_so(memory):
    with pytest.raises(PageError, match=r"memory://bucket/nothing: expected runs .* found no run"):
        view.serve("memory://bucket/nothing", 0)


@pytest.mark.parametrize("command", [["view"], ["index"], ["demo", "--steps", "1", "--out"]])
def test_an_address_that_cannot_be_opened_is_one_line(command, capsys):
    assert main([*command, "nowhere://bucket/runs"]) != 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("safelight: nowhere:// is no address that fsspec knows")


def test_the_page_of_gradio_needs_a_folder_of_this_machine(capsys):
    with pytest.raises(SystemExit):
        main(["gradio", "--pipeline", "x", "--out", "s3://bucket/runs"])
    assert "expected a folder of this machine" in capsys.readouterr().err
