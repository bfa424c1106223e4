"""Learns from the pictures that ComfyUI decodes, on a background thread."""

import atexit
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ...decoders.latents.identify import UNKNOWN, new_row
from ...errors import FitError, SafelightError
from ...fitting.encode_images import require_image_latents
from ...fitting.online.state import DecodedPair
from ...fitting.online.update import learn_from_decode
from ...preview.decode.thread_limit import use_half_of_the_threads
from ...preview.snapshot import Snapshots, to_host

MAX_WAITING_DECODES = 4
MAX_DECODE_PICTURES = 8
MAX_VIDEO_FRAMES = 4
MAX_DECODE_PIXELS = 128 * 128  # latent pixels of one decode; adding them takes a CPU about a second
CLOSE_TIMEOUT_S = 5.0  # how long the end of the process waits for the current task
MAX_LOGGED_TEXTS = 256

Task = Callable[[], str | None]

log = logging.getLogger("safelight.comfyui")


@final
class OnlineLearner:
    """Runs tasks in order on one thread. Tasks that do not fit into the queue are dropped.

    Args:
        waiting: number of tasks that can wait.
    """

    def __init__(self, waiting: int = MAX_WAITING_DECODES) -> None:
        self._tasks: queue.Queue[Task | None] = queue.Queue(waiting)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._logged: set[str] = set()

    def offer(self, task: Task) -> bool:
        """Queues `task`; returns False if the queue is full or closed. Its result or exception is logged."""
        with self._lock:
            if self._closed:
                return False
            if self._thread is None:
                # A daemon: the end of the host must not wait for a disk that does not answer.
                self._thread = threading.Thread(target=self._work, name="safelight learning", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            try:
                self._tasks.put_nowait(task)
            except queue.Full:
                log.debug("the learning queue is full: this decode is not used")
                return False
        return True

    def wait(self) -> None:
        """Waits until all queued tasks are done."""
        self._tasks.join()

    def close(self) -> None:
        """Ends the thread after its current task and drops the others; waits for a limited time."""
        with self._lock:
            self._closed = True
            while self._drop():
                pass
            if self._thread is None:
                return
            self._tasks.put_nowait(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        atexit.unregister(self.close)

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
        while (task := self._tasks.get()) is not None:
            try:
                if text := task():
                    self.log_once(text)
            except (SafelightError, OSError) as error:
                self.log_once(str(error), logging.WARNING)
            except Exception as error:
                self.log_once(f"{type(error).__name__}: {error}", logging.ERROR)
                log.debug("this decode is not used for learning", exc_info=True)
            finally:
                del task  # the task holds pictures, which would stay in memory while the thread waits
                self._tasks.task_done()
        self._tasks.task_done()


def offer_decode(
    learner: OnlineLearner, samples: Mapping[str, Any], images: Tensor, model: Any | None, space: str
) -> None:
    """Queues a decode for learning. Raises nothing, waits for nothing, changes none of its arguments.

    Args:
        learner: learner whose thread runs the task.
        samples: ComfyUI's LATENT.
        images: decoded images `[N, H, W, 3]`.
        model: ComfyUI's ModelPatcher that the latents are from, or None.
        space: name of the latent space, or `FROM_MODEL`.
    """
    try:
        # Imported here because they import ComfyUI: the rest of this module is tested without it.
        from .decoder_folders import catalogue, own_folder
        from .latent_dict import origin, picture_of

        installed = catalogue()
        spaces = installed.spaces()
        source = origin(model, space, spaces)
        evidence, latent_space = source.evidence, source.space
        require_image_latents(latent_space)
        read, downscale = copy_decode(source.plain(picture_of(samples)), images)
        if latent_space.name == UNKNOWN and evidence is not None:
            latent_space = new_row(evidence, spaces, downscale=downscale)
        folder = own_folder()
        learner.offer(lambda: learn_from_decode(folder, latent_space, read(), installed, evidence))
    except SafelightError as error:
        learner.log_once(str(error))
    except Exception as error:
        learner.log_once(f"{type(error).__name__}: {error}", logging.ERROR)
        log.debug("this decode is not used for learning", exc_info=True)


def copy_decode(latents: Tensor, images: Tensor) -> tuple[Callable[[], DecodedPair], int]:
    """Copies the middle of some pictures of a decode, averaged to the latent size, with their latents.

    Args:
        latents: latents `[B, C, T, h, w]` in model space.
        images: images `[B*F, H, W, 3]`: F frames for the T latent frames of each batch item, item after item.

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
    chosen_items = _spread(items, MAX_DECODE_PICTURES)
    chosen_times = _spread(times, min(MAX_VIDEO_FRAMES, max(1, MAX_DECODE_PICTURES // len(chosen_items))))
    side = int((MAX_DECODE_PIXELS / (len(chosen_items) * len(chosen_times))) ** 0.5)
    top, left = (max(0, (whole - side) // 2) for whole in (height, width))
    chosen, means = [], []
    for item in chosen_items:
        for time in chosen_times:
            chosen.append(latents[item, :, time, top : top + side, left : left + side])
            # The first latent frame of a video is one picture, each later one as many as the VAE's frame stride.
            begin, end = (0, 1) if time == 0 else (1 + (time - 1) * stride, 1 + time * stride)
            part = images[item * frames + begin : item * frames + end]
            part = part[:, top * downscale :, left * downscale :][:, : side * downscale, : side * downscale]
            means.append(F.avg_pool2d(part.movedim(-1, 1).float(), downscale).mean(0))
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
