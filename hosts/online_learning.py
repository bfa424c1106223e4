"""Learns from the pictures that a host decodes, on a background thread, and trains a net while the host is idle."""

import atexit
import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..decoders.catalogue import Catalogue
from ..errors import FitError, SafelightError
from ..fitting.online.learned_files import list_learned_files
from ..fitting.online.net_training import NetTraining, is_due, open_training
from ..fitting.online.state import DecodedPair
from ..fitting.vae_fingerprint import vae_fingerprint
from ..preview.decode.thread_limit import use_half_of_the_threads
from ..preview.snapshot import Snapshots, to_host
from .offloaded_weights import offloaded_weight

MAX_WAITING_DECODES = 4
MAX_DECODE_PICTURES = 8
MAX_VIDEO_FRAMES = 4
MAX_DECODE_PIXELS = 128 * 128  # latent pixels of one decode; adding them takes a CPU about a second
CLOSE_TIMEOUT_S = 5.0  # how long the end of the process waits for the current task
MAX_LOGGED_TEXTS = 256
IDLE_S = 30.0  # how long nothing may be queued before a training begins
IDLE_POLL_S = 1.0

# By module; they are freed with it.
FINGERPRINTS: "WeakKeyDictionary[nn.Module, str]" = WeakKeyDictionary()

Task = Callable[[], str | None]

log = logging.getLogger("safelight.learning")


class IdleWork(NamedTuple):
    """What a learner does while its host is idle.

    Args:
        is_idle: function that returns whether the host has nothing to do. It is called between slices of a few
            milliseconds, so it must be fast.
        may_train: function that returns whether the settings and the power supply allow a training. It is called about
            once a second.
        next_training: function that returns the next training that is due, or None.
    """

    is_idle: Callable[[], bool]
    may_train: Callable[[], bool]
    next_training: Callable[[], NetTraining | None]


