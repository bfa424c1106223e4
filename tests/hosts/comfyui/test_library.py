"""ComfyUI's library: whose runs are listed, which are opened, and who may change them."""

import asyncio
import io
import json
import shutil
import uuid

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.hosts.comfyui.library import ComfyLibrary
from safelight.hosts.comfyui.library_routes import register_library
from safelight.hosts.comfyui.owners import KEY_HEADER, Owners
from safelight.hosts.comfyui.saved_owners import SavedOwners, stored_secret
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.sinks.live_runs import ExportFacts, LiveRuns
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.step import StepInfo

MINE, THEIRS = "the key of my browser", "the key of another browser"
LIST = "/safelight/library"
PICTURE = DecodedPicture(
    step=StepInfo(index=1, total=1, sigma=1.0, show="denoised", at_s=0.5),
    pixels=None,
    shown=(64, 64),
    card=Card(name="d", space="sd1", kind="test", source="a test"),
    decode_ms=1.0,
)


def jpeg(side=8):
    file = io.BytesIO()
    Image.new("RGB", (side, side), (200, 0, 0)).save(file, "JPEG")
    return file.getvalue()


class Library:
    """A library with live and saved runs, and requests to its routes."""

    def __init__(self, root, *, has_users=False, budget=1 << 30):
        self.output, self.temp, private = root / "output", root / "temp", root / "user" / "__safelight"
        self.output.mkdir(exist_ok=True)
        self.live = LiveRuns()
        self.owners = Owners(lambda: stored_secret(private)) if has_users else Owners()
        owners = SavedOwners(private) if has_users else None
        self.library = ComfyLibrary(self.live, lambda: self.output, lambda: budget, owners)

    def begin(self, key=MINE, written=None, state="finished", **facts):
        """A live run with one picture, which also writes the folder `written`."""
        run = Run(sampler={"steps": 1, "seed": 7}, prompt="a lighthouse", **facts)
        folder = None if written is None else RunFolder(self.output / written, run)
        texts = {"workflow": '{"nodes": []}'}
        export = ExportFacts(written=folder, texts=lambda: texts)
        live = self.live.new(run, self.temp, self.owners.of(key), export)
        if folder is not None:
            self.library.own(run.id, live.owner)
        for each in filter(None, (live.folder, folder)):
            each.open()
            each.write("step_0001.jpg", jpeg())
            each.record(PICTURE, "step_0001.jpg")
            if state != "running":
                each.close(state)
        return live

    def save(self, name, number=1):
        """A saved run of an earlier session."""
        folder = self.output / name
        folder.mkdir(parents=True)
        (folder / "step_0001.jpg").write_bytes(jpeg(500))
        manifest = {
            "format": "safelight.run/1",
            "id": str(uuid.UUID(int=number)),
            "state": "finished",
            "started": f"2020-01-{number:02d}T00:00:00+00:00",
            "seconds": 1.0,
            "sampler": {"steps": 1},
            "steps": [{"index": 1, "files": ["step_0001.jpg"]}],
        }
        (folder / "run.json").write_text(json.dumps(manifest))
        return manifest["id"]

    def get(self, path, key=MINE, **headers):
        return self._ask("GET", path, key, None, headers)

    def post(self, path, value, key=MINE, **headers):
        return self._ask("POST", path, key, value, headers)

    def items(self, key=MINE):
        status, answer = self.get(LIST, key)
        assert status == 200
        return answer["runs"]

    def _ask(self, method, path, key, value, headers):
        return asyncio.run(self._request(method, path, {KEY_HEADER: key} if key else {}, value, headers))

    async def _request(self, method, path, key, value, headers):
        table = web.RouteTableDef()
        register_library(table, self.library, self.owners)
        app = web.Application()
        app.add_routes(table)
        content = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        async with (
            TestClient(TestServer(app)) as client,
            client.request(method, path, data=content, headers=key | headers) as answer,
        ):
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.read())


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path)


@pytest.fixture
def shared(tmp_path):
    """A library on a server with users."""
    return Library(tmp_path, has_users=True)


