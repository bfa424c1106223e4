"""Folders of runs in ComfyUI's output folder: one for each prompt, with all runs of a Preview Steps in it."""

import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePath
from typing import NamedTuple, final

import folder_paths

from ...preview.file_names import is_file_name
from ...preview.output_folder import check_prefix_name, create_numbered_folder
from ...preview.run import Run
from ...preview.sinks.run_folder import RunFolder
from ...preview.sinks.run_group import RunGroup
from .facts import Prompt
from .filename_tokens import expand

# Of `folder_paths.get_save_image_path`, which replaces them when a run begins.
HOST_TOKENS = re.compile("%(?:width|height|year|month|day|hour|minute|second)%")
DEFAULT_NAME = "safelight"


class NewFolder(NamedTuple):
    """The folder of a run, and the runs that it belongs to; None if no folder can be created."""

    folder: RunFolder | None
    group: RunGroup | None


NO_FOLDER = NewFolder(None, None)


@final
class PromptGroups:
    """The groups of runs of the newest prompt. ComfyUI runs one prompt after the other."""

    def __init__(self) -> None:
        self._prompt: str | None = None
        self._groups: dict[tuple[str | None, str], RunGroup] = {}  # by Preview Steps and filename prefix

    def find(self, prompt: str | None, node: str | None, prefix: str) -> RunGroup | None:
        """The group of a node with this prefix in a prompt; None if no run of it has a folder."""
        group = self._groups.get((node, prefix)) if prompt is not None and prompt == self._prompt else None
        return group if group is not None and group.exists else None

    def put(self, prompt: str | None, node: str | None, prefix: str, group: RunGroup) -> None:
        """Adds a group. The groups of an earlier prompt are forgotten."""
        if prompt != self._prompt:
            self._prompt, self._groups = prompt, {}
        self._groups[node, prefix] = group


GROUPS = PromptGroups()


def new_folder(run: Run, prefix: str, prompt: Prompt, size: tuple[int, int]) -> NewFolder:
    """Creates the folder of a run.

    The first run of a prompt has the next free `<prefix>_<5-digit number>` in ComfyUI's output folder, each other run
    of the same Preview Steps a folder inside it.

    Args:
        run: run that begins.
        prefix: filename prefix as the user typed it; its tokens are replaced when the first run begins.
        prompt: prompt that runs.
        size: width and height of the final image.
    """
    key = (prompt.id, run.host["node"], prefix)
    group = GROUPS.find(*key)
    if group is not None:
        return NewFolder(group.add(run), group)
    output = folder_paths.get_output_directory()
    try:
        parent, name, number, *_ = folder_paths.get_save_image_path(_expanded(prefix, prompt), output, *size)
    except OSError as error:  # a full or read-only disk: the node still shows the steps
        run.note(f"no step is written to disk: {error}")
        return NO_FOLDER
    folder = RunFolder(create_numbered_folder(Path(parent), name, number), run)
    group = RunGroup(folder)
    GROUPS.put(*key, group)
    return NewFolder(folder, group)


def check_prefix(prefix: str, prompt: Prompt) -> None:
    """Checks before sampling that a folder can exist at the path of a filename prefix.

    Raises:
        SinkError: no folder can ever exist there.
        Exception: ComfyUI's own, if the path is outside the output folder.
    """
    check_prefix_name(prefix, HOST_TOKENS.sub("0", _expanded(prefix, prompt)), _try_to_create)


def shown_path(folder: Path) -> str:
    """A folder in ComfyUI's output folder as the user knows it: `output/safelight/steps_00012`."""
    output = Path(folder_paths.get_output_directory())
    return (
        PurePath(output.name, folder.relative_to(output)).as_posix() if folder.is_relative_to(output) else str(folder)
    )


def export_name(prefix: str, prompt: Prompt) -> str:
    """The begin of the names of files that a user saves from the viewer: the name that the filename prefix ends in."""
    name = PurePath(HOST_TOKENS.sub("", _expanded(prefix, prompt)).replace("\\", "/")).name
    return name if is_file_name(name) else DEFAULT_NAME


def _try_to_create(path: str) -> None:
    """Lets ComfyUI create the parent folder of a path in its output folder, and removes it: there may be no run."""
    output = Path(folder_paths.get_output_directory())
    parent = (output / os.path.normpath(path)).parent  # as `get_save_image_path` finds it
    new = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        folder_paths.get_save_image_path(path, str(output))
    finally:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()


def _expanded(prefix: str, prompt: Prompt) -> str:
    return expand(prefix, prompt.graph, prompt.workflow, datetime.now().astimezone())
