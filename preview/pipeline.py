"""Carries a sampler's steps to the sinks, on a worker thread.

sampler's thread    wants: ask the cadences; offer: copy the latents, put them into the mailbox
worker              decode once, show the picture to every sink
"""

import atexit
import logging
import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import NamedTuple, final

import torch
from torch import Tensor

from ..errors import describe
from .cadence import Cadence
from .change import ChangeMeter
from .cost import PreviewCost
from .decode.decoder_trial import DecoderTrial
from .decode.not_finite import OVERFLOW_ADVICE, percent
from .decode.run_decoder import RunDecoder
from .decode.thread_limit import use_half_of_the_threads
from .mailbox import Mailbox
from .missing_steps import Place, name_steps
from .picture import DecodedPicture
from .run import Run, State
from .sinks.base import Sink
from .sinks.latent_files import LatentFiles
from .snapshot import Selection, Snapshot, Snapshots
from .step import ShowChoice, Step, StepInfo, measured_gain
from .vae_picture import PendingPicture

CLOSE_TIMEOUT_S = 60.0
SLOW_END_MS = 100.0  # of decoding after the run's end, from which on more threads help; see `decode/thread_limit.py`
TRIAL_TIMEOUT_S = 10.0
FIRST = Selection()
NO_LATENTS: Mapping[str, Snapshot] = {}

log = logging.getLogger("safelight.preview")


class SinkSchedule(NamedTuple):
    """A sink and the steps that it wants."""

    sink: Sink
    cadence: Cadence


class LatentSchedule(NamedTuple):
    """Latent files and the steps that they store."""

    files: LatentFiles
    cadence: Cadence


class ScheduleGroup(NamedTuple):
    """Sinks and latent files that share a cadence.

    `every_step`: one of them must receive each step. `latents`: the latent files are among them.
    """

    cadence: Cadence
    sinks: tuple[Sink, ...]
    every_step: bool
    latents: bool


Wanted = tuple[ScheduleGroup, ...]  # the groups that want a step; empty: none does


class QueuedStep(NamedTuple):
    """A step on its way to the worker.

    `gain` is None if it is to be measured. `noisy` are the latents whose picture goes beside that of `snapshot`, and
    `noisy_gain` their gain. `latents` are all its tensors if they are to be stored; `pending` is a
    picture that the host's VAE decodes. `sigma` is the step's noise level, if it is still on the sampler's device.
    """

    step: StepInfo
    snapshot: Snapshot
    gain: float | None
    noisy: Snapshot | None
    noisy_gain: float | None
    sinks: tuple[Sink, ...]
    keep: bool
    latents: Mapping[str, Snapshot]
    pending: PendingPicture | None
    sigma: Snapshot | None


