"""Faults at moments that a seed chooses: the run is as it was without us, and everything promised is there or named.

SAFELIGHT_TRIES=500 pytest tests/reliability/test_faults.py
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
from safelight.hosts.script import recording
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.run import Run
from safelight.preview.run_library import RunLibrary
from safelight.preview.saved_run import SavedRun
from safelight.preview.sinks.base import Sink
from safelight.preview.sinks.live_runs import LiveRuns
from safelight.preview.sinks.live_view import LiveView
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles
from safelight.preview.snapshot import Snapshots
from safelight.preview.step import Step

STEPS = 6
WAIT_S = 20.0

pytestmark = pytest.mark.usefixtures("leaves_nothing")


class Faulty(Net):
    """Shows the first three channels; at its calls in `at` it does `what` instead."""

    channels = 4

    def __init__(self, what=None, at=()):
        super().__init__()
        self.what, self.at, self.calls = what, at, 0

    def forward(self, latents):
        self.calls += 1
        rgb = latents[:, :3]
        return self.what(rgb) if self.calls in self.at else rgb


def candidate(net, name, opening=None):
    card = Card(name=name, space="sd1", kind="test", source="a test")

    def opened():
        if opening is not None:
            raise opening
        return Decoder(card, net)

    return Candidate(card, opened)


class Decoders:
    """A catalogue of these."""

    def __init__(self, *candidates):
        self.of = candidates

    def candidates(self, space, wanted):
        return list(self.of)


def good():
    return candidate(Faulty(), "good")


def sample(offer, steps=STEPS, seed=0):
    """A sampler: its end depends on nothing but its seed; it hands over its own tensors, and goes on with them."""
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
    """A run that is recorded; the folder's sink, once everything is over."""
    with recording(folder, SPACES["sd1"], catalogue=Decoders(*candidates), sinks=sinks) as (pipeline, kept):
        final = sample(pipeline.offer, steps)
    assert steps != STEPS or digest(final) == UNTOUCHED
    return kept


def pixels(path):
    """The bytes of a picture, which must be whole."""
    with Image.open(path) as image:
        return image.tobytes()


def named(notes):
    """The steps that notes name as missing."""
    steps = set()
    for note in notes:
        for spans in re.findall(r"steps? ((?:\d+(?:-\d+)?(?:, )?)+)", note):
            for span in filter(None, spans.split(", ")):
                first, _, last = span.partition("-")
                steps |= set(range(int(first), int(last or first) + 1))
    return steps


def expect_all_there_or_named(kept, steps=STEPS):
    """Every file that is listed is whole, every step that was promised is listed or named, nothing half is left."""
    manifest = kept.manifest()
    assert manifest["state"] in ("finished", "interrupted", "failed")
    shown = set()
    for step in manifest["steps"]:
        for name in step["files"]:
            assert (kept.path / name).is_file() or step["index"] in named(manifest["notes"]), name
            if (kept.path / name).is_file():
                pixels(kept.path / name)
        if step["files"]:
            shown.add(step["index"])
    assert shown | named(manifest["notes"]) >= set(range(1, steps + 1)), manifest["notes"]
    assert not list(kept.path.glob(".*.part"))
    return manifest


def expect_as_new(folder):
    """The next run works fully."""
    manifest = expect_all_there_or_named(recorded(folder, good()))
    assert (manifest["state"], manifest["notes"]) == ("finished", [])
    assert SavedRun.open(folder).pictures(99)[-1].index == STEPS
    assert len(RunLibrary(folder).runs()) == 1


def throw(error, *words):
    raise error(*words)  # a new one each time: it holds on to all that it came through


def raises(error, *words):
    return lambda _: throw(error, *words)


