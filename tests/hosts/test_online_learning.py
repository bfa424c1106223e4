"""The learning thread, its idle time, and the copies of decodes, without a host."""

import logging
import os
import threading
import weakref

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import FitError
from safelight.fitting.online import net_training
from safelight.fitting.online.learned_files import LearnedFiles
from safelight.fitting.online.state import DecodedPair, OnlineState
from safelight.fitting.online.update import learn_from_decode
from safelight.fitting.vae_fingerprint import vae_fingerprint
from safelight.hosts.online_learning import (
    IDLE_S,
    MAX_DECODE_PICTURES,
    MAX_DECODE_PIXELS,
    IdleWork,
    OnlineLearner,
    copy_decode,
    fingerprint_of,
    next_training,
)
from torch import nn

VAE = "a1b2c3d4e5f6"


@pytest.fixture
def learner():
    learner = OnlineLearner(waiting=2)
    yield learner
    learner.close()


class Gate:
    """A task that waits for an event."""

    def __init__(self):
        self.begun, self.open, self.done = threading.Event(), threading.Event(), False

    def __call__(self):
        self.begun.set()
        assert self.open.wait(10)
        self.done = True


# The thread


def test_tasks_run_in_order_on_one_other_thread(learner):
    done = []
    for number in range(6):
        learner.offer(lambda number=number: done.append((number, threading.get_ident())))
        learner.wait()
    assert [number for number, _ in done] == list(range(6))
    assert {thread for _, thread in done} != {threading.get_ident()}
    assert len({thread for _, thread in done}) == 1


def test_tasks_that_do_not_fit_into_the_queue_are_dropped(learner):
    gate, done = Gate(), []
    assert learner.offer(gate)
    assert gate.begun.wait(10)
    assert [learner.offer(lambda: done.append(1)) for _ in range(4)] == [True, True, False, False]
    gate.open.set()
    learner.wait()
    assert done == [1, 1]


