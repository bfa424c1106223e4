"""A run: one call of a sampler, which a user calls a generation."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from .missing_steps import MissingSteps
from .picture import DecodedPicture

MAX_NOTES = 50
FULL = "full"  # the decoder kind of a host's own VAE

log = logging.getLogger("safelight.preview")


State = Literal["running", "finished", "interrupted", "failed"]


@dataclass(kw_only=True, repr=False)
class Run:
    """Facts about a run. What is unknown is None, never invented.

    Args:
        host: `name`, `version` and the ids that the host needs, as in `run.json`.
        space: name of the latent space.
        sampler: `steps`, `sigmas`, `seed`, `cfg`, `name`, `scheduler`.
        id: unguessable id, because it is the only key to the run's pictures.
        started: start time with its time zone.
        decoder: `name`, `kind`, `scale`, `source` of the decoder; known after the first decode.
        picture: sizes, items and frames; known after the first decode.
        notes: messages for the user, in order.
        prompt: words that guide the model. Viewers may show them; they are never written into `run.json`.
        clock: function that returns monotonic seconds.

    Attributes:
        missing: steps that did not arrive where they were wanted.
        ended: event that is set when no screen and no file will change any more.
    """

    host: Mapping[str, Any] = field(default_factory=dict)
    space: str | None = None
    sampler: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())
    decoder: Mapping[str, Any] | None = None
    picture: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    prompt: str | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._began_s = self.clock()
        self._noting = threading.Lock()
        self.missing = MissingSteps(self.note)
        self.ended = threading.Event()

    def __repr__(self) -> str:
        sampler = ", ".join(str(self.sampler[key]) for key in ("name", "seed") if self.sampler.get(key) is not None)
        return f"<Run {self.id[:8]} of {self.host.get('name', 'no host')}{sampler and f': {sampler}'}>"

    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self._began_s

    def note(self, text: str) -> None:
        """Reports `text` to the user, on the screen and in the log, once."""
        with self._noting:
            if text in self.notes or len(self.notes) >= MAX_NOTES:
                return
            self.notes.append(text)
        log.warning("run %s: %s", self.id[:8], text)

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
