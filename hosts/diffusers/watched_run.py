"""One sampler call of a pipeline: watched while it runs, and afterwards what came of it."""

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ...decoders.catalogue import Catalogue
from ...decoders.latents.identify import Evidence, unknown
from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import SafelightError, describe
from ...preview.cadence import Cadence
from ...preview.decode.candidates import candidates
from ...preview.decode.memory_budget import selected_bytes, waiting_steps
from ...preview.decode.run_decoder import DecodeWorker
from ...preview.mailbox import Mailbox
from ...preview.output_folder import create_numbered_folder
from ...preview.picture import Picture
from ...preview.pipeline import CLOSE_TIMEOUT_S, Pipeline, SinkSchedule
from ...preview.run import FULL, Run, State
from ...preview.sinks.base import Sink
from ...preview.sinks.contact_sheet import ContactSheet
from ...preview.sinks.in_memory import InMemory
from ...preview.sinks.latent_files import MB, LatentFiles, Need, Room
from ...preview.sinks.page import Page
from ...preview.sinks.run_folder import RunFolder
from ...preview.sinks.step_files import ENCODERS, StepFiles
from ...preview.step import Step
from ..x0 import X0Estimate
from .call_arguments import CallArguments
from .facts import autoencoder_of, evidence_of, space_or_unknown
from .latent_layout import LatentLayout
from .options import Options
from .pipeline_families import family_of
from .vae_preview import PipelineVaePreview

DISK_RESERVE_BYTES = 500 * MB  # that latents leave free on the disk

log = logging.getLogger("safelight.diffusers")


