"""Shows a running run in the host's viewer: pictures to fetch, and events that announce them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, final

from ..manifest import picture_files
from ..picture import DecodedPicture
from ..run import State
from ..strict_json import strict_json
from .base import Delivery, Sink
from .step_files import StepFiles

MAX_EVENT_FILES_CHARS = 400  # for a step's file names in an event; the viewer finds longer lists in the manifest

SendEvent = Callable[[str, Mapping[str, Any]], None]


@final
class LiveView(Sink):
    """Writes pictures where a viewer can fetch them, and sends it an event for each.

    It opens and closes the folder itself, so that a viewer that learns of the end reads a manifest that says so.

    Args:
        files: picture files that the viewer fetches.
        send: function that the worker calls with `safelight.step` or `safelight.run` and facts of under 1 kB.
        place: `run`, the address of the run, and `workflow` and `node` that show the viewer.
    """

    name = "screen"
    delivery = Delivery.NEWEST

    def __init__(self, files: StepFiles, send: SendEvent, place: Mapping[str, Any]) -> None:
        self._folder, self._files, self._send_event = files.folder, files, send
        self._facts = {"v": 1, **place}

    def open(self) -> None:
        try:
            self._folder.open()
            self._files.open()
            self._send("safelight.run", {**self._facts, "state": "running"})
        except BaseException:
            self._folder.state = "failed"  # so that it may be evicted for other runs
            with suppress(Exception):  # the viewer may at least show why
                self._send("safelight.run", {**self._facts, "state": "failed"})
            raise

    def show(self, picture: DecodedPicture) -> None:
        self._files.show(picture)
        step = {"index": picture.index, "total": picture.total, "sigma": picture.sigma, **self._entry(picture)}
        facts = {**self._facts, **step, "notes": len(self._folder.run.notes), "state": "running"}
        self._send("safelight.step", facts)

    def close(self, state: State) -> None:
        try:
            self._files.close(state)
            self._folder.close(state)
        finally:  # the run has ended, even if its record cannot be written
            self._send("safelight.run", {**self._facts, "state": state})

    def abandon(self, state: State) -> None:
        """Reports the end of the run to the viewer, if the worker hangs. Another thread calls it."""
        self._folder.abandon(state)
        self._send("safelight.run", {**self._facts, "state": state})

    def report_truth(self, psnr_db: float) -> None:
        """Reports to the viewer how true the run's last picture is. Any thread may call it, after the run."""
        self._send("safelight.run", {**self._facts, "state": self._folder.state, "truth": psnr_db})

    def report_pause(self, paused: bool) -> None:
        """Reports to the viewer that the run waits, or goes on. Any thread may call it."""
        self._send("safelight.run", {**self._facts, "state": "running", "paused": paused})

    def _send(self, event: str, facts: Mapping[str, Any]) -> None:
        """Sends an event as strict JSON: a value that JSON lacks would end ComfyUI's server."""
        self._send_event(event, strict_json(dict(facts), self._folder.run.note, event))

    def _entry(self, picture: DecodedPicture) -> Mapping[str, Any]:
        """Facts that spare the viewer a request for the manifest."""
        entry = self._folder.step(picture.index)
        if entry is None or sum(map(len, picture_files(entry))) > MAX_EVENT_FILES_CHARS:
            return {}
        return {
            key: entry[key]
            for key in ("files", "noisy_files", "at", "decode_ms", "change", "not_finite")
            if key in entry
        }
