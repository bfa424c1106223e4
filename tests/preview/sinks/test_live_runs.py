"""Live runs are found by host facts, serve only listed files, and are removed when they exceed the budget."""

import threading

import pytest
from safelight.preview.run import Run
from safelight.preview.sinks.live_runs import EvictOldRuns, LiveRuns


@pytest.fixture
def begin(tmp_path):
    def begin(live, *, size=0, state=None, budget=1 << 30, **host):
        folder = live.new(Run(host=host), tmp_path)
        folder.open()
        live.make_room(budget)
        if size:
            folder.write("step_0001.jpg", bytes(size))
        if state:
            folder.close(state)
        return folder

    return begin


def test_runs_are_found_by_host_facts_newest_first(begin):
    live = LiveRuns()
    one = begin(live, workflow_id="a", node="1")
    other = begin(live, workflow_id="b", node="1")
    again = begin(live, workflow_id="a", node="1")
    nowhere = begin(live, node="1")
    assert live.of(workflow_id="a", node="1") == [again, one]
    assert live.of(node="1") == [nowhere, again, other, one]
    assert live.of(workflow_id=None, node="1") == [nowhere]
    assert live.of(node="2") == []


def test_a_run_is_found_by_its_id(begin):
    live = LiveRuns()
    folder = begin(live)
    assert live.folder(folder.run.id) is folder
    assert live.folder("something else") is None
    assert live.file("something else", "run.json") is None


def test_the_oldest_finished_runs_are_removed(begin):
    live = LiveRuns()
    oldest, middle, newest = (begin(live, budget=250_000, size=100_000, state="finished") for _ in range(3))
    following = begin(live, budget=250_000)
    assert live.of() == [following, newest, middle]
    assert not oldest.path.exists()
    assert middle.path.exists()
    assert live.folder(oldest.run.id) is None


def test_a_running_run_is_not_removed(begin):
    live = LiveRuns()
    going = begin(live, budget=1, size=100_000)
    over = begin(live, budget=1, size=100_000, state="failed")
    newest = begin(live, budget=1)
    assert live.of() == [newest, going]
    assert going.path.exists()
    assert not over.path.exists()


def test_no_more_runs_are_removed_than_needed(begin):
    live = LiveRuns()
    folders = [begin(live, budget=310_000, size=100_000, state="interrupted") for _ in range(3)]
    newest = begin(live, budget=310_000)
    assert live.of() == [newest, *reversed(folders)]


def test_small_runs_are_removed_when_there_are_too_many(begin):
    live = LiveRuns(max_runs=3)
    first, *others = (begin(live, state="finished") for _ in range(3))
    newest = begin(live)
    assert live.of() == [newest, *reversed(others)]
    assert not first.path.exists()


def test_a_manifest_counts_once_however_often_it_is_saved(begin):
    live = LiveRuns()
    folder = begin(live, budget=50_000)
    for _ in range(300):
        folder.save()
    folder.close("finished")
    begin(live, budget=50_000)
    assert folder.path.exists()


def test_a_file_is_served_if_the_manifest_lists_it(begin, picture):
    live = LiveRuns()
    folder = begin(live, size=10)
    assert live.file(folder.run.id, "step_0001.jpg") is None
    folder.record(picture(), "step_0001.jpg")
    folder.announce(sheet="sheet.png")
    assert live.file(folder.run.id, "step_0001.jpg") == folder.path / "step_0001.jpg"
    assert live.file(folder.run.id, "sheet.png") == folder.path / "sheet.png"


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
    folder = begin(live, size=10)
    folder.record(picture(), "step_0001.jpg")
    (folder.path / "secret.txt").write_text("secret")
    assert live.file(folder.run.id, name) is None


def test_a_run_whose_folder_was_deleted_can_be_removed(begin, tmp_path):
    live = LiveRuns()
    folder = begin(live, budget=1, size=10, state="finished")
    for path in folder.path.iterdir():
        path.unlink()
    folder.path.rmdir()
    newest = begin(live, budget=1)
    assert live.of() == [newest]


def test_adding_a_run_removes_nothing(begin, tmp_path):
    live = LiveRuns()
    folder = begin(live, size=100_000, state="finished")
    live.new(Run(), tmp_path)
    assert folder.path.exists()


def test_older_runs_are_removed_while_a_run_grows(begin, picture):
    live = LiveRuns()
    old = begin(live, size=60_000, state="finished")
    growing = begin(live)
    room = EvictOldRuns(live, lambda: 100_000)
    room.open()
    assert old.path.exists()
    growing.write("step_0001.jpg", bytes(60_000))
    room.show(picture())
    assert not old.path.exists()
    assert live.of() == [growing]


def test_older_runs_are_removed_on_the_worker_not_on_the_sampler_s_thread(begin, pipeline, tmp_path):
    live = LiveRuns()
    old = begin(live, size=100_000, state="finished")
    asked_by = []

    def budget():
        asked_by.append(threading.current_thread())
        return 1

    run = Run()
    with pipeline(live.new(run, tmp_path), EvictOldRuns(live, budget), run=run):
        pass
    assert not old.path.exists()
    assert asked_by != [threading.current_thread()]
    assert len(asked_by) == 1