# What is listed


def test_live_runs_of_this_browser_and_all_saved_runs_are_listed(library):
    live = library.begin()
    library.begin(key=THEIRS)
    library.save("day/steps_00001")
    items = library.items()
    assert [(item["folder"], item["live"]) for item in items] == [(None, True), ("day/steps_00001", False)]
    assert (items[0]["id"], items[0]["prompt"], items[0]["workflow"]) == (live.address, "a lighthouse", True)


@pytest.mark.parametrize("key", [None, "short"])
@pytest.mark.parametrize("path", [LIST, f"{LIST}/trash"])
def test_without_a_key_nothing_is_listed(library, key, path):
    library.save("a")
    status, answer = library.get(path, key)
    assert (status, list(answer)) == (403, ["error"])


def test_with_users_only_saved_runs_of_this_user_are_listed(shared):
    shared.save("sampled before there were users")
    shared.begin(written="mine")
    shared.begin(key=THEIRS, written="theirs")
    assert [item["folder"] for item in shared.items()] == ["mine"]
    assert [item["folder"] for item in shared.items(THEIRS)] == ["theirs"]
    assert shared.items("the key of a third browser") == []


def test_with_users_each_lists_the_own_saved_runs_again_after_a_restart(shared, tmp_path):
    shared.begin(written="mine")
    shared.begin(key=THEIRS, written="theirs")
    saved = shared.begin()
    assert shared.post(f"{LIST}/{saved.address}/save", {})[0] == 200
    (shared.output / "mine").rename(shared.output / "moved")
    again = Library(tmp_path, has_users=True)
    assert sorted(item["folder"] for item in again.items()) == ["moved", "safelight/saved_00001"]
    assert [item["folder"] for item in again.items(THEIRS)] == ["theirs"]
    assert again.items("the key of a third browser") == []
    [theirs] = again.items(THEIRS)
    assert again.post(f"{LIST}/{theirs['id']}/delete", {})[0] == 404


def test_with_users_a_copy_of_a_run_does_not_show_it_to_others(shared, tmp_path):
    shared.begin(key=THEIRS, written="theirs")
    shutil.copytree(shared.output / "theirs", shared.output / "a copy")
    again = Library(tmp_path, has_users=True)
    assert again.items() == []
    assert len(again.items(THEIRS)) == 1


def test_a_run_that_is_live_and_saved_is_listed_once(library):
    running = library.begin(written="running", state="running")
    library.begin(written="ended")
    items = {item["folder"]: item for item in library.items()}
    assert {folder: item["live"] for folder, item in items.items()} == {"running": True, "ended": False}
    assert items["running"]["id"] == running.address


def test_the_id_of_a_saved_run_which_is_published_opens_nothing(library):
    run = library.save("a")
    [item] = library.items()
    assert item["id"] != run
    for path in (run, f"{run}/step_0001.jpg", f"{run}/small/step_0001.jpg"):
        assert library.get(f"{LIST}/{path}")[0] == 404
    assert library.post(f"{LIST}/{run}/delete", {})[0] == 404
    assert library.get(f"{LIST}/{item['id']}")[1]["id"] == item["id"]


def test_pictures_are_opened_by_the_handle_alone_because_an_img_sends_no_header(library):
    library.save("a")
    live = library.begin()
    for item in library.items():
        assert library.get(f"{LIST}/{item['id']}/step_0001.jpg", None)[0] == 200
        status, content = library.get(f"{LIST}/{item['id']}/small/step_0001.jpg", None)
        assert (status, max(Image.open(io.BytesIO(content)).size) <= 320) == (200, True)
        assert library.get(f"{LIST}/{item['id']}/run.json", None)[0] == 404
    assert library.get(f"{LIST}/{live.address}", None)[1]["sampler"]["prompt"] == "a lighthouse"


def test_later_requests_get_only_what_changed(library):
    library.save("a")
    version = library.get(LIST)[1]["version"]
    live = library.begin()
    _, answer = library.get(f"{LIST}?since={version}")
    assert ([item["id"] for item in answer["runs"]], answer["whole"]) == ([live.address], False)
    assert library.get(f"{LIST}?since={version}", THEIRS)[1]["whole"], "another browser has another list"


