"""A run: one call of a sampler, which a user calls a generation."""

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..errors import printable
from .missing_steps import MissingSteps
from .picture import DecodedPicture
from .run_control import EarlyEnd, RunControl

MAX_NOTES = 50  # one fault is one note: a run with more has a fault whose text changes at every step
FILE_NAMES = re.compile(r"(?:: '[^']*')?(?: -> '[^']*')?$")  # at the end of an OSError
FULL = "full"  # the decoder kind of a host's own VAE

log = logging.getLogger("safelight.preview")


State = Literal["running", "finished", "stopped", "interrupted", "failed"]


@dataclass(kw_only=True, repr=False)
class Run:
    """Facts about a run. What is unknown is None, never invented.

    Args:
        host: `name`, `version` and the ids that the host needs, as in `run.json`.
        space: name of the latent space.
        sampler: `steps`, `sigmas`, `seed`, `cfg`, `name`, `scheduler`.
        id: unique id. It is in `run.json` and in pictures, so it opens nothing.
        started: start time with its time zone.
        decoder: `name`, `kind`, `scale`, `source` of the decoder; known after the first decode.
        picture: sizes, items and frames; known after the first decode.
        notes: messages for the user, in order.
        truth: how true its pictures are, see `sinks.truth`; known after the run.
        cost: what its preview costs, see `PreviewCost`; None before the first step.
        offers: names of published decoders that viewers offer, by the text that says so. No file contains them.
        prompt: words that guide the model. Viewers may show them; they are never written into `run.json`.
        before_s: seconds that the run had lasted before this object continued it.
        clock: function that returns monotonic seconds.

    Attributes:
        missing: steps that did not arrive where they were wanted.
        ended: event that is set when no screen and no file will change any more.
        control: what a person asks of the run while it goes on.
    """

    host: Mapping[str, Any] = field(default_factory=dict)
    space: str | None = None
    sampler: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())
    decoder: Mapping[str, Any] | None = None
    picture: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    truth: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None
    offers: dict[str, str] = field(default_factory=dict)
    prompt: str | None = None
    before_s: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._began_s = self.clock()
        self._changing = threading.Lock()
        self._faults: dict[str, tuple[int, list[str], str]] = {}  # the place of its note, the texts, the reason
        self.missing = MissingSteps(self.note)
        self.ended = threading.Event()
        self.control = RunControl()

    def __repr__(self) -> str:
        sampler = ", ".join(str(self.sampler[key]) for key in ("name", "seed") if self.sampler.get(key) is not None)
        return f"<Run {self.id[:8]} of {self.host.get('name', 'no host')}{sampler and f': {sampler}'}>"

    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self.before_s + self.clock() - self._began_s

    def know(self, **facts: Any) -> None:
        """Adds facts to `sampler`, or replaces them. Any thread may call it."""
        with self._changing:
            self.sampler = {**self.sampler, **facts}

    def follow_rule(self, below_percent: float, steps: int) -> None:
        """Records the user's rule to stop, see `sinks.stop_rule`."""
        self.know(stop_rule={"below_percent": below_percent, "steps": steps})

    def keep_step(self, end: EarlyEnd) -> None:
        """Records that the run ends early, with the estimate of a step as its result."""
        self.know(kept_step=end.step)
        if end.by_rule:
            rule = self.sampler["stop_rule"]
            self.know(stop_rule={**rule, "step": end.step})
            self.note(
                f"stopped by your rule at step {end.step}: moved less than {rule['below_percent']:g} % for "
                f"{rule['steps']} steps"
            )

    def note(self, text: str, reason: str = "", *, replaces: str = "") -> None:
        """Reports to the user, on the screen and in the log, once. One fault is one note.

        Args:
            text: what happened. With a reason it becomes `text: reason`.
            reason: the fault that is behind it. What happens for the same reason joins its note: `page could not be
                opened; files failed: OSError: disk full`. File names at the end of reasons may differ.
            replaces: earlier text for the same reason that this one completes.
        """
        text, reason, replaces = printable(text), printable(reason), printable(replaces)  # names come from any file
        with self._changing:
            fault = FILE_NAMES.sub("", reason) or replaces or text
            is_new = fault not in self._faults
            at, texts, reason = self._faults.get(fault, (len(self.notes), [], reason))
            if text in (*texts, *self.notes) or at >= MAX_NOTES:
                return
            if replaces in texts:
                texts[texts.index(replaces)] = text
            else:
                texts.append(text)
            self._faults[fault] = at, texts, reason
            self.notes[at : at + 1] = ["; ".join(texts) + (f": {reason}" if reason else "")]
        # The log has each fault once; what else it affects is information.
        log.log(logging.WARNING if is_new else logging.INFO, "run %s: %s", self.id[:8], self.notes[at])

    def describe(self, picture: DecodedPicture) -> None:
        """Records what the first pictures show: their decoder and their size."""
        items, frames, height, width = picture.pixels.shape[:4]
        shown_width, shown_height = picture.shown
        card = picture.card
        if card.kind != FULL or self.decoder is None:  # the VAE decodes few steps, the decoder most of them
            self.decoder = {"name": card.name, "kind": card.kind, "scale": card.scale, "source": card.source}
        self.picture = {
            "width": width,
            "height": height,
            "shown_width": shown_width,
            "shown_height": shown_height,
            "items": items,
            "frames": frames,
            "fps": picture.fps,
        }
