"""`start` wires a run: each option has its files, files come before screens, and steps are written at the cadence."""

import csv
import json
import threading

import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.preview.options import RunOptions
from safelight.preview.run import Run
from safelight.preview.sinks.latent_files import LatentFiles, Need, Room
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.start import Outputs, file_sinks, start

ALL = {"write_intermediates": True, "sheet": True, "animation": "gif", "write_csv": True}


@pytest.fixture
def run_with(tmp_path, step, candidate, first_channels):
    """A function that records a run with these options and returns its folder."""

    def record_run(options, *, steps=5, sinks=(), values=None, stop=None, why_no_stop=None, **outputs):
        run = Run(space="sd1")
        folder = RunFolder(tmp_path / "run", run)
        pipeline = start(
            run,
            SPACES["sd1"],
            options,
            Outputs(folder=folder, sinks=sinks, **outputs),
            candidates=lambda: [candidate(first_channels())],
            shape=(1, 4, 2, 3),
            stop=stop,
            why_no_stop=why_no_stop,
        )
        for index in range(1, steps + 1):
            wanted = pipeline.wants(index, steps)
            if wanted:
                pipeline.offer(step(index, steps, None if values is None else values[index - 1]), None, wanted)
        pipeline.close("finished")
        return folder

    return record_run


def names(folder):
    return {path.name for path in folder.path.iterdir()}


def test_without_options_only_the_record_is_written(run_with):
    assert names(run_with(RunOptions())) == {"run.json"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"write_intermediates": True}, {"index.html", *(f"step_000{i}.png" for i in range(1, 6))}),
        ({"sheet": True}, {"sheet.png"}),
        ({"animation": "webp"}, {"steps.webp"}),
        ({"animation": "gif"}, {"steps.gif"}),
        ({"write_csv": True}, {"steps.csv"}),
    ],
)
def test_each_option_adds_its_files_and_no_others(run_with, options, expected):
    assert names(run_with(RunOptions(**options))) == {"run.json"} | expected


def test_all_options_together_are_listed_in_the_record(run_with):
    folder = run_with(RunOptions(**ALL))
    manifest = json.loads((folder.path / "run.json").read_text("utf-8"))
    assert (manifest["sheet"], manifest["animation"], manifest["csv"]) == ("sheet.png", "steps.gif", "steps.csv")
    assert manifest["page"] == "index.html"
    assert manifest["notes"] == []


def test_the_record_of_a_run_without_a_csv_does_not_mention_one(run_with):
    assert "csv" not in run_with(RunOptions(write_intermediates=True)).manifest()


