"""Watching a sampler of ComfyUI: a wrapper on a cloned MODEL, nothing patched."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

import folder_paths
import torch
from comfy.cli_args import args as cli
from comfy.model_management import InterruptProcessingException
from comfy.patcher_extension import WrappersMP
from server import PromptServer
from torch import Tensor

from ...decoders.catalogue import AUTO, Candidate
from ...decoders.errors import SafelightError, SinkError
from ...decoders.identify import Evidence, identify, unknown
from ...decoders.spaces import AUDIO, LatentSpace
from ...preview.animation import ENCODES, Animation, Pace, check
from ...preview.cadence import Cadence
from ...preview.develop import Developer
from ...preview.encode import Encoding, Enlarge, FileFormat
from ...preview.files import ENCODERS, Batch, Files
from ...preview.folder import RunFolder
from ...preview.latents import MB, LatentFiles, Need, Room
from ...preview.live import LiveRuns, MakeRoom
from ...preview.made import kept_promise
from ...preview.mailbox import Mailbox
from ...preview.page import Page
from ...preview.pipeline import Outlet, Pipeline, describe
from ...preview.run import FULL, Run, State
from ...preview.screen import Screen
from ...preview.sheet import Sheet
from ...preview.sink import EveryStep, Sink
from ...preview.snapshot import VIDEO_NDIM, Frames, Selection
from ...preview.step import Show, Step
from . import full
from .facts import Prompt, frame_rate, latent_evidence, noisy_gains, sampler_facts
from .library import catalogue
from .movie import as_mp4
from .names import expand
from .preferences import Preferences
from .steps import Record, Steps, is_wired
from .words import guiding_words

KEY = "safelight"
PARAMETERS = (  # of the host's `CFGGuider.outer_sample`; newer hosts pass `latent_shapes` by name
    *(
        "noise",
        "latent_image",
        "sampler",
        "sigmas",
        "denoise_mask",
        "callback",
        "disable_pbar",
        "seed",
        "latent_shapes",
    ),
)
LIVE = Encoding(file_format="jpg")
MAX_WAITING, WAITING_BYTES = 32, 512 << 20  # steps that wait to be developed
LIVE_ITEMS = 16  # of a batch: more would be stamps on the node
LIVE_PIXELS = 20_000_000  # of a step's frames together: half a second of one core, for 49 frames of 480x832

STEPS_OUTPUT = 1  # of the node that attaches the preview
DISK_RESERVE_BYTES = 500 * MB  # that latents leave free on the disk

Animated = Literal["off", "webp", "gif", "mp4"]
ANIMATIONS = {**ENCODES, "mp4": as_mp4}

# On the server and not in this module: of two copies of this pack one answers the viewer, for the runs of both.
RUNS: LiveRuns = vars(PromptServer.instance).setdefault("safelight_runs", LiveRuns())

log = logging.getLogger("safelight.comfyui")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user chose on the node; see its tooltips."""

    decoder: str = AUTO
    show: Show = "denoised"
    every_n_steps: int = 1
    max_side_px: int = 1024
    write_intermediates: bool = False
    filename_prefix: str = "safelight/steps"
    file_format: FileFormat = "png"
    enlarge: Enlarge = "off"
    keep_latents: bool = False
    batch: Batch = "grid"
    frames: Frames = "first"
    sheet: bool = False
    animation: Animated = "off"
    animation_fps: float = 8.0
    animation_hold_s: float = 1.5
    animation_from_step: int = 0
    animation_to_step: int = 0
    full_every_n_steps: int = 0
    vae: Any = None

    @property
    def cheap(self) -> str:
        """The decoder of the steps that are not for the VAE."""
        return AUTO if self.decoder == FULL else self.decoder

    @property
    def animates(self) -> bool:
        return self.write_intermediates and self.animation != "off"


def attach(model: Any, settings: Settings, node: str | None, steps: Steps | None = None) -> Any:
    """A clone of the ModelPatcher `model` whose sampling is watched for the node with id `node`.

    `steps` is told of every run.

    Raises:
        SinkError: the prefix leads to where no folder can be, or the animation would have no frames.
        UnknownDecoderError: decoder full has no VAE, or is to show noise.
        Exception: the host's own, for one that leads out of its output folder.
    """
    if settings.decoder == FULL:
        full.check(settings.vae, settings.show)
    if settings.write_intermediates:
        try:
            folder_paths.get_save_image_path(settings.filename_prefix, folder_paths.get_output_directory())
        except OSError as error:
            raise SinkError(
                f"filename_prefix {settings.filename_prefix!r}: no folder can be made there ({error.strerror}); "
                "choose another place in the output folder"
            ) from None
    if settings.animates:
        check(settings.animation, settings.animation_from_step, settings.animation_to_step, ANIMATIONS)
    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, Watcher(settings, node, steps))
    return watched


