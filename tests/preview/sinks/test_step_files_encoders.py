"""Step files that several threads encode: in order, and each one is written or named as missing."""

import sys
import threading

import pytest
from PIL import Image
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.manifest import MANIFEST_NAME
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles
from safelight.preview.step import StepInfo


@pytest.fixture
def files(folder):
    files = StepFiles(folder, ImageEncoding(), encoders=3, small_bytes=0)
    files.open()
    yield files
    files.close("finished")


def written(folder):
    return [step["files"][0] for step in folder.manifest()["steps"]]


def test_files_are_written_in_order_even_if_a_later_one_is_encoded_first(folder, files, picture, monkeypatch, wait_s):
    third_is_encoded, order, write = threading.Event(), [], folder.write

    def save(frames, *args, plain=ImageEncoding.save):
        step = frames[0].getpixel((0, 0))[0] // 20
        if step == 3:
            third_is_encoded.set()
        if step == 1:
            assert third_is_encoded.wait(wait_s)
        return plain(files.encoding, frames, *args)

    monkeypatch.setattr(ImageEncoding, "save", lambda _, *args: save(*args))
    monkeypatch.setattr(folder, "write", lambda name, content: (order.append(name), write(name, content)))
    for index in range(1, 11):
        files.show(picture(index=index))
    files.close("finished")
    names = [name for name in order if name != MANIFEST_NAME]  # the record is written from time to time
    assert names == [f"step_{index:04d}.png" for index in range(1, 11)] == written(folder)
    for index, name in enumerate(names, 1):
        with Image.open(folder.path / name) as image:
            assert image.getpixel((0, 0)) == (index * 20,) * 3


def test_at_most_two_pictures_per_encoder_are_pending(folder, files, picture):
    for index in range(1, 30):
        files.show(picture(index=index, total=100))
        assert index - len(written(folder)) <= 6


def test_a_step_that_cannot_be_written_is_noted_while_later_steps_are_shown(folder, files, picture, monkeypatch):
    write = folder.write

    def full_at_2(name, content):
        if "0002" in name:
            raise OSError("disk full")
        write(name, content)

    monkeypatch.setattr(folder, "write", full_at_2)
    for index in range(1, 12):
        files.show(picture(index=index, total=11))
    assert folder.run.notes == ["files failed: OSError: disk full"], "noted while the run goes on"
    files.close("finished")
    folder.run.missing.summarize()
    assert folder.run.notes == ["files: nothing was saved of step 2: OSError: disk full"]
    assert folder.run.missing.unfinished() == []
    assert written(folder) == [f"step_{index:04d}.png" for index in range(1, 12) if index != 2]


@pytest.mark.parametrize("thrown", [SystemExit, KeyboardInterrupt, MemoryError, RecursionError])
def test_any_exception_in_an_encoder_costs_one_step(folder, files, picture, monkeypatch, thrown):
    save = ImageEncoding.save

    def throw_at_3(self, frames, *args):
        if frames[0].getpixel((0, 0))[0] == 60:
            raise thrown("leave")
        return save(self, frames, *args)

    monkeypatch.setattr(ImageEncoding, "save", throw_at_3)
    for index in range(1, 9):
        files.show(picture(index=index, total=8))
    files.close("finished")
    folder.run.missing.summarize()
    assert folder.run.notes == [f"files: nothing was saved of step 3: {thrown.__name__}: leave"]
    assert folder.run.missing.unfinished() == []
    assert written(folder) == [f"step_{index:04d}.png" for index in range(1, 9) if index != 3]


def test_a_picture_is_written_without_waiting_for_later_pictures(folder, files, picture, monkeypatch, wait_s):
    is_recorded, record = threading.Event(), folder.record
    monkeypatch.setattr(folder, "record", lambda *args, **kwargs: (record(*args, **kwargs), is_recorded.set()))
    files.show(picture(index=1))
    assert is_recorded.wait(wait_s)
    assert written(folder) == ["step_0001.png"]


