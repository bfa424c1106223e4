"""The library of `safelight view`: what it lists, and who may change a run in it."""

import http.client
import io
import json
import threading
import uuid

import pytest
from PIL import Image
from safelight.cli.view import serve
from safelight.hosts.library_site import NOTHING_THERE
from safelight.hosts.local_server import LOOPBACK
from safelight.hosts.saved_library import MAX_BODY_BYTES


def png(size, **texts):
    from PIL.PngImagePlugin import PngInfo

    info, file = PngInfo(), io.BytesIO()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.new("RGB", size, (200, 0, 0)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "negative": ["7", 0], "seed": 5}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse at dawn"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry"}},
}


def write_run(folder, number=0, picture=None, **facts):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "step_0001.png").write_bytes(picture or png((64, 64)))
    manifest = {
        "format": "safelight.run/1",
        "id": str(uuid.UUID(int=number + 1)),
        "state": "finished",
        "started": f"2026-01-{number + 1:02d}T00:00:00+00:00",
        "seconds": 1.0,
        "host": {"name": "comfyui", "sampler_node": "3"},
        "sampler": {"steps": 1, "seed": 5, "model": {"name": "dream.safetensors", "hash": None}},
        "steps": [{"index": 1, "sigma": 1.0, "at": 0.5, "files": ["step_0001.png"]}],
        "page": "index.html",
    } | facts
    (folder / "run.json").write_text(json.dumps(manifest))
    return manifest["id"]


