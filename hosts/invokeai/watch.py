"""Watching a denoise node of InvokeAI: it runs on a context whose step callbacks are ours, nothing patched."""

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, final

from torch import Tensor

from ...decoders.catalogue import AUTO, Catalogue
from ...decoders.latents.identify import Evidence, identify, unknown
from ...decoders.latents.space import LatentSpace
from ...errors import SafelightError, SinkError, brief, describe
from ...preview.cadence import Cadence
from ...preview.decode.candidates import candidates
from ...preview.decode.memory_budget import selected_bytes, waiting_steps
from ...preview.decode.run_decoder import DecodeWorker
from ...preview.file_names import name_problem
from ...preview.images.encode import Enlarge, FileFormat, ImageEncoding
from ...preview.mailbox import Mailbox
from ...preview.output_folder import create_numbered_folder
from ...preview.pipeline import CLOSE_TIMEOUT_S, Pipeline, SinkSchedule
from ...preview.run import Run, State
from ...preview.sinks.animation import Animation
from ...preview.sinks.base import Sink
from ...preview.sinks.contact_sheet import ContactSheet
from ...preview.sinks.page import Page
from ...preview.sinks.run_folder import RunFolder
from ...preview.sinks.step_files import ENCODERS, StepFiles
from ...preview.snapshot import Selection
from ...preview.step import Step
from .denoise_nodes import DENOISED
from .graph import leads_to_sheet
from .preferences import DECODERS, InvokePreferences
from .progress import Gallery, ProgressPicture
from .x0 import X0Estimates, caller, meta_tensor, with_batch

CALLBACK = "_step_callback"  # how the names of the host's step callbacks end: `flux_step_callback` and so on
ORIGINAL = "safelight_original"  # what a step callback of whole-host previews has in place of

log = logging.getLogger("safelight.invokeai")


@dataclass(frozen=True, kw_only=True)
class InvokeOptions:
    """What the user chose on the node; see its descriptions."""

    decoder: str = AUTO
    every_n_steps: int = 1
    write_intermediates: bool = False
    filename_prefix: str = "safelight/steps"
    file_format: FileFormat = "png"
    enlarge: Enlarge = "off"
    sheet: bool = False
    animation: bool = False
    to_gallery: bool = False


def catalogue(root: Path) -> Catalogue:
    """The decoders that ship, and the files in InvokeAI's root folder `root`."""
    return Catalogue([root / DECODERS])


def watched(invoke: Callable[[Any], Any], context: Any, node: Any, settings: InvokeOptions) -> Any:
    """`invoke(context)`, its steps shown and kept; what it returns or raises is what it returns or raises.

    Args:
        invoke: the core node's, bound.
        context: the host's `InvocationContext`; not changed.
        node: the invocation.
        settings: the user's.

    Raises:
        SinkError: the prefix leads to where no folder can be.
    """
    settings = with_sheet(settings, context, node)
    if settings.write_intermediates or settings.sheet or settings.animation:
        folder_for(Path(context.config.get().outputs_path), settings.filename_prefix)
    watch = WatchedNode(settings, context, node)
    ours = copy.copy(context)
    ours.util = WatchedUtil(context.util, watch)
    state: State = "failed"
    try:
        output = invoke(ours)
        watch.finish()
        state = "finished"
        return output
    except Exception as error:
        watch.blame(error)
        raise
    finally:
        watch.close("interrupted" if state == "failed" and context.util.is_canceled() else state)


def with_sheet(settings: InvokeOptions, context: Any, node: Any) -> InvokeOptions:
    """What the user chose; where a node makes a contact sheet of this run, the run keeps one."""
    try:
        return replace(settings, sheet=settings.sheet or leads_to_sheet(context, node))
    except Exception:
        log.debug("a graph that nobody can read", exc_info=True)
        return settings


@final
class WatchedUtil:
    """The host's `UtilInterface` with step callbacks that are watched.

    Args:
        util: the host's.
        watch: is told of each step.
    """

    def __init__(self, util: Any, watch: "WatchedNode") -> None:
        self._util, self._watch = util, watch

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._util, name)
        if not name.endswith(CALLBACK):
            return value
        if original := getattr(value, ORIGINAL, None):  # whole-host previews are on: one watch is enough
            value = partial(original, self._util)
        return partial(self._watch.tap, value, name.removesuffix(CALLBACK))


