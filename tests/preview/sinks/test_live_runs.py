"""Runs that a viewer can look at: found by their host's facts, served by name only, gone when they grow too large."""

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


def test_runs_are_found_by_what_their_host_calls_them_newest_first(begin):
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


def test_the_oldest_finished_runs_make_room(begin):
    live = LiveRuns()
    oldest, middle, newest = (begin(live, budget=250_000, size=100_000, state="finished") for _ in range(3))
    following = begin(live, budget=250_000)
    assert live.of() == [following, newest, middle]
    assert not oldest.path.exists()
    assert middle.path.exists()
    assert live.folder(oldest.run.id) is None


def test_a_run_that_is_still_going_is_never_taken_away(begin):
    live = LiveRuns()
    going = begin(live, budget=1, size=100_000)
    over = begin(live, budget=1, size=100_000, state="failed")
    newest = begin(live, budget=1)
    assert live.of() == [newest, going]
    assert going.path.exists()
    assert not over.path.exists()


def test_as_few_runs_as_needed_make_room(begin):
    live = LiveRuns()
    folders = [begin(live, budget=310_000, size=100_000, state="interrupted") for _ in range(3)]
    newest = begin(live, budget=310_000)
    assert live.of() == [newest, *reversed(folders)]


def test_small_runs_make_room_too_when_they_are_many(begin):
    live = LiveRuns(max_runs=3)
    first, *others = (begin(live, state="finished") for _ in range(3))
    newest = begin(live)
    assert live.of() == [newest, *reversed(others)]
    assert not first.path.exists()


def test_a_manifest_that_is_saved_again_and_again_is_no_larger_for_it(begin):
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
def test_no_other_name_is_served(begin, picture, name):
    live = LiveRuns()
    folder = begin(live, size=10)
    folder.record(picture(), "step_0001.jpg")
    (folder.path / "secret.txt").write_text("secret")
    assert live.file(folder.run.id, name) is None


def test_a_run_whose_folder_is_gone_already_makes_no_trouble(begin, tmp_path):
    live = LiveRuns()
    folder = begin(live, budget=1, size=10, state="finished")
    for path in folder.path.iterdir():
        path.unlink()
    folder.path.rmdir()
    newest = begin(live, budget=1)
    assert live.of() == [newest]


def test_a_new_run_takes_nothing_away_by_itself(begin, tmp_path):
    live = LiveRuns()
    folder = begin(live, size=100_000, state="finished")
    live.new(Run(), tmp_path)
    assert folder.path.exists()


def test_a_run_that_grows_takes_older_ones_away_not_only_the_next_one(begin, picture):
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


def test_older_runs_are_taken_away_by_the_worker_not_by_the_sampler(begin, pipeline, tmp_path):
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