class Client:
    def __init__(self, server):
        self.port = server.server_port
        self.own = f"http://{LOOPBACK}:{self.port}"
        self.headers = {"Cookie": f"key{self.port}={server.rules.key}"}

    def ask(self, path, method="GET", body=None, **headers):
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=20)
        try:
            connection.request(method, path, body, self.headers | headers)
            answer = connection.getresponse()
            content = answer.read()
            is_json = answer.getheader("Content-Type") == "application/json"
            return answer.status, json.loads(content) if is_json and content else content
        finally:
            connection.close()

    def post(self, path, value, **headers):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.ask(path, "POST", content, **{"Content-Type": "application/json", "Origin": self.own} | headers)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serves the folder of the test. Looks at it for each request, and reads each to its end, on a busy machine too."""
    monkeypatch.setattr("safelight.hosts.saved_library.QUICK_S", 60.0)
    monkeypatch.setattr("safelight.cli.view.LINGER_S", 60.0)
    servers = []

    def served():
        server = serve(tmp_path, 0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return Client(server)

    yield served
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_run_is_listed_with_what_people_search_for(tmp_path, served):
    picture = png((64, 64), prompt=json.dumps(GRAPH), workflow="{}")
    run = write_run(tmp_path / "day" / "steps_00001", picture=picture)
    status, answer = served().ask("/library")
    [item] = answer["runs"]
    wanted = {
        "id": run,
        "prompt": "a lighthouse at dawn",
        "model": "dream.safetensors",
        "host": "comfyui",
        "folder": "day/steps_00001",
        "files": 1,
        "workflow": True,
        "page": "index.html",
        "star": False,
        "note": "",
    }
    assert (status, {key: item[key] for key in wanted}) == (200, wanted)
    assert (answer["total"], answer["path"]) == (1, str(tmp_path))


@pytest.mark.parametrize(
    ("texts", "workflow"),
    [
        ({"workflow": '{"a": 1}', "prompt": "{}"}, {"a": 1}),
        ({"invokeai_workflow": '{"name": "x"}', "invokeai_graph": "{}"}, {"name": "x"}),
        ({"prompt": json.dumps(GRAPH)}, GRAPH),
        ({"invokeai_graph": "{}"}, None),
    ],
)
def test_the_workflow_in_the_newest_picture_is_given(tmp_path, served, texts, workflow):
    run = write_run(tmp_path / "a", picture=png((64, 64), **texts))
    client = served()
    assert client.ask("/library")[1]["runs"][0]["workflow"] is (workflow is not None)
    status, answer = client.ask(f"/library/{run}/workflow")
    assert (status, answer) == ((200, workflow) if workflow else (404, {"error": NOTHING_THERE}))
    assert client.ask(f"/library/{uuid.UUID(int=99)}/workflow")[0] == 404


def test_later_requests_get_only_what_changed(tmp_path, served):
    for i in range(3):
        write_run(tmp_path / f"run_{i}", i)
    client = served()
    _, first = client.ask("/library?limit=2")
    assert ([run["folder"] for run in first["runs"]], first["version"], first["total"]) == (["run_2", "run_1"], None, 3)
    _, whole = client.ask("/library")
    write_run(tmp_path / "run_1", 1, state="failed")
    _, changed = client.ask(f"/library?since={whole['version']}")
    assert ([run["folder"] for run in changed["runs"]], changed["whole"]) == (["run_1"], False)


def test_a_folder_that_takes_long_to_look_at_is_not_looked_at_for_each_request(tmp_path, served, monkeypatch):
    write_run(tmp_path / "a")
    client = served()
    monkeypatch.setattr("safelight.hosts.saved_library.QUICK_S", 0.0)
    monkeypatch.setattr("safelight.hosts.saved_library.MAX_LOOKING_SHARE", 1e-9)
    assert client.ask("/library")[1]["total"] == 1
    write_run(tmp_path / "b", 1)
    assert client.ask("/library")[1]["total"] == 1
    assert client.ask("/runs?limit=1")[1][0]["id"] == str(uuid.UUID(int=2))
    assert client.ask("/library")[1]["total"] == 2, "what another request has found is listed"


def test_a_tile_gets_a_small_picture(tmp_path, served):
    run = write_run(tmp_path / "a", picture=png((1200, 800)))
    client = served()
    status, content = client.ask(f"/library/{run}/small/step_0001.png")
    with Image.open(io.BytesIO(content)) as image:
        assert (status, image.format, image.size) == (200, "JPEG", (320, 213))
    assert client.ask(f"/library/{run}/step_0001.png")[1] == png((1200, 800))


@pytest.mark.parametrize("name", ["step_0002.png", "..%2f..%2fsecret.png", "run.json", ".x.png"])
def test_no_other_file_is_shrunk(tmp_path, served, name):
    run = write_run(tmp_path / "a")
    (tmp_path / "a" / "step_0002.png").write_bytes(png((8, 8)))
    (tmp_path / "secret.png").write_bytes(png((8, 8)))
    assert served().ask(f"/library/{run}/small/{name}")[0] == 404


def test_a_damaged_picture_has_no_small_one(tmp_path, served):
    run = write_run(tmp_path / "a", picture=b"\x89PNG no picture")
    assert served().ask(f"/library/{run}/small/step_0001.png")[0] == 404


def test_a_star_and_a_note_are_stored_and_listed(tmp_path, served):
    run = write_run(tmp_path / "a")
    client = served()
    status, answer = client.post(f"/library/{run}/star", {"star": True})
    assert (status, answer["run"]["star"]) == (200, True)
    assert client.post(f"/library/{run}/note", {"note": "mine"})[1]["run"]["note"] == "mine"
    [item] = client.ask("/library")[1]["runs"]
    assert (item["star"], item["note"]) == (True, "mine")
    assert json.loads((tmp_path / "a" / "marks.json").read_text())["note"] == "mine"


def test_a_run_is_deleted_and_brought_back(tmp_path, served):
    run = write_run(tmp_path / "a")
    write_run(tmp_path / "a" / "run_002", 1)
    client = served()
    status, answer = client.post(f"/library/{run}/delete", {})
    assert (status, answer["text"]) == (200, "Run moved to the trash, with 1 further run of the same prompt")
    assert client.ask("/library")[1]["runs"] == []
    [trashed] = client.ask("/library/trash")[1]
    assert (trashed["undo"], trashed["folder"]) == (answer["undo"], "a")
    status, answer = client.post("/library/undo", {"undo": answer["undo"]})
    assert (status, run in answer["runs"], len(answer["runs"])) == (200, True, 2)
    assert client.ask("/library")[1]["total"] == 2


def test_a_running_run_is_not_deleted_and_the_answer_says_why(tmp_path, served):
    run = write_run(tmp_path / "a", state="running")
    assert served().post(f"/library/{run}/delete", {}) == (409, {"error": "a is still running; stop it first"})


# Who may change a run

OTHERS = {
    "no key": {"Cookie": ""},
    "a wrong key": {"Cookie": "key=nonsense"},
    "another site": {"Origin": "https://example.com"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "an opaque origin": {"Origin": "null"},
    "another site, as the browser says": {"Sec-Fetch-Site": "cross-site"},
    "another server of this machine": {"Sec-Fetch-Site": "same-site"},
    "a link": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    "another host name": {"Host": "example.com"},
    "a form": {"Content-Type": "application/x-www-form-urlencoded"},
    "text": {"Content-Type": "text/plain"},
}


@pytest.mark.parametrize("headers", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("action", ["star", "note", "delete"])
def test_others_change_nothing(tmp_path, served, action, headers):
    run = write_run(tmp_path / "a")
    client = served()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    status, _ = client.post(f"/library/{run}/{action}", {"star": True, "note": "x"}, **headers)
    assert status in (400, 403)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("headers", OTHERS.values(), ids=OTHERS)
def test_others_bring_nothing_back(tmp_path, served, headers):
    run = write_run(tmp_path / "a")
    client = served()
    token = client.post(f"/library/{run}/delete", {})[1]["undo"]
    assert client.post("/library/undo", {"undo": token}, **headers)[0] in (400, 403)
    assert not (tmp_path / "a").exists()


BODIES = {
    "no JSON": b"star",
    "nothing": b"",
    "deep": b"[" * 10_000,
    "too long": json.dumps({"note": "x" * MAX_BODY_BYTES}).encode(),
    "no text": b"\xff",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_request_with_a_wrong_body_is_refused(tmp_path, served, body):
    run = write_run(tmp_path / "a")
    assert served().post(f"/library/{run}/note", body)[0] == 400


@pytest.mark.parametrize(
    ("action", "value"),
    [("star", {}), ("star", {"star": 1}), ("star", []), ("note", {"note": None}), ("rename", {}), ("", None)],
)
def test_an_unknown_change_is_refused_with_a_reason(tmp_path, served, action, value):
    run = write_run(tmp_path / "a")
    status, answer = served().post(f"/library/{run}/{action}", value)
    assert status == 409
    assert "expected a request with a star, a note or delete" in answer["error"]
    assert not (tmp_path / "a" / "marks.json").exists()


@pytest.mark.parametrize("handle", ["..", "%2e%2e", "a", "..%2fa", "00000000-0000-0000-0000-000000000099"])
def test_only_the_id_of_a_listed_run_deletes_anything(tmp_path, served, handle):
    write_run(tmp_path / "a")
    assert served().post(f"/library/{handle}/delete", {})[0] == 404
    assert (tmp_path / "a" / "run.json").exists()


@pytest.mark.parametrize("token", ["..", "", None, 5, ["x"]])
def test_an_unknown_token_brings_nothing_back(tmp_path, served, token):
    write_run(tmp_path / "a")
    assert served().post("/library/undo", {"undo": token})[0] == 404


def test_a_change_is_never_made_by_reading(tmp_path, served):
    run = write_run(tmp_path / "a")
    client = served()
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert client.ask(f"/library/{run}/delete", method)[0] in (404, 405)
    assert (tmp_path / "a" / "run.json").exists()


def test_a_request_in_parts_is_refused(tmp_path, served):
    run = write_run(tmp_path / "a")
    status, _ = served().ask(f"/library/{run}/delete", "POST", iter([b"{}"]), **{"Content-Type": "application/json"})
    assert status == 400
    assert (tmp_path / "a" / "run.json").exists()