@final
class Watcher:
    """Wraps a sampler call: every call is a run.

    Args:
        settings: the user's.
        node: id of the node that shows the run.
        steps: is told of every run.
    """

    def __init__(self, settings: Settings, node: str | None, steps: Steps | None = None) -> None:
        self._settings, self._node, self._steps = settings, node, steps

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            named = dict(zip(PARAMETERS, args, strict=False)) | kwargs
            watch = Watch(self._settings, self._node, executor.class_obj, named, self._steps)
            watched_args, watched_kwargs = _with_callback(args, kwargs, watch.chain)
        except Exception:
            log.exception("this run goes on without previews")
            return executor(*args, **kwargs)
        state: State = "failed"
        try:
            samples = executor(*watched_args, **watched_kwargs)
            watch.finish(samples)
            state = "finished"
            return samples
        except InterruptProcessingException:
            state = "interrupted"
            raise
        except Exception as error:
            watch.blame(error)
            raise
        finally:
            watch.close(state)


@final
class Watch:
    """One run being watched.

    Nothing it owns refers back to it: it goes when the sampler returns, and the model with it. Older hosts take a model
    that the garbage collector has to find for a leak, then and at every later load.

    Args:
        settings: the user's.
        node: id of the node that shows the run.
        guider: the host's `CFGGuider`.
        named: the arguments of its `outer_sample` by name.
        steps: is told of the run.
    """

    def __init__(
        self,
        settings: Settings,
        node: str | None,
        guider: Any,
        named: Mapping[str, Any],
        steps: Steps | None = None,
    ) -> None:
        model = self._model = guider.model_patcher
        sigmas: list[float] = named["sigmas"].detach().float().cpu().tolist()
        self._sigmas, self._gains = sigmas, noisy_gains(model, named["sigmas"])
        prompt = Prompt.current()
        evidence = latent_evidence(model)
        self._run = Run(
            host=prompt.host(node),
            sampler=sampler_facts(prompt, guider, named["sampler"], sigmas, named.get("seed")),
            prompt=guiding_words(prompt.graph, prompt.node),
        )
        accelerated = model.load_device.type != "cpu"
        space = self._identify(evidence)
        self._run.space = space.name
        shapes = named.get("latent_shapes") or [named["noise"].shape]
        select = _selection(settings, space)
        folders, outlets = self._outlets(settings, prompt, _final_size(space, shapes[0]), shapes[0][0])
        latents = folders[0] if settings.keep_latents and folders else None
        record = Record.of(self._run, folders, latents, prompt, model, named["sigmas"], shapes)
        whole_bytes = 0
        if latents is not None:
            files = _latent_files(settings, latents, named, record.facts())
            whole_bytes = files.need.bytes_each
            outlets.append(Outlet(files, Cadence(settings.every_n_steps)))
        self._cadence, self._full = Cadence(settings.every_n_steps), None
        if settings.decoder == FULL and outlets:
            self._full = full.Full(
                settings.vae,
                model,
                space,
                settings.full_every_n_steps,
                select,
                shapes,
                self._run.note,
                frame_rate(guider),
            )
            whole_bytes += _picture_bytes(space, select, shapes[0])
        if steps is not None:
            steps.add(record)
        self._pipeline = Pipeline(
            self._run,
            Developer(
                space,
                partial(_candidates, self._run, space, settings.cheap, evidence, accelerated),
                self._run.note,
                fps=frame_rate(guider),
            ),
            outlets,
            show=settings.show,
            select=select if len(shapes) == 1 else partial(_select_of_pack, select, shapes[0]),
            mailbox=Mailbox(capacity=_capacity(select, shapes[0], whole_bytes)),
        )
        self._last: tuple[int, bool] = (0, True)

    def finish(self, samples: Tensor) -> None:
        """Sees to it that the last step is shown: some samplers end before or after the step they call the last."""
        index, taken = self._last
        made = self._full.finish(samples, index) if self._full and (self._full.owes or not taken) else None
        if taken:
            if self._full and not self._full.answered:
                self._run.note("the VAE was left out: the sampler ended before the step that it calls its last")
            return
        try:
            latents = self._model.model.process_latent_in(samples)
            last = Step(index=index, total=index, sigma=self._sigmas[-1], denoised=latents)
            self._pipeline.offer(last, made and kept_promise(made))
        except Exception as error:
            self._run.note(f"the last step was not taken: {error}")

    def blame(self, error: Exception) -> None:
        """Says in the record of the run why the sampler failed."""
        self._run.note(f"the sampler failed: {describe(error)}")

    def close(self, state: State) -> None:
        """Ends the run; waits, for a bounded time, until its files are there."""
        if self._full:
            self._full.close()
        self._pipeline.close(state)

    def chain(self, callback: Callable[..., None] | None) -> Callable[..., None]:
        """The host's own callback first, always; then ours, which never raises but for the host: for its Cancel."""

        def watched(step: int, denoised: Tensor, noisy: Tensor, total: int) -> None:
            if callback is not None:
                callback(step, denoised, noisy, total)
            self._take(step, denoised, noisy, total)

        return watched

    def _take(self, step: int, denoised: Tensor, noisy: Tensor, total: int) -> None:
        try:
            at = min(step, len(self._sigmas) - 1)
            offered = Step(
                index=step + 1,
                total=total,
                sigma=self._sigmas[at],
                denoised=denoised,
                noisy=noisy,
                noisy_gain=self._gains[at],
            )
        except Exception as error:  # a sampler from elsewhere may call anything a step
            self._run.note(f"the sampler's step {step!r} was not taken: {error}")
        else:
            promise = None
            if self._full and self._cadence.wants(offered.index, offered.total):
                promise = self._full.promise(offered)
            self._last = offered.index, self._pipeline.offer(offered, promise)

    def _identify(self, evidence: Evidence) -> LatentSpace:
        try:
            return identify(evidence, catalogue().spaces())
        except SafelightError as error:
            self._run.note(str(error))
            return unknown(evidence)

    def _outlets(
        self, settings: Settings, prompt: Prompt, size: tuple[int, int], items: int
    ) -> tuple[list[RunFolder], list[Outlet]]:
        """The folders of the run, the best pictures first, and where the pictures go."""
        sinks: list[Sink] = []
        has_readers = is_wired(prompt.graph, self._run.host["node"], STEPS_OUTPUT)
        if prompt.client is not None or has_readers or settings.keep_latents:
            live = RUNS.new(self._run, Path(folder_paths.get_temp_directory()) / "safelight")
            tell = partial(_tell, prompt.client) if prompt.client is not None else _tell_nobody
            files = Files(
                live,
                replace(LIVE, max_side_px=settings.max_side_px),
                facts=False,
                batch="first" if settings.batch == "first" else "all files",
                max_items=LIVE_ITEMS,
                max_pixels=LIVE_PIXELS,
            )
            if items > LIVE_ITEMS and settings.batch != "first":
                self._run.note(f"the first {LIVE_ITEMS} of the batch's {items} pictures are shown while it samples")
            place = {"workflow": prompt.workflow_id, "node": self._run.host["node"]}
            sinks += [Screen(files, tell, place), MakeRoom(RUNS, lambda: Preferences.current().budget_bytes)]
            sinks += [EveryStep()] if has_readers else []
            folders = [live]
        else:
            folders = []
        if settings.write_intermediates and (kept := self._kept(settings, prompt, size)):
            sinks += kept
            folders = [*(sink for sink in kept if isinstance(sink, RunFolder)), *folders]
        cadence = Cadence(settings.every_n_steps)  # one for all: the sampler asks it once
        return folders, [Outlet(sink, cadence) for sink in sinks]

    def _kept(self, settings: Settings, prompt: Prompt, size: tuple[int, int]) -> list[Sink]:
        try:
            prefix = expand(settings.filename_prefix, prompt.graph, prompt.workflow, datetime.now().astimezone())
            kept = RunFolder(_numbered(prefix, size), self._run)
        except OSError as error:  # a full or read-only disk: the screen can still be served
            self._run.note(f"no step is written to disk: {error}")
            return []
        encoding = Encoding(
            file_format=settings.file_format, enlarge=settings.enlarge, max_side_px=settings.max_side_px
        )
        metadata = not cli.disable_metadata
        texts = partial(_texts, prompt) if metadata else dict
        files = Files(kept, encoding, texts=texts, facts=metadata, encoders=ENCODERS, batch=settings.batch)
        return [kept, Page(kept), files, *_products(settings, kept)]


