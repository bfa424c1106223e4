"""A run: what a person calls "a generation", one call of a sampler."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..decoders.decoder import Card
from .picture import Picture

MAX_NOTES = 50
FULL = "full"  # the kind of a host's own VAE

log = logging.getLogger("safelight.preview")


State = Literal["running", "finished", "interrupted", "failed"]


@dataclass(kw_only=True)
class Run:
    """What is known of a run. What is not known is None, never invented.

    Args:
        host: `name`, `version` and the ids that the host needs, as `run.json` has them.
        space: the name of the latent space.
        sampler: `steps`, `sigmas`, `seed`, `cfg`, `name`, `scheduler`.
        id: unguessable, because it is the only key to the run's pictures.
        started: when, with its time zone.
        decoder: `name`, `kind`, `scale`, `source` of what made the pictures; known once it is loaded.
        picture: sizes, items and frames; known once there is a picture.
        notes: what the user should be told, in the order it happened.
        prompt: the words that the model is guided by. Viewers may be told; it is never written into `run.json`.
        clock: seconds, monotonic.

    Attributes:
        ended: set when nothing more comes of it, on a screen or in a file.
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
        self.ended = threading.Event()

    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self._began_s

    def note(self, text: str) -> None:
        """Tells the user something, once, where they look and in the log."""
        with self._noting:
            if text in self.notes or len(self.notes) >= MAX_NOTES:
                return
            self.notes.append(text)
        log.warning("run %s: %s", self.id[:8], text)

    def learn(self, picture: Picture, card: Card) -> None:
        """Takes down what is known once there is a picture: what made it, and its size."""
        items, frames, height, width = picture.pixels.shape[:4]
        shown_width, shown_height = picture.shown
        if card.kind != FULL or self.decoder is None:  # of most steps: a VAE makes a picture now and then
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
