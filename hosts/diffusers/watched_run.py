"""The run of one sampler call of a pipeline."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor

from ...decoders.catalogue import Catalogue
from ...decoders.latents.identify import Evidence, unknown
from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import SafelightError, describe
from ...preview.decode.decoder_trial import DecoderTrial
from ...preview.output_folder import create_numbered_folder, disk_room
from ...preview.picture import DecodedPicture
from ...preview.pipeline import CLOSE_TIMEOUT_S, Pipeline
from ...preview.remote.remote_copy import RemoteCopy, copy_address
from ...preview.remote.scratch import remove_when_unused, scratch_run
from ...preview.run import FULL, Run, State
from ...preview.sinks.base import Sink
from ...preview.sinks.in_memory import InMemory
from ...preview.sinks.latent_files import LatentFiles, Need
from ...preview.sinks.run_folder import RunFolder
from ...preview.sinks.run_group import RunGroup
from ...preview.sinks.truth import TruthMeter, shown_image, vae_pixels
from ...preview.start import Outputs, start
from ...preview.step import Step
from ..x0 import X0Estimate
from .call_arguments import CallArguments
from .facts import autoencoder_of, evidence_of, space_or_unknown
from .latent_layout import LatentLayout
from .learning import vae_of
from .options import WatchOptions
from .own_loop import OwnLoop
from .pipeline_families import family_of_pipeline
from .refined_runs import RefinedRuns
from .show import show_run
from .vae_preview import PipelineVaePreview

log = logging.getLogger("safelight.diffusers")


class SchedulerStep(NamedTuple):
    """A step of the scheduler: its number from 1, the number of steps, the estimate, and the noisy latents."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    total: int
    x0: X0Estimate
    noisy: Tensor


