"""Live runs are found by their owner, serve only listed files, and are removed when they exceed the budget."""

import threading

import pytest
from safelight.errors import GoneError
from safelight.preview.run import Run
from safelight.preview.saved_run import SavedRun
from safelight.preview.sinks.live_runs import EvictOldRuns, LiveRuns

OWNER = "the owner"


@pytest.fixture
def begin(tmp_path):
    def begin(live, *, size=0, state=None, budget=1 << 30, owner=OWNER, **host):
        run = live.new(Run(host=host), tmp_path, owner)
        folder = run.folder
        folder.open()
        live.make_room(budget)
        if size:
            folder.write("step_0001.jpg", bytes(size))
        if state:
            folder.close(state)
        return run

    return begin


def test_runs_are_found_by_host_facts_newest_first(begin):
    live = LiveRuns()
    one = begin(live, workflow_id="a", node="1")
    other = begin(live, workflow_id="b", node="1")
    again = begin(live, workflow_id="a", node="1")
    nowhere = begin(live, node="1")
    assert live.of(OWNER, workflow_id="a", node="1") == [again, one]
    assert live.of(OWNER, node="1") == [nowhere, again, other, one]
    assert live.of(OWNER, workflow_id=None, node="1") == [nowhere]
    assert live.of(OWNER, node="2") == []


def test_runs_are_listed_for_their_owner_only(begin):
    live = LiveRuns()
    mine = begin(live, node="1")
    theirs = begin(live, node="1", owner="somebody else")
    begin(live, node="1", owner=None)
    assert live.of(OWNER, node="1") == [mine]
    assert live.of("somebody else", node="1") == [theirs]
    assert live.of(None, node="1") == []
    assert live.of("", node="1") == []


def test_a_run_is_found_by_its_address(begin):
    live = LiveRuns()
    run = begin(live)
    assert live.get(run.address) is run
    assert live.get("something else") is None
    assert live.read("something else", "run.json", 1000) is None


def test_the_id_in_a_run_s_files_opens_nothing(begin, picture):
    """People publish `run.json` and pictures. Both contain the id of the run."""
    live = LiveRuns()
    run = begin(live, size=10)
    run.folder.record(picture(), "step_0001.jpg")
    run.folder.close("finished")
    assert live.get(run.folder.run.id) is None
    assert live.read(run.folder.run.id, "step_0001.jpg", 1000) is None
    files = [path for path in run.folder.path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"run.json", "step_0001.jpg"}
    assert not any(run.address.encode() in path.read_bytes() for path in files)


def test_messages_about_a_live_run_do_not_name_its_folder(begin, picture):
    live = LiveRuns()
    run = begin(live)
    run.folder.record(picture(), "step_0001.jpg")
    saved = SavedRun(run.folder.path, run.folder.manifest(), run.folder.title)
    assert run.address not in saved.summary()
    with pytest.raises(GoneError, match=r"step_0001\.jpg is listed in run\.json and missing in the live run"):
        saved.pictures(1)


def test_the_oldest_finished_runs_are_removed(begin):
    live = LiveRuns()
    oldest, middle, newest = (begin(live, budget=250_000, size=100_000, state="finished") for _ in range(3))
    following = begin(live, budget=250_000)
    assert live.of(OWNER) == [following, newest, middle]
    assert not oldest.folder.path.exists()
    assert middle.folder.path.exists()
    assert live.get(oldest.address) is None


def test_a_running_run_is_not_removed(begin):
    live = LiveRuns()
    going = begin(live, budget=1, size=100_000)
    over = begin(live, budget=1, size=100_000, state="failed")
    newest = begin(live, budget=1)
    assert live.of(OWNER) == [newest, going]
    assert going.folder.path.exists()
    assert not over.folder.path.exists()


def test_no_more_runs_are_removed_than_needed(begin):
    live = LiveRuns()
    folders = [begin(live, budget=310_000, size=100_000, state="interrupted") for _ in range(3)]
    newest = begin(live, budget=310_000)
    assert live.of(OWNER) == [newest, *reversed(folders)]


def test_small_runs_are_removed_when_there_are_too_many(begin):
    live = LiveRuns(max_runs=3)
    first, *others = (begin(live, state="finished") for _ in range(3))
    newest = begin(live)
    assert live.of(OWNER) == [newest, *reversed(others)]
    assert not first.folder.path.exists()


