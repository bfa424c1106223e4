"""Starts the preview of a run: the only place that constructs a `Pipeline`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..decoders.catalogue import Candidate
from ..decoders.latents.space import LatentSpace
from .cadence import Cadence
from .decode.decoder_trial import DecoderTrial
from .decode.memory_budget import DEVICE_BYTES, queue_capacity, selected_bytes
from .decode.run_decoder import RunDecoder
from .mailbox import Mailbox
from .options import RunOptions
from .pipeline import LatentSchedule, Pipeline, SinkSchedule
from .remote.remote_copy import RemoteCopy
from .run import Run
from .sinks.animation import Animation
from .sinks.base import Sink
from .sinks.contact_sheet import ContactSheet
from .sinks.latent_files import LatentFiles
from .sinks.live_view import LiveView
from .sinks.page import Page
from .sinks.run_folder import EmptyFolderRemoval, RunFolder
from .sinks.run_group import RunGroup
from .sinks.step_files import ENCODERS, StepFiles
from .sinks.steps_csv import StepsCsv
from .sinks.stop_rule import StopRule
from .sinks.truth import TruthMeter
from .snapshot import GivenFrames


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where a host wants the pictures of a run.

    Args:
        folder: folder for files; None to write none. The options say which files.
        copy: copy of the folder in a store; None if there is none.
        group: runs of the same prompt that share a page with it; None if there are none.
        texts: function that returns metadata for each picture file, by name, as JSON; called once, by the worker.
        facts: whether picture files store their run and step.
        latents: files for latents; None to store none.
        live: the host's viewer; None if there is none.
        sinks: further sinks, such as a notebook's cell.
        savers: further sinks with the cadence of the files, such as a host's gallery.
        truth: measures how true the pictures are; None to not measure it.
        remove_empty: whether the folder is removed if the run turns out to have no step.
        sink_cadence: cadence of `live` and `sinks`; None for the cadence of the files.
    """

    folder: RunFolder | None = None
    copy: RemoteCopy | None = None
    group: RunGroup | None = None
    texts: Callable[[], Mapping[str, str]] = dict
    facts: bool = True
    latents: LatentFiles | None = None
    live: LiveView | None = None
    sinks: Sequence[Sink] = ()
    savers: Sequence[Sink] = ()
    truth: TruthMeter | None = None
    remove_empty: bool = False
    sink_cadence: Cadence | None = None


def start(
    run: Run,
    space: LatentSpace,
    options: RunOptions,
    outputs: Outputs,
    *,
    candidates: Callable[[], Sequence[Candidate]],
    select: Callable[[Tensor], Tensor] | None = None,
    shape: Sequence[int] | None = None,
    vae_bytes: int = 0,
    device: torch.device | None = None,
    frames: GivenFrames | None = None,
    fps: float | None = None,
    device_bytes: Callable[[], int] = lambda: DEVICE_BYTES,
    trial: DecoderTrial | None = None,
    notify: Callable[[str], None] | None = None,
    stop: Callable[[], object] | None = None,
    why_no_stop: str | None = None,
) -> Pipeline:
    """Starts the worker of a run. The caller offers steps to the pipeline and closes it.

    Args:
        run: run that begins.
        space: latent space of the sampler's latents.
        options: the user's options.
        outputs: where the pictures go.
        candidates: function that returns the decoders to try, best first; called once, by the worker.
        select: part of a step's latents that is copied and shown; None for what the options say.
        shape: shape of the sampler's latents, which decides how many steps may wait; None if unknown.
        vae_bytes: size of a step's picture that the host's VAE decodes.
        device: device of the latents; None for the CPU.
        frames: frames of a video that the latents hold; None for what the options say.
        fps: frames per second of the run's video; None for the rate that models of the space generate.
        device_bytes: function that returns how much of a device's memory previews may use; the worker calls it, because
            it may read a file.
        trial: tries decoder files on the finished latents; None to try none.
        notify: function that receives messages about a decoder's limits; None for the notes of the run.
        stop: function with which the user's rule asks the sampler to end after its current step, with the step's
            estimate as its result; None if this sampler cannot.
        why_no_stop: reason why it cannot, in words; None for the usual one.
    """
    select = select or options.selection()
    cadence = options.cadence()
    folder, latents = outputs.folder, outputs.latents
    record: list[Sink] = []
    if folder is not None:
        record = [*([EmptyFolderRemoval(folder)] if outputs.remove_empty else []), folder]
        if outputs.copy is not None:
            record.insert(0, outputs.copy)
        if options.write_intermediates:
            record.append(Page(folder, group=outputs.group))
    shown = 2 if options.show == "both" else 1
    step_bytes = 0 if shape is None else shown * selected_bytes(select, shape) + vae_bytes
    step_bytes += latents.need.bytes_each if latents is not None else 0

    def capacity(device_bytes: Callable[[], int]) -> int:
        return queue_capacity(step_bytes, device or torch.device("cpu"), device_bytes)

    files = [] if folder is None else file_sinks(folder, options, outputs)
    screens = [*([outputs.live] if outputs.live else []), *outputs.sinks]
    screens += stop_rules(run, options, stop, why_no_stop or "this sampler cannot be stopped from outside")
    screens += [outputs.truth] if outputs.truth else []  # last, so that it is closed before the host's viewer
    return Pipeline(
        run,
        RunDecoder(
            space,
            candidates,
            notify or run.note,
            frames=frames or options.given_frames(),
            fps=fps,
            device_bytes=device_bytes,
        ),
        [
            *(SinkSchedule(sink, cadence) for sink in (*files, *outputs.savers)),
            *(SinkSchedule(sink, outputs.sink_cadence or cadence) for sink in screens),
        ],
        record=[SinkSchedule(sink, cadence) for sink in record],
        latents=None if latents is None else LatentSchedule(latents, cadence),
        show=options.show,
        select=select,
        mailbox=Mailbox() if shape is None else Mailbox(capacity=capacity(lambda: DEVICE_BYTES)),
        capacity=None if shape is None else lambda: capacity(device_bytes),
        trial=trial,
        abandon=[place.abandon for place in (outputs.live, folder) if place is not None],
    )


def stop_rules(run: Run, options: RunOptions, stop: Callable[[], object] | None, why_no_stop: str) -> list[Sink]:
    """The user's rule to stop; none without a rule, or with a note if the sampler cannot be stopped."""
    if not options.stop_below_percent:
        return []
    if stop is None:
        run.note(f"stop_below_percent has no effect: {why_no_stop}. Set it to 0")
        return []
    run.follow_rule(options.stop_below_percent, options.stop_after_steps)
    return [StopRule(run, options.stop_below_percent / 100, options.stop_after_steps, stop)]


def file_sinks(folder: RunFolder, options: RunOptions, outputs: Outputs) -> list[Sink]:
    """The sinks that write files into a run's folder. To add an output, add it here."""
    sinks: list[Sink] = []
    if options.write_intermediates:
        step_files = StepFiles(
            folder,
            options.encoding(),
            texts=outputs.texts,
            facts=outputs.facts,
            encoders=ENCODERS,
            batch=options.batch,
            frames_apart=options.frames == "all files",
        )
        sinks.append(step_files)
    if options.sheet:
        sinks.append(ContactSheet(folder))
    if options.animates:
        animation = Animation(
            folder,
            options.pace(),
            file_format=options.animation,  # type: ignore[arg-type]  # not "off" here
            from_step=options.animation_from_step,
            to_step=options.animation_to_step,
        )
        sinks.append(animation)
    if options.write_csv:
        sinks.append(StepsCsv(folder))
    return sinks
