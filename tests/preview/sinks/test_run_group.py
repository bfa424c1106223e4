"""The runs of one prompt share a folder, and one page opens all of them."""

import json
import re

import pytest
from safelight.decoders.latents.space_table import SPACES
from safelight.preview.manifest import read_manifest
from safelight.preview.options import RunOptions
from safelight.preview.run import Run
from safelight.preview.run_library import find_runs
from safelight.preview.sinks.page import MIN_WRITE_INTERVAL_S, Page
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.run_group import PAGE_NAME, RunGroup
from safelight.preview.start import Outputs, start

WRITES = RunOptions(write_intermediates=True, max_side_px=0)


@pytest.fixture
def new_run(clock):
    return lambda: Run(clock=clock)


@pytest.fixture
def group(tmp_path, new_run):
    return RunGroup(RunFolder(tmp_path / "steps_00001", new_run()))


@pytest.fixture
def sample(group, new_run, step, candidate, first_channels):
    """Samples a run of the group; by default one after the first."""

    def sample(folder=None, indices=(1, 2), state="finished"):
        folder = folder or group.add(new_run())
        outputs = Outputs(folder=folder, group=group, remove_empty=True)
        pipe = start(folder.run, SPACES["sd1"], WRITES, outputs, candidates=lambda: [candidate(first_channels())])
        for index in indices:
            pipe.offer(step(index))
        pipe.close(state)
        return folder

    return sample


def data_in(group):
    page = (group.first.path / PAGE_NAME).read_text("utf-8")
    return json.loads(re.search(r'id="safelight">(.*?)</script>', page, re.DOTALL)[1])


def test_the_only_run_of_a_prompt_has_the_page_of_a_single_run(group, sample):
    sample(group.first)
    assert data_in(group) == read_manifest(group.first.path)
    assert sorted(path.name for path in group.first.path.iterdir()) == [
        PAGE_NAME,
        "run.json",
        "step_0001.png",
        "step_0002.png",
    ]


def test_further_runs_have_folders_in_that_of_the_first_and_no_page(group, sample):
    folders = [sample(group.first), sample(), sample()]
    assert [folder.path.name for folder in folders] == ["steps_00001", "run_002", "run_003"]
    assert {folder.path.parent for folder in folders[1:]} == {group.first.path}
    for folder in folders[1:]:
        assert sorted(path.name for path in folder.path.iterdir()) == ["run.json", "step_0001.png", "step_0002.png"]
        assert read_manifest(folder.path)["page"] is None
    assert read_manifest(group.first.path)["page"] == PAGE_NAME


def test_the_page_has_all_runs_as_they_were_saved(group, sample):
    folders = [sample(group.first), sample(), sample(indices=(1,), state="interrupted")]
    runs = data_in(group)["runs"]
    assert [run.pop("folder", None) for run in runs] == [None, "run_002", "run_003"]
    assert [run.pop("page") for run in runs] == [PAGE_NAME, None, None]
    saved = [read_manifest(folder.path) for folder in folders]
    assert [run.pop("page") for run in saved] == [PAGE_NAME, None, None]
    assert runs == saved


def test_a_run_without_steps_leaves_neither_a_folder_nor_a_place_on_the_page(group, sample):
    sample(group.first)
    silent = sample(indices=())
    assert not silent.path.exists()
    assert data_in(group)["id"] == group.first.run.id
    assert sample().path == silent.path


def test_a_run_that_failed_before_its_first_step_is_on_the_page(group, sample, new_run):
    sample(group.first)
    failed = group.add(new_run())
    failed.run.note("the sampler failed: RuntimeError: no")
    sample(failed, indices=(), state="failed")
    assert [(run["state"], run["notes"]) for run in data_in(group)["runs"]] == [
        ("finished", []),
        ("failed", ["the sampler failed: RuntimeError: no"]),
    ]


def test_a_group_whose_first_run_left_no_folder_does_not_exist(group, sample):
    sample(group.first, indices=())
    assert not group.exists


def test_the_page_of_a_long_run_is_written_every_few_seconds_and_of_short_runs_at_their_ends(
    group, new_run, clock, picture
):
    first = Page(group.first, clock, group=group)
    group.first.open()
    first.open()
    inner = group.add(new_run())
    page = Page(inner, clock, group=group)
    inner.open()
    page.open()
    steps = []
    for index, now in ((1, 1.0), (2, MIN_WRITE_INTERVAL_S), (3, MIN_WRITE_INTERVAL_S + 1)):
        clock.now = now
        inner.record(picture(index=index), f"{index}.png")
        page.show(picture(index=index))
        steps.append([len(run["steps"]) for run in data_in(group).get("runs", [])])
    assert steps == [[], [0, 2], [0, 2]]


def test_a_page_that_could_not_be_written_at_first_has_the_later_runs(group, sample, monkeypatch):
    write = RunFolder.write

    def full(self, name, content):
        if name == PAGE_NAME:
            raise OSError(28, "No space left on device")
        write(self, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write", full)
        sample(group.first)
    inner = sample()
    assert [(run["id"], run.get("folder")) for run in data_in(group)["runs"]] == [
        (group.first.run.id, None),
        (inner.run.id, "run_002"),
    ]


def test_all_runs_of_a_prompt_are_found_and_folders_of_frames_are_not_searched(group, sample):
    folders = [sample(group.first).path, sample().path, sample().path]
    (group.first.path / "step_0001").mkdir()
    (group.first.path / "step_0001" / "run.json").write_text("{}")
    assert list(find_runs(group.first.path.parent)) == folders