def test_a_manifest_counts_once_however_often_it_is_saved(begin):
    live = LiveRuns()
    folder = begin(live, budget=50_000).folder
    for _ in range(300):
        folder.save()
    folder.close("finished")
    begin(live, budget=50_000)
    assert folder.path.exists()


def test_a_file_is_served_if_the_manifest_lists_it(begin, picture):
    live = LiveRuns()
    run = begin(live, size=10)
    assert live.read(run.address, "step_0001.jpg", 1000) is None
    run.folder.record(picture(), "step_0001.jpg")
    run.folder.announce(sheet="sheet.png")
    run.folder.write("sheet.png", b"sheet")
    assert live.read(run.address, "step_0001.jpg", 1000) == bytes(10)
    assert live.read(run.address, "sheet.png", 1000) == b"sheet"


def test_a_file_that_is_too_large_or_gone_is_not_served(begin, picture):
    live = LiveRuns()
    run = begin(live, size=10)
    run.folder.record(picture(), "step_0001.jpg")
    assert live.read(run.address, "step_0001.jpg", 10) == bytes(10)
    assert live.read(run.address, "step_0001.jpg", 9) is None
    (run.folder.path / "step_0001.jpg").unlink()
    assert live.read(run.address, "step_0001.jpg", 10) is None


@pytest.mark.parametrize("swapped", ["the file", "the folder"])
def test_a_link_in_the_place_of_a_file_or_of_the_run_s_folder_is_not_followed(begin, picture, tmp_path, swapped):
    live = LiveRuns()
    run = begin(live, size=10)
    run.folder.record(picture(), "step_0001.jpg")
    secret = tmp_path / "elsewhere"
    secret.mkdir()
    (secret / "step_0001.jpg").write_bytes(b"secret")
    if swapped == "the file":
        (run.folder.path / "step_0001.jpg").unlink()
        (run.folder.path / "step_0001.jpg").symlink_to(secret / "step_0001.jpg")
    else:
        run.folder.path.rename(tmp_path / "moved")
        run.folder.path.symlink_to(secret, target_is_directory=True)
    assert live.read(run.address, "step_0001.jpg", 1000) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "run.json",
        "../run.json",
        "./step_0001.jpg",
        "step_0001.jpg/",
        "/etc/passwd",
        "..\\step_0001.jpg",
        ".step_0001.jpg.part",
        "STEP_0001.JPG",
        "step_0001.jpg\0",
        "secret.txt",
    ],
)
def test_no_unlisted_name_is_served(begin, picture, name):
    live = LiveRuns()
    run = begin(live, size=10)
    run.folder.record(picture(), "step_0001.jpg")
    (run.folder.path / "secret.txt").write_text("secret")
    assert live.read(run.address, name, 1000) is None


def test_a_run_whose_folder_was_deleted_can_be_removed(begin, tmp_path):
    live = LiveRuns()
    folder = begin(live, budget=1, size=10, state="finished").folder
    for path in folder.path.iterdir():
        path.unlink()
    folder.path.rmdir()
    newest = begin(live, budget=1)
    assert live.of(OWNER) == [newest]


def test_adding_a_run_removes_nothing(begin, tmp_path):
    live = LiveRuns()
    folder = begin(live, size=100_000, state="finished").folder
    live.new(Run(), tmp_path)
    assert folder.path.exists()


def test_older_runs_are_removed_while_a_run_grows(begin, picture):
    live = LiveRuns()
    old = begin(live, size=60_000, state="finished")
    growing = begin(live)
    room = EvictOldRuns(live, lambda: 100_000)
    room.open()
    assert old.folder.path.exists()
    growing.folder.write("step_0001.jpg", bytes(60_000))
    room.show(picture())
    assert not old.folder.path.exists()
    assert live.of(OWNER) == [growing]


def test_older_runs_are_removed_on_the_worker_not_on_the_sampler_s_thread(begin, pipeline, tmp_path):
    live = LiveRuns()
    old = begin(live, size=100_000, state="finished")
    asked_by = []

    def budget():
        asked_by.append(threading.current_thread())
        return 1

    run = Run()
    with pipeline(live.new(run, tmp_path).folder, EvictOldRuns(live, budget), run=run):
        pass
    assert not old.folder.path.exists()
    assert asked_by != [threading.current_thread()]
    assert len(asked_by) == 1