def test_a_failing_task_is_logged_once_and_does_not_end_the_thread(learner, caplog):
    def fail(error):
        raise error

    for error in (FitError("no pictures"), OSError(28, "No space left on device"), ZeroDivisionError("ours")) * 2:
        learner.offer(lambda error=error: fail(error))
        learner.wait()
    with caplog.at_level(logging.INFO):
        learner.offer(lambda: "it is better")
        learner.wait()
    assert [record.message.removeprefix("learning while decoding: ") for record in caplog.records] == [
        "no pictures",
        "[Errno 28] No space left on device",
        "ZeroDivisionError: ours",
        "it is better",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR", "INFO"]


def test_finished_tasks_are_released(learner):
    class Picture:
        pass

    picture = Picture()
    seen = weakref.ref(picture)
    learner.offer(lambda picture=picture: None)
    del picture
    learner.wait()
    assert seen() is None


def test_closing_finishes_the_current_task_and_drops_the_others():
    learner, gate, done = OnlineLearner(), Gate(), []
    learner.offer(gate)
    assert gate.begun.wait(10)
    learner.offer(lambda: done.append(1))
    closing = threading.Thread(target=learner.close)
    closing.start()
    gate.open.set()
    closing.join(10)
    assert gate.done
    assert done == []
    assert not learner.offer(lambda: done.append(2))


def test_the_tasks_of_a_script_are_finished_when_it_ends():
    learner, gate, done = OnlineLearner(finish_s=60), Gate(), []
    learner.offer(gate)
    for number in range(3):
        learner.offer(lambda number=number: done.append(number))
    closing = threading.Thread(target=learner.close)
    closing.start()
    gate.open.set()
    closing.join(30)
    assert (gate.done, done) == (True, [0, 1, 2])
    assert not learner.offer(lambda: None)


def test_the_end_of_a_script_waits_for_a_limited_time(monkeypatch):
    monkeypatch.setattr("safelight.hosts.online_learning.CLOSE_TIMEOUT_S", 0.01)
    learner, gate, done = OnlineLearner(finish_s=0.01), Gate(), []
    learner.offer(gate)
    assert gate.begun.wait(10)
    learner.offer(lambda: done.append(1))
    learner.close()
    gate.open.set()
    learner.wait()
    assert (gate.done, done) == (True, [])


def test_no_thread_starts_without_a_task():
    before = threading.active_count()
    OnlineLearner().close()
    assert threading.active_count() == before


# Idle time


class Host:
    """A host with a clock, whose trainings record their slices."""

    def __init__(self):
        self.now, self.idle, self.allowed = 0.0, True, True
        self.trainings, self.opened = [], []
        self.learner = OnlineLearner(
            idle_work=IdleWork(lambda: self.idle, lambda: self.allowed, self.next_training), clock=lambda: self.now
        )

    def next_training(self):
        self.opened.append(self.now)
        return self.trainings.pop(0) if self.trainings else None

    def decode(self):
        """The host decodes, and the learner learns from it."""
        self.learner._learn(lambda: None)

    def wait(self, seconds):
        """The learner looks at the host each second, as its thread does while nothing is queued."""
        for _ in range(int(seconds)):
            self.now += 1
            self.learner.use_idle_time()


class Training:
    """A training of some slices; after each one, `then` is called."""

    def __init__(self, slices=10**6, then=lambda training: None):
        self.left, self.then, self.done = slices, then, 0
        self.is_judged = True

    @property
    def is_finished(self):
        return self.left == 0

    def advance(self):
        self.left -= 1
        self.done += 1
        self.then(self)


@pytest.fixture
def host():
    host = Host()
    yield host
    host.learner.close()


def busy_after(host, slices):
    """The host gets a prompt during this slice."""

    def then(training):
        if training.done % slices == 0:
            host.idle = False

    return then


def test_a_training_begins_when_the_host_was_idle_for_long_enough(host):
    host.trainings = [Training(3)]
    training = host.trainings[0]
    host.wait(IDLE_S)
    assert training.done == 0
    host.wait(1)
    assert training.done == 3
    assert host.opened == [IDLE_S + 1]


def test_a_busy_moment_starts_the_wait_again(host):
    host.trainings = [Training(3)]
    host.wait(IDLE_S - 1)
    host.idle = False
    host.wait(1)
    host.idle = True
    host.wait(IDLE_S)
    assert host.opened == []
    host.wait(1)
    assert len(host.opened) == 1


def test_a_training_stops_with_the_slice_in_which_the_host_gets_work_and_goes_on_later(host):
    host.trainings = [Training(then=busy_after(host, 5))]
    training = host.trainings[0]
    host.wait(IDLE_S + 1)
    assert training.done == 5
    host.wait(100)
    assert training.done == 5
    host.idle = True
    host.wait(IDLE_S)
    assert training.done == 5
    host.wait(1)
    assert training.done == 10
    assert len(host.opened) == 1


def test_a_training_stops_when_a_decode_waits_to_be_learned_from(host):
    learned = []

    def then(training):
        if training.done == 4:
            host.learner.offer(lambda: learned.append(training.done))
        if training.done > 4:
            host.idle = False

    host.trainings = [Training(then=then)]
    training = host.trainings[0]
    host.learner._start = lambda: None  # the test is the thread
    host.wait(IDLE_S + 1)
    assert training.done == 4
    assert learned == []


def test_a_training_stops_when_the_learner_is_closed(host):
    host.trainings = [Training(then=lambda training: training.done == 2 and host.learner.close())]
    training = host.trainings[0]
    host.wait(IDLE_S + 1)
    assert training.done == 2


@pytest.mark.parametrize("seconds", [1.0, 0.25])
def test_a_training_stops_soon_after_it_is_no_longer_allowed(host, seconds):
    """The setting is switched off, or the machine goes on battery: asked once a second, not after each slice."""

    def then(training):
        host.now += seconds
        host.allowed = training.done < 3

    host.trainings = [Training(then=then)]
    training = host.trainings[0]
    host.wait(IDLE_S + 1)
    assert 3 <= training.done <= 3 + 1 / seconds
    done = training.done
    host.wait(100)
    assert training.done == done
    host.allowed = True
    training.then = busy_after(host, 1)
    host.wait(IDLE_S)
    assert training.done == done
    host.wait(1)
    assert training.done == done + 1


def test_nothing_is_opened_while_it_is_not_allowed(host):
    host.allowed, host.trainings = False, [Training(1)]
    host.wait(100)
    assert host.opened == []
    host.allowed = True
    host.wait(IDLE_S + 1)
    assert len(host.opened) == 1


def test_a_clock_that_jumps_back_delays_a_training_by_the_idle_time_only(host):
    host.now, host.trainings = 1e9, [Training(1)]
    host.wait(20)
    host.now = 5.0
    host.wait(IDLE_S)
    assert host.opened == []
    host.wait(1)
    assert len(host.opened) == 1


def test_a_clock_that_jumps_during_a_training_does_no_harm(host):
    def then(training):
        host.now = 3.0 if training.done == 2 else host.now

    host.trainings = [Training(6, then)]
    training = host.trainings[0]
    host.wait(IDLE_S + 1)
    assert training.done == 6


def test_a_failing_training_ends_until_the_next_decode(host, caplog):
    def fail(training):
        raise FitError("all images have one color")

    host.trainings = [Training(then=fail), Training(1)]
    with caplog.at_level(logging.WARNING):
        host.learner._guarded(lambda: host.wait(IDLE_S + 1))
        host.wait(100)
    assert caplog.text.count("all images have one color") == 1
    assert len(host.opened) == 1
    host.decode()
    host.wait(IDLE_S)
    assert len(host.opened) == 1
    host.wait(1)
    assert len(host.opened) == 2


def test_a_training_that_was_not_judged_lately_goes_on_after_new_decodes(host):
    training = Training(then=busy_after(host, 2))
    newer = Training(1)
    host.trainings = [training, newer]
    host.wait(IDLE_S + 1)
    training.is_judged = False
    for _ in range(2):
        host.decode()
        host.idle = True
        host.wait(IDLE_S + 1)
    assert training.done == 6
    training.is_judged = True  # little is lost now
    host.idle = True
    host.wait(IDLE_S + 1)
    assert (training.done, newer.done) == (6, 1)


def test_after_a_training_is_finished_that_of_another_space_begins(host):
    host.trainings = [Training(2), Training(3)]
    both = list(host.trainings)
    host.wait(IDLE_S + 3)
    assert [training.done for training in both] == [2, 3]
    host.wait(100)
    assert len(host.opened) == 3  # the last answer was: none is due


def test_the_thread_trains_and_decodes_in_turn():
    """With the real thread, and a clock that says that the host was idle for long."""
    ticks = iter(range(0, 10**9, 100))
    trained, idle = threading.Event(), True
    training = Training(then=lambda training: training.done == 3 and trained.set())
    learner = OnlineLearner(
        idle_work=IdleWork(lambda: idle, lambda: True, lambda: training), clock=lambda: float(next(ticks))
    )
    learner.start()
    assert trained.wait(30)
    done = threading.Event()
    assert learner.offer(done.set)
    assert done.wait(30)
    learner.close()
    before = training.done
    learner.use_idle_time()
    assert training.done == before


def test_a_learner_without_idle_work_does_nothing_while_idle():
    learner = OnlineLearner()
    assert learner.use_idle_time() is None
    learner.close()


# Which training is next


def learned(folder, space, count, vae=VAE, seed=0):
    """Learns from small decodes of a made-up VAE."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        latents = torch.randn(1, space.channels, 8, 8, generator=generator)
        rgb = (0.5 + 0.2 * latents[:, :3]).clamp(0, 1)
        learn_from_decode(folder, space, DecodedPair(latents, rgb), Catalogue([folder]), vae=vae)
    return LearnedFiles(folder, space.name, vae)


def test_the_training_of_the_newest_decode_is_next(tmp_path, monkeypatch):
    monkeypatch.setattr(net_training, "MIN_PICTURES", 4)
    assert next_training(tmp_path, Catalogue) is None
    older, newer = (learned(tmp_path, SPACES["sdxl"], 8, vae=vae) for vae in (VAE, "0f1e2d3c4b5a"))
    learned(tmp_path, SPACES["sd1"], 3)  # too few
    os.utime(older.state, (1e9, 1e9))
    asked = []
    monkeypatch.setattr(
        "safelight.hosts.online_learning.open_training", lambda files, catalogue: asked.append(files.vae)
    )
    next_training(tmp_path, Catalogue)
    os.utime(newer.state, (1e8, 1e8))  # the clock was set back
    next_training(tmp_path, Catalogue)
    assert asked == [newer.vae, older.vae]


# Two hosts


def test_two_hosts_learn_into_one_folder(tmp_path):
    """Two learners with a thread each: no decode is lost, no file is half written."""
    learners = [OnlineLearner(waiting=16) for _ in range(2)]
    for number, learner in enumerate(learners):
        for seed in range(8):
            assert learner.offer(
                lambda seed=seed, number=number: learned(tmp_path, SPACES["sdxl"], 1, seed=10 * seed + number) and None
            )
    for learner in learners:
        learner.wait()
        learner.close()
    files = LearnedFiles(tmp_path, "sdxl", VAE)
    state = OnlineState.load(files.state)
    assert (state.decodes, state.pictures, len(files.pairs().list())) == (16, 12, 12)
    assert not list(tmp_path.rglob("*.part"))
    assert Catalogue([tmp_path]).candidates(SPACES["sdxl"], vae=VAE)[0].name == files.decoder.stem


# Fingerprints


def test_the_fingerprint_of_a_vae_is_that_of_its_module():
    class Wrapper:
        def __init__(self, **parts):
            vars(self).update(parts)

    module = nn.Conv2d(3, 4, 3)
    expected = vae_fingerprint(module)
    for vae in (module, Wrapper(first_stage_model=module), Wrapper(name="a", decoder=module)):
        assert fingerprint_of(vae) == expected
    for vae in (object(), None, Wrapper(name="a"), nn.Identity()):
        assert fingerprint_of(vae) == ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile
def test_a_compiled_vae_has_the_fingerprint_of_its_module():
    module = nn.Conv2d(4, 3, 1)
    compiled = torch.compile(module)
    assert fingerprint_of(compiled) == vae_fingerprint(module)


def test_a_module_is_not_changed_by_its_fingerprint():
    module = nn.Conv2d(4, 3, 1)
    before = set(vars(module))
    assert fingerprint_of(module)
    assert set(vars(module)) == before


def test_the_fingerprint_is_computed_once_for_each_module(monkeypatch):
    module, computed = nn.Conv2d(3, 4, 3), []
    monkeypatch.setattr(
        "safelight.hosts.online_learning.vae_fingerprint",
        lambda vae, _: computed.append(1) or (VAE if not vae.weight.is_meta else ""),
    )
    assert [fingerprint_of(module) for _ in range(3)] == [VAE] * 3
    assert len(computed) == 1
    assert list(module.state_dict()) == ["weight", "bias"]


def test_a_module_whose_weights_are_elsewhere_has_its_fingerprint_later():
    module = nn.Conv2d(3, 4, 3).to("meta")
    assert fingerprint_of(module) == ""
    module.to_empty(device="cpu")
    nn.init.ones_(module.weight)
    assert fingerprint_of(module) == vae_fingerprint(module) != ""


# Copies


def pair(items=1, times=1, height=6, width=9, downscale=8, stride=4):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(items, 4, times, height, width, generator=generator)
    frames = 1 + (times - 1) * stride
    return latents, torch.rand(items * frames, height * downscale, width * downscale, 3, generator=generator)


def test_pictures_are_averaged_to_twice_the_latent_size():
    latents, images = pair(items=3)
    read, downscale = copy_decode(latents, images)
    decoded = read()
    assert downscale == 8
    assert torch.equal(decoded.latents, latents[:, :, 0])
    assert (decoded.rgb.shape, decoded.scale) == ((3, 3, 12, 18), 2)
    for y, x in ((0, 0), (11, 17), (5, 3)):
        block = images[1, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].double().mean((0, 1))
        assert torch.allclose(decoded.rgb[1, :, y, x].double(), block, atol=1e-6)


def test_an_odd_downscale_factor_gives_the_latent_size():
    latents, images = pair(downscale=3)
    decoded = copy_decode(latents, images)[0]()
    assert decoded.scale == 1
    assert torch.allclose(decoded.rgb, F.avg_pool2d(images.movedim(-1, 1), 3), atol=1e-6)


def test_ordinary_pictures_are_copied_whole():
    """Decoders see the mean over the picture: a part of it would have another one."""
    latents, images = pair(items=2, height=64, width=64, downscale=2)
    assert copy_decode(latents, images)[0]().latents.shape == (2, 4, 64, 64)
    latents, images = pair(items=8, height=64, width=64, downscale=2)
    assert copy_decode(latents, images)[0]().latents.shape == (4, 4, 64, 64)  # fewer, not smaller
    latents, images = pair(height=128, width=128, downscale=2)
    assert copy_decode(latents, images)[0]().latents.shape == (1, 4, 128, 128)


def test_of_a_causal_video_only_the_first_latent_frame_is_copied():
    latents, images = pair(items=2, times=4)
    decoded = copy_decode(latents, images, causal=True)[0]()
    assert torch.equal(decoded.latents, latents[:, :, 0])
    assert torch.allclose(decoded.rgb, F.avg_pool2d(images[[0, 13]].movedim(-1, 1), 4))


def test_changing_the_decode_does_not_change_the_copy(monkeypatch):
    latents, images = pair()
    read, _ = copy_decode(latents, images)
    before = [tensor.clone() for tensor in (latents, images)]
    latents.zero_(), images.zero_()
    decoded = read()
    assert torch.equal(decoded.latents, before[0][:, :, 0])
    assert decoded.rgb.mean() == pytest.approx(float(before[1].mean()), abs=1e-4)


def test_decodes_of_inference_mode_can_be_learned_from():
    with torch.inference_mode():
        latents, images = pair()
        read, _ = copy_decode(latents, images)
    decoded = read()
    assert not decoded.latents.is_inference()
    assert not decoded.rgb.is_inference()


def test_the_first_latent_frame_is_one_picture_and_each_later_one_is_four():
    latents, images = pair(items=2, times=4)
    read, _ = copy_decode(latents, images)
    decoded = read()
    assert len(decoded.latents) == MAX_DECODE_PICTURES
    small = F.avg_pool2d(images.movedim(-1, 1), 4)
    assert torch.allclose(decoded.rgb[0], small[0])
    assert torch.allclose(decoded.rgb[2], small[5:9].mean(0))
    assert torch.equal(decoded.latents[6], latents[1, :, 2])
    assert torch.allclose(decoded.rgb[6], small[13 + 5 : 13 + 9].mean(0))


def test_large_batches_and_large_pictures_are_sampled():
    latents, images = pair(items=20, height=2, width=2)
    assert len(copy_decode(latents, images)[0]().latents) == MAX_DECODE_PICTURES
    latents, images = pair(items=5, height=90, width=80, downscale=2)
    decoded = copy_decode(latents, images)[0]()
    assert torch.equal(decoded.latents, latents[[0, 2], :, 0])
    assert decoded.latents[:, 0].numel() <= MAX_DECODE_PIXELS
    latents, images = pair(height=148, width=132, downscale=2)
    decoded = copy_decode(latents, images)[0]()
    assert torch.equal(decoded.latents, latents[:, :, 0, 10:-10, 2:-2])
    assert torch.allclose(decoded.rgb[0, :, 0, 0], images[0, 20, 4])


def test_a_long_video_is_sampled_evenly():
    latents, images = pair(times=21, height=2, width=2)
    decoded = copy_decode(latents, images)[0]()
    assert torch.equal(decoded.latents, latents[0, :, [0, 5, 10, 15]].movedim(1, 0))


@pytest.mark.parametrize(
    ("latents", "images"),
    [
        ((1, 4, 1, 6, 9), (1, 48, 73, 3)),
        ((1, 4, 1, 6, 9), (2, 48, 72, 3)),
        ((2, 4, 1, 6, 9), (1, 48, 72, 3)),
        ((1, 4, 3, 6, 9), (8, 48, 72, 3)),
        ((1, 4, 1, 6, 9), (1, 48, 72, 4)),
        ((1, 4, 1, 6, 9), (1, 5, 48, 72, 3)),
        ((1, 4, 1, 6, 9), (1, 6, 9, 3)),
        ((1, 4, 1, 6, 9), (1, 3, 4, 3)),
        ((1, 4, 1, 6, 9), (0, 48, 72, 3)),
    ],
)
def test_mismatched_latents_and_images_are_refused(latents, images):
    with pytest.raises(FitError, match="this decode is not used for learning"):
        copy_decode(torch.zeros(latents), torch.zeros(images))