WRONG = {
    "raises": raises(RuntimeError, "broken"),
    "runs out of memory": raises(RuntimeError, "CUDA out of memory. Tried to allocate 2 GiB"),
    "has no memory": raises(MemoryError),
    "exits": raises(SystemExit, 1),
    "is interrupted": raises(KeyboardInterrupt),
    "says nothing of its error": raises(type("Mute", (Exception,), {"__str__": lambda _: 1 / 0})),
    "makes four colours": lambda rgb: torch.cat([rgb, rgb[:, :1]], 1),
    "makes another batch": lambda rgb: rgb.repeat(2, 1, 1, 1),
    "makes a flat list": lambda rgb: rgb.flatten(),
    "makes nothing": lambda rgb: None,
    "makes complex numbers": lambda rgb: rgb + 1j,
    "makes an empty picture": lambda rgb: rgb[..., :0],
    "makes not-a-numbers": lambda rgb: rgb * float("nan"),
    "makes infinities": lambda rgb: rgb / 0.0,
}
HARMLESS = {
    "makes some not-a-numbers": lambda rgb: torch.where(torch.arange(rgb.shape[-1]) % 2 == 1, float("nan"), rgb),
    "makes some infinities": lambda rgb: torch.where(torch.arange(rgb.shape[-1]) % 2 == 1, float("inf"), rgb),
    "makes whole numbers": lambda rgb: rgb.long(),
    "makes doubles": lambda rgb: rgb.double() * 1e300,
    "makes another size": lambda rgb: rgb[..., :1, :3],
}


def test_a_decoder_that_fails_at_any_step_costs_one_note_and_no_picture(tmp_path, tries):
    chance = random.Random(1)
    for i in range(max(tries, len(WRONG))):
        what = list(WRONG)[i % len(WRONG)]
        at = chance.randint(1, STEPS)
        kept = recorded(tmp_path / f"{i}", candidate(Faulty(WRONG[what], {at}), "faulty"), good())
        manifest = expect_all_there_or_named(kept)
        assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS, what
        assert manifest["state"] == "finished"
        [note] = manifest["notes"]
        assert re.match(rf"step {at}: decoder faulty was given up: ", note), note
    expect_as_new(tmp_path / "next")