@final
class OnlineLearner:
    """Runs tasks in order on one thread, and trains nets while its host is idle.

    Tasks that do not fit into the queue are dropped. A training begins when the host was idle for `IDLE_S`, and waits
    between two slices as soon as the host is busy.

    Args:
        waiting: number of tasks that can wait.
        idle_work: what to do while the host is idle; None for nothing.
        finish_s: longest time that the end of the process waits for queued tasks, in seconds; with 0 they are dropped.
        clock: function that returns seconds.
    """

    def __init__(
        self,
        waiting: int = MAX_WAITING_DECODES,
        idle_work: IdleWork | None = None,
        finish_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks: queue.Queue[Task | None] = queue.Queue(waiting)
        self._idle_work, self._finish_s, self._clock = idle_work, finish_s, clock
        self._idle_since: float | None = None
        self._training: NetTraining | None = None
        self._may_be_due = True  # at first, and after each decode
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._logged: set[str] = set()

    def offer(self, task: Task) -> bool:
        """Queues `task`; returns False if the queue is full or closed. Its result or exception is logged."""
        with self._lock:
            if self._closed:
                return False
            self._start()
            try:
                self._tasks.put_nowait(task)
            except queue.Full:
                log.debug("the learning queue is full: this decode is not used")
                return False
        return True

    def start(self) -> None:
        """Starts the thread before the first task, so that a training of an earlier session goes on."""
        with self._lock:
            if not self._closed:
                self._start()

    def _start(self) -> None:
        if self._thread is None:
            # A daemon: the end of the host must not wait for a disk that does not answer.
            self._thread = threading.Thread(target=self._work, name="safelight learning", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def wait(self) -> None:
        """Waits until all queued tasks are done."""
        self._tasks.join()

    def close(self) -> None:
        """Takes no more tasks, and ends the thread. Waits for a limited time, then drops the tasks that are left."""
        with self._lock:
            self._closed = True
        if self._finish_s and self._thread is not None:
            with self._tasks.all_tasks_done:
                self._tasks.all_tasks_done.wait_for(self._is_done, self._finish_s)
        with self._lock:
            while self._drop():
                pass
            if self._thread is None:
                return
            self._tasks.put_nowait(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        atexit.unregister(self.close)

    def _is_done(self) -> bool:
        # In a forked process the thread does not exist.
        return not self._tasks.unfinished_tasks or self._thread is None or not self._thread.is_alive()

    def log_once(self, text: str, level: int = logging.INFO) -> None:
        """Logs a text once, as the next decodes usually fail for the same reason."""
        if len(self._logged) >= MAX_LOGGED_TEXTS:
            self._logged.clear()
        if text not in self._logged:
            self._logged.add(text)
            log.log(level, "learning while decoding: %s", text)

    def _drop(self) -> bool:
        try:
            self._tasks.get_nowait()
        except queue.Empty:
            return False
        self._tasks.task_done()
        return True

    def _work(self) -> None:
        use_half_of_the_threads()
        while (task := self._next_task()) is not None:
            try:
                self._learn(task)
            finally:
                del task  # the task holds pictures, which would stay in memory while the thread waits
                self._tasks.task_done()
        self._tasks.task_done()

    def _learn(self, task: Task) -> None:
        self._guarded(task)
        self._may_be_due, self._idle_since = True, None  # a host that decodes was not idle

    def _next_task(self) -> Task | None:
        """Waits for a task, and uses the time of an idle host."""
        while self._idle_work is not None and (self._training or self._may_be_due):
            try:
                return self._tasks.get(timeout=IDLE_POLL_S)
            except queue.Empty:
                self._guarded(self.use_idle_time)
        return self._tasks.get()

    def _guarded(self, task: Task) -> None:
        try:
            if text := task():
                self.log_once(text)
        except (SafelightError, OSError) as error:
            self.log_once(str(error), logging.WARNING)
        except Exception as error:
            self.log_once(f"{type(error).__name__}: {error}", logging.ERROR)
            log.debug("learning goes on with the next decode", exc_info=True)

    def use_idle_time(self) -> None:
        """Trains while the host is idle and no task waits; returns without training if it is not idle for long enough.

        If a training fails, it ends until the next decode.
        """
        work = self._idle_work
        if work is None or not work.is_idle() or not work.may_train():
            self._idle_since = None
            return
        now = self._clock()
        # A clock that was set back must not delay the training.
        self._idle_since = now if self._idle_since is None else min(now, self._idle_since)
        if now - self._idle_since < IDLE_S:
            return
        training, self._training = self._training, None
        if self._may_be_due and (training is None or training.is_judged):
            self._may_be_due = False
            training = work.next_training()
        asked = now
        while training and not training.is_finished and self._tasks.empty() and work.is_idle() and not self._closed:
            if abs(self._clock() - asked) >= IDLE_POLL_S:
                if not work.may_train():
                    break
                asked = self._clock()
            if text := training.advance():
                self.log_once(text)
        self._training = None if training is None or training.is_finished else training
        if training and training.is_finished:
            self._may_be_due = True  # another space may wait


def next_training(folder: Path, catalogue: Callable[[], Catalogue]) -> NetTraining | None:
    """Opens the training that is due; of several, that of the newest decode.

    Args:
        folder: folder of the user's decoders.
        catalogue: function that returns the installed decoders.

    Raises:
        FitError, OSError: as for `open_training`.
    """
    due = [files for files in list_learned_files(folder) if is_due(files)]
    newest = max(due, key=lambda files: files.state.stat().st_mtime, default=None)
    return None if newest is None else open_training(newest, catalogue())


def fingerprint_of(vae: Any) -> str:
    """The fingerprint of a VAE, of its module, or of an object that has the module; empty if it has none.

    It is computed once for each module whose weights can be read.
    """
    module = vae if isinstance(vae, nn.Module) else getattr(vae, "first_stage_model", None)
    if not isinstance(module, nn.Module):
        module = next((part for part in getattr(vae, "__dict__", {}).values() if isinstance(part, nn.Module)), None)
    if module is None:
        return ""
    module = getattr(module, "_orig_mod", module)  # torch.compile wraps a module
    known = FINGERPRINTS.get(module, "")
    if not known and (
        known := vae_fingerprint(module, partial(offloaded_weight, module))
    ):  # weights on device "meta" are elsewhere for the moment
        FINGERPRINTS[module] = known
    return known


def copy_decode(latents: Tensor, images: Tensor, causal: bool = False) -> tuple[Callable[[], DecodedPair], int]:
    """Copies some pictures of a decode, averaged to twice the latent size, with their latents.

    Of very large pictures it copies the middle.

    Args:
        latents: latents `[B, C, T, h, w]` in model space.
        images: images `[B*F, H, W, 3]`: F frames for the T latent frames of each batch item, item after item.
        causal: whether the VAE encodes the first frame of a video alone. Previews bring later latent frames to the
            contrast of the first one before they are decoded; so only the first one is copied.

    Returns:
        A function that reads the copy once, on any thread; and the image pixels per latent pixel, along one side.

    Raises:
        FitError: latents and images do not match.
    """
    items, _, times, height, width = latents.shape
    if images.ndim != 4 or images.shape[-1] != 3:
        raise FitError(f"expected images [N, H, W, 3], got {list(images.shape)}: this decode is not used for learning")
    frames, downscale = len(images) // items, images.shape[1] // height
    stride = (frames - 1) // (times - 1) if times > 1 else 1
    expected = [items * (1 + (times - 1) * stride), height * downscale, width * downscale]
    if downscale < 2 or list(images.shape[:3]) != expected:
        raise FitError(
            f"expected images of a whole multiple of the size of latents {list(latents.shape)}, and after the first "
            f"frame equally many for each latent frame, got {list(images.shape)}: this decode is not used for learning"
        )
    pictures = max(1, min(MAX_DECODE_PICTURES, MAX_DECODE_PIXELS // (height * width)))
    chosen_items = _spread(items, pictures)
    chosen_times = _spread(1 if causal else times, min(MAX_VIDEO_FRAMES, pictures // len(chosen_items)))
    side = int((MAX_DECODE_PIXELS / (len(chosen_items) * len(chosen_times))) ** 0.5)
    top, left = (max(0, (whole - side) // 2) for whole in (height, width))
    scale = 2 if downscale % 2 == 0 else 1
    chosen, means = [], []
    for item in chosen_items:
        for time_index in chosen_times:
            chosen.append(latents[item, :, time_index, top : top + side, left : left + side])
            # The first latent frame of a video is one picture, each later one as many as the VAE's frame stride.
            begin, end = (0, 1) if time_index == 0 else (1 + (time_index - 1) * stride, 1 + time_index * stride)
            part = images[item * frames + begin : item * frames + end]
            part = part[:, top * downscale :, left * downscale :][:, : side * downscale, : side * downscale]
            means.append(F.avg_pool2d(part.movedim(-1, 1).float(), downscale // scale).mean(0))
    snapshots = Snapshots()
    copies = [snapshots.take(torch.stack(tensors).float()) for tensors in (chosen, means)]

    def read() -> DecodedPair:
        tensors = []
        for snapshot in copies:
            with snapshots.reading(snapshot) as copy:
                tensors.append(torch.from_numpy(to_host(copy)))
        return DecodedPair(*tensors)

    return read, downscale


def _spread(count: int, most: int) -> list[int]:
    """Chooses at most `most` of the numbers below `count`, evenly."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]