def test_the_csv_has_a_line_for_each_step_with_the_facts_of_the_record(run_with):
    folder = run_with(RunOptions(write_intermediates=True, write_csv=True, every_n_steps=2))
    with (folder.path / "steps.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    steps = folder.manifest()["steps"]
    assert [int(line["index"]) for line in lines] == [1, 3, 5]
    assert [line["file"] for line in lines] == ["step_0001.png", "step_0003.png", "step_0005.png"]
    for line, entry in zip(lines, steps, strict=True):
        assert float(line["sigma"]) == entry["sigma"]
        assert float(line["seconds"]) == entry["at"]
        assert float(line["decode_ms"]) == entry["decode_ms"]


def test_the_csv_names_the_latents_of_a_step_without_a_picture(tmp_path, picture):
    folder = RunFolder(tmp_path / "run", Run())
    folder.open()
    folder.record_latent(picture(index=4, sigma=0.25).step, "step_0004.safetensors")
    (sink,) = file_sinks(folder, RunOptions(write_csv=True), Outputs())
    sink.close("finished")
    assert (folder.path / "steps.csv").read_text("utf-8") == (
        "index,sigma,seconds,decode_ms,file\n4,0.25,0.25,,step_0004.safetensors\n"
    )


def test_files_get_a_picture_before_screens(run_with, recorder, wait_s):
    seen = []

    class Ordered(recorder):
        def show(self, picture):
            seen.append(self.name)

    screen, file = Ordered(name="screen", every_step=False), Ordered(name="file")
    folder = run_with(RunOptions(), steps=1, sinks=[screen, file])
    assert folder.run.ended.wait(wait_s)  # a screen that is not awaited may get its picture after the end of the run
    assert seen == ["file", "screen"]


def test_screens_may_have_their_own_cadence(run_with, recorder):
    screen = recorder(every_step=True)
    folder = run_with(
        RunOptions(write_intermediates=True, every_n_steps=4), sinks=[screen], sink_cadence=RunOptions().cadence()
    )
    assert screen.steps == [1, 2, 3, 4, 5]
    assert [entry["index"] for entry in folder.manifest()["steps"]] == [1, 5]


def test_latents_are_stored_at_the_cadence_of_the_files(tmp_path, run_with):
    folder = RunFolder(tmp_path / "latents", Run(space="sd1"))
    folder.open()
    latents = LatentFiles(folder, Need(2, 1000), lambda: Room(1 << 30, "the disk"))
    run_with(RunOptions(every_n_steps=4, keep_latents=True), latents=latents)
    assert sorted(path.name for path in folder.path.glob("*.safetensors")) == [
        "step_0001.safetensors",
        "step_0005.safetensors",
    ]


def test_an_interval_limits_the_pictures_and_the_clock_is_read_once_a_step(
    monkeypatch, tmp_path, candidate, first_channels, step, clock
):
    options = RunOptions(min_interval_s=2.0)
    cadence, readings = options.cadence(), []
    monkeypatch.setattr(cadence, "_clock", lambda: readings.append(1) or clock.now)
    monkeypatch.setattr(RunOptions, "cadence", lambda _: cadence)
    run = Run(space="sd1")
    folder = RunFolder(tmp_path / "run", run)
    pipeline = start(
        run,
        SPACES["sd1"],
        RunOptions(write_intermediates=True, sheet=True),
        Outputs(folder=folder),
        candidates=lambda: [candidate(first_channels())],
    )
    for index in range(1, 8):
        clock.now = float(index)
        wanted = pipeline.wants(index, 99)
        pipeline.offer(step(index, 99), None, wanted)
    pipeline.close("finished")
    assert [entry["index"] for entry in folder.manifest()["steps"]] == [1, 3, 5, 7]
    assert len(readings) == 7


def test_the_capacity_of_the_queue_depends_on_the_size_of_a_step(step, candidate, first_channels):
    def capacity(shape, **more):
        pipeline = start(
            Run(), SPACES["sd1"], RunOptions(batch="all files"), Outputs(), candidates=list, shape=shape, **more
        )
        pipeline.close("finished")
        return pipeline._mailbox._capacity

    assert capacity((1, 4, 64, 64)) == 32
    assert capacity((64, 4, 512, 512)) == 2
    assert capacity((1, 4, 64, 64), vae_bytes=1 << 28) == 2
    assert capacity((1, 4, 64, 64), device=torch.device("meta"), device_bytes=lambda: 1 << 20) == 2


def test_only_the_worker_asks_for_the_memory_of_the_device():
    asked = []

    def device_bytes():
        asked.append(threading.current_thread())
        return 1 << 30

    pipeline = start(
        Run(),
        SPACES["sd1"],
        RunOptions(),
        Outputs(),
        candidates=list,
        shape=(1, 4, 64, 64),
        device=torch.device("meta"),
        device_bytes=device_bytes,
    )
    pipeline.close("finished")
    assert asked == [pipeline._worker]


def test_a_rule_to_stop_is_recorded_and_asks_the_sampler(run_with):
    asked = []
    options = RunOptions(stop_below_percent=0.3, stop_after_steps=2, write_intermediates=True)  # each step is decoded
    folder = run_with(options, values=[0.0, 0.5, 0.5, 0.5, 0.5], stop=lambda: asked.append("stop"))
    assert folder.manifest()["sampler"]["stop_rule"] == {"below_percent": 0.3, "steps": 2}
    assert (asked, folder.run.notes) == (["stop"], [])


@pytest.mark.parametrize(
    ("why", "says"), [(None, "this sampler cannot be stopped from outside"), ("it is a test", "it is a test")]
)
def test_a_rule_for_a_sampler_that_cannot_be_stopped_is_a_note(run_with, why, says):
    folder = run_with(RunOptions(stop_below_percent=0.3), why_no_stop=why)
    assert "stop_rule" not in folder.manifest()["sampler"]
    assert folder.run.notes == [f"stop_below_percent has no effect: {says}. Set it to 0"]
