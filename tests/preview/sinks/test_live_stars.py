"""Live runs with a star, a note, and deleted ones: how long they stay, and how they are saved."""

import io
import json
from pathlib import PurePath

import pytest
from PIL import Image
from safelight.errors import GoneError, LibraryError
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.run_library import RunLibrary
from safelight.preview.run_marks import Marks
from safelight.preview.sinks.live_runs import UNDO_S, ExportFacts, LiveRuns
from safelight.preview.sinks.live_saving import save_live_run

OWNER = "the owner"
KB = 1000


@pytest.fixture
def runs(clock):
    return LiveRuns(max_runs=8, clock=clock)


@pytest.fixture
def begin(tmp_path, runs):
    def begin(kilobytes=100, state="finished", budget=None):
        live = runs.new(Run(), tmp_path / "live", OWNER)
        live.folder.open()
        if budget is not None:
            runs.make_room(budget)
        live.folder.write("step_0001.jpg", bytes(kilobytes * KB - live.folder.size_bytes))
        live.folder.abandon(state)
        return live

    return begin


def test_a_run_with_a_star_outlives_newer_runs(runs, begin):
    first, starred, third = begin(), begin(), begin()
    runs.mark(starred.address, star=True, budget_bytes=400 * KB)
    for _ in range(5):
        begin(budget=400 * KB)
    runs.make_room(400 * KB)
    addresses = [live.address for live in runs.of(OWNER)]
    assert starred.address in addresses
    assert first.address not in addresses
    assert third.address not in addresses
    assert len(addresses) == 4
    assert starred.folder.path.exists()


def test_runs_with_a_star_may_use_half_of_the_budget(runs, begin):
    one, two, three = begin(), begin(), begin()
    for live in (one, two):
        assert runs.mark(live.address, star=True, budget_bytes=400 * KB).star
    with pytest.raises(
        LibraryError, match=r"may use 0 MB, half of the space for runs.*save this run, or take the star"
    ):
        runs.mark(three.address, star=True, budget_bytes=400 * KB)
    assert not runs.marks(three.address).star
    assert runs.mark(three.address, note="words", budget_bytes=400 * KB) == Marks(note="words")
    runs.mark(one.address, star=False)
    assert runs.mark(three.address, star=True, budget_bytes=400 * KB).star


def test_the_message_says_how_much_room_runs_with_a_star_have_and_use(runs, begin):
    for _ in range(2):
        runs.mark(begin(120_000).address, star=True)
    with pytest.raises(LibraryError, match=r"may use 256 MB, .* they use 228 MB"):
        runs.mark(begin(120_000).address, star=True)


def test_if_the_budget_shrinks_the_newest_stars_stay(runs, begin):
    one, two = begin(), begin()
    for live in (two, one):
        runs.mark(live.address, star=True, budget_bytes=900 * KB)
    newest = begin()
    runs.make_room(250 * KB)
    assert runs.of(OWNER) == [newest, one]


def test_the_number_of_runs_with_a_star_is_limited(runs, begin):
    for _ in range(4):
        runs.mark(begin(1).address, star=True)
    with pytest.raises(LibraryError, match=r"4 runs have a star, which is the limit"):
        runs.mark(begin(1).address, star=True)


def test_an_unknown_run_gets_no_star(runs):
    with pytest.raises(GoneError):
        runs.mark("x", star=True)


# Delete and undo


def test_a_deleted_run_is_hidden_and_comes_back_at_its_place(runs, begin):
    one, two, three = begin(), begin(), begin()
    runs.mark(two.address, note="mine")
    runs.delete(two.address)
    assert runs.of(OWNER) == [three, one]
    assert runs.get(two.address) is None
    assert runs.read(two.address, "step_0001.jpg", 1 << 20) is None
    runs.make_room()
    assert two.folder.path.exists()
    assert runs.restore(two.address, OWNER) is two
    assert runs.of(OWNER) == [three, two, one]
    assert runs.marks(two.address).note == "mine"


def test_after_the_time_for_undo_the_files_are_removed(runs, begin, clock):
    live = begin()
    runs.delete(live.address)
    clock.now = UNDO_S
    with pytest.raises(GoneError, match=r"cannot be restored any more"):
        runs.restore(live.address, OWNER)
    runs.make_room()
    assert not live.folder.path.exists()


def test_a_deleted_run_makes_room_first(runs, begin):
    old, deleted = begin(), begin()
    runs.delete(deleted.address)
    begin(budget=250 * KB)
    runs.make_room(250 * KB)
    assert not deleted.folder.path.exists()
    assert old.folder.path.exists()


@pytest.mark.parametrize("owner", ["somebody else", None, ""])
def test_only_the_owner_restores_a_run(runs, begin, owner):
    live = begin()
    runs.delete(live.address)
    with pytest.raises(GoneError):
        runs.restore(live.address, owner)


def test_a_running_run_is_not_deleted(runs, begin):
    live = begin(state="running")
    with pytest.raises(LibraryError, match=r"still running"):
        runs.delete(live.address)
    assert runs.get(live.address) is live


# Save


@pytest.fixture
def pictured(tmp_path, runs):
    """A live run of two steps, with a workflow."""
    export = ExportFacts(texts=lambda: {"workflow": '{"nodes": []}', "prompt": "{}"})
    live = runs.new(Run(sampler={"steps": 2, "seed": 7}, prompt="words"), tmp_path / "live", OWNER, export)
    live.folder.open()
    live.folder.picture = {"width": 8, "height": 8, "shown_width": 64, "shown_height": 64, "items": 1, "frames": 1}
    return live


def add_steps(live, picture):
    for index in (1, 2):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (100 * index, 0, 0)).save(file, "JPEG")
        live.folder.write(f"step_000{index}.jpg", file.getvalue())
        decoded: DecodedPicture = picture(index=index, total=2)
        live.folder.record(decoded, f"step_000{index}.jpg")


def test_a_saved_run_opens_in_a_library_with_its_marks_and_its_workflow(tmp_path, pictured, picture):
    add_steps(pictured, picture)
    pictured.folder.abandon("finished")
    output = tmp_path / "output"
    folder = save_live_run(pictured, output, PurePath("safelight", "saved"), Marks(star=True, note="mine"), 1 << 20)
    assert folder == output / "safelight" / "saved_00001"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("index.html", "marks.json", "run.json", "step_0001.jpg", "step_0002.png")
    ]
    [entry] = RunLibrary(output).runs().values()
    item = entry.item
    assert (entry.id, item["star"], item["note"], item["workflow"]) == (pictured.folder.run.id, True, "mine", True)
    assert "words" not in (folder / "run.json").read_text()
    assert pictured.address not in (folder / "run.json").read_text()
    with Image.open(folder / "step_0002.png") as image:
        assert image.size == (64, 64)
        assert json.loads(image.text["workflow"]) == {"nodes": []}


def test_a_running_run_is_not_saved(tmp_path, pictured):
    with pytest.raises(LibraryError, match=r"still running; save it when it has ended"):
        save_live_run(pictured, tmp_path, PurePath("saved"), Marks(), 1 << 20)
    assert [path.name for path in tmp_path.iterdir()] == ["live"]


def test_a_folder_that_cannot_be_written_is_reported(tmp_path, pictured):
    pictured.folder.abandon("finished")
    (tmp_path / "output").write_text("a file")
    with pytest.raises(LibraryError, match=r"the run cannot be saved: "):
        save_live_run(pictured, tmp_path / "output", PurePath("safelight", "saved"), Marks(), 1 << 20)
