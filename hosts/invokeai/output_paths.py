"""Where the runs of a user are: in InvokeAI's outputs folder, with accounts in a folder for each of them."""

import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import SinkError
from ...preview.file_names import is_file_name
from ...preview.output_folder import prefix_folder
from .filename_tokens import expand
from .graph import queue_item

USERS_FOLDER = "safelight_users"  # in the outputs folder; InvokeAI with `multiuser: true` has a folder in it per user
HOST_FOLDERS = ("images", "videos", "tensors", "conditioning")  # InvokeAI's, in its outputs folder
# Names of InvokeAI's settings with further folders of its own: somebody may have put these into the outputs folder.
HOST_PATHS = ("models_path", "custom_nodes_path", "style_presets_path", "workflow_thumbnails_path", "legacy_conf_path")
MAX_REMEMBERED_RUNS = 1000

log = logging.getLogger("safelight.invokeai")

_folders: dict[str, Path] = {}  # folders of the newest runs, by the id of their invocation


def own_outputs(context: Any) -> Path:
    """The folder that all prefixes and folders which a user types are in.

    The outputs folder itself, unless InvokeAI has accounts: images, boards and progress are then isolated by user, and
    so are the runs.

    Raises:
        SinkError: InvokeAI has accounts, but the item of its queue belongs to none.
    """
    config = context.config.get()
    outputs = Path(config.outputs_path)
    if getattr(config, "multiuser", False) is not True:
        return outputs
    user = getattr(queue_item(context), "user_id", None)
    if not isinstance(user, str) or not is_file_name(user):
        raise SinkError("no folder for runs: InvokeAI does not say which account this node runs for; log in again")
    return outputs / USERS_FOLDER / user


def run_prefix(context: Any, prefix: str, facts: Mapping[str, Any], size: tuple[int, int] | None = None) -> Path:
    """The path of a run's folder without its number, with the tokens of the prefix replaced.

    Args:
        context: InvokeAI's `InvocationContext`.
        prefix: text that the user typed.
        facts: facts about the sampler, with its `seed`.
        size: width and height of the final image; None before the run, when only the path's form matters.

    Raises:
        SinkError: a token has no value, no folder can be created there, or it is in one of InvokeAI's own folders.
    """
    width, height = size or (0, 0)
    values = {"seed": facts.get("seed"), "width": width, "height": height}
    path = prefix_folder(own_outputs(context), expand(context, prefix, values, datetime.now().astimezone()))
    if host_folder := _host_folder(context.config.get(), path):
        raise SinkError(
            f"filename_prefix {prefix!r}: {host_folder.name} is a folder of InvokeAI's own files; choose another path, "
            "such as safelight/steps"
        )
    return path


def _host_folder(config: Any, path: Path) -> Path | None:
    """InvokeAI's own folder that `path` is in; None if it is in none."""
    outputs = Path(config.outputs_path).resolve()
    own = [outputs / name for name in HOST_FOLDERS]
    own += [found.resolve() for name in HOST_PATHS if isinstance(found := getattr(config, name, None), Path)]
    inside = _plain(path.parent)  # the last part of a prefix gets a number
    return next((folder for folder in own if outputs in folder.parents and inside.is_relative_to(_plain(folder))), None)


def _plain(path: Path) -> Path:
    """The path in lower case: some systems do not distinguish `Images` from `images`."""
    return Path(str(path).casefold())


def remember_folder(node: Any, folder: Path) -> None:
    """Remembers the folder of the run of `node`, an invocation, for a sheet of it and for the node's output."""
    _folders[node.id] = folder
    while len(_folders) > MAX_REMEMBERED_RUNS:
        del _folders[next(iter(_folders))]


def folder_of(context: Any, node: Any) -> Path | None:
    """The folder of the run of `node`, an invocation that ran before; None if the user has none of it."""
    folder = _folders.get(node.id)
    if folder is None or not folder.is_dir() or not folder.is_relative_to(own_outputs(context).resolve()):
        return None
    return folder


def typed_folder(context: Any, node: Any) -> str:
    """The path of the folder of a run, as it may be typed into Steps Sheet or Load Run; empty if the run has none."""
    try:
        folder = folder_of(context, node)
        return "" if folder is None else folder.relative_to(own_outputs(context).resolve()).as_posix()
    except (OSError, SinkError):  # the node has its result: it must not fail now
        log.warning("the folder of the run is not known", exc_info=True)
        return ""