@final
class WatchedRun:
    """The run of one sampler call: its previews while it samples, and its files and pictures afterwards.

    Args:
        pipeline: pipeline of diffusers.
        options: the user's options.
        call: arguments of the pipeline's call.
        run: record of the run.
        stop: function that ends the sampler early; None if the pipeline cannot be stopped.
        stop_by_rule: the same for the user's rule, with the estimate of a step as the result.
        refined: runs before it whose latents it may continue.

    Attributes:
        run: record of the run.
        thread: identifier of the thread in which it began.
    """

    def __init__(
        self,
        pipeline: Any,
        options: WatchOptions,
        call: CallArguments,
        run: Run,
        stop: Callable[[], object] | None,
        stop_by_rule: Callable[[], object] | None,
        refined: RefinedRuns,
    ) -> None:
        self._options, self.run, self._stop, self._stop_by_rule = options, run, stop, stop_by_rule
        self._call, self._refined = call, refined
        self._group: RunGroup | None = None
        self._memory = InMemory(options.memory)
        self._folder: RunFolder | None = None
        self._copy: RemoteCopy | None = None
        self._layout: LatentLayout | None = None
        self._pipeline: Pipeline | None = None
        self._vae: PipelineVaePreview | None = None
        self._truth: TruthMeter | None = None
        self._judged = False
        self._unshown: SchedulerStep | None = None  # the newest step, if it has no picture
        self._state: State = "running"
        self._closing: threading.Thread | None = None
        self._open: Callable[[SchedulerStep], Pipeline] | None = partial(self._start, pipeline, call)
        self._broken = False
        self.thread = threading.get_ident()

    def __repr__(self) -> str:
        count = len(self._memory.pictures)
        place = "" if self.folder is None else f", {self.folder}"
        return f"<WatchedRun: {self._state}, {count} picture{'s' * (count != 1)}{place}>"

    @property
    def broken(self) -> bool:
        """Whether the run continues without previews, because of an error."""
        return self._broken

    @property
    def state(self) -> State:
        """`running`, or how the run ended."""
        return self._state

    @property
    def folder(self) -> Path | None:
        """Folder with its files; None if no files are written.

        If the run is in a store, this is a temporary copy, which is removed with this object.
        """
        return None if self._folder is None else self._folder.path

    @property
    def address(self) -> str | None:
        """Address of the run in a store; None if it is in no store."""
        return None if self._copy is None else self._copy.address

    @property
    def pictures(self) -> Sequence[DecodedPicture]:
        """Its newest pictures, in order. Waits for the last ones once the sampler has ended."""
        self.settle()
        return list(self._memory.pictures)

    @property
    def notes(self) -> list[str]:
        """Messages for the user."""
        self.settle()
        return list(self.run.notes)

    def manifest(self) -> dict[str, Any] | None:
        """Content of `run.json`; None if no files are written. Waits for the files once the sampler has ended."""
        self.settle()
        return None if self._folder is None else self._folder.manifest()

    def show(self) -> None:
        """Shows the run again: see `show_run`."""
        show_run(self)

    def offer(self, step: SchedulerStep) -> None:
        """Shows a step. Called on the sampler's thread; never raises."""
        if self._broken:
            return
        try:
            self._offer(step)
        except Exception as error:
            self._broken = True
            self.run.note(f"this run continues without previews: {describe(error)}")
            log.debug("run not watched", exc_info=True)

    def end(self, state: State, error: BaseException | None = None, latents: Any = None) -> None:
        """Ends the run; another thread finishes the files.

        Args:
            state: how it ended.
            error: exception that ended it; None if there was none.
            latents: result of its last step, which a refiner may continue.
        """
        if self._state != "running":
            return
        self._state = state
        if error is not None and state == "failed":
            self.run.note(f"the pipeline failed: {describe(error)}")
        last, self._unshown = self._unshown, None
        if last is not None:
            self.offer(last._replace(total=last.index))  # it was the last step: the sampler ended early
        # The user may need the memory of the diffusers pipeline.
        self._open = self._vae = self._stop = self._stop_by_rule = None
        self._refined.add(self._call, latents, self._group)
        if self._pipeline is None:
            return
        # Not a daemon thread: a script that ends now still gets its files.
        self._closing = threading.Thread(
            target=self._pipeline.close, args=(state,), name=f"safelight-{self.run.id[:8]}"
        )
        self._closing.start()

    def judge(self, images: Tensor) -> None:
        """Compares the run with the first decode of its finished latents by the pipeline's VAE. Never raises.

        Args:
            images: images `[N, 3, H, W]` or `[B, 3, F, H, W]` in -1..1, on any device.
        """
        truth = self._truth
        if truth is None or self._judged:
            return
        self._judged = True
        try:
            frames = images if images.ndim == 4 else images[0].movedim(1, 0)
            if truth.image < len(frames) and frames.shape[1] == 3:
                truth.judge(vae_pixels((frames[truth.image].float() / 2 + 0.5).movedim(0, -1)))
        except Exception:
            log.debug("the run is not compared with the VAE's picture", exc_info=True)

    def settle(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Waits until all files are written, if the sampler has ended."""
        closing = self._closing
        if closing is not None and closing is not threading.current_thread():
            closing.join(timeout_s)

    def settle_copy(self) -> None:
        """Waits until all files are in the store, or until a note names those that are not."""
        if self._copy is not None and self._state != "running":
            self._copy.wait()

    def note_afterwards(self, text: str) -> None:
        """Adds a message for the user when the run has ended."""
        self.settle()
        self.run.note(text)
        if self._folder is not None:
            self._folder.save()

    def forget_pictures(self) -> None:
        """Drops the pictures in memory; files stay."""
        self._memory.pictures.clear()
        if self._truth is not None:
            self._truth.forget()

    def _offer(self, step: SchedulerStep) -> None:
        if self._pipeline is None:
            if self._open is None:  # the run has ended
                return
            self._pipeline = self._open(step)
        wanted = self._pipeline.wants(step.index, step.total)
        self._unshown = None if wanted else step
        if not wanted:
            return
        x0, sigma, gain = step.x0
        options = self._options.run
        # Tokens are copied to rearrange them: only those that are needed.
        needs_noisy = x0 is None or options.needs_noisy or options.keep_latents
        needs_x0 = options.needs_denoised or options.keep_latents
        offered = Step(
            index=step.index,
            total=step.total,
            sigma=sigma,
            denoised=self._rearranged(x0) if x0 is not None and needs_x0 else None,
            noisy=self._rearranged(step.noisy) if needs_noisy else None,
            noisy_gain=gain,
        )
        self._pipeline.offer(offered, self._vae and self._vae.picture(offered), wanted)

    def _rearranged(self, latents: Tensor) -> Tensor:
        return latents if self._layout is None else self._layout.rearrange(latents)

    def _start(self, pipeline: Any, call: CallArguments, step: SchedulerStep) -> Pipeline:
        options, run = self._options, self.run
        catalogue = options.catalogue()
        space, evidence = self._find_space(pipeline, call, catalogue, step.noisy)
        run.space = space.name
        latents = self._rearranged(step.noisy)
        selection = options.run.selection()
        vae_bytes = 0
        if options.run.decoder == FULL:
            family = family_of_pipeline(pipeline)
            self._vae = PipelineVaePreview(
                autoencoder_of(pipeline),
                family.shifts,
                space,
                options.run.full_every_n_steps,
                selection,
                run.note,
                call.fps,
            )
            vae_bytes = self._vae.picture_bytes(latents.shape)
        return start(
            run,
            space,
            options.run,
            self._outputs(space, latents, step),
            candidates=partial(
                catalogue.candidates_or_auto,
                space,
                options.run.step_decoder,
                accelerated=latents.device.type != "cpu",
                evidence=evidence,
                vae=vae_of(pipeline, options),
                notify=run.note,
            ),
            select=selection,
            shape=latents.shape,
            vae_bytes=vae_bytes,
            device=latents.device,
            fps=call.fps,
            device_bytes=options.device_bytes,
            trial=DecoderTrial(catalogue, space, run.note) if catalogue.folders else None,
            stop=self._stop_by_rule,
        )

    def _find_space(
        self, pipeline: Any, call: CallArguments, catalogue: Catalogue, noisy: Tensor
    ) -> tuple[LatentSpace, Evidence]:
        """Returns the latent space, and sets the layout in which the scheduler holds its latents."""
        spaces = catalogue.spaces()
        family = family_of_pipeline(pipeline)
        # A pipeline may have other axes; those of a loop of the user are in the usual order.
        is_plain = noisy.ndim == 4 or (noisy.ndim == 5 and isinstance(pipeline, OwnLoop))
        channels, dims = (noisy.shape[1], noisy.ndim - 2) if is_plain else (None, None)
        evidence = evidence_of(pipeline, spaces, channels, dims if isinstance(pipeline, OwnLoop) else None)
        space = self._options.chosen_space(spaces)
        if space is None:
            space, note = space_or_unknown(pipeline, family, evidence, spaces)
            if note is not None:
                self.run.note(note)
        if space.dims == AUDIO:
            return space, evidence
        note = self._note_of_own_loop if isinstance(pipeline, OwnLoop) else self.run.note
        self._layout = LatentLayout(family, call, space.channels, space.frame_stride, note)
        rearranged = self._layout.rearrange(noisy)
        try:
            space.unpack(torch.empty(rearranged.shape, device="meta"))
        except SafelightError as error:
            self.run.note(str(error))
            evidence = Evidence(host="diffusers", channels=rearranged.shape[1], dims=rearranged.ndim - 2)
            space = unknown(evidence)
        return space, evidence

    def _note_of_own_loop(self, text: str) -> None:
        """Adds what a loop of the user can do about tokens whose height and width are unknown."""
        self.run.note(f"{text}. Name them `height` and `width` in the function that steps the scheduler")

    def _outputs(self, space: LatentSpace, latents: Tensor, step: SchedulerStep) -> Outputs:
        options = self._options.run
        latent_files = None
        if self._options.out is not None:
            folder = self._folder = self._new_folder(step.noisy)
            self._copy = self._new_copy(folder)
            if options.keep_latents:
                need = Need.of(latents, options.cadence(), step.total)
                latent_files = LatentFiles(folder, need, partial(disk_room, folder.path))
        if space.dims != AUDIO:
            folders = [] if self._folder is None else [self._folder]
            image = shown_image(space, latents.shape, middle=options.frames == "middle")
            self._truth = TruthMeter(self.run, space.downscale, folders, image=image)
        screen = self._new_screen()
        return Outputs(
            folder=self._folder,
            copy=self._copy,
            group=self._group,
            latents=latent_files,
            sinks=[self._memory] if screen is None else [self._memory, screen],
            truth=self._truth,
        )

    def _new_folder(self, begin: Tensor) -> RunFolder:
        """Creates the folder of the run: a numbered one, or one in the folder of the run that it continues.

        Args:
            begin: latents that the run begins with.
        """
        self._group = self._refined.group_of(self._call, begin)
        if self._group is not None:
            return self._group.add(self.run)
        prefix = cast("Path", self._options.new_prefix())
        path = create_numbered_folder(prefix.parent, prefix.name)
        folder = scratch_run(path, self.run) if self._options.address else RunFolder(path, self.run)
        self._group = RunGroup(folder)
        return folder

    def _new_copy(self, folder: RunFolder) -> RemoteCopy | None:
        """The copy of the run in a store; None if the runs are on this machine."""
        base = self._options.address
        if not base or self._group is None:
            return None
        first = self._group.first
        address = copy_address(base, self._options.run.filename_prefix, first.run.id)
        copy = RemoteCopy(folder, address if folder is first else f"{address}/{folder.path.name}")
        remove_when_unused(folder, copy)
        return copy

    def _new_screen(self) -> Sink | None:
        try:
            return self._options.new_screen(self.run, self._stop)
        except Exception as error:
            self.run.note(f"the screen cannot be used, so nothing is shown: {describe(error)}")
            return None