def _products(settings: Settings, folder: RunFolder) -> list[Sink]:
    """What is made of the whole run."""
    products: list[Sink] = [Sheet(folder)] if settings.sheet else []
    if settings.animates:
        animation = Animation(
            folder,
            Pace(settings.animation_fps, settings.animation_hold_s),
            file_format=settings.animation,
            encodes=ANIMATIONS,
            from_step=settings.animation_from_step,
            to_step=settings.animation_to_step,
        )
        products.append(animation)
    return products


def _candidates(run: Run, space: LatentSpace, wanted: str, evidence: Evidence, accelerated: bool) -> list[Candidate]:
    choose = partial(catalogue().candidates, space, evidence=evidence, accelerated=accelerated)
    try:
        return choose(wanted if wanted != AUTO else Preferences.current().decoder)
    except SafelightError as error:
        if wanted != AUTO:  # what a person always prefers need not be there for every space
            run.note(f"{error} Chosen automatically instead.")
        return choose()


def _with_callback(
    args: Sequence[Any], kwargs: Mapping[str, Any], chain: Callable[[Any], Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of `outer_sample` with another callback, wherever it stands among them."""
    at = PARAMETERS.index("callback")
    if len(args) > at:
        return (*args[:at], chain(args[at]), *args[at + 1 :]), kwargs
    return args, {**kwargs, "callback": chain(kwargs.get("callback"))}


def _selection(settings: Settings, space: LatentSpace) -> Selection:
    """What is looked at: no more than what is shown or written."""
    some = LIVE_ITEMS if not settings.write_intermediates else None
    frames = "first" if space.dims == AUDIO else settings.frames
    return Selection(items=1 if settings.batch == "first" else some, frames=frames)


def _latent_files(
    settings: Settings, folder: RunFolder, named: Mapping[str, Any], facts: Mapping[str, str]
) -> LatentFiles:
    """What keeps the latents in a run's folder: two tensors a step, for as many steps as the user wants."""
    noise, sigmas, total = named["noise"], named["sigmas"], len(named["sigmas"]) - 1
    steps = sum(i % settings.every_n_steps == 0 or i == total - 1 for i in range(total))
    need = Need(steps, 2 * noise.numel() * max(noise.element_size(), torch.float32.itemsize))
    return LatentFiles(folder, need, partial(_room, folder.path), sigmas=sigmas, facts=facts)


def _room(folder: Path) -> Room:
    """What is left for latents in a run's folder: one of the user's, or one that the viewer shows."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    writes = not folder.is_relative_to(folder_paths.get_temp_directory())
    disk = Room(shutil.disk_usage(place).free - DISK_RESERVE_BYTES, "the disk")
    budget = Room(Preferences.current().budget_bytes, "the budget for live runs in Safelight's settings")
    return disk if writes or disk.free_bytes < budget.free_bytes else budget


def _capacity(select: Selection, shape: Sequence[int], whole_bytes: int) -> int:
    """How many steps may wait: each has a copy of its latents, of a large batch or a video a large one.

    Args:
        select: what is looked at of latents
        shape: of this shape.
        whole_bytes: of what else is copied at a step.
    """
    step_bytes = select(torch.empty(tuple(shape), device="meta")).numel() * torch.float32.itemsize + whole_bytes
    return min(MAX_WAITING, max(2, WAITING_BYTES // max(1, step_bytes)))


def _picture_bytes(space: LatentSpace, select: Selection, shape: Sequence[int]) -> int:
    """How much a step's picture takes that a VAE makes."""
    looked_at = select(torch.empty(tuple(shape), device="meta"))
    width, height = _final_size(space, looked_at.shape)
    frames = looked_at.shape[2] * space.frame_stride if looked_at.ndim == VIDEO_NDIM else 1
    return 3 * len(looked_at) * frames * width * height


def _select_of_pack(select: Selection, shape: Sequence[int], packed: Tensor) -> Tensor:
    """What is looked at of `[B, 1, N]`, which holds several latents flat, one after the other, video first.

    Source: ComfyUI 0.33 `comfy/utils.py`, `unpack_latents`.
    """
    return select(packed[:, 0, : math.prod(shape[1:])].unflatten(1, tuple(shape[1:])))


def _final_size(space: LatentSpace, shape: Sequence[int]) -> tuple[int, int]:
    """Width and height of the final image of latents of this shape; zeros where the shape is not the space's."""
    try:
        height, width = space.unpack(torch.empty(tuple(shape), device="meta")).shape[-2:]
    except SafelightError:
        return 0, 0
    return width * space.downscale, height * space.downscale


def _numbered(prefix: str, size: tuple[int, int]) -> Path:
    """The next free `<prefix>_<5-digit counter>` in the host's output folder, made at once: another run may ask now."""
    output = folder_paths.get_output_directory()
    parent, name, counter, *_ = folder_paths.get_save_image_path(prefix, output, *size)
    while True:
        place = Path(parent) / f"{name}_{counter:05d}"
        try:
            place.mkdir()
        except FileExistsError:
            counter += 1
        except OSError:
            return place  # whoever opens the folder tells the user why it cannot be made
        else:
            return place


def _texts(prompt: Prompt) -> dict[str, str]:
    """What the host stores in the pictures it saves, so that dropping one on the canvas restores the graph."""
    texts = {"prompt": json.dumps(prompt.graph)} if prompt.graph else {}
    return texts | ({"workflow": json.dumps(prompt.workflow)} if prompt.workflow else {})


def _tell_nobody(event: str, facts: Mapping[str, Any]) -> None:
    pass


def _tell(client: str, event: str, facts: Mapping[str, Any]) -> None:
    PromptServer.instance.send_sync(event, dict(facts), client)
