"""ComfyUI's server lists runs for their owner's key only, and serves what the address of a run opens."""

import asyncio
import io
import shutil
import threading

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.decoders.descriptions import Described
from safelight.errors import DownloadError
from safelight.hosts.comfyui import routes
from safelight.hosts.comfyui.owners import KEY_HEADER, Owners
from safelight.hosts.comfyui.routes import register, register_pack
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.sinks.live_runs import ExportFacts, LiveRuns
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.run_group import RunGroup
from safelight.preview.step import StepInfo

LIST_KEY = "the key of a browser"
PICTURE = DecodedPicture(
    step=StepInfo(index=1, total=1, sigma=1.0, show="denoised", at_s=0.5),
    pixels=None,
    shown=(8, 8),
    card=Card(name="d", space="sd1", kind="test", source="a test"),
    decode_ms=1.0,
)
NODE = "/safelight/runs?workflow=w&node=4"


class Served:
    """Live runs, their owners, and requests to the routes that serve them."""

    def __init__(self, root):
        self.runs, self.owners, self._root = LiveRuns(), Owners(), root
        self.downloaded, self.download_error = [], None
        self.cached, self.asked = None, []
        self.metadata = {}

    def begin(self, key=LIST_KEY):
        """A run with one picture, queued with `key`."""
        run = Run(host={"workflow_id": "w", "node": "4"}, prompt="words")
        live = self.runs.new(run, self._root, self.owners.of(key))
        live.folder.open()
        live.folder.write("step_0001.jpg", b"picture")
        live.folder.record(PICTURE, "step_0001.jpg")
        return live

    def get(self, path, key=LIST_KEY, method="GET"):
        """The status, the headers and the body of an answer."""
        return asyncio.run(self._get(path, {KEY_HEADER: key} if key else {}, method))

    def texts(self):
        return self.metadata

    def download(self, name):
        self.downloaded.append(name)
        if self.download_error:
            raise self.download_error
        return f"{name}.safetensors"

    def describe(self, space):
        return [Described(f"{space}-net", "net · fast")] if space == "sd1" else []

    def find_cached(self, *query):
        self.asked.append(query)
        return self.cached

    async def _get(self, path, headers, method):
        table = web.RouteTableDef()
        register(table, self.runs, self.owners, self.download, self.find_cached, self.describe)
        app = web.Application()
        app.add_routes(table)
        async with TestClient(TestServer(app)) as client, client.request(method, path, headers=headers) as answer:
            is_json = answer.content_type == "application/json"
            return answer.status, answer.headers, await (answer.json() if is_json else answer.read())


@pytest.fixture
def served(tmp_path):
    return Served(tmp_path / "live")


def test_the_decoders_of_a_latent_space_are_listed_in_words(served):
    status, headers, listed = served.get("/safelight/decoders?space=sd1", key=None)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert listed == [{"name": "sd1-net", "words": "net · fast"}]
    assert [served.get(f"/safelight/decoders{query}")[2] for query in ("", "?space=", "?space=../x")] == [[], [], []]


def test_a_browser_lists_the_runs_that_it_queued(served):
    first, second = served.begin(), served.begin()
    status, headers, listed = served.get(NODE)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert [run["id"] for run in listed] == [second.address, first.address]
    assert all("prompt" not in run["sampler"] for run in listed)


def test_another_browser_with_the_same_workflow_lists_none_of_them(served):
    live = served.begin()
    for others in ("another key of a browser", live.owner, live.folder.run.id, live.address):
        assert served.get(NODE, others)[::2] == (200, [])


def test_without_a_key_the_list_is_refused_with_a_hint_for_scripts(served):
    served.begin()
    served.begin(key=None)
    for key in (None, "short"):
        status, headers, body = served.get(NODE, key)
        assert (status, headers["Cache-Control"]) == (403, "no-store")
        assert body == {
            "error": "send a key of 16 to 256 characters as the header Safelight-Key: runs are listed for the key that "
            "the prompt had in extra_data.safelight_key"
        }


def test_a_run_that_was_queued_without_a_key_is_listed_for_nobody(served):
    live = served.begin(key=None)
    assert served.get(NODE)[2] == []
    assert served.get(f"/safelight/runs/{live.address}")[0] == 200


