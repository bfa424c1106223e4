"""Requests of a browser to a real server: the runs of a node, a run's manifest, its pictures."""

import io
import json
import uuid
from urllib.parse import quote

import pytest
from PIL import Image

PREVIEW = "2"
CONTENT_TYPES = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg"}


@pytest.fixture(scope="module")
def live(server, wire):
    """A finished run without files; its id and its workflow's id."""
    server.inputs_of("SafelightPreview")
    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    played = server.play(wire(preview={}), workflow=workflow)
    return played.named("safelight.run")[-1].data["run"], workflow["id"]


@pytest.fixture(scope="module")
def secret(server):
    """A file of the server that no address of ours may serve."""
    (server.temp / "secret.png").write_bytes(b"a secret")
    return "secret.png"


def listed(server, **query: str):
    reply = server.get("/safelight/runs?" + "&".join(f"{key}={quote(value)}" for key, value in query.items()))
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    return reply.json()


def test_the_runs_of_a_node_are_listed_newest_first(server, wire):
    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    graphs = [wire(preview={}) for _ in range(3)]
    played = server.play(*graphs, workflow=workflow)
    runs = list(dict.fromkeys(event.data["run"] for event in played.named("safelight.run")))
    assert [run["id"] for run in listed(server, workflow=workflow["id"], node=PREVIEW)] == runs[::-1]
    assert [run["state"] for run in listed(server, workflow=workflow["id"], node=PREVIEW)] == ["finished"] * 3
    assert listed(server, workflow=workflow["id"], node="77") == []
    assert listed(server, workflow="no such workflow", node=PREVIEW) == []


def test_a_listed_run_has_a_thumbnail_that_can_be_fetched(server, live):
    run, workflow = live
    [told] = listed(server, workflow=workflow, node=PREVIEW)
    assert told["id"] == run
    assert server.get(f"/safelight/runs/{run}/{told['thumbnail']}").status == 200


def test_runs_are_listed_for_a_node_only(server, live):
    """Without the id of a node or a run, nothing is listed."""
    reply = server.get(f"/safelight/runs?workflow={live[1]}")
    assert (reply.status, reply.headers["cache-control"]) == (404, "no-store")
    assert live[0].encode() not in reply.body


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_run_and_its_pictures_can_be_fetched(server, live, prefix):
    run, workflow = live
    reply = server.get(f"{prefix}/safelight/runs/{run}")
    assert (reply.status, reply.headers["content-type"].split(";")[0]) == (200, "application/json")
    manifest = reply.json()
    assert (manifest["format"], manifest["id"], manifest["state"]) == ("safelight.run/1", run, "finished")
    assert (manifest["host"]["workflow_id"], manifest["host"]["node"]) == (workflow, PREVIEW)
    files = [name for step in manifest["steps"] for name in step["files"]]
    assert files
    for name in files:
        picture = server.get(f"{prefix}/safelight/runs/{run}/{name}")
        assert picture.status == 200
        assert picture.headers["content-type"] == CONTENT_TYPES[name.rpartition(".")[2]]
        assert "immutable" in picture.headers["cache-control"]
        assert Image.open(io.BytesIO(picture.body)).size[0] > 0


def test_the_last_step_can_be_fetched_even_if_others_were_replaced(server, live):
    assert server.get(f"/safelight/runs/{live[0]}").json()["steps"][-1]["index"] == 4


def test_a_manifest_and_its_pictures_can_be_fetched_while_the_sampler_runs(server, wire):
    met = []

    def look(event):
        if event.name == "safelight.step" and not met:
            manifest = server.get(f"/safelight/runs/{event.data['run']}")
            met.append(manifest)
            names = [name for step in manifest.json()["steps"] for name in step["files"]]
            met.extend(server.get(f"/safelight/runs/{event.data['run']}/{name}") for name in names)

    server.play(wire(preview={}, steps=10, step_ms=60.0), on_event=look)
    assert [reply.status for reply in met] == [200] * len(met)
    assert len(met) > 1, "the step was announced before its picture could be fetched"
    assert met[0].headers["cache-control"] == "no-store"
    assert met[0].json()["state"] == "running"


