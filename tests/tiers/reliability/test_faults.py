"""Faults at random moments: the sampler's result does not change, and each promised file exists or is named in a note.

SAFELIGHT_TRIES=500 pytest tests/tiers/reliability/test_faults.py
"""

import contextlib
import ctypes
import errno
import gc
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safelight.decoders.catalogue import Candidate, Catalogue
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.files.decoder_file import write_decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.base import Net
from safelight.errors import SinkError
from safelight.hosts.script import DEFAULTS, recording
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.missing_steps import name_steps
from safelight.preview.run import Run
from safelight.preview.run_library import RunLibrary
from safelight.preview.saved_run import SavedRun
from safelight.preview.sinks.base import Delivery, Sink
from safelight.preview.sinks.live_runs import LiveRuns
from safelight.preview.sinks.live_view import LiveView
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles
from safelight.preview.snapshot import Snapshots
from safelight.preview.step import Step

STEPS = 6
WAIT_S = 20.0

pytestmark = pytest.mark.usefixtures("leaves_no_thread")


class Faulty(Net):
    """A net that shows the first three channels; calls whose number is in `at` run `fault` instead."""

    channels = 4

    def __init__(self, fault=None, at=()):
        super().__init__()
        self.fault, self.at, self.calls = fault, at, 0

    def forward(self, latents):
        self.calls += 1
        rgb = latents[:, :3]
        return self.fault(rgb) if self.calls in self.at else rgb


def candidate(net, name, opening=None):
    card = Card(name=name, space="sd1", kind="test", source="a test")

    def open_decoder():
        if opening is not None:
            raise opening
        return Decoder(card, net)

    return Candidate(card, open_decoder)


class Decoders:
    """A catalogue with fixed candidates."""

    folders = ()

    def __init__(self, *candidates):
        self._candidates = candidates

    def candidates(self, space, wanted):
        return list(self._candidates)


def good():
    return candidate(Faulty(), "good")


