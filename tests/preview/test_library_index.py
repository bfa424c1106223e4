"""The index of a library: how much is read with it, and what happens if it is damaged, stale or by others."""

import json
import os
import uuid
from itertools import count

import pytest
from safelight.preview.library_index import INDEX, MAX_INDEX_BYTES, read_index
from safelight.preview.run_library import MIN_INDEXED_RUNS, RunLibrary

LATER_S = 1_000_000_000.0  # the folders of a test are settled for a library with this clock


class Reads:
    """Counts how often manifests and folders are read."""

    def __init__(self, monkeypatch):
        self.manifests = self.folders = 0
        self._count(monkeypatch, "safelight.preview.run_library.read_manifest", "manifests")
        self._count(monkeypatch, "safelight.preview.folder_listing.list_folder", "folders")

    def _count(self, monkeypatch, name, what):
        module, _, function = name.rpartition(".")
        original = getattr(__import__(module, fromlist=[function]), function)

        def counted(*args):
            setattr(self, what, getattr(self, what) + 1)
            return original(*args)

        monkeypatch.setattr(name, counted)

    def take(self):
        taken, self.manifests, self.folders = (self.manifests, self.folders), 0, 0
        return taken


@pytest.fixture
def reads(monkeypatch):
    return Reads(monkeypatch)


@pytest.fixture
def clock():
    """A clock that is far after all files, and advances a day with each look at it."""
    return count(4_000_000_000, 86_400).__next__


def manifest(number, **facts):
    return {
        "format": "safelight.run/1",
        "id": str(uuid.UUID(int=number + 1)),
        "state": "finished",
        "started": f"2026-01-{number % 28 + 1:02d}T00:00:00+00:00",
        "seconds": 1.0,
        "host": {},
        "sampler": {"steps": 4, "seed": number, "prompt": f"lighthouse {number}"},
        "steps": [],
    } | facts


def write_run(folder, number=0, **facts):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(manifest(number, **facts)))
    return folder


@pytest.fixture
def many(tmp_path):
    """A folder with as many runs as an index needs, in two folders."""
    for i in range(MIN_INDEXED_RUNS):
        write_run(tmp_path / "ab"[i % 2] / f"run_{i:05d}", i)
    return tmp_path


def items(library):
    return [entry.item for entry in library.runs().values()]


def test_five_thousand_runs_are_read_once_and_then_only_looked_at(tmp_path, reads, clock):
    for i in range(5000):
        write_run(tmp_path / f"day_{i % 10}" / f"steps_{i:05d}", i)
    (tmp_path / "day_0" / "steps_00000" / "marks.json").write_text('{"format": "safelight.marks/1", "star": true}')
    first = RunLibrary(tmp_path, clock=clock)
    assert len(first.runs()) == 5000
    assert reads.take() == (5000, 5011)
    before = items(first)
    assert reads.take()[0] == 0
    again = RunLibrary(tmp_path, clock=clock)
    assert [entry.item for entry in again.known().values()] == before
    assert reads.take() == (0, 0), "the first page needs the index only"
    assert sum(item["star"] for item in before) == 1
    assert items(again) == before
    manifests, folders = reads.take()
    assert manifests == 0
    assert folders <= 1  # the folder itself, which got the index
    write_run(tmp_path / "day_3" / "steps_90000", 9)
    (tmp_path / "day_4" / "steps_00004" / "run.json").unlink()
    assert len(again.runs()) == 5000
    manifests, folders = reads.take()
    assert manifests == 1
    assert folders <= 4


