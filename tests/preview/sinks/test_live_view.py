"""The live view announces each step to the viewer after its picture is saved."""

import json
import shutil
from unittest.mock import ANY

import pytest
import torch
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.sinks.live_view import LiveView
from safelight.preview.sinks.step_files import StepFiles


@pytest.fixture
def view_and_states(folder):
    """A live view, and the list of the events that it sends, each with the state of the run."""
    states = []
    files = StepFiles(folder, ImageEncoding())
    return LiveView(files, lambda event, facts: states.append((event, facts["state"])), {"node": "2"}), states


def test_a_short_event_is_sent_after_the_picture_is_saved(folder, picture):
    events = []

    def send(event, facts):
        events.append((event, facts, set(folder.files())))
        assert len(json.dumps(facts)) < 1000

    address = {"run": "r" * 36, "workflow": "w" * 36, "node": "6:2"}
    screen = LiveView(StepFiles(folder, ImageEncoding(file_format="jpg")), send, address)
    screen.open()
    screen.show(picture(index=1, total=20, sigma=0.5))
    screen.close("interrupted")
    address = {"v": 1, **address}
    step = {"index": 1, "total": 20, "sigma": 0.5, "files": ["step_0001.jpg"], "at": ANY, "decode_ms": ANY, "notes": 0}
    assert events == [
        ("safelight.run", {**address, "state": "running"}, set()),
        ("safelight.step", {**address, **step, "state": "running"}, {"step_0001.jpg"}),
        ("safelight.run", {**address, "state": "interrupted"}, {"step_0001.jpg"}),
    ]


def test_a_run_whose_folder_cannot_be_opened_is_reported_as_failed(folder, view_and_states, tmp_path):
    screen, states = view_and_states
    folder.path = tmp_path / "taken"
    folder.path.write_bytes(b"another file")
    with pytest.raises(FileExistsError):
        screen.open()
    assert states == [("safelight.run", "failed")]
    assert folder.manifest()["state"] == "failed"


def test_the_end_of_a_run_is_reported_if_its_worker_hangs(folder, view_and_states):
    screen, states = view_and_states
    screen.open()
    screen.abandon("interrupted")
    assert states[-1] == ("safelight.run", "interrupted")
    assert folder.manifest()["state"] == "interrupted"


def test_the_end_of_a_run_is_reported_if_its_folder_was_deleted(folder, view_and_states):
    screen, states = view_and_states
    screen.open()
    shutil.rmtree(folder.path)
    with pytest.raises(FileNotFoundError):
        screen.close("finished")
    assert states[-1] == ("safelight.run", "finished")
    assert folder.manifest()["state"] == "finished"


def test_the_event_of_a_step_with_many_files_leaves_out_their_names(folder, picture):
    events = []

    class ManyFiles(StepFiles):
        def show(self, picture):
            self.folder.record(picture, *[f"step_0001_{item:03d}.jpg" for item in range(40)])

    screen = LiveView(ManyFiles(folder, ImageEncoding()), lambda _, facts: events.append(facts), {"node": "2"})
    screen.show(picture(index=1))
    assert "files" not in events[0]
    assert len(json.dumps(events[0])) < 1000


def test_an_event_is_strict_json_whatever_the_facts_are(folder, picture):
    events = []
    facts = {"node": "2", "workflow": torch.zeros(3)}
    screen = LiveView(StepFiles(folder, ImageEncoding()), lambda _, facts: events.append(json.dumps(facts)), facts)
    screen.open()
    screen.show(picture(index=1, total=4))
    screen.close("finished")
    assert [json.loads(event)["workflow"] for event in events] == [None] * 3
    assert any("safelight.run.workflow is incomplete" in note for note in folder.run.notes)
