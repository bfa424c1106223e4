"""Where the pictures and latents of a run go in ComfyUI: to the node, and into its output folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.cli_args import args as cli
from server import PromptServer

from ...preview.images.encode import ImageEncoding
from ...preview.options import RunOptions
from ...preview.output_folder import disk_room
from ...preview.remote.remote_copy import copy_of_saved_run, copy_saved_folder
from ...preview.run import Run
from ...preview.sinks.base import EveryStep, Sink
from ...preview.sinks.latent_files import LatentFiles, Need, Room
from ...preview.sinks.live_runs import EvictOldRuns, ExportFacts, LiveRun, LiveRuns
from ...preview.sinks.live_view import LiveView
from ...preview.sinks.run_folder import RunFolder
from ...preview.sinks.step_files import StepFiles
from ...preview.start import Outputs
from .facts import Prompt
from .graph import is_wired
from .library import ComfyLibrary
from .model_facts import ModelFacts
from .output_paths import NO_FOLDER, export_name, new_folder, shown_path
from .owners import new_secret
from .preferences import REMOTE, ComfyPreferences
from .saved_owners import SavedOwners, stored_secret
from .selection import MAX_LIVE_ITEMS

LIVE_ENCODING = ImageEncoding(file_format="jpg")
MAX_LIVE_PIXELS = 20_000_000  # all frames of a step: half a second of one core, for 49 frames of 480x832
STEPS_OUTPUT = 1  # index of the output `steps` of Preview Steps

# With users: a folder that ComfyUI serves to none of them, because its name begins with two underscores.
PRIVATE = Path(folder_paths.get_user_directory(), "__safelight") if cli.multi_user else None
SECRET = new_secret if PRIVATE is None else partial(stored_secret, PRIVATE)

# An attribute of the server, not of this module: if the pack is installed twice, one copy serves the runs of both.
RUNS: LiveRuns = vars(PromptServer.instance).setdefault("safelight_runs", LiveRuns())
LIBRARY: ComfyLibrary = vars(PromptServer.instance).setdefault(
    "safelight_library",
    ComfyLibrary(
        RUNS,
        lambda: Path(folder_paths.get_output_directory()),
        lambda: ComfyPreferences.current().budget_bytes,
        None if PRIVATE is None else SavedOwners(PRIVATE),
        lambda path, run_id: copy_saved_folder(
            path, run_id, Path(folder_paths.get_output_directory()), lambda: ComfyPreferences.current().remote, REMOTE
        ),
    ),
)


def run_outputs(
    run: Run, options: RunOptions, prompt: Prompt, size: tuple[int, int], items: int
) -> tuple[list[RunFolder], Outputs]:
    """Creates the folders of a run, the one with the best pictures first, and the outputs without latents.

    Args:
        run: run that begins.
        options: the user's options.
        prompt: prompt that runs.
        size: width and height of the final image.
        items: number of batch items.
    """
    folder, group = new_folder(run, options.filename_prefix, prompt, size) if options.write_intermediates else NO_FOLDER
    folders, copy = [] if folder is None else [folder], None
    if folder is not None:
        LIBRARY.own(run.id, prompt.owner)
        first, output = folder if group is None else group.first, Path(folder_paths.get_output_directory())
        copy = copy_of_saved_run(folder, first, output, lambda: ComfyPreferences.current().remote, REMOTE)
    live, sinks = None, list[Sink]()
    metadata = not cli.disable_metadata
    # Not the prompt itself, which may hold models: these are also in ComfyUI's history.
    texts = partial(_texts, prompt.sent, prompt.sent_workflow) if metadata else dict
    has_readers = is_wired(prompt.graph, run.host["node"], STEPS_OUTPUT, prompt.display_id)
    if prompt.client is not None or has_readers or options.keep_latents:
        name = export_name(options.filename_prefix, prompt)
        place = shown_path(folder.path) if folder is not None else ""
        export = ExportFacts(written=folder, group=group, place=place, texts=texts, prefix=name, sent=prompt.sent)
        live_run = RUNS.new(run, Path(folder_paths.get_temp_directory()) / "safelight", prompt.owner, export)
        folders.append(live_run.folder)
        live = _live_view(live_run, options, prompt)
        sinks.append(EvictOldRuns(RUNS, lambda: ComfyPreferences.current().budget_bytes))
        if has_readers:
            sinks.append(EveryStep())
        if items > MAX_LIVE_ITEMS and options.batch != "first":
            run.note(f"the node shows the first {MAX_LIVE_ITEMS} of the batch's {items} pictures")
    if folders:
        sinks.append(ModelFacts(run, prompt))
    outputs = Outputs(
        folder=folder, copy=copy, group=group, texts=texts, facts=metadata, live=live, sinks=sinks, remove_empty=True
    )
    return folders, outputs


def latent_files(
    options: RunOptions, folder: RunFolder, noise: torch.Tensor, sigmas: torch.Tensor, facts: Mapping[str, str]
) -> LatentFiles:
    """The files for a run's latents: two tensors for each step.

    Args:
        options: the user's options.
        folder: folder of the run.
        noise: noise that the sampler begins with.
        sigmas: `[steps + 1]` noise levels.
        facts: further facts for each file.
    """
    need = Need.of(noise, options.cadence(), len(sigmas) - 1)
    return LatentFiles(folder, need, partial(_room, folder.path), sigmas=sigmas, facts=facts)


def pause_report(live: LiveView | None, prompt: Prompt) -> Callable[[bool], None]:
    """A function that reports to the viewer and on the sampler's node that a run waits, or that it goes on."""

    def report(paused: bool) -> None:
        if live is not None:
            live.report_pause(paused)
        if prompt.client is not None and prompt.node is not None:
            PromptServer.instance.send_progress_text("paused" if paused else "goes on", prompt.node, prompt.client)

    return report


def _live_view(live: LiveRun, options: RunOptions, prompt: Prompt) -> LiveView:
    files = StepFiles(
        live.folder,
        replace(LIVE_ENCODING, max_side_px=options.max_side_px),
        facts=False,
        batch="first" if options.batch == "first" else "all files",
        max_items=MAX_LIVE_ITEMS,
        max_pixels=MAX_LIVE_PIXELS,
    )
    send = partial(_send, prompt.client) if prompt.client is not None else _send_nothing
    host = live.folder.run.host
    place = {"workflow": prompt.workflow_id, "node": host["node"], "sampler": host["sampler_node"]}
    return LiveView(files, send, {"run": live.address, **place})


def _room(folder: Path) -> Room:
    """The room for latents in a run's folder. In the temporary folder, the budget for live runs is a limit too."""
    disk = disk_room(folder)
    if not folder.is_relative_to(folder_paths.get_temp_directory()):
        return disk
    budget = Room(ComfyPreferences.current().budget_bytes, "the budget for live runs in Safelight's settings")
    return min(disk, budget, key=lambda room: room.free_bytes)


def _texts(sent: Mapping[str, Any], sent_workflow: Any) -> dict[str, str]:
    """The metadata that ComfyUI stores in its own pictures: dropping one on the canvas opens its workflow."""
    texts = {"prompt": json.dumps(sent)} if sent else {}
    return texts | ({"workflow": json.dumps(sent_workflow)} if sent_workflow else {})


def _send(client: str, event: str, facts: Mapping[str, Any]) -> None:
    PromptServer.instance.send_sync(event, dict(facts), client)


def _send_nothing(event: str, facts: Mapping[str, Any]) -> None:
    """For prompts without a client: ComfyUI would send the event to all clients."""