def test_links_in_the_output_folder_are_not_followed(library, tmp_path):
    library.save("../outside")
    (library.output / "link").symlink_to(tmp_path / "outside")
    assert library.items() == []


# Changes


def test_a_star_of_a_live_run_stays_in_the_live_run(library):
    live = library.begin()
    status, answer = library.post(f"{LIST}/{live.address}/star", {"star": True})
    assert (status, answer["run"]["star"]) == (200, True)
    assert library.live.marks(live.address).star
    assert [item["star"] for item in library.items()] == [True]
    assert not list(library.output.iterdir())


def test_a_star_that_has_no_room_is_refused_with_a_reason(tmp_path):
    library = Library(tmp_path, budget=100)
    live = library.begin()
    status, answer = library.post(f"{LIST}/{live.address}/star", {"star": True})
    assert status == 409
    assert "half of the space for runs" in answer["error"]


def test_a_star_of_a_saved_run_is_a_file_beside_its_manifest(library):
    library.save("a")
    [item] = library.items()
    assert library.post(f"{LIST}/{item['id']}/star", {"star": True})[1]["run"]["id"] == item["id"]
    assert library.post(f"{LIST}/{item['id']}/note", {"note": "mine"})[0] == 200
    assert json.loads((library.output / "a" / "marks.json").read_text()) == {
        "format": "safelight.marks/1",
        "star": True,
        "note": "mine",
    }


def test_the_viewer_of_a_live_run_marks_its_saved_copy(library):
    live = library.begin(written="a")
    assert library.post(f"{LIST}/{live.address}/star", {"star": True})[1]["run"]["folder"] == "a"
    assert [item["star"] for item in library.items()] == [True]
    assert library.live.marks(live.address).star


def test_a_saved_run_gets_a_star_also_if_its_live_copy_has_no_room_for_one(tmp_path):
    library = Library(tmp_path, budget=100)
    live = library.begin(written="a")
    assert library.post(f"{LIST}/{live.address}/star", {"star": True})[0] == 200
    assert [item["star"] for item in library.items()] == [True]


def test_a_live_run_is_deleted_and_brought_back(library):
    live = library.begin()
    status, answer = library.post(f"{LIST}/{live.address}/delete", {})
    assert (status, answer["text"], answer["live"]) == (200, "Run deleted", live.address)
    assert library.items() == []
    assert library.post(f"{LIST}/undo", {"undo": answer["undo"]}, THEIRS)[0] == 404
    assert library.post(f"{LIST}/undo", {"undo": answer["undo"]})[0] == 200
    assert [item["id"] for item in library.items()] == [live.address]
    assert library.post(f"{LIST}/undo", {"undo": answer["undo"]})[0] == 404


def test_both_copies_of_a_run_are_deleted_and_brought_back(library):
    live = library.begin(written="a")
    [item] = library.items()
    _, answer = library.post(f"{LIST}/{item['id']}/delete", {})
    assert library.items() == []
    assert not (library.output / "a").exists()
    assert library.post(f"{LIST}/undo", {"undo": answer["undo"]})[0] == 200
    assert [each["folder"] for each in library.items()] == ["a"]
    assert library.live.get(live.address) is live


def test_a_saved_run_comes_back_when_its_live_copy_is_gone(library):
    live = library.begin(written="a")
    _, answer = library.post(f"{LIST}/{live.address}/delete", {})
    library.live.make_room(0)
    assert library.post(f"{LIST}/undo", {"undo": answer["undo"]})[0] == 200
    assert [item["folder"] for item in library.items()] == ["a"]


def test_an_undo_that_fails_can_be_tried_again(library):
    live = library.begin(written="a")
    _, answer = library.post(f"{LIST}/{live.address}/delete", {})
    [place] = (library.output / ".safelight" / "trash").iterdir()
    (place / "run").rename(place / "elsewhere")
    assert library.post(f"{LIST}/undo", {"undo": answer["undo"]})[0] == 409
    (place / "elsewhere").rename(place / "run")
    assert library.post(f"{LIST}/undo", {"undo": answer["undo"]})[0] == 200