class SchedulerStep(NamedTuple):
    """A step as the scheduler took it; `index` counts from 1."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    total: int
    believed: X0Estimate
    noisy: Tensor


@final
class WatchedRun:
    """One sampler call.

    Args:
        pipeline: of diffusers.
        options: the user's.
        call: what it was asked for.
        run: is made of it.
        stop: ends it early; None where the pipeline has no way to be stopped.

    Attributes:
        run: what is known of it.
    """

    def __init__(
        self, pipeline: Any, options: Options, call: CallArguments, run: Run, stop: Callable[[], object] | None = None
    ) -> None:
        self._options, self.run, self._stop = options, run, stop
        self._memory = InMemory(options.memory)
        self._cadence = Cadence(options.every_n_steps)
        self._folder: RunFolder | None = None
        self._layout: LatentLayout | None = None
        self._pipeline: Pipeline | None = None
        self._full: PipelineVaePreview | None = None
        self._last: SchedulerStep | None = None
        self._state: State = "running"
        self._closing: threading.Thread | None = None
        self._open = partial(self._begin, pipeline, call)
        self._broken = False

    @property
    def state(self) -> State:
        """`running`, or how it ended."""
        return self._state

    @property
    def folder(self) -> Path | None:
        """Where its files are; None where none are written."""
        return None if self._folder is None else self._folder.path

    @property
    def pictures(self) -> Sequence[Picture]:
        """Its newest pictures, in order. Once it has ended, what was under way is waited for."""
        self.settle()
        return list(self._memory.pictures)

    @property
    def notes(self) -> list[str]:
        """What the user should know of it."""
        self.settle()
        return list(self.run.notes)

    def manifest(self) -> dict[str, Any] | None:
        """Its `run.json`; None where no files are written. Once it has ended, its files are waited for."""
        self.settle()
        return None if self._folder is None else self._folder.manifest()

    def offer(self, moment: SchedulerStep) -> None:
        """Takes a step, on the sampler's thread. Never raises."""
        if self._broken:
            return
        try:
            self._offer(moment)
        except Exception as error:
            self._broken = True
            self.run.note(f"this run goes on without previews: {describe(error)}")
            log.debug("not watched", exc_info=True)

    def end(self, state: State, error: BaseException | None = None) -> None:
        """The sampler has ended: what is under way is finished on a thread of its own."""
        if self._state != "running":
            return
        self._state = state
        if error is not None and state == "failed":
            self.run.note(f"the pipeline failed: {describe(error)}")
        if self._pipeline is None:
            return
        last, self._last = self._last, None
        if last is not None and not self._cadence.wants(last.index, last.total):
            self.offer(last._replace(total=last.index))  # it was to be the last one
        # Not a daemon: a script that ends here still has its files.
        self._closing = threading.Thread(
            target=self._pipeline.close, args=(state,), name=f"safelight-{self.run.id[:8]}"
        )
        self._closing.start()

    def settle(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Once the sampler has ended, waits until all files are there; before, does nothing."""
        closing = self._closing
        if closing is not None and closing is not threading.current_thread():
            closing.join(timeout_s)

    def forget_pictures(self) -> None:
        """Lets go of what is in memory; files stay."""
        self._memory.pictures.clear()

    def _offer(self, moment: SchedulerStep) -> None:
        if self._pipeline is None:
            self._pipeline = self._open(moment)
        x0, sigma, gain = moment.believed
        options = self._options
        # Tokens are copied to be laid out: not for nothing.
        needs_noisy = x0 is None or options.show == "noisy" or options.keep_latents
        needs_x0 = options.show == "denoised" or options.keep_latents
        step = Step(
            index=moment.index,
            total=moment.total,
            sigma=sigma,
            denoised=self._plain(x0) if x0 is not None and needs_x0 else None,
            noisy=self._plain(moment.noisy) if needs_noisy else None,
            noisy_gain=gain,
        )
        self._last = moment
        promise = None
        if self._full is not None and self._cadence.wants(step.index, step.total):
            promise = self._full.promise(step)
        self._pipeline.offer(step, promise)

    def _plain(self, latents: Tensor) -> Tensor:
        return latents if self._layout is None else self._layout.plain(latents)

    def _begin(self, pipeline: Any, call: CallArguments, moment: SchedulerStep) -> Pipeline:
        options, run = self._options, self.run
        decoders = options.catalogue()
        space, evidence = self._place(pipeline, call, decoders, moment.noisy)
        run.space = space.name
        latents = self._plain(moment.noisy)
        select = options.selection()
        accelerated = latents.device.type != "cpu"
        step_bytes = selected_bytes(select, latents.shape)
        step_bytes += _kept_bytes(latents) if options.keep_latents else 0
        if options.decoder == FULL:
            vae, family = autoencoder_of(pipeline), family_of(type(pipeline).__name__)
            self._full = PipelineVaePreview(
                vae, family.shifts, space, options.full_every_n_steps, select, run.note, call.fps
            )
            step_bytes += self._full.picture_bytes(latents)
        outlets = [SinkSchedule(sink, self._cadence) for sink in self._sinks(latents, moment.total)]
        return Pipeline(
            run,
            DecodeWorker(
                space,
                partial(candidates, decoders, space, options.cheap, evidence, run.note, accelerated=accelerated),
                run.note,
                fps=call.fps,
                device_bytes=options.device_bytes,
            ),
            outlets,
            show=options.show,
            select=select,
            mailbox=Mailbox(capacity=waiting_steps(step_bytes, latents.device, options.device_bytes)),
        )

    def _place(
        self, pipeline: Any, call: CallArguments, decoders: Catalogue, noisy: Tensor
    ) -> tuple[LatentSpace, Evidence]:
        """The latent space, and how it lies in what the scheduler steps."""
        spaces = decoders.spaces()
        family = family_of(type(pipeline).__name__)
        channels = noisy.shape[1] if noisy.ndim == 4 else None
        evidence = evidence_of(pipeline, spaces, channels)
        if self._options.space is not None:
            wanted = self._options.space
            space = wanted if isinstance(wanted, LatentSpace) else spaces[wanted]
        else:
            space, told = space_or_unknown(pipeline, family, evidence, spaces)
            if told is not None:
                self.run.note(told)
        if space.dims == AUDIO:
            return space, evidence
        self._layout = LatentLayout(family, call, space.channels, space.frame_stride, self.run.note)
        plain = self._layout.plain(noisy)
        try:
            space.unpack(torch.empty(plain.shape, device="meta"))
        except SafelightError as error:
            self.run.note(str(error))
            evidence = Evidence(host="diffusers", channels=plain.shape[1], dims=plain.ndim - 2)
            space = unknown(evidence)
        return space, evidence

    def _sinks(self, latents: Tensor, total: int) -> list[Sink]:
        sinks: list[Sink] = [*self._keepers(latents, total), self._memory]
        try:
            screen = self._options.new_screen()
            if (follow := getattr(screen, "follow", None)) is not None:  # it tells whose pictures these are
                follow(self.run, self._stop)
        except Exception as error:
            self.run.note(f"nothing is shown on a screen: {describe(error)}")
            screen = None
        return [*sinks, screen] if screen is not None else sinks

    def _keepers(self, latents: Tensor, total: int) -> list[Sink]:
        options = self._options
        if options.place is None:
            return []
        folder = self._folder = RunFolder(create_numbered_folder(options.place.parent, options.place.name), self.run)
        apart = options.frames == "all files"
        files = StepFiles(folder, options.encoding(), encoders=ENCODERS, batch=options.batch, frames_apart=apart)
        sinks: list[Sink] = [folder, Page(folder), files]
        sinks += [ContactSheet(folder)] if options.sheet else []
        sinks += [moving] if (moving := options.moving(folder)) is not None else []
        if options.keep_latents:
            steps = sum(self._cadence.wants(index, total) for index in range(1, total + 1))
            need = Need(steps, _kept_bytes(latents))
            sinks.append(LatentFiles(folder, need, partial(_room, folder.path)))
        return sinks


def _kept_bytes(latents: Tensor) -> int:
    """Of a step whose latents are kept: noisy and denoised."""
    return 2 * latents.numel() * max(latents.element_size(), torch.float32.itemsize)


def _room(folder: Path) -> Room:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    return Room(shutil.disk_usage(place).free - DISK_RESERVE_BYTES, "the disk")