def test_the_address_of_a_run_opens_its_manifest_and_its_pictures(served):
    live = served.begin()
    status, headers, manifest = served.get(f"/safelight/runs/{live.address}", key=None)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert (manifest["id"], manifest["sampler"]["prompt"]) == (live.address, "words")
    status, headers, content = served.get(f"/safelight/runs/{live.address}/step_0001.jpg", key=None)
    assert (status, headers["Content-Type"], content) == (200, "image/jpeg", b"picture")
    assert "immutable" in headers["Cache-Control"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_id_of_a_run_which_is_in_published_files_opens_nothing(served):
    run = served.begin().folder.run
    for path in (f"/safelight/runs/{run.id}", f"/safelight/runs/{run.id}/step_0001.jpg"):
        status, headers, body = served.get(path)
        assert (status, headers["Cache-Control"]) == (404, "no-store")
        assert "words" not in str(body)


@pytest.mark.parametrize("swapped", ["step_0001.jpg", ""])
def test_a_link_in_the_place_of_a_picture_or_of_the_run_s_folder_is_not_followed(served, tmp_path, swapped):
    live = served.begin()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "step_0001.jpg").write_bytes(b"secret")
    place = live.folder.path / swapped
    place.rename(tmp_path / "moved")
    place.symlink_to(secret / swapped)
    status, headers, body = served.get(f"/safelight/runs/{live.address}/step_0001.jpg")
    assert (status, headers["Cache-Control"]) == (404, "no-store")
    assert body == {"error": "there is no such picture"}


# Decoders that a note offers


def test_the_manifest_of_a_live_run_has_its_offers_as_notes_and_no_file_has_them(served):
    live = served.begin()
    path = f"/safelight/runs/{live.address}"
    assert "offers" not in served.get(path)[2]
    live.folder.run.offers["a note"] = "taew2_1"
    manifest = served.get(path)[2]
    assert (manifest["offers"], manifest["notes"]) == ({"a note": "taew2_1"}, ["a note"])
    assert "offers" not in live.folder.manifest()


def test_only_a_decoder_that_a_note_of_the_run_offers_is_downloaded(served):
    live = served.begin()
    live.folder.run.offers["a note"] = "taew2_1"
    path = f"/safelight/runs/{live.address}/decoders"
    assert served.get(f"{path}/taew2_1", method="POST")[::2] == (200, {"file": "taew2_1.safetensors"})
    for address, name in ((live.address, "taesd"), (live.folder.run.id, "taew2_1"), ("nowhere", "taew2_1")):
        assert served.get(f"/safelight/runs/{address}/decoders/{name}", method="POST")[0] == 404
    assert served.get(f"{path}/taew2_1", key=None, method="POST")[0] == 403
    assert served.get(f"{path}/taew2_1")[0] == 404
    assert served.downloaded == ["taew2_1"]


def test_a_download_that_fails_is_an_answer_with_the_reason(served):
    live = served.begin()
    live.folder.run.offers["a note"] = "taew2_1"
    served.download_error = DownloadError("no network")
    answer = served.get(f"/safelight/runs/{live.address}/decoders/taew2_1", method="POST")
    assert (answer[0], answer[2], answer[1]["Cache-Control"]) == (502, {"error": "no network"}, "no-store")


CACHED = "/safelight/cached?prompt=p&workflow=w&node=4"


def test_a_browser_finds_the_run_that_the_host_took_from_its_cache(served):
    assert served.get(CACHED)[::2] == (200, None)
    live = served.cached = served.begin()
    status, headers, found = served.get(CACHED)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert (found["id"], found["workflow"]) == (live.address, "w")
    assert served.asked == [(live.owner, "p", "w", "4")] * 2
    assert served.get(CACHED, key=None)[0] == 403
    assert served.get("/safelight/cached?prompt=p")[0] == 404


def test_a_picture_is_exported_under_its_own_name_and_never_cached(served):
    live = served.begin()
    live.folder.write("step_0001.jpg", jpeg())
    status, headers, content = served.get(f"/safelight/runs/{live.address}/exports/step_0001.jpg?frame=0", key=None)
    assert (status, headers["Cache-Control"], headers["Content-Type"]) == (200, "no-store", "image/png")
    assert headers["Content-Disposition"] == "inline; filename*=UTF-8''safelight_step_0001_frame_0001.png"
    assert Image.open(io.BytesIO(content)).size == (4, 4)


@pytest.mark.parametrize("path", ["step_0002.jpg", "run.json", "step_0001.jpg?frame=-1", "step_0001.jpg?frame=1e9"])
def test_only_pictures_of_the_run_are_exported(served, path):
    live = served.begin()
    status, headers, answer = served.get(f"/safelight/runs/{live.address}/exports/{path}")
    assert status in (400, 404)
    assert headers["Cache-Control"] == "no-store"
    assert "error" in answer


def test_a_picture_of_a_removed_run_is_not_exported(served):
    live = served.begin()
    served.runs.make_room(0)
    live.folder.close("finished")
    served.runs.make_room(0)
    assert served.get(f"/safelight/runs/{live.address}/exports/step_0001.jpg")[0] == 404


