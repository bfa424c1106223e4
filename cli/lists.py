"""The `spaces` and `decoders` commands."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..decoders.catalogue import Catalogue, Choice, Unusable
from ..decoders.files.shipped import default_for
from ..decoders.latents.space import HOSTS, LatentSpace
from ..errors import UnknownDecoderError
from .decoder_choice import add_folder_option
from .learned import default_folder
from .remove_decoder import is_learned, remove_decoder
from .table import print_lines, print_table, printable

SPACE_COLUMNS = ("name", "title", "channels", "dims", "downscale", "decoder")
CARD_FACTS = ("name", "space", "kind", "scale", "parameters", "cost", "source", "fitted_on", "licence", "notes")
DECODER_COLUMNS = ("name", "space", "kind", "scale", "parameters", "cost", "auto", "source")
MEASURED_COLUMN = "measured"  # only if something was measured


def add_commands(commands: Any) -> None:
    """Adds `spaces` and `decoders` to the command line."""
    spaces = commands.add_parser("spaces", help="list the latent spaces")
    spaces.add_argument("--json", action="store_true", help="print JSON")
    add_folder_option(spaces)
    spaces.set_defaults(run=_list_spaces)

    decoders = commands.add_parser("decoders", help="list the decoders")
    decoders.add_argument(
        "--json", action="store_true", help="print JSON, with the scores of each decoder and why auto takes it or not"
    )
    add_folder_option(decoders)
    decoders.add_argument("--remove", metavar="NAME", help="delete a decoder file of yours from the folder")
    decoders.set_defaults(run=_decoders)


def _list_spaces(arguments: argparse.Namespace) -> int:
    catalogue = Catalogue(_folders(arguments))
    rows = [_space_row(space, catalogue) for space in catalogue.spaces()]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(SPACE_COLUMNS, ([row[column] for column in SPACE_COLUMNS] for row in rows))
    return 0


def _space_row(space: LatentSpace, catalogue: Catalogue) -> dict[str, Any]:
    facts = ("name", "title", "channels", "dims", "downscale", "frame_stride", "layout", "scale", "shift", "source")
    hosts = {host: list(space.hosts.get(host, ())) for host in HOSTS}
    return {fact: getattr(space, fact) for fact in facts} | hosts | {"decoder": catalogue.candidates(space)[0].name}


def _folders(arguments: argparse.Namespace) -> list[Path]:
    """The given folders, or else that of the ComfyUI which this package is part of."""
    found = default_folder()
    return arguments.folder or ([found] if found and found.is_dir() else [])


def _decoders(arguments: argparse.Namespace) -> int:
    return _list_decoders(arguments) if arguments.remove is None else _remove_decoder(arguments)


def _remove_decoder(arguments: argparse.Namespace) -> int:
    try:
        path, card = remove_decoder(arguments.remove, _folders(arguments))
    except OSError as error:
        raise UnknownDecoderError(f"{error.filename}: {error.strerror or error}") from None
    if arguments.json:
        print(json.dumps({"removed": [str(path)]}, indent=1))
        return 0
    print_lines(f"removed {path}")
    if is_learned(card):
        print_lines(
            f"The next VAE decode writes it again, if learning is on; `safelight learned --reset {card.space}` deletes "
            "what it was learned from."
        )
    return 0


def _list_decoders(arguments: argparse.Namespace) -> int:
    catalogue = Catalogue(_folders(arguments))
    rows = [_decoder_row(choice) for choice in catalogue.choices()]
    unusable = catalogue.unusable()
    if arguments.json:
        listed = {row["name"] for row in rows}
        rows += [_unusable_row(file) for file in unusable if file.file.name not in listed]
        print(json.dumps(rows, indent=1))
        return 0
    measured = any(row["measured"] for row in rows)
    columns = [*DECODER_COLUMNS[:-1], *([MEASURED_COLUMN] if measured else []), DECODER_COLUMNS[-1]]
    rows = [{**row, "auto": _devices_of_auto(row), MEASURED_COLUMN: _measured_text(row["measured"])} for row in rows]
    print_table(columns, ([row[column] for column in columns] for row in rows))
    for file in unusable:
        print(f"\nnot usable: {printable(file.file.name)}: {printable(file.reason)}")
    return 0


def _decoder_row(choice: Choice) -> dict[str, Any]:
    card = choice.card
    name, _ = (card.space and default_for(card.space)) or (None, None)
    # The metrics of a user's file may contain NaN, which is not JSON.
    metrics = json.loads(json.dumps(dict(card.metrics)), parse_constant=lambda _: None)
    chosen = {"default": "yes" if name == card.name else "", "auto": choice.auto}
    chosen |= {"auto_accelerated": choice.auto_accelerated, "why": choice.why}
    scores = {"metrics": metrics, "measured": dict(card.measured)}
    return {fact: getattr(card, fact) for fact in CARD_FACTS} | scores | {"usable": True} | chosen


def _unusable_row(file: Unusable) -> dict[str, Any]:
    chosen = {"default": "", "auto": False, "auto_accelerated": False, "why": file.reason}
    facts: dict[str, Any] = dict.fromkeys(CARD_FACTS)
    return facts | {"name": file.file.name, "metrics": {}, "measured": {}, "usable": False} | chosen


def _measured_text(measured: Mapping[str, Any]) -> str:
    """The score on the user's own pictures; empty if it was not measured."""
    return f"{measured['psnr_latent_db']:.1f} dB on {measured['pictures']} of your pictures" if measured else ""


def _devices_of_auto(row: Mapping[str, Any]) -> str:
    """The kinds of devices on which `auto` takes this decoder."""
    return " ".join(device for key, device in (("auto", "cpu"), ("auto_accelerated", "gpu")) if row[key])
