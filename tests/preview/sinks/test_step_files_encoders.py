"""Files that several threads encode: in order, every one there or named as missing."""

import sys
import threading
from functools import partial

import pytest
from PIL import Image
from safelight.errors import StepError
from safelight.preview.images.encode import ImageEncoding
from safelight.preview.run import Run
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.sinks.step_files import StepFiles


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run", Run(space="sd1"))
    folder.open()
    return folder


@pytest.fixture
def files(folder):
    files = StepFiles(folder, ImageEncoding(), encoders=3, small_bytes=0)
    files.open()
    yield files
    files.close("finished")


def written(folder):
    return [step["files"][0] for step in folder.manifest()["steps"]]


def test_files_are_written_in_order_whichever_is_encoded_first(folder, files, picture, monkeypatch, wait_s):
    third, order, write = threading.Event(), [], folder.write

    def save(frames, *args, plain=ImageEncoding.save):
        step = frames[0].getpixel((0, 0))[0] // 20
        if step == 3:
            third.set()
        if step == 1:
            assert third.wait(wait_s)
        return plain(files.encoding, frames, *args)

    monkeypatch.setattr(ImageEncoding, "save", lambda _, *args: save(*args))
    monkeypatch.setattr(folder, "write", lambda name, content: (order.append(name), write(name, content)))
    for index in range(1, 11):
        files.show(picture(index=index))
    files.flush()
    assert order == [f"step_{index:04d}.png" for index in range(1, 11)] == written(folder)
    for index, name in enumerate(order, 1):
        with Image.open(folder.path / name) as image:
            assert image.getpixel((0, 0)) == (index * 20,) * 3


def test_no_more_pictures_wait_than_encoders_can_use(folder, files, picture):
    for index in range(1, 30):
        files.show(picture(index=index, total=100))
        assert index - len(written(folder)) <= 6


def test_a_step_that_is_lost_is_named_when_a_later_one_is_taken(folder, files, picture, monkeypatch):
    write = folder.write

    def full_at_2(name, content):
        if "0002" in name:
            raise OSError("disk full")
        write(name, content)

    monkeypatch.setattr(folder, "write", full_at_2)
    lost = []
    for index in range(1, 12):
        try:
            files.show(picture(index=index, total=11))
        except StepError as error:
            lost.append((error.step, str(error), str(error.__cause__)))
            assert 2 <= index <= 8
    files.flush()
    assert lost == [(2, "step 2: disk full", "disk full")]
    assert written(folder) == [f"step_{index:04d}.png" for index in range(1, 12) if index != 2]


@pytest.mark.parametrize("thrown", [SystemExit, KeyboardInterrupt, MemoryError, RecursionError])
def test_whatever_is_thrown_at_an_encoder_costs_one_step(folder, files, picture, monkeypatch, thrown):
    save = ImageEncoding.save

    def throw_at_3(self, frames, *args):
        if frames[0].getpixel((0, 0))[0] == 60:
            raise thrown("leave")
        return save(self, frames, *args)

    monkeypatch.setattr(ImageEncoding, "save", throw_at_3)
    lost = []
    for act in (
        *(partial(files.show, picture(index=index, total=8)) for index in range(1, 9)),
        files.flush,
        files.flush,
    ):
        try:
            act()
        except StepError as error:
            lost.append((error.step, type(error.__cause__)))
    assert lost == [(3, thrown)]
    assert written(folder) == [f"step_{index:04d}.png" for index in range(1, 9) if index != 3]


def test_a_picture_is_there_once_it_is_encoded_and_waits_for_no_later_step(folder, files, picture, monkeypatch, wait_s):
    there, record = threading.Event(), folder.record
    monkeypatch.setattr(folder, "record", lambda *args, **kwargs: (record(*args, **kwargs), there.set()))
    files.show(picture(index=1))
    assert there.wait(wait_s)
    assert written(folder) == ["step_0001.png"]


@pytest.mark.parametrize(
    ("enlarge", "small_bytes", "at_once"),
    [("off", 4 * 6 * 3, True), ("off", 4 * 6 * 3 - 1, False), ("nearest", 4 * 6 * 3, False), ("nearest", 9999, True)],
)
def test_a_small_picture_as_it_is_written_takes_no_thread(
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
    files.flush()
    files.close("finished")
    assert written(folder) == ["step_0001.png"]
    assert (threads == [threading.main_thread()]) == at_once


def test_a_small_picture_waits_behind_a_large_one(folder, picture, monkeypatch, wait_s):
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
    files.flush()
    files.close("finished")
    assert written(folder) == ["step_0001.png", "step_0002.png"]


def test_pictures_and_latents_that_are_kept_at_once_are_all_in_the_manifest(folder, picture):
    total, together = 1500, threading.Barrier(2)

    def pictures():
        for index in range(1, total + 1):
            together.wait()
            folder.record(picture(index=index, total=total), f"step_{index:04d}.png")

    def latents():
        for index in range(1, total + 1):
            together.wait()
            folder.record_latent(index, 1.0, 0.5, f"step_{index:04d}.safetensors")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=keep) for keep in (pictures, latents)]
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


def test_through_a_pipeline_every_lost_step_is_told_by_its_number(tmp_path, pipeline, step, monkeypatch):
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
    assert "files: nothing was kept of steps 5-10" in run.notes
    assert sum("disk full" in note for note in run.notes) == 1


def test_when_a_run_is_closed_all_its_files_are_there_and_no_thread_is_left(tmp_path, pipeline, step):
    folder = RunFolder(tmp_path / "run", Run())
    before = set(threading.enumerate())
    with pipeline(folder, StepFiles(folder, ImageEncoding(enlarge="lanczos"), encoders=4)) as pipe:
        for index in range(1, 51):
            pipe.offer(step(index, 50))
    assert len(written(folder)) == 50
    assert set(threading.enumerate()) == before