def jpeg():
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "JPEG")
    return file.getvalue()


# What a run has written


def write_run(served, tmp_path):
    """A live run that also writes files, as the second run of its prompt."""
    group = RunGroup(RunFolder(tmp_path / "output/steps_00001", Run()))
    second = group.add(Run())
    for folder in (group.first, second):
        folder.open()
        folder.write("step_0001.png", b"a file")
        folder.record(PICTURE, "step_0001.png")
        folder.write("sheet.png", b"a sheet")
        folder.announce(sheet="sheet.png")
        group.write_page(folder, folder.manifest(), "")
    group.first.announce(page="index.html")
    export = ExportFacts(written=second, group=group, place="output/steps_00001/run_002", texts=served.texts)
    live = served.runs.new(Run(host={"workflow_id": "w", "node": "4"}), tmp_path / "live", None, export)
    live.folder.open()
    return live


def test_the_manifest_says_what_the_run_has_written(served, tmp_path):
    live = write_run(served, tmp_path)
    manifest = served.get(f"/safelight/runs/{live.address}")[2]
    assert manifest["written"] == {
        "place": "output/steps_00001/run_002",
        "path": str(tmp_path / "output/steps_00001/run_002"),
        "files": 3,
        "sheet": "run_002/sheet.png",
        "animation": None,
        "page": "index.html",
    }
    assert "written" not in served.get(f"/safelight/runs/{served.begin().address}")[2]
    shutil.rmtree(tmp_path / "output")
    assert "written" not in served.get(f"/safelight/runs/{live.address}")[2]


@pytest.mark.parametrize(
    ("path", "mime_type", "content"),
    [
        ("run_002/sheet.png", "image/png", b"a sheet"),
        ("step_0001.png", "image/png", b"a file"),
        ("run_002/run.json", "application/json", None),
    ],
)
def test_what_a_run_has_written_is_opened(served, tmp_path, path, mime_type, content):
    live = write_run(served, tmp_path)
    status, headers, body = served.get(f"/safelight/runs/{live.address}/written/{path}", key=None)
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, mime_type)
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert content is None or body == content


def test_the_page_of_a_run_has_no_rights_on_the_server(served, tmp_path):
    live = write_run(served, tmp_path)
    status, headers, body = served.get(f"/safelight/runs/{live.address}/written/index.html", key=None)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in headers["Content-Security-Policy"]
    assert b"step_0001.png" in body


@pytest.mark.parametrize(
    "path",
    [
        "other.png",
        "../secret.png",
        "run_002/../../secret.png",
        "run_003/sheet.png",
        "run_002/secret.txt",
        "%2e%2e/secret.png",
    ],
)
def test_nothing_else_in_the_folder_is_opened(served, tmp_path, path):
    live = write_run(served, tmp_path)
    for name in ("output/secret.png", "output/steps_00001/other.png", "output/steps_00001/run_002/secret.txt"):
        (tmp_path / name).write_bytes(b"secret")
    status, headers, body = served.get(f"/safelight/runs/{live.address}/written/{path}")
    assert (status, headers["Cache-Control"]) == (404, "no-store")
    assert "secret" not in str(body)


def test_a_link_in_the_place_of_a_written_file_is_not_followed(served, tmp_path):
    live = write_run(served, tmp_path)
    sheet = tmp_path / "output/steps_00001/run_002/sheet.png"
    sheet.unlink()
    (tmp_path / "secret.png").write_bytes(b"secret")
    sheet.symlink_to(tmp_path / "secret.png")
    assert served.get(f"/safelight/runs/{live.address}/written/run_002/sheet.png")[0] == 404


def test_a_run_gives_its_workflow_if_pictures_may_have_it(served, tmp_path):
    live = write_run(served, tmp_path)
    assert served.get(f"/safelight/runs/{live.address}/workflow", key=None)[0] == 404
    served.metadata |= {"prompt": '{"1": {"inputs": {}}}'}
    status, headers, body = served.get(f"/safelight/runs/{live.address}/workflow", key=None)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert body == {"workflow": None, "prompt": {"1": {"inputs": {}}}}
    assert served.get("/safelight/runs/none/workflow")[0] == 404