@final
class Pipeline:
    """Shows and stores the steps of one run. No method ever raises into the sampler.

    The worker opens and closes all sinks. Sinks that must receive every step come first, so that files are encoded
    while the screen is served, and the end of the run waits for awaited sinks only. Use `start` to construct one.

    Args:
        run: run that receives the notes.
        decoder: decodes the steps.
        schedules: sinks, each with its cadence; the cadence is asked once for all sinks that share it.
        record: sinks that describe the others, such as `run.json`: opened first, closed last.
        latents: files for all latents of a step; None to store none.
        show: tensor of a step that is shown.
        select: part of that tensor that is copied and shown; a view that depends on the shape alone.
        mailbox: queue between the sampler's thread and the worker.
        capacity: function that returns how many steps may wait in it; the worker calls it. None to leave it.
        trial: tries decoder files on the finished latents, when the run has ended; None to try none.
        abandon: callables that report the end of the run, for the case that the worker hangs and cannot.
    """

    def __init__(
        self,
        run: Run,
        decoder: RunDecoder,
        schedules: Sequence[SinkSchedule],
        *,
        record: Sequence[SinkSchedule] = (),
        latents: LatentSchedule | None = None,
        show: ShowChoice = "denoised",
        select: Callable[[Tensor], Tensor] = FIRST,
        mailbox: "Mailbox[QueuedStep] | None" = None,
        capacity: Callable[[], int] | None = None,
        trial: DecoderTrial | None = None,
        abandon: Sequence[Callable[[State], None]] = (),
    ) -> None:
        self._run, self._decoder, self._trial, self._abandon = run, decoder, trial, tuple(abandon)
        self._show: ShowChoice = show
        self._record = tuple(sink for sink, _ in record)
        self._latents = None if latents is None else latents.files
        # Built once: after a model's step nothing of ours is in the processor's caches, and each object that is touched
        # costs the sampler microseconds.
        self._groups = _grouped([*record, *schedules], latents)
        scheduled = sorted((sink for sink, _ in schedules), key=_place_in_line)
        self._in_opening_order = (*self._record, *scheduled)
        self._sinks = tuple(sorted(self._in_opening_order, key=_place_in_line))
        self._failed_screens: set[Sink] = set()
        self._snapshots, self._all_latents, self._sigmas = Snapshots(select), Snapshots(), Snapshots()
        self._mailbox: Mailbox[QueuedStep] = mailbox or Mailbox()
        self._capacity = capacity
        self._state: State = "running"
        self._noted_not_finite = False
        self._doing = "the pipeline"
        self._decode_ms = 0.0  # duration of the last decode
        self._changes, self._cost = ChangeMeter(), PreviewCost()
        self._current: QueuedStep | None = None
        self._last: tuple[DecodedPicture, list[Sink]] | None = None  # the sinks show it after the run has ended
        self._settled = threading.Event()  # everything is done that the end of the run waits for
        self._timeout_s, self._abandoned = CLOSE_TIMEOUT_S, False
        self._use_all_threads: Callable[[], object] = lambda: None
        self._worker = threading.Thread(target=self._work, name=f"safelight-{run.id[:8]}", daemon=True)
        self._worker.start()

    @property
    def has_decoder(self) -> bool:
        """Whether steps can still be decoded. Any thread may read it."""
        return self._decoder.has_decoder

    def wants(self, index: int, total: int) -> Wanted:
        """Returns who wants step `index` of `total`. Ask once a step, before the work to provide its latents."""
        if self._state != "running":
            return ()
        return tuple([group for group in self._groups if group.cadence.wants(index, total)])

    def offer(self, step: Step, pending: PendingPicture | None = None, wanted: Wanted | None = None) -> bool:
        """Copies a step's latents and queues them. Call it on the sampler's thread.

        Args:
            step: the step.
            pending: picture of it that the host's VAE decodes. The worker waits for it, so it must be resolved, with
                None if need be, before the pipeline is closed.
            wanted: what `wants` returned for this step; None to ask now.

        Returns:
            Whether a sink wanted the step.
        """
        try:
            wanted = self.wants(step.index, step.total) if wanted is None else wanted
            if not wanted:
                return False
            began_s = perf_counter()
            offered = self._offer(step, pending, wanted)
            self._cost.offering_s += perf_counter() - began_s
            return offered
        except Exception as error:
            self._run.missing.lose(step.index, f"not shown: {describe(error)}")
            log.debug("step not copied", exc_info=True)
            return True

    def end(self, state: State) -> None:
        """Ends the run without waiting; the worker finishes what is queued."""
        if self._state == "running":
            self._state = state
        self._mailbox.close()

    def close(self, state: State, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Ends the run. Waits until its files are written, for at most `timeout_s` seconds; a second call only waits.

        After it the device and most of its memory are free: only sinks that are not awaited may go on, at most as long.
        """
        first = self._state == "running"
        if first:
            self._timeout_s, self._cost.ended_s = timeout_s, perf_counter()
        self.end(state)
        if self._trial is None and all(sink.delivery.awaited for sink in self._sinks):
            self._worker.join(timeout_s)
        else:
            self._settled.wait(timeout_s)
        if first and not self._settled.is_set():
            self._abandon_worker()

    def _abandon_worker(self) -> None:
        """Notes what is unfinished and reports the end of the run: the worker may never do it."""
        if self._abandoned:
            return
        self._abandoned = True
        self._note_unfinished()
        for abandon in self._abandon:
            try:  # only Exception: on the sampler's thread, an interruption by the user must pass
                abandon(self._state)
            except Exception as error:
                self._run.note(f"the end of the run could not be reported: {describe(error)}")
        self._run.ended.set()

    def _note_unfinished(self) -> None:
        queued = [step.step.index for step in self._mailbox.empty() if step.keep]
        current = self._current
        unfinished = [current.step.index] if current is not None and current.keep else []
        unfinished += self._run.missing.unfinished()
        steps = f"; {name_steps(unfinished)} may be missing" if unfinished else ""
        steps += f"; {name_steps(queued)} not shown" if queued else ""
        self._run.note(f"{self._doing} did not finish within {self._timeout_s:g} s after the run ended{steps}")
        self._run.missing.summarize_lost()

    def _offer(self, step: Step, pending: PendingPicture | None, wanted: Wanted) -> bool:
        latents, gain, show = step.latents(self._show)
        if latents is None:
            return False
        beside = step.beside(self._show) if self._show == "both" else None
        queued = QueuedStep(
            step=StepInfo(
                index=step.index,
                total=max(step.total, step.index),  # some samplers report a step after their last
                sigma=finite(step.known_sigma),
                show=show,
                at_s=self._run.elapsed_s(),
            ),
            snapshot=self._snapshots.take(latents),
            gain=gain,
            noisy=None if beside is None or beside.values is None else self._snapshots.take(beside.values),
            noisy_gain=None if beside is None else beside.gain,
            sinks=self._sinks if len(wanted) == len(self._groups) else self._sinks_of(wanted),
            keep=pending is not None or any([group.every_step for group in wanted]),  # noqa: C419 - quicker for so few
            latents=self._copy_latents(step, wanted),
            pending=pending,
            sigma=None if step.sigma_tensor is None else self._sigmas.take(step.sigma_tensor),
        )
        if not self._mailbox.put(queued) and queued.keep:
            self._run.missing.lose(step.index, "not saved: writing could not keep up with the sampler")
            if step.index == step.total:  # the last step is always shown, at least
                screens = tuple(sink for sink in queued.sinks if not sink.delivery.every_step)
                self._mailbox.put(queued._replace(sinks=screens, keep=False))
        return True

    def _sinks_of(self, wanted: Wanted) -> tuple[Sink, ...]:
        """The sinks of a step. A picture that one sink needs costs a screen almost nothing: screens get every one."""
        sinks = {sink for group in wanted for sink in group.sinks}
        return tuple(sink for sink in self._sinks if sink in sinks or not sink.delivery.every_step)

    def _copy_latents(self, step: Step, wanted: Wanted) -> Mapping[str, Snapshot]:
        if self._latents is None or self._latents.refused or not any([group.latents for group in wanted]):  # noqa: C419
            return NO_LATENTS
        latents = {"denoised": step.denoised, "noisy": step.noisy}
        return {name: self._all_latents.take(values) for name, values in latents.items() if values is not None}

    def _work(self) -> None:
        opened: list[Sink] = []
        self._mailbox.give_way()
        self._use_all_threads = use_half_of_the_threads()
        with torch.inference_mode():
            for part in (self._deliver, self._drain, self._drain):
                try:
                    part(opened)
                    break
                except BaseException as error:  # a host's library may ask a thread to exit
                    self._stop(error)
            self._close_awaited(opened)
            self._settled.set()
            self._finish_late([sink for sink in opened if not sink.delivery.awaited])
            self._run.ended.set()
            self._try_decoders()

    def _try_decoders(self) -> None:
        """Tries decoder files, when nothing waits for the worker any more."""
        if self._trial is None or self._state != "finished" or sys.is_finalizing():
            return
        use_half_of_the_threads()
        atexit.register(self._worker.join, TRIAL_TIMEOUT_S)  # a program must not end in the middle of a decode
        try:
            self._trial.run()
        except BaseException:
            log.debug("decoder files were not tried", exc_info=True)
        finally:
            atexit.unregister(self._worker.join)

    def _open(self, opened: list[Sink]) -> None:
        if self._capacity is not None:
            self._mailbox.resize(self._capacity())
        for sink in self._in_opening_order:
            if self._attempt(sink, "could not be opened", sink.open) is None:
                opened.append(sink)  # noqa: PERF401 - one after the other: the list is read if a later one fails
        latents = self._latents
        if latents is not None and self._attempt(latents, "could not be opened", latents.open):
            latents.refused = True
        if self._trial is not None:
            self._attempt(self._trial, "could not list decoder files", self._trial.note_unusable)

    def _deliver(self, opened: list[Sink]) -> None:
        self._open(opened)
        while (queued := self._mailbox.get()) is not None:
            self._current = queued = self._with_sigma(queued)
            sinks = [sink for sink in queued.sinks if sink in opened]
            late: list[Sink] = []
            if self._mailbox.is_done():
                late = [sink for sink in sinks if not sink.delivery.awaited]
                sinks = [sink for sink in sinks if sink.delivery.awaited]
            still_ms = self._decode_ms * (1 + self._mailbox.waiting)
            if self._state != "running" and still_ms >= SLOW_END_MS:  # the sampler only waits now
                self._use_all_threads()
            if (picture := self._decode(queued)) is not None:
                picture = self._with_change(picture)
                self._record_cost()
                self._hand_out(picture, sinks)
                self._last = (picture, late) if late else None
            if queued.latents:
                self._store_latents(queued)
            self._current = None

    def _with_sigma(self, queued: QueuedStep) -> QueuedStep:
        """Reads a noise level that is still on the sampler's device."""
        if queued.sigma is None:
            return queued
        with self._sigmas.reading(queued.sigma) as sigma:
            return queued._replace(step=replace(queued.step, sigma=finite(float(sigma))), sigma=None)

    def _close_awaited(self, opened: Sequence[Sink]) -> None:
        """Closes files before the record, so that the record lists them and names the steps that are missing."""
        awaited = [sink for sink in opened if sink.delivery.awaited]
        self._close([sink for sink in awaited if sink not in self._record])
        self._run.missing.summarize()
        self._cost.settle()
        if self._run.cost is not None:
            self._record_cost()
        self._close([sink for sink in reversed(awaited) if sink in self._record])

    def _finish_late(self, sinks: Sequence[Sink]) -> None:
        """Shows the last step in sinks that the run does not wait for. A timer reports the end if that hangs."""
        if not sinks:
            return
        deadline = threading.Timer(self._timeout_s, self._abandon_worker)
        deadline.daemon = True
        deadline.start()
        if self._last is not None:
            self._hand_out(*self._last)
        self._close(list(reversed(sinks)))
        deadline.cancel()

    def _close(self, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            self._attempt(sink, "could not be finished", partial(sink.close, self._state))

    def _stop(self, error: BaseException) -> None:
        """Handles a fault of our own: no more steps are shown."""
        log.error("run %s: the worker stopped", self._run.id[:8], exc_info=error)
        self._run.note(f"the rest of this run was not shown: {describe(error)}")
        if self._current is not None and self._current.keep:
            self._run.missing.lose(self._current.step.index, "may be missing: the worker stopped at it")
        self._current = None

    def _drain(self, opened: Sequence[Sink]) -> None:
        """Takes and names the remaining steps until the run ends: only then do the sinks learn how it ended."""
        while (queued := self._mailbox.get()) is not None:
            if queued.keep:
                self._run.missing.lose(queued.step.index, "not shown: the worker had stopped")

    def _decode(self, queued: QueuedStep) -> DecodedPicture | None:
        """The step's picture by the first decoder that works; None if none does."""
        self._doing = "decoding"
        with self._snapshots.reading(queued.snapshot) as latents:
            if queued.pending is not None and (of_step := queued.pending.result()) is not None:
                picture = of_step(queued.step)
                self._cost.vae_ms += picture.decode_ms
                self._take_for_trial(queued.step, latents, picture)
            else:
                picture = self._decode_latents(queued, latents)
        if picture is not None:
            picture = replace(picture, noisy=self._decode_noisy(queued))
            self._decode_ms = picture.decode_ms + (picture.noisy.decode_ms if picture.noisy else 0.0)
            self._run.describe(picture)
            self._note_not_finite(picture)
            if picture.show == "noisy" != self._show:
                sampler = self._run.sampler.get("name") or "this sampler"
                self._run.note(
                    f"noisy latents are shown: {sampler} gives no estimate of the finished latents, and Safelight "
                    "cannot compute it. Another sampler or scheduler may give one."
                )
        return picture

    def _decode_noisy(self, queued: QueuedStep) -> DecodedPicture | None:
        """The picture that goes beside that of the denoised latents; None if there is none."""
        if queued.noisy is None:
            return None
        beside = queued._replace(step=replace(queued.step, show="noisy"), gain=queued.noisy_gain)
        with self._snapshots.reading(queued.noisy) as latents:
            return self._decode_latents(beside, latents)

    def _with_change(self, picture: DecodedPicture) -> DecodedPicture:
        try:
            return replace(picture, change=self._changes.measure(picture))
        except Exception:  # a picture without it is better than none
            log.debug("change not measured", exc_info=True)
            return picture

    def _record_cost(self) -> None:
        copies = sum(copies.size_bytes for copies in (self._snapshots, self._all_latents, self._sigmas))
        device = self._decoder.device
        self._run.cost = self._cost.facts(copies, self._decoder.needs_bytes, None if device is None else str(device))

    def _note_not_finite(self, picture: DecodedPicture) -> None:
        """Notes the first step whose latents are NaN, so that a black image is not taken for a fault of the preview."""
        if picture.not_finite and not self._noted_not_finite:
            self._noted_not_finite = True
            self._run.note(
                f"step {picture.index}: {percent(picture.not_finite)} of the latents are NaN or infinite. "
                f"{OVERFLOW_ADVICE}"
            )

    def _decode_latents(self, queued: QueuedStep, latents: Tensor) -> DecodedPicture | None:
        index = queued.step.index
        try:
            latents = self._decoder.unpack(latents)
            gain = measured_gain(latents) if queued.gain is None else queued.gain
            latents = latents if gain == 1.0 else latents * gain
        except Exception as error:  # a fault of this step, not of a decoder
            self._run.missing.lose(index, f"not shown: {describe(error)}")
            return None
        self._take_for_trial(queued.step, latents)
        while self._decoder.has_decoder:
            try:
                return self._decoder.decode(latents, queued.step)
            except BaseException as error:
                log.debug("decoder dropped", exc_info=True)
                self._run.note(f"step {index}: stopped using {self._decoder.drop()}: {describe(error)}")
        self._run.missing.lose(index, "not shown: no decoder is left for these latents")
        return None

    def _take_for_trial(self, step: StepInfo, latents: Tensor, by_vae: DecodedPicture | None = None) -> None:
        """Gives the finished latents to the trial, and the VAE's picture of them if there is one."""
        if self._trial is None or step.index < step.total or step.show != "denoised":
            return
        try:
            self._trial.take(latents if by_vae is None else self._decoder.unpack(latents), by_vae and by_vae.first)
        except Exception:
            log.debug("no decoder file is tried", exc_info=True)

    def _hand_out(self, picture: DecodedPicture, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            if sink in self._failed_screens:
                continue
            if sink.delivery.every_step:
                self._save(sink, picture.index, partial(sink.show, picture))
            elif self._attempt(sink, "failed", partial(sink.show, picture)):
                self._failed_screens.add(sink)

    def _store_latents(self, queued: QueuedStep) -> None:
        files = self._latents
        if files is None:
            return
        with ExitStack() as reading:
            latents = {
                name: reading.enter_context(self._all_latents.reading(snapshot))
                for name, snapshot in queued.latents.items()
            }
            self._save(files, queued.step.index, partial(files.write, queued.step, latents))

    def _save(self, place: Place, index: int, action: Callable[[], None]) -> None:
        """Runs `action`; if it raises, the step is missing in `place`."""
        self._doing = place.name
        try:
            action()
        except BaseException as error:
            log.debug("%s failed", place.name, exc_info=True)
            self._run.missing.fail(place, index, describe(error))

    def _attempt(self, place: Place, what: str, action: Callable[[], None]) -> BaseException | None:
        """Returns the error that `action` raised, if any, after noting it. Only the worker calls this."""
        self._doing = place.name
        try:
            action()
        except BaseException as error:
            log.debug("%s %s", place.name, what, exc_info=True)
            self._run.note(f"{place.name} {what}", describe(error))
            return error
        return None


def _place_in_line(sink: Sink) -> tuple[bool, bool]:
    """Sorts files before screens, and what the end of the run waits for before what it does not wait for."""
    return not sink.delivery.every_step, not sink.delivery.awaited


def _grouped(schedules: Sequence[SinkSchedule], latents: LatentSchedule | None) -> tuple[ScheduleGroup, ...]:
    sharing: dict[Cadence, list[Sink]] = {}
    for sink, cadence in schedules:
        sharing.setdefault(cadence, []).append(sink)
    if latents is not None:
        sharing.setdefault(latents.cadence, [])
    groups = []
    for cadence, sinks in sharing.items():
        stores = latents is not None and latents.cadence is cadence
        every_step = stores or any(sink.delivery.every_step for sink in sinks)
        groups.append(ScheduleGroup(cadence, tuple(sinks), every_step, stores))
    return tuple(groups)


def finite(value: float | None) -> float | None:
    """Returns `value`, or None if it is not a finite number: JSON cannot express it."""
    return float(value) if value is not None and math.isfinite(value) else None
