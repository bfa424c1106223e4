"""From a step of the sampler to the sinks, on a thread of its own.

sampler's thread        offer: ask the cadences, copy, leave it in the mailbox
worker                  develop once, hand the picture to every sink
"""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from time import perf_counter
from typing import NamedTuple, final

import torch
from torch import Tensor

from ..errors import StepError, describe
from .cadence import Cadence
from .decode.run_decoder import DecodeWorker
from .decode.thread_limit import use_half_of_the_threads
from .mailbox import Mailbox
from .missing_steps import MissingSteps, name_steps
from .picture import Picture
from .run import Run, State
from .sinks.base import Sink
from .sinks.latent_files import LatentFiles
from .snapshot import Selection, Snapshot, Snapshots
from .step import Show, Step
from .vae_picture import DecodedPicture, PendingPicture

CLOSE_TIMEOUT_S = 60.0
FIRST = Selection()
NOTHING: Mapping[str, Snapshot] = {}

log = logging.getLogger("safelight.preview")


class SinkSchedule(NamedTuple):
    """A sink with the steps it wants."""

    sink: Sink
    cadence: Cadence


class QueuedStep(NamedTuple):
    """A step on its way to the worker.

    `whole` are all its latents, where somebody keeps them, `promise` is a picture of it that somebody else makes.
    """

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    total: int
    sigma: float | None
    at_s: float
    snapshot: Snapshot
    gain: float
    show: Show
    sinks: tuple[Sink, ...]
    keep: bool
    whole: Mapping[str, Snapshot]
    promise: PendingPicture | None


class ScheduleGroup(NamedTuple):
    """Sinks that want the same steps; whether one of them keeps what it wants, and which of them keep latents."""

    cadence: Cadence
    sinks: tuple[Sink, ...]
    keeps: bool
    latents: tuple[LatentFiles, ...]

    @classmethod
    def of(cls, cadence: Cadence, sinks: Sequence[Sink]) -> "ScheduleGroup":
        latents = tuple(sink for sink in sinks if isinstance(sink, LatentFiles))
        return cls(cadence, tuple(sinks), any(sink.keeps for sink in sinks), latents)