def test_a_running_run_is_not_deleted(library):
    live = library.begin(state="running", written="a")
    assert library.post(f"{LIST}/{live.address}/delete", {})[0] == 409
    assert (library.output / "a" / "run.json").exists()


def test_a_live_run_is_saved_on_request(library):
    live = library.begin()
    library.post(f"{LIST}/{live.address}/star", {"star": True})
    status, answer = library.post(f"{LIST}/{live.address}/save", {})
    assert (status, answer["text"]) == (200, "Saved as output/safelight/saved_00001")
    [item] = library.items()
    assert (item["folder"], item["live"], item["star"]) == ("safelight/saved_00001", False, True)


def test_with_users_nobody_changes_or_restores_runs_of_others(shared):
    theirs = shared.begin(key=THEIRS, written="theirs")
    [item] = shared.items(THEIRS)
    for handle in (item["id"], theirs.address, theirs.folder.run.id):
        for action, value in (("star", {"star": True}), ("note", {"note": "x"}), ("delete", {}), ("save", {})):
            assert shared.post(f"{LIST}/{handle}/{action}", value)[0] == 404
    _, answer = shared.post(f"{LIST}/{item['id']}/delete", {}, THEIRS)
    token = next((shared.output / ".safelight" / "trash").iterdir()).name
    for undo in (answer["undo"], token):
        assert shared.post(f"{LIST}/undo", {"undo": undo})[0] == 404
    assert shared.get(f"{LIST}/trash")[1] == []
    assert shared.post(f"{LIST}/undo", {"undo": answer["undo"]}, THEIRS)[0] == 200


def test_without_users_a_deleted_run_of_an_earlier_session_is_brought_back(library, tmp_path):
    library.save("a")
    [item] = library.items()
    library.post(f"{LIST}/{item['id']}/delete", {})
    later = ComfyLibrary(LiveRuns(), lambda: library.output, lambda: 0, None)
    library.library = later
    [trashed] = library.get(f"{LIST}/trash")[1]
    assert trashed["folder"] == "a"
    assert library.post(f"{LIST}/undo", {"undo": trashed["undo"]})[0] == 200
    assert [each["folder"] for each in library.items()] == ["a"]


FOREIGN = {
    "no key": (None, {}),
    "a short key": ("short", {}),
    "another site": (MINE, {"Origin": "https://example.com"}),
    "an opaque origin": (MINE, {"Origin": "null"}),
    "another site, as the browser says": (MINE, {"Sec-Fetch-Site": "cross-site"}),
    "another server of this machine": (MINE, {"Sec-Fetch-Site": "same-site"}),
}


@pytest.mark.parametrize(("key", "headers"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("action", ["star", "note", "delete", "undo"])
def test_pages_of_others_change_nothing(library, key, headers, action):
    library.save("a")
    [item] = library.items()
    path = f"{LIST}/undo" if action == "undo" else f"{LIST}/{item['id']}/{action}"
    status, _ = library.post(path, {"star": True, "note": "x"}, key, **headers)
    assert status == 403
    assert sorted(path.name for path in library.output.rglob("*")) == ["a", "run.json", "step_0001.jpg"]


@pytest.mark.parametrize("body", [b"", b"star", b"[" * 10_000, b'"' + b"x" * 20_000 + b'"', b"[]", b'{"star": 1}'])
def test_a_wrong_request_is_refused(library, body):
    live = library.begin()
    assert library.post(f"{LIST}/{live.address}/star", body)[0] == 409


@pytest.mark.parametrize("handle", ["..", "%2e%2e", "a", "", "0" * 32])
def test_only_a_handle_deletes_anything(library, handle):
    library.save("a")
    library.items()
    assert library.post(f"{LIST}/{handle}/delete", {})[0] in (404, 405)
    assert (library.output / "a" / "run.json").exists()