@final
class WatchedNode:
    """One run being watched.

    Args:
        settings: the user's.
        context: the host's, as it is.
        node: the invocation.
    """

    def __init__(self, settings: InvokeOptions, context: Any, node: Any) -> None:
        self._settings, self._context, self._node = settings, context, node
        self._beliefs: X0Estimates | None = None
        self._run = Run(host=host_facts(context, node), sampler=sampler_facts(node))
        self._screen = ProgressPicture(context.util.signal_progress)
        self._developer: DecodeWorker | None = None
        self._pipeline: Pipeline | None = None
        self._broken = False
        self._last: Step | None = None

    def tap(self, callback: Callable[..., None], kind: str, state: Any, *args: Any, **kwargs: Any) -> None:
        """In place of the host's `callback(state, ...)`, which is called where we have nothing to show.

        Args:
            callback: the host's.
            kind: `sd`, `flux` and so on.
            state: the host's `PipelineIntermediateState`.
            args: and
            kwargs: the base model of `sd`.
        """
        if self._context.util.is_canceled():
            callback(state, *args, **kwargs)  # raises what the host ends a node with
            return
        try:
            taken = self._take(state, base_name(kind, args, kwargs))
        except Exception as error:
            self._broken, taken = True, False
            self._run.note(f"this run goes on with the host's own previews: {describe(error)}")
            log.debug("not watched", exc_info=True)
        if not taken:
            callback(state, *args, **kwargs)

    def finish(self) -> None:
        """Sees to it that the last step is kept: some nodes take fewer steps than they said."""
        last = self._last
        if (
            last is None
            or self._pipeline is None
            or Cadence(self._settings.every_n_steps).wants(last.index, last.total)
        ):
            return
        self._pipeline.offer(
            Step(index=last.index, total=last.index, sigma=last.sigma, denoised=last.denoised, noisy=last.noisy)
        )

    def blame(self, error: Exception) -> None:
        """Says in the record of the run why the node failed."""
        if not self._context.util.is_canceled():
            self._run.note(f"the node failed: {describe(error)}")

    def close(self, state: State, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Ends the run; waits, for at most `timeout_s` seconds, until its files are there."""
        if self._beliefs is not None:
            self._beliefs.close()
        if self._pipeline is not None:
            self._pipeline.close(state, timeout_s)

    def _take(self, state: Any, base: str) -> bool:
        """Whether this step will be shown by us."""
        if self._broken or self._screen.failed or (self._developer is not None and not self._developer.has_decoder):
            return False
        if self._beliefs is None:
            self._beliefs = X0Estimates(denoised=base in DENOISED)
        believed = self._beliefs.of(state, caller(2))
        if state.step == 0:  # nothing has been denoised yet: progress, but no picture of noise
            self._context.util.signal_progress("Denoising", 0.0)
            return True
        latents = with_batch(state.latents)
        denoised = None if believed.x0 is None else with_batch(believed.x0)
        pipeline = self._pipeline or self._open(base, latents)
        self._last = Step(
            index=state.step, total=state.total_steps, sigma=believed.sigma, denoised=denoised, noisy=latents
        )
        return pipeline.offer(self._last)

    def _open(self, base: str, latents: Tensor) -> Pipeline:
        root = Path(self._context.config.get().root_path)
        decoders = catalogue(root)
        evidence = Evidence(host="invokeai", format_name=base, channels=latents.shape[1], dims=2)
        space = self._identify(evidence, decoders)
        space.unpack(meta_tensor(latents.shape))  # if they are of another shape the host's preview is the better one
        self._run.space = space.name
        accelerated = latents.device.type != "cpu"

        def device_bytes() -> int:
            return InvokePreferences.of(root).device_bytes

        self._developer = DecodeWorker(
            space,
            partial(
                candidates, decoders, space, self._settings.decoder, evidence, self._run.note, accelerated=accelerated
            ),
            self._run.note,
            device_bytes=device_bytes,
        )
        some = None if self._settings.write_intermediates or self._settings.to_gallery else 1
        select = Selection(items=some)
        most = waiting_steps(selected_bytes(select, latents.shape), latents.device, device_bytes)
        self._pipeline = Pipeline(
            self._run, self._developer, self._outlets(), select=select, mailbox=Mailbox(capacity=most)
        )
        return self._pipeline

    def _identify(self, evidence: Evidence, decoders: Catalogue) -> LatentSpace:
        try:
            return identify(evidence, decoders.spaces())
        except SafelightError as error:
            self._run.note(str(error))
            return unknown(evidence)

    def _outlets(self) -> list[SinkSchedule]:
        """Where the pictures go; to the screen last, since saving an image tells the UI of something else."""
        some = Cadence(self._settings.every_n_steps)
        return [*(SinkSchedule(sink, some) for sink in self._keepers()), SinkSchedule(self._screen, Cadence())]

    def _keepers(self) -> list[Sink]:
        settings, sinks = self._settings, list[Sink]()
        encoding = ImageEncoding(file_format=settings.file_format, enlarge=settings.enlarge)
        if settings.write_intermediates or settings.sheet or settings.animation:
            folder = RunFolder(self._numbered(), self._run)
            sinks.append(folder)
            if settings.write_intermediates:
                texts = partial(graph_texts, self._context) if settings.file_format == "png" else dict
                sinks += [Page(folder), StepFiles(folder, encoding, texts=texts, encoders=ENCODERS, batch="all files")]
            sinks += [ContactSheet(folder)] if settings.sheet else []
            sinks += [Animation(folder)] if settings.animation else []
        if settings.to_gallery:
            sinks.append(Gallery(partial(save_image, self._context), encoding.fit))
        return sinks

    def _numbered(self) -> Path:
        place = folder_for(Path(self._context.config.get().outputs_path), self._settings.filename_prefix)
        return create_numbered_folder(place.parent, place.name)


def folder_for(outputs: Path, prefix: str) -> Path:
    """Where `prefix` leads, in the host's `outputs`; a counter is added to its last part.

    Raises:
        SinkError: not into that folder.
    """
    if why := name_problem(prefix):
        raise SinkError(f"filename_prefix {brief(prefix)}: {why}; choose another place in the outputs folder")
    place = (outputs / prefix).resolve()
    if not prefix.strip() or outputs.resolve() not in place.parents:
        raise SinkError(
            f"filename_prefix {prefix!r}: expected a place inside the outputs folder, such as safelight/steps"
        )
    blocking = next((part for part in place.parents if part.exists() and not part.is_dir()), None)
    if blocking is not None:
        raise SinkError(f"filename_prefix {prefix!r}: {blocking.name} is a file; choose another place")
    return place


def base_name(kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The value of the host's `BaseModelType`, told to `sd_step_callback`; the others have it in their names."""
    base = args[0] if args else kwargs.get("base_model", kind)
    return str(getattr(base, "value", base))


def host_version() -> str | None:
    """Of the InvokeAI that is installed."""
    try:
        return metadata.version("invokeai")
    except metadata.PackageNotFoundError:
        return None


def host_facts(context: Any, node: Any) -> dict[str, Any]:
    """The host's facts for `run.json`."""
    item = getattr(getattr(context, "_data", None), "queue_item", None)
    session = getattr(item, "session_id", None)
    # What runs is a copy of the node on the canvas, with an id of its own.
    canvas = getattr(getattr(item, "session", None), "prepared_source_mapping", {}).get(node.id, node.id)
    return {
        "name": "invokeai",
        "version": host_version(),
        "prompt_id": session if isinstance(session, str) else None,
        "node": canvas,
        "sampler_node": canvas,
        "invocation": node.id,
    }


def sampler_facts(node: Any) -> dict[str, Any]:
    """The sampler's facts for `run.json`, as far as the node has them."""
    seed = getattr(node, "seed", None)
    if seed is None:
        seed = getattr(getattr(node, "noise", None), "seed", None)
    cfg = next(
        (getattr(node, name) for name in ("cfg_scale", "guidance_scale", "guidance") if hasattr(node, name)), None
    )
    return {
        "steps": getattr(node, "steps", getattr(node, "num_steps", None)),
        "seed": seed,
        "cfg": cfg if isinstance(cfg, int | float) else None,
        "name": getattr(node, "scheduler", None),
    }


def graph_texts(context: Any) -> dict[str, str]:
    """What the host stores in the images that it saves, under its own names."""
    item = getattr(getattr(context, "_data", None), "queue_item", None)
    found = {
        "invokeai_workflow": getattr(item, "workflow", None),
        "invokeai_graph": getattr(getattr(item, "session", None), "graph", None),
    }
    return {name: text for name, one in found.items() if one and isinstance(text := one.model_dump_json(), str)}


def save_image(context: Any, image: Any) -> None:
    """Saves an image that the gallery does not show among the results."""
    from invokeai.app.services.image_records.image_records_common import ImageCategory

    context.images.save(image=image, image_category=ImageCategory.OTHER)
