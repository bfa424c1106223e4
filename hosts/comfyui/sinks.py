"""Where the pictures and latents of a run go in ComfyUI: to the node, and to its output folder."""

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.cli_args import args as cli
from server import PromptServer

from ...errors import SinkError, brief
from ...preview.cadence import Cadence
from ...preview.file_names import name_problem
from ...preview.images.encode import ImageEncoding
from ...preview.pipeline import SinkSchedule
from ...preview.run import Run
from ...preview.sinks.animation import Animation, Pace
from ...preview.sinks.base import EveryStep, Sink
from ...preview.sinks.contact_sheet import ContactSheet
from ...preview.sinks.latent_files import MB, LatentFiles, Need, Room
from ...preview.sinks.live_runs import EvictOldRuns, LiveRuns
from ...preview.sinks.live_view import LiveView
from ...preview.sinks.page import Page
from ...preview.sinks.run_folder import RunFolder
from ...preview.sinks.step_files import ENCODERS, StepFiles
from .facts import Prompt
from .filename_tokens import expand
from .graph import is_wired
from .options import ANIMATIONS, NodeOptions
from .preferences import ComfyPreferences
from .selection import LIVE_ITEMS

LIVE = ImageEncoding(file_format="jpg")
LIVE_PIXELS = 20_000_000  # of a step's frames together: half a second of one core, for 49 frames of 480x832
STEPS_OUTPUT = 1  # of the node that attaches the preview
DISK_RESERVE_BYTES = 500 * MB  # that latents leave free on the disk
# What the system says of names where no folder can be; all else may be another in an hour.
NEVER = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ)

# On the server and not in this module: of two copies of this pack one answers the viewer, for the runs of both.
RUNS: LiveRuns = vars(PromptServer.instance).setdefault("safelight_runs", LiveRuns())


def places(
    run: Run, settings: NodeOptions, prompt: Prompt, size: tuple[int, int], items: int
) -> tuple[list[RunFolder], list[SinkSchedule]]:
    """The folders of a run, the best pictures first, and where its pictures go.

    Args:
        run: that begins.
        settings: the user's.
        prompt: that runs.
        size: width and height of the final image.
        items: of the batch.
    """
    sinks: list[Sink] = []
    has_readers = is_wired(prompt.graph, run.host["node"], STEPS_OUTPUT)
    if prompt.client is not None or has_readers or settings.keep_latents:
        live = RUNS.new(run, Path(folder_paths.get_temp_directory()) / "safelight")
        tell = partial(_tell, prompt.client) if prompt.client is not None else _tell_nobody
        files = StepFiles(
            live,
            replace(LIVE, max_side_px=settings.max_side_px),
            facts=False,
            batch="first" if settings.batch == "first" else "all files",
            max_items=LIVE_ITEMS,
            max_pixels=LIVE_PIXELS,
        )
        if items > LIVE_ITEMS and settings.batch != "first":
            run.note(f"the first {LIVE_ITEMS} of the batch's {items} pictures are shown while it samples")
        place = {"workflow": prompt.workflow_id, "node": run.host["node"]}
        sinks += [LiveView(files, tell, place), EvictOldRuns(RUNS, lambda: ComfyPreferences.current().budget_bytes)]
        sinks += [EveryStep()] if has_readers else []
        folders = [live]
    else:
        folders = []
    if settings.write_intermediates and (kept := _kept(run, settings, prompt, size)):
        sinks += kept
        folders = [*(sink for sink in kept if isinstance(sink, RunFolder)), *folders]
    cadence = Cadence(settings.every_n_steps)  # one for all: the sampler asks it once
    return folders, [SinkSchedule(sink, cadence) for sink in sinks]


def latent_files(
    settings: NodeOptions, folder: RunFolder, named: Mapping[str, Any], facts: Mapping[str, str]
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
    budget = Room(ComfyPreferences.current().budget_bytes, "the budget for live runs in Safelight's settings")
    return disk if writes or disk.free_bytes < budget.free_bytes else budget


def _kept(run: Run, settings: NodeOptions, prompt: Prompt, size: tuple[int, int]) -> list[Sink]:
    try:
        kept = RunFolder(_numbered(_expanded(settings.filename_prefix, prompt), size), run)
    except OSError as error:  # a full or read-only disk: the screen can still be served
        run.note(f"no step is written to disk: {error}")
        return []
    encoding = ImageEncoding(
        file_format=settings.file_format, enlarge=settings.enlarge, max_side_px=settings.max_side_px
    )
    metadata = not cli.disable_metadata
    texts = partial(_texts, prompt) if metadata else dict
    files = StepFiles(
        kept,
        encoding,
        texts=texts,
        facts=metadata,
        encoders=ENCODERS,
        batch=settings.batch,
        frames_apart=settings.frames == "all files",
    )
    return [kept, Page(kept), files, *_products(settings, kept)]


def _products(settings: NodeOptions, folder: RunFolder) -> list[Sink]:
    """What is made of the whole run."""
    products: list[Sink] = [ContactSheet(folder)] if settings.sheet else []
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


def check_prefix(prefix: str, prompt: Prompt) -> None:
    """Raises what is wrong with the place that `prefix` leads to, before anything is sampled.

    A disk that is full or read-only is not wrong with the place: it costs the files, not the run.

    Raises:
        SinkError: no folder can ever be made there.
        Exception: the host's own, where it is not in the output folder.
    """
    place = _expanded(prefix, prompt)
    if why := name_problem(place):
        raise SinkError(f"filename_prefix {brief(prefix)}: {why}; choose another place in the output folder")
    try:
        folder_paths.get_save_image_path(place, folder_paths.get_output_directory())
    except OSError as error:
        if error.errno not in NEVER:
            return
        raise SinkError(
            f"filename_prefix {prefix!r}: no folder can be made there ({error.strerror}); "
            "choose another place in the output folder"
        ) from None


def _expanded(prefix: str, prompt: Prompt) -> str:
    return expand(prefix, prompt.graph, prompt.workflow, datetime.now().astimezone())


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
