"""Learning from what ComfyUI decodes anyway, on a thread that no decode waits for."""

import atexit
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ...decoders.catalogue import PIXELS
from ...decoders.latents.identify import UNKNOWN, new_row
from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import FitError, SafelightError
from ...fitting.online.state import DecodedPair
from ...fitting.online.update import learn
from ...preview.decode.thread_limit import use_half_of_the_threads
from ...preview.snapshot import Snapshots, to_host

WAITING = 4  # decodes; when the worker is behind, the next ones teach nothing
MOST_PICTURES = 8  # of one decode
MOST_FRAMES = 4  # of one video
MOST_PIXELS = 128 * 128  # latent pixels of one decode; taking them in costs a CPU about a second
END_S = 5.0  # that the end of the process waits for the decode that is being learned from
MOST_TOLD = 256  # different messages

Task = Callable[[], str | None]

log = logging.getLogger("safelight.comfyui")


@final
class OnlineLearner:
    """One thread that works through what it is offered, in order. What there is no room for is dropped.

    Args:
        waiting: how much room there is.
    """

    def __init__(self, waiting: int = WAITING) -> None:
        self._tasks: queue.Queue[Task | None] = queue.Queue(waiting)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._told: set[str] = set()

    def offer(self, task: Task) -> bool:
        """Has `task` done later; False where there is no room. What it returns is told, what it raises as well."""
        with self._lock:
            if self._closed:
                return False
            if self._thread is None:
                # A daemon: a host that ends must not wait for a disk that does not answer.
                self._thread = threading.Thread(target=self._work, name="safelight learning", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            try:
                self._tasks.put_nowait(task)
            except queue.Full:
                log.debug("learning is behind: this decode teaches nothing")
                return False
        return True

    def wait(self) -> None:
        """Returns when everything that was offered is done."""
        self._tasks.join()

    def close(self) -> None:
        """Ends the thread after what it is doing; waits for that, for a bounded time."""
        with self._lock:
            self._closed = True
            while self._drop():
                pass
            if self._thread is None:
                return
            self._tasks.put_nowait(None)
        self._thread.join(END_S)
        atexit.unregister(self.close)

    def tell(self, text: str, level: int = logging.INFO) -> None:
        """Logs a sentence once: what is wrong with one decode is wrong with the next."""
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        if text not in self._told:
            self._told.add(text)
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
                if told := task():
                    self.tell(told)
            except (SafelightError, OSError) as error:
                self.tell(str(error), logging.WARNING)
            except Exception as error:
                self.tell(f"{type(error).__name__}: {error}", logging.ERROR)
                log.debug("this decode teaches nothing", exc_info=True)
            finally:
                del task  # it holds pictures, which would wait here with the thread
                self._tasks.task_done()
        self._tasks.task_done()


def teach(learner: OnlineLearner, samples: Mapping[str, Any], images: Tensor, model: Any | None, space: str) -> None:
    """Offers a decode to `learner`. Never raises, waits for nothing, changes nothing that it is given.

    Args:
        learner: whose thread learns.
        samples: the host's LATENT.
        images: `[N, H, W, 3]`, what the host made of it.
        model: the host's ModelPatcher whose latents they are, or None.
        space: their latent space by name, or `FROM_MODEL`.
    """
    try:
        # Here, not above: they ask the host, and what learns is tried without one.
        from .decoder_folders import catalogue, own_folder
        from .latent_dict import origin, picture_of

        at_hand = catalogue()
        spaces = at_hand.spaces()
        source = origin(model, space, spaces)
        evidence, of = source.evidence, source.space
        _expect_pictures(of)
        copy, downscale = copied(source.plain(picture_of(samples)), images)
        if of.name == UNKNOWN and evidence is not None:
            of = new_row(evidence, spaces, downscale=downscale)
        folder = own_folder()
        learner.offer(lambda: learn(folder, of, copy(), at_hand, evidence))
    except SafelightError as error:
        learner.tell(str(error))
    except Exception as error:
        learner.tell(f"{type(error).__name__}: {error}", logging.ERROR)
        log.debug("this decode teaches nothing", exc_info=True)


def copied(latents: Tensor, images: Tensor) -> tuple[Callable[[], DecodedPair], int]:
    """A copy of the middle of some pictures of a decode, averaged to the latents' size, with their latents.

    Args:
        latents: `[B, C, T, h, w]`, model space.
        images: `[B*F, H, W, 3]`, the F frames that come of T one item after the other.

    Returns:
        What reads the copy, on any thread, once; and the picture pixels per latent pixel, along one side.

    Raises:
        FitError: they do not go together.
    """
    items, _, times, height, width = latents.shape
    if images.ndim != 4 or images.shape[-1] != 3:
        raise FitError(f"expected pictures [N, H, W, 3], got {list(images.shape)}: nothing is learned of these")
    frames, downscale = len(images) // items, images.shape[1] // height
    stride = (frames - 1) // (times - 1) if times > 1 else 1
    told = [items * (1 + (times - 1) * stride), height * downscale, width * downscale]
    if downscale < 2 or list(images.shape[:3]) != told:
        raise FitError(
            f"expected pictures a whole number of times the size of latents {list(latents.shape)}, and a first frame "
            f"with equally many for each latent frame after it, got {list(images.shape)}: nothing is learned of these"
        )
    some = _spread(items, MOST_PICTURES)
    moments = _spread(times, min(MOST_FRAMES, max(1, MOST_PICTURES // len(some))))
    side = int((MOST_PIXELS / (len(some) * len(moments))) ** 0.5)
    top, left = (max(0, (whole - side) // 2) for whole in (height, width))
    chosen, means = [], []
    for item in some:
        for moment in moments:
            chosen.append(latents[item, :, moment, top : top + side, left : left + side])
            # The first latent frame of a video is one picture, each later one as many as the VAE's stride.
            begin, end = (0, 1) if moment == 0 else (1 + (moment - 1) * stride, 1 + moment * stride)
            part = images[item * frames + begin : item * frames + end]
            part = part[:, top * downscale :, left * downscale :][:, : side * downscale, : side * downscale]
            means.append(F.avg_pool2d(part.movedim(-1, 1).float(), downscale).mean(0))
    snapshots = Snapshots()
    kept = [snapshots.take(torch.stack(tensors).float()) for tensors in (chosen, means)]

    def read() -> DecodedPair:
        tensors = []
        for snapshot in kept:
            with snapshots.reading(snapshot) as copy:
                tensors.append(torch.from_numpy(to_host(copy)))
        return DecodedPair(*tensors)

    return read, downscale


def _expect_pictures(space: LatentSpace) -> None:
    if space.dims == AUDIO or space.name == PIXELS:
        what = "are pictures already" if space.name == PIXELS else "show no pictures"
        raise FitError(f"latents of {space.title} {what}: nothing is to be learned")


def _spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]
