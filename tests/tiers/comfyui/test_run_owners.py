"""Runs on a real server are listed for the browser that queued them; nothing that others can read opens them."""

import json
import uuid
from urllib.parse import quote

import pytest

from .conftest import FOLDER, serving

PREVIEW = "2"
MINE, THEIRS = "the key of the first person", "the key of another person"
PUBLIC = ("/history", "/queue", "/api/jobs", "/prompt", "/system_stats", "/internal/logs", "/internal/files/temp")


def listed(server, workflow, key):
    reply = server.get(f"/safelight/runs?workflow={workflow}&node={PREVIEW}", key=key)
    assert reply.headers["cache-control"] == "no-store"
    return reply


@pytest.fixture(scope="module")
def published(server, wire):
    """A run with files, the address of the live run, and all that others could read, during the run and after it."""
    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    preview = {"write_intermediates": True, "filename_prefix": "owners/run", "keep_latents": True, "write_csv": True}
    preview |= {"animation": "webp"}
    read = {}

    def look(event):
        if event.name == "safelight.step" and "during" not in read:
            read["during"] = [server.get(path, key=None).body for path in PUBLIC]

    played = server.play(wire(preview=preview, step_ms=40.0), workflow=workflow, on_event=look, key=MINE)
    assert played.ends == ["execution_success"]
    folder = server.output / "owners" / "run_00001"
    read["after"] = [server.get(path, key=None).body for path in PUBLIC]
    read["files"] = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    read["log"] = [server.log.encode()]
    read["overheard"] = [json.dumps(event.data).encode() for event in played.overheard if isinstance(event.data, dict)]
    [live] = listed(server, workflow["id"], MINE).json()
    return {"workflow": workflow["id"], "address": live["id"], "read": read, "folder": folder}


def test_the_page_that_queued_a_run_lists_it_and_another_one_does_not(server, published):
    assert [run["id"] for run in listed(server, published["workflow"], MINE).json()] == [published["address"]]
    assert listed(server, published["workflow"], THEIRS).json() == []
    refused = listed(server, published["workflow"], None)
    assert (refused.status, "extra_data.safelight_key" in refused.json()["error"]) == (403, True)


def test_neither_the_key_nor_the_address_is_in_anything_that_others_can_read(published):
    assert len(published["read"]["files"]) > 8
    assert any(b"safelight_owner" in body for body in published["read"]["after"]), (
        "the history no longer has extra_data"
    )
    for place, contents in published["read"].items():
        for content in contents:
            assert MINE.encode() not in content, place
            assert published["address"].encode() not in content, place


def test_no_text_that_others_can_read_lists_or_opens_the_run(server, published):
    """Every value of the history and of `run.json` is tried as a key and as an address."""
    manifest = json.loads((published["folder"] / "run.json").read_text())
    history = server.get("/history", key=None).json()
    mine = [entry for entry in history.values() if published["workflow"] in json.dumps(entry)]
    values = {text for part in (manifest, mine) for text in texts(part) if text}
    assert len(values) > 40
    assert {manifest["id"], published["workflow"], mine[0]["prompt"][3]["safelight_owner"]} <= values
    for text in values:
        if text.isascii() and text.isprintable():
            assert published["address"].encode() not in listed(server, published["workflow"], text).body, text
        assert server.get(f"/safelight/runs/{quote(text, safe='')}", key=MINE).status != 200, text
        query = f"filename=step_0001.jpg&type=temp&subfolder=safelight/{quote(text, safe='')}"
        assert server.get(f"/view?{query}").status != 200, text


def texts(value):
    """All texts in a JSON value, the names of keys included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def test_a_prompt_that_claims_the_owner_of_another_one_is_listed_for_nobody(server, wire, published):
    entries = server.get("/history", key=None).json().values()
    owner = next(e["prompt"][3]["safelight_owner"] for e in entries if published["workflow"] in json.dumps(e))
    body = {"prompt": wire(preview={}), "client_id": "a script", "extra_data": {"safelight_owner": owner}}
    body["extra_data"]["extra_pnginfo"] = {"workflow": {"id": published["workflow"]}}
    prompt_id = server.post("/prompt", body).json()["prompt_id"]
    while not (entry := server.get(f"/history/{prompt_id}").json().get(prompt_id)):
        pass  # each request takes the server's time; the test's own limit ends it
    assert entry["status"]["status_str"] == "success"
    assert "safelight_owner" not in entry["prompt"][3]
    assert [run["id"] for run in listed(server, published["workflow"], MINE).json()] == [published["address"]]


def test_runs_of_a_script_without_a_key_are_opened_by_the_address_in_its_events_only(server, wire):
    workflow = str(uuid.uuid4())
    played = server.play(wire(preview={}), workflow={"id": workflow}, key=None)
    address = played.named("safelight.run")[-1].data["run"]
    assert listed(server, workflow, MINE).json() == []
    assert listed(server, workflow, None).status == 403
    assert server.get(f"/safelight/runs/{address}", key=None).json()["state"] == "finished"


def test_a_run_without_a_workflow_id_is_listed_for_its_owner_only(server, wire):
    server.play(wire(preview={}), key="the key of a nameless workflow")
    assert len(listed(server, "", "the key of a nameless workflow").json()) == 1
    assert listed(server, "", THEIRS).json() == []


def test_with_multi_user_the_name_of_a_user_opens_nothing(wire, tmp_path):
    with serving(tmp_path / "comfyui", FOLDER, "--multi-user") as server:
        workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
        user = server.post("/users", {"username": "ann"}).json()
        assert user in server.get("/users").json()["users"], "everyone can read the ids of users"
        played = server.play(wire(preview={}), workflow=workflow, key=MINE)
        assert played.ends == ["execution_success"]
        query = f"/safelight/runs?workflow={workflow['id']}&node={PREVIEW}"
        as_user = {"Comfy-User": user}
        assert len(server._ask("GET", query, None, {"Safelight-Key": MINE, **as_user}).json()) == 1
        assert server._ask("GET", query, None, {"Safelight-Key": THEIRS, **as_user}).json() == []
        assert server._ask("GET", query, None, as_user).status == 403