def test_an_announced_picture_can_be_fetched(server, wire):
    """A client that receives the event of a step fetches its picture immediately."""
    missing = []

    def look(event):
        if event.name == "safelight.step":
            manifest = server.get(f"/safelight/runs/{event.data['run']}").json()
            if event.data["index"] not in [step["index"] for step in manifest["steps"] if step["files"]]:
                missing.append(event.data["index"])

    played = server.play(wire(preview={}, steps=12, step_ms=30.0), on_event=look)
    assert played.named("safelight.step")
    assert missing == []


def test_a_saved_run_can_be_fetched_too(server, wire):
    played = server.play(wire(preview={"write_intermediates": True, "filename_prefix": "addresses/kept"}))
    kept = json.loads((server.output / "addresses/kept_00001/run.json").read_text())
    manifest = server.get(f"/safelight/runs/{played.named('safelight.run')[-1].data['run']}").json()
    assert "prompt" not in kept["sampler"], "the prompt is for viewers, not for the record"
    del manifest["sampler"]["prompt"]
    assert {key: manifest[key] for key in ("started", "state", "space", "sampler")} == {
        key: kept[key] for key in ("started", "state", "space", "sampler")
    }


@pytest.mark.parametrize(
    "path",
    [
        "/safelight/runs/{run}/step_9999.png",
        "/safelight/runs/{run}/run.json.part",
        "/safelight/runs/{run}/../../{secret}",
        "/safelight/runs/{run}/..%2f..%2f{secret}",
        "/safelight/runs/{run}/%2e%2e/%2e%2e/{secret}",
        "/safelight/runs/{run}/..%5c..%5c{secret}",
        "/safelight/runs/{run}/%2e%2e%2f%2e%2e%2f{secret}",
        "/safelight/runs/{run}/{absolute}",
        "/safelight/runs/{run}/{absolute_quoted}",
        "/safelight/runs/{run}/step_0004.png%00.jpg",
        "/safelight/runs/..%2f{secret}",
        "/safelight/runs/%2e%2e/{secret}",
        "/safelight/runs/{other}",
        "/safelight/runs/{other}/step_0001.png",
        "/safelight/runs/{run}/",
        "/safelight/runs/{upper}",
    ],
)
def test_other_paths_are_not_found_and_not_cached(server, live, secret, path):
    absolute = str(server.temp / secret)
    names = {"run": live[0], "secret": secret, "other": uuid.uuid4(), "upper": live[0].upper()}
    reply = server.get(path.format(**names, absolute=absolute, absolute_quoted=quote(absolute, safe="")))
    assert reply.status == 404
    assert b"a secret" not in reply.body
    if reply.headers["content-type"].startswith("application/json") or "safelight" in reply.body.decode():
        assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/safelight/runs/{run}/step_9999.png", "/safelight/runs/{other}/step_0001.webp"])
def test_a_404_for_a_picture_is_not_cached(server, live, path):
    """ComfyUI would let a browser cache a 404 for an image for an hour."""
    reply = server.get(path.format(run=live[0], other=uuid.uuid4()))
    assert (reply.status, reply.headers["cache-control"]) == (404, "no-store")


@pytest.mark.parametrize(
    "path",
    [
        "/safelight/runs/{run}/a/b.png",
        "/safelight/runs/{run}/../{run}/a.jpg",
        "/safelight/runs/a/b/c/d.webp",
        "/api/safelight/runs/{run}/a/b.png",
    ],
)
def test_a_404_for_a_picture_of_an_unknown_run_is_not_cached(server, live, path):
    reply = server.get(path.format(run=live[0]))
    assert (reply.status, reply.headers["cache-control"]) == (404, "no-store")


def test_a_404_for_a_picture_deleted_for_newer_runs_is_not_cached(server, live):
    """The file may be deleted while the run is still listed."""
    run, _ = live
    file = server.get(f"/safelight/runs/{run}").json()["steps"][0]["files"][0]
    path = server.temp / "safelight" / run / file
    content = path.read_bytes()
    path.unlink()
    try:
        reply = server.get(f"/safelight/runs/{run}/{file}")
        assert (reply.status, reply.headers["cache-control"]) == (404, "no-store")
    finally:
        path.write_bytes(content)