def test_a_decoder_that_makes_odd_numbers_makes_pictures(tmp_path, tries):
    chance = random.Random(2)
    for i in range(max(tries // 2, len(HARMLESS))):
        what = list(HARMLESS)[i % len(HARMLESS)]
        at = {chance.randint(1, STEPS) for _ in range(3)}
        manifest = expect_all_there_or_named(recorded(tmp_path / f"{i}", candidate(Faulty(HARMLESS[what], at), "odd")))
        assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS
        assert manifest["notes"] == [], what


def test_when_every_decoder_fails_every_step_is_named(tmp_path, tries):
    chance = random.Random(3)
    for i in range(tries):
        at, to = sorted((chance.randint(1, STEPS), chance.randint(1, STEPS)))
        wrong = [WRONG[chance.choice(list(WRONG))] for _ in range(2)]
        kept = recorded(
            tmp_path / f"{i}",
            candidate(Faulty(wrong[0], range(at, 99)), "first"),
            candidate(Faulty(wrong[1], range(to - at + 1, 99)), "second"),
        )
        manifest = kept.manifest()
        assert manifest["state"] == "finished"
        assert any("no decoder is left that could show these latents" in note for note in manifest["notes"])
        assert [step["index"] for step in manifest["steps"] if step["files"]] == list(range(1, to))
    expect_as_new(tmp_path / "next")


OPENING = [RuntimeError("out of memory"), MemoryError(), SystemExit(), OSError(errno.EIO, "I/O error"), ValueError("x")]


def test_a_decoder_that_cannot_be_loaded_costs_one_note(tmp_path):
    for i, error in enumerate(OPENING):
        manifest = expect_all_there_or_named(recorded(tmp_path / f"{i}", candidate(Faulty(), "faulty", error), good()))
        assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS
        [note] = manifest["notes"]
        assert note.startswith("step 1: decoder faulty was given up: ")


@pytest.mark.parametrize("how", ["gone", "cut", "zeros", "a folder", "another", "a pipe"])
def test_weights_that_change_after_they_were_listed_cost_one_note(tmp_path, how):
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "mine.safetensors"
    state = {"weight": torch.ones(3, 4, 1, 1), "bias": torch.zeros(3)}
    card = Card(name="mine", space="sd1", kind="polynomial", settings={"channels": 4}, source="a test")
    write_decoder(path, card, state)
    listed = Catalogue([path.parent]).candidates(SPACES["sd1"], "mine.safetensors")
    content = path.read_bytes()
    path.unlink()
    {
        "gone": lambda: None,
        "cut": lambda: path.write_bytes(content[:-7]),
        "zeros": lambda: path.write_bytes(bytes(len(content))),
        "a folder": path.mkdir,
        "another": lambda: path.write_bytes(content.replace(b"polynomial", b"pollynomia")),
        "a pipe": lambda: os.mkfifo(path),
    }[how]()
    manifest = expect_all_there_or_named(recorded(tmp_path / "run", *listed))
    assert manifest["decoder"]["name"] == "sd1-conv-small"
    [note] = manifest["notes"]
    assert note.startswith("step 1: decoder mine was given up: DecoderFileError: ")


def test_memory_that_runs_out_at_the_copy_costs_that_step(tmp_path, monkeypatch, tries):
    chance = random.Random(4)
    take = Snapshots.take
    for i in range(tries):
        lost = set(chance.sample(range(1, STEPS + 1), chance.randint(1, 3)))
        calls = iter(range(1, 99))

        def failing(self, latents, calls=calls, lost=lost):
            if next(calls) in lost:
                raise RuntimeError("CUDA out of memory")
            return take(self, latents)

        monkeypatch.setattr(Snapshots, "take", failing)
        manifest = expect_all_there_or_named(recorded(tmp_path / f"{i}", good()))
        assert {step["index"] for step in manifest["steps"]} == set(range(1, STEPS + 1)) - lost
        assert f"step {min(lost)} not taken: RuntimeError: CUDA out of memory" in manifest["notes"]
    monkeypatch.undo()
    expect_as_new(tmp_path / "next")


DISK = [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system")]
DISK += [OSError(errno.EIO, "Input/output error"), OSError(errno.ENAMETOOLONG, "File name too long"), MemoryError()]


def test_a_disk_that_fails_at_any_write_leaves_whole_files_and_names_the_rest(tmp_path, monkeypatch, tries):
    chance = random.Random(5)
    write, failed = Path.write_bytes, set()
    for i in range(tries):
        error, first, fails = DISK[i % len(DISK)], chance.randint(1, 14), chance.choice([1, 2, 5, 99])
        calls = iter(range(1, 999))

        def failing(self, content, calls=calls, error=error, first=first, fails=fails, i=i):
            if first <= next(calls) < first + fails:
                failed.add(i)
                write(self, content[: len(content) // 2])
                raise error
            return write(self, content)

        monkeypatch.setattr(Path, "write_bytes", failing)
        kept = recorded(tmp_path / f"{i}", good())
        monkeypatch.undo()
        manifest = expect_all_there_or_named(kept)
        assert i in failed or not manifest["notes"], (error, first, fails)
        saved = json.loads((kept.path / "run.json").read_bytes()) if (kept.path / "run.json").exists() else None
        if not manifest["notes"]:  # what failed, if anything, was the last record, and it was tried again
            assert saved == manifest, (error, first, fails)
            assert all((kept.path / name).exists() for name in kept.files())
    expect_as_new(tmp_path / "next")


def test_a_folder_that_is_deleted_in_the_middle_costs_its_files_and_says_so(tmp_path, tries):
    chance = random.Random(6)
    for i in range(tries):
        at = chance.randint(1, STEPS)
        folder = tmp_path / f"{i}"
        with recording(folder, SPACES["sd1"], catalogue=Decoders(good())) as (pipeline, kept):

            def offer(step, pipeline=pipeline, at=at, folder=folder):
                pipeline.offer(step)
                if step.index == at:
                    shutil.rmtree(folder, ignore_errors=True)

            final = sample(offer)
        assert digest(final) == UNTOUCHED
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if f"step_{STEPS:04d}.png" not in there:
            assert any("run.json" in note or "files" in note or "nothing was kept" in note for note in kept.run.notes)
        shutil.rmtree(folder, ignore_errors=True)
    expect_as_new(tmp_path / "next")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 96 kB, where this test may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    told = subprocess.run(
        [mount or "false", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if told.returncode:
        pytest.skip("no small disk: only root can mount one")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_leaves_whole_files_and_names_the_rest(small_disk, tmp_path):
    with recording(
        small_disk / "run", SPACES["sd1"], catalogue=Decoders(good()), encoding=ImageEncoding(enlarge="lanczos")
    ) as (pipeline, kept):
        final = sample(pipeline.offer)
    assert digest(final) == UNTOUCHED
    manifest = expect_all_there_or_named(kept)
    assert any("No space left on device" in note for note in manifest["notes"])
    for path in (small_disk / "run").glob("*.png"):
        pixels(path)
    expect_as_new(tmp_path / "next")


class Awkward(Sink):
    """Does `what` at step `at`."""

    name = "awkward"

    def __init__(self, what, at, *, keeps=True):
        self.what, self.at, self.keeps, self.closed = what, at, keeps, 0

    def open(self):
        pass

    def show(self, picture):
        if picture.index == self.at:
            self.what()

    def close(self, state):
        self.closed += 1


THROWN = [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RuntimeError, RecursionError]


def test_whatever_a_sink_throws_costs_its_own_pictures_only(tmp_path, tries):
    chance = random.Random(7)
    for i in range(max(tries, len(THROWN))):
        at = chance.randint(1, STEPS)
        sink = Awkward(partial(throw, THROWN[i % len(THROWN)]), at)
        manifest = expect_all_there_or_named(recorded(tmp_path / f"{i}", good(), sinks=[sink]))
        assert [len(step["files"]) for step in manifest["steps"]] == [1] * STEPS
        assert manifest["notes"][-1] == f"awkward: nothing was kept of step {at}"
        assert (manifest["state"], sink.closed) == ("finished", 1)
    expect_as_new(tmp_path / "next")


def test_a_worker_that_is_killed_at_any_moment_leaves_a_finished_record_and_no_half_file(tmp_path, tries):
    chance = random.Random(8)
    for i in range(tries):
        at, turns = chance.randint(0, STEPS), chance.randint(0, 3000)
        reached = threading.Event()
        sink = Awkward(reached.set, max(at, 1), keeps=False)
        with recording(tmp_path / f"{i}", SPACES["sd1"], catalogue=Decoders(good()), sinks=[sink]) as (pipeline, kept):

            def offer(step, pipeline=pipeline, at=at, turns=turns, reached=reached):
                pipeline.offer(step)
                if step.index == at:
                    assert reached.wait(WAIT_S)
                    for _ in range(turns):  # another moment each time, without a clock
                        pass
                    ident = ctypes.c_ulong(pipeline._worker.ident)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))

            final = sample(offer)
        assert digest(final) == UNTOUCHED
        assert not pipeline._worker.is_alive()
        for path in kept.path.glob("step_*.png"):
            pixels(path)
        written = json.loads((kept.path / "run.json").read_bytes())
        assert all((kept.path / name).is_file() for step in written["steps"] for name in step["files"])
        missing = set(range(1, STEPS + 1)) - {step["index"] for step in written["steps"]}
        assert not missing or kept.run.notes
        assert not pipeline.offer(Step(index=1, total=1, denoised=torch.zeros(1, 4, 2, 2)))
    expect_as_new(tmp_path / "next")


def test_a_sink_that_hangs_holds_up_the_end_for_its_time_and_lets_go_of_everything_later(tmp_path):
    hung = threading.Event()
    sink = Awkward(lambda: hung.wait(WAIT_S), 2)
    with recording(tmp_path / "run", SPACES["sd1"], catalogue=Decoders(good()), sinks=[sink]) as (pipeline, kept):
        final = sample(pipeline.offer)
        pipeline.close("finished", timeout_s=0.1)
        assert digest(final) == UNTOUCHED
        hung.set()
    assert any(
        re.match(r"awkward was not finished 0\.1 s after the run ended; steps? .* given up", n) for n in kept.run.notes
    )
    assert not pipeline._worker.is_alive()
    assert sink.closed == 1
    expect_all_there_or_named(kept)
    expect_as_new(tmp_path / "next")


def taken(seed):
    """The steps of a run, as they were."""
    steps = []
    sample(lambda step: steps.append(replace(step, denoised=step.denoised.clone(), noisy=None)), seed=seed)
    return steps


def test_runs_that_are_interleaved_in_any_order_are_as_if_each_were_alone(tmp_path, tries):
    chance = random.Random(9)
    for i in range(max(3, tries // 5)):
        with (
            recording(tmp_path / f"{i}a", SPACES["sd1"], catalogue=Decoders(good())) as (a, kept_a),
            recording(tmp_path / f"{i}b", SPACES["sd1"], catalogue=Decoders(good())) as (b, kept_b),
        ):
            steps = [taken(seed) for seed in (0, 1)]
            turns = [0] * STEPS + [1] * STEPS
            chance.shuffle(turns)
            for turn in turns:
                (a, b)[turn].offer(steps[turn].pop(0))
        runs = [expect_all_there_or_named(kept) for kept in (kept_a, kept_b)]
        assert [run["notes"] for run in runs] == [[], []]
        alone = recorded(tmp_path / f"{i}c", good())
        for index in range(1, STEPS + 1):
            name = f"step_{index:04d}.png"
            assert pixels(kept_a.path / name) == pixels(alone.path / name)
            assert (kept_a.path / name).read_bytes() != (kept_b.path / name).read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, GeneratorExit])
def test_a_run_that_is_cancelled_at_any_step_has_its_steps_so_far(tmp_path, error):
    for at in range(STEPS + 1):
        folder = tmp_path / f"{at}"

        def offer(step, at=at):
            if step.index > at:
                raise error
            pipeline.offer(step)

        with (
            contextlib.suppress(error),
            recording(folder, SPACES["sd1"], catalogue=Decoders(good())) as (pipeline, kept),
        ):
            sample(offer)
            raise error
        manifest = expect_all_there_or_named(kept, at)
        assert manifest["state"] == ("interrupted" if error is KeyboardInterrupt else "failed")
        assert [step["index"] for step in manifest["steps"]] == list(range(1, at + 1))
        assert manifest["notes"] == []
        assert SavedRun.open(folder).total == at
    expect_as_new(tmp_path / "next")


def test_a_place_that_is_taken_is_refused_before_anything_is_sampled(tmp_path):
    recorded(tmp_path / "run", good())
    with pytest.raises(SinkError, match="expected an empty folder"):
        recorded(tmp_path / "run", good())


def test_nothing_of_a_run_is_kept_once_it_is_over(tmp_path):
    held = []

    def run(i):
        net = Faulty(WRONG["raises"], {3} if i % 2 else ())
        with recording(tmp_path / f"{i}", SPACES["sd1"], catalogue=Decoders(candidate(net, "a"), good())) as (
            pipeline,
            kept,
        ):

            def offer(step):
                held.append(weakref.ref(step.denoised))
                pipeline.offer(step)

            sample(offer)
        held.extend(map(weakref.ref, (net, pipeline, kept, kept.run)))

    for i in range(4):
        run(i)
    gc.collect()
    assert [ref() for ref in held if ref() is not None] == []


# Killed, as by the system when memory runs out.


@pytest.fixture
def forge():
    """Starts a run in a process of its own; what it says, line by line."""
    command = [sys.executable, str(Path(__file__).with_name("forge.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as working:

        def start(folder):
            working.stdin.write(f"{folder}\n")
            working.stdin.flush()
            return int(next(line for line in working.stdout if line.startswith("child")).split()[1]), working.stdout

        yield start
        working.stdin.close()
        working.wait(WAIT_S)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes that can be copied on this system")
def test_a_process_that_is_killed_at_any_moment_leaves_whole_files_and_a_record_that_opens(forge, tmp_path, tries):
    chance = random.Random(10)
    cut = 0
    for i in range(tries):
        folder, at, turns = tmp_path / f"{i}", chance.randint(1, 38), chance.randint(0, 60_000)
        child, lines = forge(folder)
        for line in lines:
            if line.strip() == f"{at}" or line == "end\n":
                break
        for _ in range(turns):
            pass
        os.kill(child, signal.SIGKILL)
        while line != "end\n":
            line = next(lines)
        if not (folder / "run.json").exists():  # before the worker had opened it
            assert [path for path in folder.glob("*") if not path.name.startswith(".")] == []
            continue
        cut += SavedRun.open(folder).manifest["state"] == "running"
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
    assert cut >= tries // 2, "most are to be killed in the middle"


def test_a_live_run_that_could_not_be_opened_makes_room_for_others(tmp_path):
    (tmp_path / "temp").write_text("no folder")
    runs = LiveRuns(max_runs=2)
    for _ in range(20):
        folder = runs.new(Run(), tmp_path / "temp")
        screen = LiveView(StepFiles(folder, ImageEncoding()), lambda event, facts: None, {})
        with pytest.raises(OSError, match="temp"):
            screen.open()
        runs.make_room()
    assert len(runs.of()) <= 2
    assert isinstance(folder, RunFolder)


def test_runs_of_which_nobody_says_that_they_ended_are_not_kept_for_ever(tmp_path):
    runs = LiveRuns(max_runs=3)
    for _ in range(30):
        newest = runs.new(Run(), tmp_path)
        runs.make_room()
    assert len(runs.of()) == 6
    assert runs.folder(newest.run.id) is newest
