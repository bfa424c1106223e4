"""Finds the decoder that a command line names."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..decoders.catalogue import Catalogue
from ..preview.output_folder import absolute_path

DECODER_HELP = "a name that `safelight decoders` lists, a kind, or a file"


def add_folder_option(command: argparse.ArgumentParser) -> None:
    """Adds `--folder` to a command."""
    command.add_argument(
        "--folder",
        type=_decoder_folder,
        action="append",
        default=[],
        help="folder with your decoder files; use again for more folders",
    )


def choose_decoder(decoder: str, folders: Sequence[Path] = ()) -> tuple[Catalogue, str]:
    """Returns the available decoders, and the name of the one to use.

    Args:
        decoder: name, kind or file. The folder of a file becomes part of the catalogue.
        folders: further folders with decoder files.
    """
    path = absolute_path(decoder)
    return (Catalogue([path.parent, *folders]), path.name) if path.is_file() else (Catalogue(folders), decoder)


def _decoder_folder(text: str) -> Path:
    if not (folder := absolute_path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder of decoder files, but {text!r} does not exist")
    return folder
