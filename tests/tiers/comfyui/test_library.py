"""The library of a real ComfyUI: whose runs are listed, and what delete and undo do on the disk."""

import json
import uuid

import pytest

from .conftest import FOLDER, serving

MINE, THEIRS = "the key of the first person", "the key of another person"
LIST = "/safelight/library"


def sample(server, wire, key, prefix):
    """A run with files, in a folder of its own."""
    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    preview = {"write_intermediates": True, "filename_prefix": prefix}
    played = server.play(wire(preview=preview, step_ms=5.0), workflow=workflow, key=key)
    assert played.ends == ["execution_success"]
    return server.output / f"{prefix}_00001"


def listed(server, key):
    """The items of a library by their folders, once a search of the output folder has ended."""
    reply = server.get(LIST, key=key)
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    return {item["folder"]: item for item in reply.json()["runs"]}


def of_prefix(items, prefix):
    return {folder: item for folder, item in items.items() if folder and folder.startswith(prefix)}


def test_without_users_saved_runs_are_listed_for_everyone_with_a_key(server, wire):
    folder = sample(server, wire, MINE, "library/shared")
    for key in (MINE, THEIRS):
        [item] = of_prefix(listed(server, key), "library/shared").values()
        assert item["live"] is False
        assert server.get(f"{LIST}/{item['id']}/{item['thumbnail']}", key=None).status == 200
    assert server.get(LIST, key=None).status == 403
    run_id = json.loads((folder / "run.json").read_text())["id"]
    assert server.get(f"{LIST}/{run_id}", key=None).status == 404


def test_a_saved_run_gets_a_star_and_is_deleted_and_brought_back(server, wire):
    folder = sample(server, wire, MINE, "library/deleted")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    [item] = of_prefix(listed(server, MINE), "library/deleted").values()
    assert server.post(f"{LIST}/{item['id']}/star", {"star": True}, key=None).status == 403
    assert server.post(f"{LIST}/{item['id']}/star", {"star": True}, key=MINE).json()["run"]["star"] is True
    deleted = server.post(f"{LIST}/{item['id']}/delete", {}, key=MINE).json()
    assert not folder.exists()
    assert of_prefix(listed(server, MINE), "library/deleted") == {}
    assert server.post(f"{LIST}/undo", {"undo": deleted["undo"]}, key=MINE).status == 200
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert json.loads(after.pop("marks.json"))["star"] is True
    assert after == before
    assert [each["star"] for each in of_prefix(listed(server, MINE), "library/deleted").values()] == [True]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("users"), FOLDER, "--multi-user") as server:
        yield server


def test_with_users_each_lists_and_changes_only_the_own_runs(shared, wire):
    mine, theirs = sample(shared, wire, MINE, "mine"), sample(shared, wire, THEIRS, "theirs")
    assert set(listed(shared, MINE)) == {"mine_00001"}
    items = listed(shared, THEIRS)
    assert set(items) == {"theirs_00001"}
    [item] = items.values()
    for action, body in (("star", {"star": True}), ("note", {"note": "x"}), ("delete", {})):
        assert shared.post(f"{LIST}/{item['id']}/{action}", body, key=MINE).status == 404
    deleted = shared.post(f"{LIST}/{item['id']}/delete", {}, key=THEIRS).json()
    assert shared.get(f"{LIST}/trash", key=MINE).json() == []
    assert shared.post(f"{LIST}/undo", {"undo": deleted["undo"]}, key=MINE).status == 404
    assert not theirs.exists()
    assert shared.post(f"{LIST}/undo", {"undo": deleted["undo"]}, key=THEIRS).status == 200
    assert theirs.exists()
    assert mine.exists()


def test_with_users_each_lists_the_own_saved_runs_after_a_restart(wire, tmp_path):
    with serving(tmp_path / "host", FOLDER, "--multi-user") as server:
        sample(server, wire, MINE, "mine")
        sample(server, wire, THEIRS, "theirs")
        private = server.base / "user" / "__safelight"
        assert sorted(path.name for path in private.iterdir()) == ["owners.json", "owners.key"]
        for path in ("/userdata?dir=.&recurse=true", "/userdata/owners.json", "/v2/userdata?path=."):
            answer = server._ask("GET", path, None, {"Comfy-User": "__safelight"})
            assert answer.status >= 400 or b"owners" not in answer.body
    with serving(tmp_path / "host", FOLDER, "--multi-user") as server:
        mine = next(filter(None, (listed(server, MINE) for _ in range(300))), {})  # each waits for the search a moment
        assert set(mine) == {"mine_00001"}
        assert set(listed(server, THEIRS)) == {"theirs_00001"}
        assert listed(server, "the key of a third browser") == {}
