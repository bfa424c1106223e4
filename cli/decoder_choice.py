"""Finds the decoder that a command line names."""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from ..decoders.catalogue import Catalogue
from ..decoders.files.decoder_file import read_card
from ..errors import UnknownDecoderError
from ..preview.output_folder import absolute_path

DECODER_HELP = "auto, fast, fine, a name that `safelight decoders` lists, a kind, or a file"


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

    Raises:
        DecoderFileError: the file is not a decoder.
    """
    path = absolute_path(decoder)
    if not path.is_file():
        return Catalogue(folders), decoder
    read_card(path)
    return Catalogue([path.parent, *folders]), path.name


def expect_decoder(catalogue: Catalogue, decoder: str, others: Collection[str] = ()) -> None:
    """Checks a decoder before its latent space is known.

    Args:
        catalogue: available decoders.
        decoder: name or kind.
        others: further names that the command knows.

    Raises:
        UnknownDecoderError: no decoder of any latent space has this name.
    """
    if decoder not in (*others, *catalogue.names(), *(card.name for card in catalogue.all())):
        raise UnknownDecoderError(
            f"decoder {decoder!r}: expected a name that `safelight decoders` lists, a kind, "
            f"{''.join(f'{name}, ' for name in others)}or a file that exists"
        )


def _decoder_folder(text: str) -> Path:
    if not (folder := absolute_path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder of decoder files, but {text!r} does not exist")
    return folder
