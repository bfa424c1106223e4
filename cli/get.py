"""The `get` command: lists decoders that others publish, and downloads one on request."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Card
from ..decoders.files.download import SERVER_VARIABLE, download, raw_files
from ..decoders.published_decoders import PUBLISHED_DECODERS, PublishedDecoder, published_decoder
from .learned import FOLDER_HELP, default_folder
from .table import print_lines, print_table

COLUMNS = ("name", "space", "size", "licence", "installed", "worth", "beside")


def add_command(commands: Any) -> None:
    """Adds `get` to the command line."""
    get = commands.add_parser("get", help="list decoders that others publish, or download one")
    get.add_argument("name", nargs="?", help="decoder to download (default: list all, without any download)")
    get.add_argument("--folder", type=Path, help=FOLDER_HELP)
    get.add_argument(
        "--server",
        default=raw_files(),
        help=f"server with copies of GitHub's raw files, also {SERVER_VARIABLE}; contents are checked (%(default)s)",
    )
    get.add_argument("--json", action="store_true", help="print JSON")
    get.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    folder = arguments.folder or default_folder()
    if arguments.name is None:
        _list(folder, as_json=arguments.json)
        return 0
    decoder = published_decoder(arguments.name)
    path = _download(decoder, folder, arguments.server.rstrip("/"))
    facts = {"name": decoder.name, "space": decoder.space, "licence": decoder.licence, "path": str(path)}
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        print_lines(f"{path}  {decoder.licence}, for {decoder.space}")
    return 0


def _download(decoder: PublishedDecoder, folder: Path, server: str) -> Path:
    with tqdm(desc=decoder.file_name, unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:

        def show(have: int, total: int | None) -> None:
            bar.total = total
            bar.update(have - bar.n)

        return download(decoder, folder, server=server, progress=show)


def _list(folder: Path, *, as_json: bool) -> None:
    catalogue = Catalogue([folder])
    rows = [_row(decoder, catalogue, folder) for decoder in PUBLISHED_DECODERS.values()]
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(COLUMNS, ([row[column] for column in COLUMNS] for row in rows))


def _row(decoder: PublishedDecoder, catalogue: Catalogue, folder: Path) -> dict[str, Any]:
    beside = catalogue.candidates(catalogue.spaces()[decoder.space], accelerated=True)[0].card
    return {
        "name": decoder.name,
        "space": decoder.space,
        "size": decoder.size_text,
        "licence": decoder.licence,
        "installed": "yes" if (folder / decoder.file_name).is_file() else "",
        "worth": _scores(decoder.measured) or "close to the VAE, not measured",
        "beside": f"{beside.name}, {_scores(beside.metrics) or _form(beside)}",
        "source": decoder.place,
    }


def _scores(metrics: Mapping[str, Any]) -> str:
    """The scores of a decoder in words; empty if it has none."""
    names = {"psnr_latent_db": "latent", "psnr_full_db": "full size"}
    known = [f"{metrics[key]:.1f} dB {name}" for key, name in names.items() if isinstance(metrics.get(key), float)]
    return ", ".join(known)


def _form(card: Card) -> str:
    """What a decoder without scores is."""
    return f"a table of {card.parameters} numbers" if card.kind == "polynomial" else "not measured"
