"""Adds the folder of runs to a command: a path, or InvokeAI's outputs."""

import argparse
from pathlib import Path

from ..hosts.invokeai.root_folder import outputs_folder
from ..preview.remote.address import place_of


def add_runs_folder(command: argparse.ArgumentParser, help_text: str) -> None:
    """Adds `DIR` and `--invokeai` to a command, of which the user names one.

    Args:
        command: parser of the command.
        help_text: help of `DIR`.
    """
    place = command.add_mutually_exclusive_group(required=True)
    help_text += "; or an address such as s3://bucket/runs"
    place.add_argument("folder", type=place_of, nargs="?", metavar="DIR", help=help_text)
    place.add_argument(
        "--invokeai",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="ROOT",
        help="the runs in the outputs of InvokeAI, whose root folder is ROOT (INVOKEAI_ROOT or ~/invokeai)",
    )


def runs_folder(arguments: argparse.Namespace) -> Path | str:
    """The folder that the user named, or the address.

    Raises:
        PageError: InvokeAI has no such folder.
    """
    if arguments.folder is not None:
        return arguments.folder
    return outputs_folder(None if arguments.invokeai == Path() else arguments.invokeai)