@pytest.mark.parametrize(
    ("enlarge", "small_bytes", "at_once"),
    [("off", 4 * 6 * 3, True), ("off", 4 * 6 * 3 - 1, False), ("nearest", 4 * 6 * 3, False), ("nearest", 9999, True)],
)
def test_a_small_picture_is_encoded_without_an_encoder_thread(
    folder, picture, monkeypatch, wait_s, enlarge, small_bytes, at_once
):
    gate, threads = threading.Event(), []

    def save(encoding, *args, plain=ImageEncoding.save):
        threads.append(threading.current_thread())
        assert threads[-1] is threading.main_thread() or gate.wait(wait_s)
        return plain(encoding, *args)

    monkeypatch.setattr(ImageEncoding, "save", save)
    files = StepFiles(folder, ImageEncoding(enlarge=enlarge), encoders=1, small_bytes=small_bytes)
    files.open()
    files.show(picture(index=1))  # 4x6, shown as 32x48
    assert written(folder) == (["step_0001.png"] if at_once else [])
    gate.set()
    files.close("finished")
    assert written(folder) == ["step_0001.png"]
    assert (threads == [threading.main_thread()]) == at_once


def test_a_small_picture_is_written_after_an_earlier_large_one(folder, picture, monkeypatch, wait_s):
    gate = threading.Event()

    def save(encoding, frames, *args, plain=ImageEncoding.save):
        assert frames[0].width == 6 or gate.wait(wait_s)
        return plain(encoding, frames, *args)

    monkeypatch.setattr(ImageEncoding, "save", save)
    files = StepFiles(folder, ImageEncoding(), encoders=2, small_bytes=4 * 6 * 3)
    files.open()
    files.show(picture(index=1, width=7))
    files.show(picture(index=2))
    assert written(folder) == []
    gate.set()
    files.close("finished")
    assert written(folder) == ["step_0001.png", "step_0002.png"]


def test_pictures_and_latents_recorded_by_two_threads_are_all_in_the_manifest(folder, picture):
    total, together = 1500, threading.Barrier(2)

    def pictures():
        for index in range(1, total + 1):
            together.wait()
            folder.record(picture(index=index, total=total), f"step_{index:04d}.png")

    def latents():
        for index in range(1, total + 1):
            together.wait()
            folder.record_latent(StepInfo(index=index, total=total), f"step_{index:04d}.safetensors")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=record) for record in (pictures, latents)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    steps = folder.manifest()["steps"]
    assert len(steps) == total
    for index, step in enumerate(steps, 1):
        assert step["files"] == [f"step_{index:04d}.png"]
        assert step["latent"] == f"step_{index:04d}.safetensors"


def test_notes_name_every_step_that_could_not_be_written(tmp_path, pipeline, step, monkeypatch):
    run = Run()
    folder = RunFolder(tmp_path / "run", run)
    write = folder.write

    def full_from_5(name, content):
        if name.startswith("step_") and int(name[5:9]) >= 5:
            raise OSError("disk full")
        write(name, content)

    monkeypatch.setattr(folder, "write", full_from_5)
    with pipeline(folder, StepFiles(folder, ImageEncoding(), encoders=2, small_bytes=0), run=run) as pipe:
        for index in range(1, 11):
            pipe.offer(step(index))
    assert written(folder) == [f"step_{index:04d}.png" for index in range(1, 5)]
    assert any("files: nothing was saved of steps 5-10" in note for note in run.notes)
    assert sum("disk full" in note for note in run.notes) == 1


def test_closing_a_run_writes_all_files_and_ends_all_threads(tmp_path, pipeline, step):
    folder = RunFolder(tmp_path / "run", Run())
    before = set(threading.enumerate())
    with pipeline(folder, StepFiles(folder, ImageEncoding(enlarge="lanczos"), encoders=4)) as pipe:
        for index in range(1, 51):
            pipe.offer(step(index, 50))
    assert len(written(folder)) == 50
    assert set(threading.enumerate()) == before