def test_a_listed_run_has_the_settings_that_runs_may_differ_in(server, wire):
    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    server.play(wire(preview={}, seed=77, steps=3, sampler="heun"), workflow=workflow)
    [told] = listed(server, workflow=workflow["id"], node=PREVIEW)
    assert told["sampler"] == {"steps": 3, "seed": 77, "cfg": 1.0, "name": "heun", "scheduler": "normal"}
    assert (told["state"], told["index"], told["total"]) == ("finished", 3, 3)
    last = server.get(f"/safelight/runs/{told['id']}").json()["steps"][-1]
    assert (told["thumbnail"], told["at"]) == (last["files"][0], last["at"])


# Settings


@pytest.fixture
def settle(server):
    """Saves settings as the panel does, and restores them."""
    before = server.get("/api/settings").json()

    def settle(**settings):
        chosen = {f"Safelight.{name}": value for name, value in settings.items()}
        assert server.post("/api/settings", chosen).status == 200

    yield settle
    neutral = {"Safelight.BudgetMB": 512, "Safelight.Decoder": "auto"}
    server.post("/api/settings", neutral | before)


def test_the_oldest_runs_are_deleted_when_the_budget_is_used_up(server, wire, settle):
    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}

    def play(**settings):
        played = server.play(wire(preview={"show": "noisy"}, **settings), workflow=workflow)
        return played.named("safelight.run")[-1].data["run"]

    large = play(height=200, width=200, steps=50)
    small = play()
    assert sum(path.stat().st_size for path in (server.temp / "safelight" / large).iterdir()) > 150_000
    assert server.get(f"/safelight/runs/{large}").status == 200
    settle(BudgetMB=0.1)
    newest = play()
    assert [run["id"] for run in listed(server, workflow=workflow["id"], node=PREVIEW)] == [newest, small]
    assert not (server.temp / "safelight" / large).exists()
    gone = server.get(f"/safelight/runs/{large}/step_0001.jpg")
    assert (gone.status, gone.headers["cache-control"]) == (404, "no-store")


@pytest.mark.parametrize("value", ["flux2-affine", 5, None, "", {"a": 1}])
def test_a_preferred_decoder_of_another_space_is_ignored_without_a_note(server, wire, settle, value):
    settle(Decoder=value)
    run = server.play(wire("SD15", preview={})).named("safelight.run")[-1].data["run"]
    manifest = server.get(f"/safelight/runs/{run}").json()
    assert manifest["space"] == "sd1"
    assert manifest["decoder"]["name"].startswith("sd1-")
    assert manifest["notes"] == []


def test_auto_means_the_preferred_decoder_and_the_nodes_choice_has_priority(server, wire, settle):
    def made_by(**preview):
        run = server.play(wire("SD15", preview=preview)).named("safelight.run")[-1].data["run"]
        return server.get(f"/safelight/runs/{run}").json()["decoder"]["name"]

    settle(Decoder="sd1-linear-comfyui")
    assert made_by() == "sd1-linear-comfyui"
    assert made_by(decoder="principal") == "principal"
    settle(Decoder="auto")
    assert made_by() != "sd1-linear-comfyui"


@pytest.mark.parametrize("budget", ["much", -1, True, None])
def test_an_invalid_budget_deletes_no_run(server, wire, settle, budget):
    settle(BudgetMB=budget)
    workflow = {"id": str(uuid.uuid4()), "nodes": [], "links": []}
    server.play(wire(preview={}), wire(preview={}), workflow=workflow)
    assert len(listed(server, workflow=workflow["id"], node=PREVIEW)) == 2


def test_the_viewers_scripts_are_served(server):
    listed = [path for path in server.get("/extensions").json() if path.startswith("/extensions/comfy-safelight")]
    assert listed, "the browser receives no script of ours"
    for path in listed:
        reply = server.get(path)
        assert reply.status == 200
        assert "javascript" in reply.headers["content-type"]
