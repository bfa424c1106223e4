"""Copying the files of a run into a store: order, retries, a store that is away."""

import threading

import pytest
from safelight.decoders.files.contained_file import read_below, write_below
from safelight.preview.remote import uploads
from safelight.preview.remote.uploads import PAUSES_S, Uploads


class Copied:
    """Uploads of a folder into a stand-in, with what they reported and how long they would have waited."""

    def __init__(self, folder, store):
        self.folder, self.store = folder, store
        self.reports, self.pauses = [], []
        self.on_pause = lambda: None
        self.uploads = Uploads(folder, store.open, lambda *report: self.reports.append(report), self._pause)

    def _pause(self, seconds):
        self.pauses.append(seconds)
        self.on_pause()

    def write(self, name, content=b"x"):
        write_below(self.folder, type(self.folder)(name), content)
        self.uploads.changed(name)

    def settle(self):
        self.uploads.wait(60)


@pytest.fixture
def copied(tmp_path, stand_in):
    return Copied(tmp_path, stand_in)


def test_every_file_is_copied_and_the_record_comes_after_what_it_lists(copied, stand_in):
    stand_in.gate.clear()
    for name in ("run.json", "index.html", "step_0001.png", "step_0001/frame_0001.png", "run.json"):
        copied.write(name, name.encode())
    stand_in.gate.set()
    copied.settle()
    assert stand_in.files == {
        name: name.encode() for name in ("run.json", "index.html", "step_0001.png", "step_0001/frame_0001.png")
    }
    assert stand_in.order.index("run.json") > stand_in.order.index("step_0001.png")
    assert copied.reports == []
    assert copied.uploads.waiting == {}


def test_a_file_that_is_written_again_is_copied_once_more_with_its_newest_content(copied, stand_in):
    stand_in.gate.clear()
    copied.write("step_0001.png", b"old")
    assert stand_in.writing.wait(60)  # the old content is on its way
    for content in (b"newer", b"newest"):
        copied.write("step_0001.png", content)
    stand_in.gate.set()
    copied.settle()
    assert stand_in.files["step_0001.png"] == b"newest"
    assert stand_in.order == ["step_0001.png"] * 2


def test_no_record_in_the_store_lists_a_file_that_is_not_there(copied, stand_in):
    stand_in.gate.clear()
    copied.write("run.json", b"lists step 1")
    copied.write("step_0001.png")
    assert stand_in.writing.wait(60)  # the record was read, and the file is on its way
    copied.write("step_0002.png")
    copied.write("run.json", b"lists step 2")
    stand_in.gate.set()
    copied.settle()
    assert stand_in.order == ["step_0001.png", "run.json", "step_0002.png", "run.json"]
    assert stand_in.records == [b"lists step 1", b"lists step 2"]


def test_adding_a_file_never_waits_for_the_store(copied, stand_in):
    stand_in.gate.clear()
    for index in range(1, 200):
        copied.write(f"step_{index:04d}.png")  # would never return if it waited
    assert stand_in.files == {}
    stand_in.gate.set()
    copied.settle()
    assert len(stand_in.files) == 199


def test_a_store_that_is_away_for_some_tries_gets_all_files(copied, stand_in):
    stand_in.away = 3
    copied.write("step_0001.png")
    copied.settle()
    assert list(stand_in.files) == ["step_0001.png"]
    assert copied.pauses == list(PAUSES_S[:3])
    assert copied.reports == []


def test_the_pauses_begin_again_after_a_success(copied, stand_in):
    stand_in.away = 2
    copied.write("step_0001.png")
    copied.settle()
    stand_in.away = 2
    copied.write("step_0002.png")
    copied.settle()
    assert copied.pauses == [*PAUSES_S[:2], *PAUSES_S[:2]]


def test_the_waiting_is_bounded_and_the_next_file_tries_again(copied, stand_in):
    stand_in.away = None
    copied.write("step_0001.png")
    copied.settle()
    assert (copied.pauses, stand_in.tries, stand_in.files) == (list(PAUSES_S), len(PAUSES_S) + 1, {})
    assert sum(PAUSES_S) <= 75
    stand_in.away = 0
    copied.write("step_0002.png")
    copied.settle()
    assert set(stand_in.files) == {"step_0001.png", "step_0002.png"}
    assert copied.reports == []  # nothing is missing in the end


def test_files_that_are_not_copied_are_named_once_the_run_has_ended(copied, stand_in):
    stand_in.away = None
    for name in ("step_0001.png", "run.json"):
        copied.write(name)
    copied.settle()
    assert copied.reports == []
    copied.uploads.end()
    copied.settle()
    assert copied.reports == [(["run.json", "step_0001.png"], "stand-in://runs: away")]