def sample(offer, steps=STEPS, seed=0):
    """Samples with a fixed seed. It offers its own tensors and changes them afterwards, as real samplers do."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 4, 6, 8, generator=generator)
    for index in range(1, steps + 1):
        x0 = torch.tanh(x)
        offer(Step(index=index, total=steps, sigma=1.0 - (index - 1) / steps, denoised=x0, noisy=x))
        x.add_(x0 - x, alpha=1.0 / index).add_(torch.randn(x.shape, generator=generator), alpha=0.1)
    return x


def digest(latents):
    return hashlib.sha256(latents.numpy().tobytes()).hexdigest()


UNTOUCHED = digest(sample(lambda _: None))


def recorded(folder, *candidates, sinks=(), steps=STEPS):
    """Records a whole run; returns its folder."""
    with recording(folder, SPACES["sd1"], catalogue=Decoders(*candidates), sinks=sinks) as (pipeline, run_folder):
        final = sample(pipeline.offer, steps)
    assert steps != STEPS or digest(final) == UNTOUCHED
    return run_folder


def pixels(path):
    """The pixels of a picture file, which must be complete."""
    with Image.open(path) as image:
        return image.tobytes()


def named(notes):
    """The numbers of all steps in the notes."""
    steps = set()
    for note in notes:
        for spans in re.findall(r"steps? ((?:\d+(?:-\d+)?(?:, )?)+)", note):
            for span in filter(None, spans.split(", ")):
                first, _, last = span.partition("-")
                steps |= set(range(int(first), int(last or first) + 1))
    return steps


def expect_saved_or_named(run_folder, steps=STEPS):
    """Each listed file is complete, each step is listed or named in a note, no partial file is left."""
    manifest = run_folder.manifest()
    assert manifest["state"] in ("finished", "interrupted", "failed")
    saved = set()
    for step in manifest["steps"]:
        for name in step["files"]:
            assert (run_folder.path / name).is_file() or step["index"] in named(manifest["notes"]), name
            if (run_folder.path / name).is_file():
                pixels(run_folder.path / name)
        if step["files"]:
            saved.add(step["index"])
    assert saved | named(manifest["notes"]) >= set(range(1, steps + 1)), manifest["notes"]
    assert not list(run_folder.path.glob(".*.part"))
    return manifest


def expect_next_run_works(folder):
    """A run after the fault has no notes and all its files."""
    manifest = expect_saved_or_named(recorded(folder, good()))
    assert (manifest["state"], manifest["notes"]) == ("finished", [])
    assert SavedRun.open(folder).pictures(99)[-1].index == STEPS
    assert len(RunLibrary(folder).runs()) == 1


def throw(error, *words):
    raise error(*words)  # a new one each time: an error refers to all frames that it passed


def raises(error, *words):
    return lambda _: throw(error, *words)


WRONG = {
    "raises": raises(RuntimeError, "broken"),
    "runs out of memory": raises(RuntimeError, "CUDA out of memory. Tried to allocate 2 GiB"),
    "has no memory": raises(MemoryError),
    "exits": raises(SystemExit, 1),
    "is interrupted": raises(KeyboardInterrupt),
    "raises an error without a text": raises(type("Mute", (Exception,), {"__str__": lambda _: 1 / 0})),
    "returns four colors": lambda rgb: torch.cat([rgb, rgb[:, :1]], 1),
    "returns another batch": lambda rgb: rgb.repeat(2, 1, 1, 1),
    "returns a flat list": lambda rgb: rgb.flatten(),
    "returns None": lambda rgb: None,
    "returns complex numbers": lambda rgb: rgb + 1j,
    "returns an empty picture": lambda rgb: rgb[..., :0],
    "returns only NaN": lambda rgb: rgb * float("nan"),
    "returns only infinities": lambda rgb: rgb / 0.0,
}
HARMLESS = {
    "returns some NaN": lambda rgb: torch.where(torch.arange(rgb.shape[-1]) % 2 == 1, float("nan"), rgb),
    "returns some infinities": lambda rgb: torch.where(torch.arange(rgb.shape[-1]) % 2 == 1, float("inf"), rgb),
    "returns integers": lambda rgb: rgb.long(),
    "returns doubles": lambda rgb: rgb.double() * 1e300,
    "returns another size": lambda rgb: rgb[..., :1, :3],
}


def test_a_decoder_that_fails_at_any_step_costs_one_note_and_no_picture(tmp_path, tries):
    rng = random.Random(1)
    for i in range(max(tries, len(WRONG))):
        fault = list(WRONG)[i % len(WRONG)]
        at = rng.randint(1, STEPS)
        run_folder = recorded(tmp_path / f"{i}", candidate(Faulty(WRONG[fault], {at}), "faulty"), good())
        manifest = expect_saved_or_named(run_folder)
        assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS, fault
        assert manifest["state"] == "finished"
        [note] = manifest["notes"]
        assert re.match(rf"step {at}: stopped using decoder faulty: ", note), note
    expect_next_run_works(tmp_path / "next")


def test_odd_numbers_from_a_decoder_still_give_pictures(tmp_path, tries):
    rng = random.Random(2)
    for i in range(max(tries // 2, len(HARMLESS))):
        fault = list(HARMLESS)[i % len(HARMLESS)]
        at = {rng.randint(1, STEPS) for _ in range(3)}
        manifest = expect_saved_or_named(recorded(tmp_path / f"{i}", candidate(Faulty(HARMLESS[fault], at), "odd")))
        assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS
        assert manifest["notes"] == [], fault


def test_when_every_decoder_fails_each_step_without_a_picture_is_named(tmp_path, tries):
    rng = random.Random(3)
    for i in range(tries):
        at, to = sorted((rng.randint(1, STEPS), rng.randint(1, STEPS)))
        faults = [WRONG[rng.choice(list(WRONG))] for _ in range(2)]
        run_folder = recorded(
            tmp_path / f"{i}",
            candidate(Faulty(faults[0], range(at, 99)), "first"),
            candidate(Faulty(faults[1], range(to - at + 1, 99)), "second"),
        )
        manifest = run_folder.manifest()
        assert manifest["state"] == "finished"
        assert any("no decoder is left for these latents" in note for note in manifest["notes"])
        assert [step["index"] for step in manifest["steps"] if step["files"]] == list(range(1, to))
        assert named(manifest["notes"]) >= set(range(to, STEPS + 1))
    expect_next_run_works(tmp_path / "next")


OPENING = [RuntimeError("out of memory"), MemoryError(), SystemExit(), OSError(errno.EIO, "I/O error"), ValueError("x")]


def test_a_decoder_that_cannot_be_loaded_costs_one_note(tmp_path):
    for i, error in enumerate(OPENING):
        manifest = expect_saved_or_named(recorded(tmp_path / f"{i}", candidate(Faulty(), "faulty", error), good()))
        assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS
        [note] = manifest["notes"]
        assert note.startswith("step 1: stopped using decoder faulty: ")


@pytest.mark.parametrize("change", ["deleted", "cut", "zeros", "a folder", "another", "a pipe"])
def test_weights_that_change_after_they_were_listed_cost_one_note(tmp_path, change):
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "mine.safetensors"
    state = {"weight": torch.ones(3, 4, 1, 1), "bias": torch.zeros(3)}
    card = Card(name="mine", space="sd1", kind="polynomial", settings={"channels": 4}, source="a test")
    write_decoder(path, card, state)
    listed = Catalogue([path.parent]).candidates(SPACES["sd1"], "mine.safetensors")
    content = path.read_bytes()
    path.unlink()
    {
        "deleted": lambda: None,
        "cut": lambda: path.write_bytes(content[:-7]),
        "zeros": lambda: path.write_bytes(bytes(len(content))),
        "a folder": path.mkdir,
        "another": lambda: path.write_bytes(content.replace(b"polynomial", b"pollynomia")),
        "a pipe": lambda: os.mkfifo(path),
    }[change]()
    manifest = expect_saved_or_named(recorded(tmp_path / "run", *listed))
    assert manifest["decoder"]["name"] == "sd1-conv-2x"
    [note] = manifest["notes"]
    assert note.startswith("step 1: stopped using decoder mine: DecoderFileError: ")


def test_memory_that_runs_out_at_the_copy_costs_that_step(tmp_path, monkeypatch, tries):
    rng = random.Random(4)
    take = Snapshots.take
    for i in range(tries):
        lost = set(rng.sample(range(1, STEPS + 1), rng.randint(1, 3)))
        calls = iter(range(1, 99))

        def failing(self, latents, calls=calls, lost=lost):
            if next(calls) in lost:
                raise RuntimeError("CUDA out of memory")
            return take(self, latents)

        monkeypatch.setattr(Snapshots, "take", failing)
        manifest = expect_saved_or_named(recorded(tmp_path / f"{i}", good()))
        assert {step["index"] for step in manifest["steps"]} == set(range(1, STEPS + 1)) - lost
        assert f"{name_steps(lost)} not shown: RuntimeError: CUDA out of memory" in manifest["notes"]
    monkeypatch.undo()
    expect_next_run_works(tmp_path / "next")


DISK = [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system")]
DISK += [OSError(errno.EIO, "Input/output error"), OSError(errno.ENAMETOOLONG, "File name too long"), MemoryError()]


def test_after_a_disk_error_files_are_complete_and_missing_steps_are_named(tmp_path, monkeypatch, tries):
    rng = random.Random(5)
    write, failed = Path.write_bytes, set()
    for i in range(tries):
        error, first, fails = DISK[i % len(DISK)], rng.randint(1, 14), rng.choice([1, 2, 5, 99])
        calls = iter(range(1, 999))

        def failing(self, content, calls=calls, error=error, first=first, fails=fails, i=i):
            if first <= next(calls) < first + fails:
                failed.add(i)
                write(self, content[: len(content) // 2])
                raise error
            return write(self, content)

        monkeypatch.setattr(Path, "write_bytes", failing)
        run_folder = recorded(tmp_path / f"{i}", good())
        monkeypatch.undo()
        manifest = expect_saved_or_named(run_folder)
        assert i in failed or not manifest["notes"], (error, first, fails)
        path = run_folder.path / "run.json"
        saved = json.loads(path.read_bytes()) if path.exists() else None
        if not manifest["notes"]:  # only the last write of the record can have failed, and it was repeated
            assert saved == manifest, (error, first, fails)
            assert all((run_folder.path / name).exists() for name in run_folder.files())
    expect_next_run_works(tmp_path / "next")


def test_a_folder_that_is_deleted_during_the_run_costs_its_files_and_a_note(tmp_path, tries):
    rng = random.Random(6)
    for i in range(tries):
        at = rng.randint(1, STEPS)
        folder = tmp_path / f"{i}"
        with recording(folder, SPACES["sd1"], catalogue=Decoders(good())) as (pipeline, run_folder):

            def offer(step, pipeline=pipeline, at=at, folder=folder):
                pipeline.offer(step)
                if step.index == at:
                    shutil.rmtree(folder, ignore_errors=True)

            final = sample(offer)
        assert digest(final) == UNTOUCHED
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if f"step_{STEPS:04d}.png" not in there:
            notes = run_folder.run.notes
            assert any("run.json" in note or "files" in note or "nothing was saved" in note for note in notes)
        shutil.rmtree(folder, ignore_errors=True)
    expect_next_run_works(tmp_path / "next")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 96 kB, if this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    mounted = subprocess.run(
        [mount or "false", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no small disk: only root can mount one")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_on_a_full_disk_files_are_complete_and_missing_steps_are_named(small_disk, tmp_path):
    options = replace(DEFAULTS, enlarge="lanczos")
    with recording(small_disk / "run", SPACES["sd1"], catalogue=Decoders(good()), options=options) as (
        pipeline,
        run_folder,
    ):
        final = sample(pipeline.offer)
    assert digest(final) == UNTOUCHED
    manifest = expect_saved_or_named(run_folder)
    assert any("No space left on device" in note for note in manifest["notes"])
    for path in (small_disk / "run").glob("*.png"):
        pixels(path)
    expect_next_run_works(tmp_path / "next")


class Awkward(Sink):
    """Runs `fault` at step `at`."""

    name = "awkward"

    def __init__(self, fault, at, *, delivery=Delivery.EVERY_STEP_AWAITED):
        self.fault, self.at, self.delivery, self.closed = fault, at, delivery, 0

    def show(self, picture):
        if picture.index == self.at:
            self.fault()

    def close(self, state):
        self.closed += 1


THROWN = [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RuntimeError, RecursionError]


def test_any_error_of_a_sink_costs_only_its_own_pictures(tmp_path, tries):
    rng = random.Random(7)
    for i in range(max(tries, len(THROWN))):
        at = rng.randint(1, STEPS)
        sink = Awkward(partial(throw, THROWN[i % len(THROWN)]), at)
        manifest = expect_saved_or_named(recorded(tmp_path / f"{i}", good(), sinks=[sink]))
        assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS
        assert manifest["notes"][-1].startswith(f"awkward: nothing was saved of step {at}: ")
        assert (manifest["state"], sink.closed) == ("finished", 1)
    expect_next_run_works(tmp_path / "next")


def test_a_worker_that_is_killed_at_any_moment_leaves_a_complete_record_and_no_partial_file(tmp_path, tries):
    rng = random.Random(8)
    for i in range(tries):
        at, turns = rng.randint(0, STEPS), rng.randint(0, 3000)
        reached = threading.Event()
        sink = Awkward(reached.set, max(at, 1), delivery=Delivery.NEWEST_AWAITED)
        with recording(tmp_path / f"{i}", SPACES["sd1"], catalogue=Decoders(good()), sinks=[sink]) as (
            pipeline,
            run_folder,
        ):

            def offer(step, pipeline=pipeline, at=at, turns=turns, reached=reached):
                pipeline.offer(step)
                if step.index == at:
                    assert reached.wait(WAIT_S)
                    for _ in range(turns):  # a different moment each time, without a clock
                        pass
                    ident = ctypes.c_ulong(pipeline._worker.ident)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))

            final = sample(offer)
        assert digest(final) == UNTOUCHED
        assert not pipeline._worker.is_alive()
        for path in run_folder.path.glob("step_*.png"):
            pixels(path)
        written = json.loads((run_folder.path / "run.json").read_bytes())
        assert all((run_folder.path / name).is_file() for step in written["steps"] for name in step["files"])
        missing = set(range(1, STEPS + 1)) - {step["index"] for step in written["steps"]}
        assert not missing or run_folder.run.notes
        assert not pipeline.offer(Step(index=1, total=1, denoised=torch.zeros(1, 4, 2, 2)))
    expect_next_run_works(tmp_path / "next")


def test_a_sink_that_hangs_delays_the_end_until_the_time_limit_only(tmp_path):
    hung = threading.Event()
    sink = Awkward(lambda: hung.wait(WAIT_S), 2)
    with recording(tmp_path / "run", SPACES["sd1"], catalogue=Decoders(good()), sinks=[sink]) as (pipeline, run_folder):
        final = sample(pipeline.offer)
        pipeline.close("finished", timeout_s=0.1)
        assert digest(final) == UNTOUCHED
        hung.set()
    assert any(
        re.match(r"awkward did not finish within 0\.1 s after the run ended; steps? .* not shown", note)
        for note in run_folder.run.notes
    )
    assert not pipeline._worker.is_alive()
    assert sink.closed == 1
    expect_saved_or_named(run_folder)
    expect_next_run_works(tmp_path / "next")


def copied_steps(seed):
    """The steps of a run, with copies of its tensors."""
    steps = []
    sample(lambda step: steps.append(replace(step, denoised=step.denoised.clone(), noisy=None)), seed=seed)
    return steps


def test_interleaved_runs_have_the_pictures_that_each_has_alone(tmp_path, tries):
    rng = random.Random(9)
    for i in range(max(3, tries // 5)):
        with (
            recording(tmp_path / f"{i}a", SPACES["sd1"], catalogue=Decoders(good())) as (a, folder_a),
            recording(tmp_path / f"{i}b", SPACES["sd1"], catalogue=Decoders(good())) as (b, folder_b),
        ):
            steps = [copied_steps(seed) for seed in (0, 1)]
            turns = [0] * STEPS + [1] * STEPS
            rng.shuffle(turns)
            for turn in turns:
                (a, b)[turn].offer(steps[turn].pop(0))
        runs = [expect_saved_or_named(run_folder) for run_folder in (folder_a, folder_b)]
        assert [run["notes"] for run in runs] == [[], []]
        alone = recorded(tmp_path / f"{i}c", good())
        for index in range(1, STEPS + 1):
            name = f"step_{index:04d}.png"
            assert pixels(folder_a.path / name) == pixels(alone.path / name)
            assert (folder_a.path / name).read_bytes() != (folder_b.path / name).read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, GeneratorExit])
def test_a_canceled_run_has_the_steps_before_the_cancellation(tmp_path, error):
    for at in range(STEPS + 1):
        folder = tmp_path / f"{at}"

        def offer(step, at=at):
            if step.index > at:
                raise error
            pipeline.offer(step)

        with (
            contextlib.suppress(error),
            recording(folder, SPACES["sd1"], catalogue=Decoders(good())) as (pipeline, run_folder),
        ):
            sample(offer)
            raise error
        manifest = expect_saved_or_named(run_folder, at)
        assert manifest["state"] == ("interrupted" if error is KeyboardInterrupt else "failed")
        assert [step["index"] for step in manifest["steps"]] == list(range(1, at + 1))
        assert manifest["notes"] == []
        assert SavedRun.open(folder).total == at
    expect_next_run_works(tmp_path / "next")


def test_a_folder_with_a_run_is_refused_before_anything_is_sampled(tmp_path):
    recorded(tmp_path / "run", good())
    with pytest.raises(SinkError, match="expected an empty folder"):
        recorded(tmp_path / "run", good())


def test_the_memory_of_a_run_is_free_after_its_end(tmp_path):
    objects = []

    def run(i):
        net = Faulty(WRONG["raises"], {3} if i % 2 else ())
        with recording(tmp_path / f"{i}", SPACES["sd1"], catalogue=Decoders(candidate(net, "a"), good())) as (
            pipeline,
            run_folder,
        ):

            def offer(step):
                objects.append(weakref.ref(step.denoised))
                pipeline.offer(step)

            sample(offer)
        objects.extend(map(weakref.ref, (net, pipeline, run_folder, run_folder.run)))

    for i in range(4):
        run(i)
    gc.collect()
    assert [ref() for ref in objects if ref() is not None] == []


# Killed processes: the operating system does this when memory runs out.


@pytest.fixture
def run_process():
    """A function that records a run in a child process. It returns the child's number and the lines of its output."""
    command = [sys.executable, str(Path(__file__).with_name("run_process.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:

        def start(folder):
            parent.stdin.write(f"{folder}\n")
            parent.stdin.flush()
            return int(next(line for line in parent.stdout if line.startswith("child")).split()[1]), parent.stdout

        yield start
        parent.stdin.close()
        parent.wait(WAIT_S)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")
def test_a_process_that_is_killed_at_any_moment_leaves_complete_files_and_a_readable_record(
    run_process, tmp_path, tries
):
    rng = random.Random(10)
    killed_while_running = 0
    for i in range(tries):
        folder, at, turns = tmp_path / f"{i}", rng.randint(1, 38), rng.randint(0, 60_000)
        child, lines = run_process(folder)
        for line in lines:
            if line.strip() == f"{at}" or line == "end\n":
                break
        for _ in range(turns):
            pass
        os.kill(child, signal.SIGKILL)
        while line != "end\n":
            line = next(lines)
        if not (folder / "run.json").exists():  # killed before the worker had opened the folder
            assert [path for path in folder.glob("*") if not path.name.startswith(".")] == []
            continue
        killed_while_running += SavedRun.open(folder).manifest["state"] == "running"
        for path in folder.iterdir():
            if path.suffix in (".png", ".webp"):
                pixels(path)
        saved = SavedRun.open(folder)
        assert all((folder / name).is_file() for step in saved.steps for name in step.files)
        assert len(saved.pictures(99)) == len(saved.steps)
        assert len(RunLibrary(folder).runs()) == 1
        if saved.manifest["page"]:
            page = (folder / "index.html").read_text("utf-8")
            assert json.loads(re.search(r'id="safelight">(.*?)</script>', page, re.DOTALL)[1])["id"] == saved.id
        shutil.rmtree(folder)
    assert killed_while_running >= tries // 2, "most processes must be killed while the run goes on"


def test_a_live_run_that_could_not_be_opened_is_removed_for_newer_runs(tmp_path):
    (tmp_path / "temp").write_text("no folder")
    runs = LiveRuns(max_runs=2)
    for _ in range(20):
        folder = runs.new(Run(), tmp_path / "temp", "owner").folder
        screen = LiveView(StepFiles(folder, ImageEncoding()), lambda event, facts: None, {})
        with pytest.raises(OSError, match="temp"):
            screen.open()
        runs.make_room()
    assert len(runs.of("owner")) <= 2
    assert isinstance(folder, RunFolder)


def test_live_runs_that_never_end_are_removed_in_the_end(tmp_path):
    runs = LiveRuns(max_runs=3)
    for _ in range(30):
        newest = runs.new(Run(), tmp_path, "owner")
        runs.make_room()
    assert len(runs.of("owner")) == 6
    assert runs.get(newest.address) is newest