def test_few_runs_get_no_index(tmp_path, clock):
    write_run(tmp_path / "a")
    assert len(RunLibrary(tmp_path, clock=clock).runs()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_run_that_changed_behind_the_index_is_read_again(many, reads, clock):
    RunLibrary(many, clock=clock).runs()
    write_run(many / "a" / "run_00000", 0, sampler={"steps": 9, "seed": 77})
    reads.take()
    [changed] = [item for item in items(RunLibrary(many, clock=clock)) if item["folder"] == "a/run_00000"]
    assert (changed["sampler"]["seed"], changed["prompt"]) == (77, None)
    assert reads.take()[0] == 1


def test_an_index_of_a_folder_that_was_changed_by_hand_is_corrected(many, clock):
    RunLibrary(many, clock=clock).runs()
    (many / "b").rename(many / "c")
    (many / "a" / "run_00002").rename(many / "elsewhere")
    folders = {item["folder"] for item in items(RunLibrary(many, clock=clock))}
    assert "elsewhere" in folders
    assert "a/run_00002" not in folders
    assert {path.split("/")[0] for path in folders} == {"a", "c", "elsewhere"}


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "no JSON": lambda _: "<html>",
    "no object": lambda _: "[]",
    "another format": lambda text: text.replace("safelight.index/1", "safelight.index/9"),
    "no runs": lambda _: '{"format": "safelight.index/1"}',
    "deep": lambda _: "[" * 100_000,
    "a number in place of a run": lambda _: '{"format": "safelight.index/1", "folders": [], "runs": [5]}',
    "a path out of the folder": lambda text: text.replace('"a/run_00000"', '"../a/run_00000"'),
    "an absolute path": lambda text: text.replace('"a/run_00000"', '"/etc"'),
    "a folder that leads out": lambda text: text.replace('["a","b"]', '["a","b",".."]'),
    "a picture that leads out": lambda text: text.replace('"thumbnail":null', '"thumbnail":"../../secret.png"', 1),
    "a text as time": lambda text: text.replace('"at":null', '"at":"<b>"', 1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_index_is_ignored_and_written_again(many, reads, clock, damage):
    expected = items(RunLibrary(many, clock=clock))
    good = (many / INDEX).read_text()
    assert damage(good) != good
    (many / INDEX).write_text(damage(good))
    reads.take()
    assert items(RunLibrary(many, clock=clock)) == expected
    assert reads.take()[0] == MIN_INDEXED_RUNS
    assert items(RunLibrary(many, clock=clock)) == expected
    assert reads.take()[0] == 0, "the index was not repaired"


def test_a_hostile_index_cannot_open_a_folder_outside(many, clock):
    """It lists a link as an ordinary folder, with the right times."""
    outside = write_run(many.parent / f"{many.name}-outside" / "run", 99).parent
    RunLibrary(many, clock=clock).runs()
    (many / "link").symlink_to(outside)
    index = json.loads((many / INDEX).read_text())
    changed = f"{(many / 'link').lstat().st_mtime_ns:x}"
    for entry in index["folders"]:
        if entry[0] == ".":
            entry[1], entry[4] = f"{many.lstat().st_mtime_ns:x}", [*entry[4], "link"]
    index["folders"].append(["link", changed, "ffffffffffffffff", False, ["run"]])
    (many / INDEX).write_text(json.dumps(index))
    root_ns = next(entry[1] for entry in index["folders"] if entry[0] == ".")
    os.utime(many, ns=(int(root_ns, 16), int(root_ns, 16)))
    folders = {item["folder"] for item in items(RunLibrary(many, clock=clock))}
    assert len(folders) == MIN_INDEXED_RUNS
    assert not any(folder.startswith("link") for folder in folders)


@pytest.mark.parametrize("place", ["file", "folder"])
def test_an_index_behind_a_link_is_neither_read_nor_written(many, tmp_path_factory, clock, place):
    outside = tmp_path_factory.mktemp("outside")
    (outside / INDEX.name).write_text("{}")
    own = many / INDEX.parent
    if place == "folder":
        own.symlink_to(outside)
    else:
        own.mkdir()
        (many / INDEX).symlink_to(outside / INDEX.name)
    assert len(RunLibrary(many, clock=clock).runs()) == MIN_INDEXED_RUNS
    assert (outside / INDEX.name).read_text() == "{}"
    assert [path.name for path in outside.iterdir()] == [INDEX.name]


def test_a_very_large_index_is_not_read(many):
    (many / INDEX.parent).mkdir()
    with (many / INDEX).open("wb") as file:
        file.truncate(MAX_INDEX_BYTES + 1)
    assert read_index(many).runs == {}


def test_a_folder_that_cannot_be_written_is_listed_without_an_index(many, clock, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "denied")

    monkeypatch.setattr("safelight.preview.library_index.write_below", fail)
    library = RunLibrary(many, clock=clock)
    assert len(library.runs()) == MIN_INDEXED_RUNS
    assert len(library.runs()) == MIN_INDEXED_RUNS


def test_the_index_of_a_running_run_is_not_written_each_second(many, monkeypatch):
    now, written = [4e9], []
    monkeypatch.setattr("safelight.preview.run_library.write_index", lambda *_: written.append(now[0]))
    library = RunLibrary(many, clock=lambda: now[0])
    for i in range(90):
        write_run(many / "a" / "run_00000", i)
        library.runs()
        now[0] += 1
    assert written == [4e9, 4e9 + 60]


def test_a_folder_that_changed_just_before_it_was_listed_is_listed_again(tmp_path):
    """A file system may give two changes the same time."""
    write_run(tmp_path / "a", 0)
    now = tmp_path.lstat().st_mtime
    library = RunLibrary(tmp_path, clock=lambda: now + 1)
    assert len(library.runs()) == 1
    stats = tmp_path.lstat()
    write_run(tmp_path / "b", 1)
    os.utime(tmp_path, ns=(stats.st_atime_ns, stats.st_mtime_ns))
    assert len(library.runs()) == 2