@final
class Pipeline:
    """Shows and keeps the steps of one run. Neither `offer` nor `close` ever raises into the sampler.

    Sinks are opened in order and closed in reverse, all by the worker: first those that the end of the run waits for.

    Args:
        run: is told what goes wrong.
        developer: makes the pictures.
        outlets: where they go, and how often; those that share a cadence are asked about together.
        show: what of a step is looked at.
        select: the part of the sampler's tensor that is looked at, a view that its shape decides; only this is copied.
        mailbox: between the sampler and the worker.
    """

    def __init__(
        self,
        run: Run,
        developer: DecodeWorker,
        outlets: Sequence[SinkSchedule],
        *,
        show: Show = "denoised",
        select: Callable[[Tensor], Tensor] = FIRST,
        mailbox: "Mailbox[QueuedStep] | None" = None,
    ) -> None:
        self._run, self._developer, self._outlets = run, developer, tuple(outlets)
        self._show: Show = show
        sharing: dict[Cadence, list[Sink]] = {}
        for sink, cadence in self._outlets:
            sharing.setdefault(cadence, []).append(sink)
        # Thought out here, once: after a step of the model nothing of ours is left in the processor's caches, and each
        # object that is touched then costs the sampler microseconds.
        self._groups = tuple(ScheduleGroup.of(cadence, sinks) for cadence, sinks in sharing.items())
        # Files first: they are encoded beside what the screen is shown, and the sampler's end waits for them.
        self._all = tuple(sorted((sink for sink, _ in self._outlets), key=lambda sink: not sink.keeps))
        self._snapshots, self._wholes = Snapshots(select), Snapshots()
        self._mailbox: Mailbox[QueuedStep] = mailbox or Mailbox()
        self._state: State = "running"
        self._losses = MissingSteps(run)
        self._doing = "the pipeline"
        self._in_hand: QueuedStep | None = None
        self._last: tuple[Picture, list[Sink]] | None = None  # is shown by these when nobody waits any more
        self._settled = threading.Event()  # all is done that the end of the run waits for
        self._timeout_s, self._given_up = CLOSE_TIMEOUT_S, False
        self._take_all_cores: Callable[[], object] = lambda: None
        self._worker = threading.Thread(target=self._work, name=f"safelight-{run.id[:8]}", daemon=True)
        self._worker.start()

    def offer(self, step: Step, promise: PendingPicture | None = None) -> bool:
        """Takes a step from the sampler's thread: a comparison if nobody wants it, else a copy.

        Args:
            step: it.
            promise: of a picture of it, which is shown in place of one developed here. The worker waits for it: it must
                be kept, if only with None, before the pipeline is closed.

        Returns:
            Whether a sink wanted it.
        """
        if self._state != "running":
            return False
        try:
            return self._offer(step, promise)
        except Exception as error:
            self._losses.lose(step.index, f"not taken: {describe(error)}")
            log.debug("step not taken", exc_info=True)
            return True

    def close(self, state: State, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Ends the run: what waits is still finished, for at most `timeout_s` seconds. A later call only waits.

        Whoever goes on then finds the files, and the device and most of its memory free: only sinks that are not
        awaited may take some more time, at most as long.
        """
        first = self._state == "running"
        if first:
            self._state, self._timeout_s = state, timeout_s
        self._mailbox.close()
        if all(sink.awaited for sink, _ in self._outlets):
            self._worker.join(timeout_s)
        else:
            self._settled.wait(timeout_s)
        if first and not self._settled.is_set():
            self._give_up_worker()

    def _give_up_worker(self) -> None:
        """Says what is left undone, and has those who look told that the run is over: the worker may never do it."""
        if self._given_up:
            return
        self._given_up = True
        self._tell_what_is_undone()
        for sink, _ in reversed(self._outlets):
            try:  # mostly on the sampler's thread: whoever interrupts it is not held back
                sink.leave(self._state)
            except Exception as error:
                self._run.note(f"{sink.name} could not be left: {describe(error)}")
        self._run.ended.set()

    def _tell_what_is_undone(self) -> None:
        undone = [letter.index for letter in self._mailbox.empty() if letter.keep]
        in_hand = self._in_hand
        under_way = [in_hand.index] if in_hand is not None and in_hand.keep else []
        for sink, _ in self._outlets:
            under_way += sink.unfinished() if sink.keeps else []
        steps = f"; {name_steps(under_way)} may be missing" if under_way else ""
        steps += f"; {name_steps(undone)} given up" if undone else ""
        self._run.note(f"{self._doing} was not finished {self._timeout_s:g} s after the run ended{steps}")
        self._losses.tell_what_is_lost()

    def _offer(self, step: Step, promise: PendingPicture | None) -> bool:
        wanting = [group for group in self._groups if group.cadence.wants(step.index, step.total)]
        if not wanting:
            return False
        latents, gain, show = step.latents(self._show)
        if latents is None:
            return False
        letter = QueuedStep(
            index=step.index,
            total=step.total,
            sigma=finite(step.sigma),
            at_s=self._run.elapsed_s(),
            snapshot=self._snapshots.take(latents),
            gain=gain,
            show=show,
            sinks=self._all if len(wanting) == len(self._groups) else self._going_to(wanting),
            keep=promise is not None or any([group.keeps for group in wanting]),  # noqa: C419 - quicker for one or two
            whole=self._take_whole(step, wanting),
            promise=promise,
        )
        if not self._mailbox.put(letter) and letter.keep:
            self._losses.lose(step.index, "not kept: writing could not keep up with the sampler")
            if step.index == step.total:  # the last step is always shown, at least
                screens = tuple(sink for sink in letter.sinks if not sink.keeps)
                self._mailbox.put(letter._replace(sinks=screens, keep=False))
        return True

    def _going_to(self, wanting: Sequence[ScheduleGroup]) -> tuple[Sink, ...]:
        """A picture that is made for one sink costs a screen next to nothing: screens get every one."""
        wanted = {sink for group in wanting for sink in group.sinks}
        return tuple(sink for sink in self._all if sink in wanted or not sink.keeps)

    def _take_whole(self, step: Step, wanting: Sequence[ScheduleGroup]) -> Mapping[str, Snapshot]:
        if not any([not sink.refused for group in wanting for sink in group.latents]):  # noqa: C419
            return NOTHING
        latents = {"denoised": step.denoised, "noisy": step.noisy}
        return {name: self._wholes.take(values) for name, values in latents.items() if values is not None}

    def _work(self) -> None:
        opened: list[Sink] = []
        self._mailbox.give_way()
        self._take_all_cores = use_half_of_the_threads()
        with torch.inference_mode():
            for part in (self._deliver, self._let_go, self._let_go):
                try:
                    part(opened)
                    break
                except BaseException as error:  # whatever is thrown at a thread: a host's library may ask it to exit
                    self._stop(error)
            self._close([sink for sink in opened if sink.awaited])
            self._settled.set()
            self._finish_late([sink for sink in opened if not sink.awaited])
        self._run.ended.set()

    def _deliver(self, opened: list[Sink]) -> None:
        for sink, _ in self._outlets:
            if not self._attempt(sink, "could not be opened", sink.open):
                opened.append(sink)
        while (letter := self._mailbox.get()) is not None:
            self._in_hand = letter
            sinks = [sink for sink in letter.sinks if sink in opened]
            late: list[Sink] = []
            if self._mailbox.is_done():
                sinks, late = [sink for sink in sinks if sink.awaited], [sink for sink in sinks if not sink.awaited]
            if self._state != "running":  # the sampler has nothing to do but to wait
                self._take_all_cores()
            if (picture := self._develop(letter)) is not None:
                self._hand_out(picture, sinks)
                self._last = (picture, late) if late else None
            if letter.whole:
                self._keep_latents(letter, sinks)
            self._in_hand = None
        self._finish(opened)

    def _finish_late(self, sinks: Sequence[Sink]) -> None:
        """Has these shown the last step, when nobody waits any more; should that hang, somebody else says so."""
        if not sinks:
            return
        deadline = threading.Timer(self._timeout_s, self._give_up_worker)
        deadline.daemon = True
        deadline.start()
        if self._last is not None:
            self._hand_out(*self._last)
        for sink in sinks:
            self._flush(sink)
        self._close(sinks)
        deadline.cancel()

    def _close(self, sinks: Sequence[Sink]) -> None:
        for sink in reversed(sinks):
            self._attempt(sink, "could not be finished", partial(sink.close, self._state))

    def _stop(self, error: BaseException) -> None:
        """A fault of our own: no more steps are shown."""
        log.error("run %s: the worker stopped", self._run.id[:8], exc_info=error)
        self._run.note(f"the rest of this run was not shown: {describe(error)}")
        if self._in_hand is not None and self._in_hand.keep:
            self._losses.lose(self._in_hand.index, "may be missing: the worker stopped at it")
        self._in_hand = None

    def _let_go(self, opened: Sequence[Sink]) -> None:
        """Takes the steps until the run ends, and names them: only then do the sinks learn how it ended."""
        while (letter := self._mailbox.get()) is not None:
            if letter.keep:
                self._losses.lose(letter.index, "not shown: the worker had stopped")
        self._finish(opened)

    def _finish(self, opened: Sequence[Sink]) -> None:
        for sink in opened:
            if sink.awaited:
                self._flush(sink)
        self._losses.tell()

    def _develop(self, letter: QueuedStep) -> Picture | None:
        """The letter's picture, by the first decoder that can make it; None if none can."""
        self._doing = "developing"
        with self._snapshots.reading(letter.snapshot) as latents:
            if letter.promise is not None and (made := letter.promise.result()) is not None:
                return self._picture(letter, made)
            return self._develop_latents(letter, latents)

    def _develop_latents(self, letter: QueuedStep, latents: Tensor) -> Picture | None:
        try:
            latents = self._developer.unpack(latents)
        except Exception as error:  # a fault of this step, not of a decoder
            self._losses.lose(letter.index, f"not shown: {describe(error)}")
            return None
        while self._developer.has_decoder:
            began = perf_counter()
            try:
                pixels, shown, fps = self._developer.develop(latents if letter.gain == 1.0 else latents * letter.gain)
            except BaseException as error:
                log.debug("decoder given up", exc_info=True)
                self._run.note(f"step {letter.index}: {self._developer.give_up()} was given up: {describe(error)}")
                continue
            card = self._developer.decoder().card
            return self._picture(letter, DecodedPicture(pixels, shown, fps, card, (perf_counter() - began) * 1000))
        self._losses.lose(letter.index, "not shown: no decoder is left that could show these latents")
        return None

    def _picture(self, letter: QueuedStep, made: DecodedPicture) -> Picture:
        picture = Picture(
            index=letter.index,
            total=letter.total,
            sigma=letter.sigma,
            show=letter.show,
            at_s=letter.at_s,
            pixels=made.pixels,
            shown=made.shown,
            decoder=made.card.name,
            decode_ms=made.decode_ms,
            fps=made.fps,
        )
        self._run.learn(picture, made.card)
        return picture

    def _hand_out(self, picture: Picture, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            failed_before = sink in self._losses.missed
            if failed_before and not sink.keeps:
                continue  # a screen that failed once stays dark
            if error := self._attempt(sink, "failed", partial(sink.show, picture), tell=not failed_before):
                self._losses.miss(sink, getattr(error, "step", picture.index))

    def _keep_latents(self, letter: QueuedStep, sinks: Sequence[Sink]) -> None:
        with ExitStack() as reading:
            latents = {
                name: reading.enter_context(self._wholes.reading(snapshot)) for name, snapshot in letter.whole.items()
            }
            for sink in sinks:
                if not isinstance(sink, LatentFiles):
                    continue
                keep = partial(sink.keep, letter.index, letter.sigma, letter.at_s, latents)
                if self._attempt(sink, "failed", keep, tell=sink not in self._losses.missed):
                    self._losses.miss(sink, letter.index)

    def _flush(self, sink: Sink) -> None:
        while error := self._attempt(sink, "failed", sink.flush, tell=sink not in self._losses.missed):
            if not isinstance(error, StepError):
                break
            self._losses.miss(sink, error.step)

    def _attempt(self, sink: Sink, what: str, action: Callable[[], None], *, tell: bool = True) -> BaseException | None:
        """What `action` raised, if anything; the user is told of it unless they know. By the worker alone."""
        self._doing = sink.name
        try:
            action()
        except BaseException as error:
            log.debug("%s %s", sink.name, what, exc_info=True)
            if tell:
                self._run.note(f"{sink.name} {what}: {describe(error.__cause__ or error)}")
            return error
        return None


def finite(value: float | None) -> float | None:
    """None for what is not a finite number: JSON has no word for it."""
    return float(value) if value is not None and math.isfinite(value) else None
