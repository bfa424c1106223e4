"""From a step of the sampler to the sinks, on a thread of its own.

sampler's thread        offer: ask the cadences, copy, leave it in the mailbox
worker                  develop once, hand the picture to every sink
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import NamedTuple, final

import torch
from torch import Tensor

from .cadence import Cadence
from .develop import Developer
from .mailbox import Mailbox
from .picture import Picture
from .run import Run, State
from .sink import Sink
from .snapshot import Snapshot, first_picture
from .step import Show, Step

CLOSE_TIMEOUT_S = 60.0

log = logging.getLogger("safelight.preview")


class Outlet(NamedTuple):
    """A sink with the steps it wants."""

    sink: Sink
    cadence: Cadence


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A step on its way to the worker."""

    index: int
    total: int
    sigma: float | None
    at_s: float
    snapshot: Snapshot
    gain: float
    sinks: tuple[Sink, ...]
    keep: bool


@final
class Pipeline:
    """Shows and keeps the steps of one run. Neither `offer` nor `close` ever raises into the sampler.

    Sinks are opened in order and closed in reverse, all by the worker.

    Args:
        run: is told what goes wrong.
        developer: makes the pictures.
        outlets: where they go, and how often.
        show: what of a step is looked at.
        select: the part of the sampler's tensor that is looked at; only this is copied.
        mailbox: between the sampler and the worker.
    """

    def __init__(
        self,
        run: Run,
        developer: Developer,
        outlets: Sequence[Outlet],
        *,
        show: Show = "denoised",
        select: Callable[[Tensor], Tensor] = first_picture,
        mailbox: "Mailbox[Letter] | None" = None,
    ) -> None:
        self._run, self._developer, self._outlets = run, developer, tuple(outlets)
        self._show: Show = show
        self._select = select
        self._mailbox: Mailbox[Letter] = mailbox or Mailbox()
        self._state: State = "running"
        self._missing: dict[Sink, list[int]] = {}
        self._ended = threading.Event()
        self._worker = threading.Thread(target=self._work, name=f"safelight-{run.id[:8]}", daemon=True)
        self._worker.start()

    def offer(self, step: Step) -> bool:
        """Takes a step from the sampler's thread: a comparison if nobody wants it, else a copy.

        Returns:
            Whether a sink wanted it.
        """
        try:
            return self._offer(step)
        except Exception as error:
            self._run.note(f"step {step.index} was not taken: {describe(error)}")
            log.debug("step not taken", exc_info=True)
            return True

    def close(self, state: State, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Ends the run: what waits is still finished, for at most `timeout_s` seconds."""
        self._state = state
        self._mailbox.close()
        if self._ended.wait(timeout_s):
            self._worker.join()
            return
        undelivered = [letter.index for letter in self._mailbox.empty() if letter.keep]
        steps = f"; steps {', '.join(map(str, undelivered))} were given up" if undelivered else ""
        self._run.note(f"pictures were still being finished {timeout_s:g} s after the run ended{steps}")

    def _offer(self, step: Step) -> bool:
        wanting = [sink for sink, cadence in self._outlets if cadence.wants(step.index, step.total)]
        latents, gain = step.latents(self._show)
        if not wanting or latents is None:
            return False
        letter = Letter(
            index=step.index,
            total=step.total,
            sigma=step.sigma,
            at_s=self._run.elapsed_s(),
            snapshot=Snapshot(self._select(latents)),
            gain=gain,
            # A picture that is made for one sink costs a screen next to nothing: screens get every one.
            sinks=tuple(sink for sink, _ in self._outlets if sink in wanting or not sink.keeps),
            keep=any(sink.keeps for sink in wanting),
        )
        if not self._mailbox.put(letter) and letter.keep:
            self._run.note(f"step {step.index} was not kept: writing could not keep up with the sampler")
        return True

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                opened = [sink for sink, _ in self._outlets if self._attempt(sink, "could not be opened", sink.open)]
                while (letter := self._mailbox.get()) is not None:
                    if (picture := self._develop(letter)) is not None:
                        self._hand_out(picture, [sink for sink in letter.sinks if sink in opened])
                self._tell_missing()
                for sink in reversed(opened):
                    self._attempt(sink, "could not be finished", partial(sink.close, self._state))
        finally:
            self._ended.set()

    def _develop(self, letter: Letter) -> Picture | None:
        """The letter's picture, by the first decoder that can make it; None when none is left."""
        while self._developer.has_decoder:
            began = perf_counter()
            try:
                latents = letter.snapshot.read()
                pixels, shown = self._developer.develop(latents if letter.gain == 1.0 else latents * letter.gain)
            except Exception as error:
                log.debug("decoder given up", exc_info=True)
                name = self._developer.give_up()
                self._run.note(f"step {letter.index}: decoder {name} was given up: {describe(error)}")
                continue
            picture = Picture(
                index=letter.index,
                total=letter.total,
                sigma=letter.sigma,
                show=self._show,
                at_s=letter.at_s,
                pixels=pixels,
                shown=shown,
                decoder=self._developer.decoder().name,
                decode_ms=(perf_counter() - began) * 1000,
            )
            self._run.learn(picture, self._developer.decoder().card)
            return picture
        self._run.note("no decoder is left that could show these latents")
        return None

    def _hand_out(self, picture: Picture, sinks: Sequence[Sink]) -> None:
        for sink in sinks:
            if not sink.keeps and sink in self._missing:
                continue  # a screen that failed once stays dark: one warning, not one a step
            if not self._attempt(sink, "failed", partial(sink.show, picture)):
                self._missing.setdefault(sink, []).append(picture.index)

    def _tell_missing(self) -> None:
        for sink, steps in self._missing.items():
            if sink.keeps:
                self._run.note(f"{sink.name}: nothing was kept of step {', '.join(map(str, steps))}")

    def _attempt(self, sink: Sink, what: str, action: Callable[[], None]) -> bool:
        """Whether `action` went well; if not, the user is told."""
        try:
            action()
        except Exception as error:
            log.debug("%s %s", sink.name, what, exc_info=True)
            self._run.note(f"{sink.name} {what}: {describe(error)}")
            return False
        return True


def describe(error: Exception) -> str:
    """An exception in one line, for people."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