@pytest.mark.parametrize("kind", ["exports", "downloads"])
def test_exports_and_downloads_run_one_at_a_time_and_leave_the_server_s_threads_to_pictures(served, monkeypatch, kind):
    live = served.begin()
    live.folder.run.offers["a note"] = "taew2_1"
    go_on, together, most = threading.Event(), [], []

    def work(*_):
        together.append(1)
        most.append(len(together))
        assert go_on.wait(60)
        together.pop()

    monkeypatch.setattr("safelight.hosts.comfyui.routes.exported_picture", work)
    monkeypatch.setattr(served, "download", lambda _: work() or "a file")
    run = f"/safelight/runs/{live.address}"
    path, method = (f"{run}/exports/step_0001.jpg", "GET") if kind == "exports" else (f"{run}/decoders/taew2_1", "POST")

    async def ask():
        table = web.RouteTableDef()
        register(table, served.runs, served.owners, served.download, served.find_cached, served.describe)
        app = web.Application()
        app.add_routes(table)
        async with TestClient(TestServer(app)) as client:
            slow = [
                asyncio.ensure_future(client.request(method, path, headers={KEY_HEADER: LIST_KEY})) for _ in "12345"
            ]
            while not most:
                await asyncio.sleep(0)
            # More requests than the server has threads would otherwise be in front of this one.
            answer = await client.get(f"{run}/step_0001.jpg")
            assert await answer.read() == b"picture"
            go_on.set()
            return [(await each).status for each in slow]

    asyncio.run(ask())
    assert most == [1] * 5


def test_the_browser_that_queued_a_run_controls_it(served):
    live = served.begin()
    control = live.folder.run.control
    path = f"/safelight/runs/{live.address}"
    assert served.get(f"{path}/control/pause", method="POST")[::2] == (200, {"paused": True})
    assert served.get(path)[2]["control"] == {"paused": True, "kept": []}
    assert served.get(f"{path}/control/go_on", method="POST")[::2] == (200, {"paused": False})
    assert not control.is_waiting
    assert served.get(f"{path}/control/stop", method="POST")[0] == 200
    assert control.obey(1, lambda: None, lambda _: None).step == 1


@pytest.mark.parametrize("step", [1, 9])
def test_only_a_step_whose_latents_are_saved_can_be_kept(served, step):
    live = served.begin()
    live.folder.record_latent(PICTURE.step, "step_0001.safetensors")
    path = f"/safelight/runs/{live.address}"
    assert served.get(path)[2]["control"]["kept"] == [1]
    status, _, answer = served.get(f"{path}/control/stop?step={step}", method="POST")
    kept = live.folder.run.control.obey(2, lambda: None, lambda _: None)
    assert (status, kept and kept.step) == ((200, 1) if step == 1 else (409, None)), answer


@pytest.mark.parametrize("key", ["the key of another browser", None, "short"])
def test_nobody_else_controls_a_run(served, key):
    live = served.begin()
    status, _, answer = served.get(f"/safelight/runs/{live.address}/control/stop", key, "POST")
    assert status in (403, 404)
    assert answer["error"]
    assert not live.folder.run.control.is_waiting


def test_a_run_that_a_script_queued_without_a_key_has_no_control(served):
    live = served.begin(key=None)
    assert "control" not in served.get(f"/safelight/runs/{live.address}")[2]
    assert served.get(f"/safelight/runs/{live.address}/control/stop", method="POST")[0] == 404
    assert not live.folder.run.control.is_waiting


def test_an_ended_run_has_no_control(served):
    live = served.begin()
    live.folder.close("finished")
    assert "control" not in served.get(f"/safelight/runs/{live.address}")[2]
    assert served.get(f"/safelight/runs/{live.address}/control/stop", method="POST")[0] == 409


def test_the_viewer_gets_the_texts_of_a_language(served, monkeypatch):
    monkeypatch.setattr(routes, "languages", lambda: ["xx"])
    monkeypatch.setattr(routes, "texts_of", lambda language: {"language": language, "texts": {"Step": "Schritt"}})
    status, _, body = served.get("/safelight/texts/xx", key=None)
    assert (status, body) == (200, {"language": "xx", "texts": {"Step": "Schritt"}})
    assert [served.get(f"/safelight/texts/{name}", key=None)[0] for name in ("yy", "..", "%2e%2e%2fen")] == [
        404,
        404,
        404,
    ]


@pytest.mark.parametrize("folder", ["pack", "a pack"])
def test_a_help_page_is_in_the_language_of_the_user_or_in_english(tmp_path, folder):
    docs = tmp_path / folder / "web/docs"
    (docs / "Node").mkdir(parents=True)
    (docs / "Node.md").write_text("English")
    (docs / "Node" / "de.md").write_text("Deutsch")

    async def answers():
        app, table = web.Application(), web.RouteTableDef()
        register_pack(table, tmp_path / folder)
        app.add_routes(table)
        async with TestClient(TestServer(app)) as client:
            names = ("Node/de", "Node/fr", "Other/de")
            pages = [await client.get(f"/extensions/{folder}/docs/{name}.md") for name in names]
            return [(page.status, await page.text()) for page in pages]

    assert asyncio.run(answers()) == [(200, "Deutsch"), (200, "English"), (404, "")]