def test_the_record_with_the_note_about_missing_files_is_not_a_reason_to_try_for_ever(tmp_path, stand_in):
    copied = Copied(tmp_path, stand_in)
    stand_in.away = None
    reports = []

    def report(*facts):
        reports.append(facts)
        copied.write("run.json", b"with a note")  # as the run does

    copied.uploads = Uploads(tmp_path, stand_in.open, report, copied.pauses.append)
    copied.write("step_0001.png")
    copied.uploads.end()
    copied.settle()
    assert len(reports) == 1
    assert len(copied.pauses) <= 2 * len(PAUSES_S)


def test_what_fails_for_good_is_tried_once(copied, stand_in):
    stand_in.away, stand_in.lasting = None, True
    copied.write("step_0001.png")
    copied.uploads.end()
    copied.settle()
    assert copied.pauses == []
    assert copied.reports == [(["step_0001.png"], "stand-in://runs: away")]


def test_the_log_names_a_store_that_is_away_once(copied, stand_in, caplog):
    stand_in.away = 5
    with caplog.at_level("WARNING", "safelight.remote"):
        copied.write("step_0001.png")
        copied.settle()
    assert [record.getMessage() for record in caplog.records] == [
        "files of a run wait to be copied, and are tried again: stand-in://runs: away"
    ]


def test_a_run_without_steps_is_never_copied(copied, stand_in):
    copied.write("run.json")
    copied.write("index.html")
    copied.settle()
    assert stand_in.files == {}


def test_a_run_without_steps_that_has_ended_with_a_record_is_copied(copied, stand_in):
    copied.write("run.json")
    copied.uploads.end()
    copied.settle()
    assert list(stand_in.files) == ["run.json"]


def test_a_file_that_was_removed_meanwhile_is_left_out(copied, stand_in):
    stand_in.gate.clear()
    copied.write("step_0001.png")
    assert stand_in.writing.wait(60)
    copied.write("step_0002.png")
    (copied.folder / "step_0002.png").unlink()
    stand_in.gate.set()
    copied.settle()
    assert list(stand_in.files) == ["step_0001.png"]
    assert copied.uploads.waiting == {}


class FilesInUse:
    """`read_below` as on Windows while another program has files for itself.

    Attributes:
        names: names of these files.
    """

    def __init__(self, *names):
        self.names = set(names)

    def __call__(self, folder, relative, max_bytes):
        if relative.name in self.names:
            raise PermissionError(13, "The process cannot access the file because it is being used")
        return read_below(folder, relative, max_bytes)


@pytest.mark.parametrize("name", ["step_0002.png", "run.json"])
def test_a_file_that_another_program_has_for_itself_is_copied_later(copied, stand_in, monkeypatch, name):
    in_use = FilesInUse(name)
    monkeypatch.setattr(uploads, "read_below", in_use)
    copied.on_pause = in_use.names.clear
    stand_in.gate.clear()
    copied.write("step_0001.png")
    assert stand_in.writing.wait(60)
    copied.write("step_0002.png", b"2")
    copied.write("run.json", b"{}")
    stand_in.gate.set()
    copied.settle()
    assert stand_in.files == {"step_0001.png": b"x", "step_0002.png": b"2", "run.json": b"{}"}
    assert stand_in.order[-1] == "run.json"
    assert copied.pauses == [PAUSES_S[0]]
    assert copied.uploads.waiting == {}


def test_a_file_that_stays_in_use_is_named_and_waits(copied, stand_in, monkeypatch):
    monkeypatch.setattr(uploads, "read_below", FilesInUse("step_0001.png"))
    copied.write("step_0001.png")
    copied.uploads.end()
    copied.settle()
    ((names, reason),) = copied.reports
    assert list(names) == ["step_0001.png"]
    assert "being used" in reason
    assert list(copied.uploads.waiting) == ["step_0001.png"]


def test_a_link_in_place_of_a_file_is_not_copied(copied, stand_in, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_bytes(b"secret")
    stand_in.gate.clear()
    copied.write("step_0001.png")
    assert stand_in.writing.wait(60)
    (copied.folder / "step_0002.png").symlink_to(secret)
    copied.uploads.changed("step_0002.png")
    stand_in.gate.set()
    copied.settle()
    assert list(stand_in.files) == ["step_0001.png"]


def test_a_store_that_hangs_does_not_hold_up_the_end(copied, stand_in):
    stand_in.gate.clear()
    copied.write("step_0001.png")
    assert stand_in.writing.wait(60)
    copied.uploads.end()
    copied.uploads.wait(0)
    assert copied.reports == [(["step_0001.png"], "the store did not answer within 0 s")]
    stand_in.gate.set()
    copied.settle()
    assert list(stand_in.files) == ["step_0001.png"]


def test_several_threads_may_add_files(copied, stand_in):
    def add(thread):
        for index in range(50):
            copied.write(f"step_{thread:02d}{index:02d}.png")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    copied.settle()
    assert len(stand_in.files) == 200
