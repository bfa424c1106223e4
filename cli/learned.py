"""The `learned` command."""

import argparse
import json
from pathlib import Path
from typing import Any

from ..decoders.files.user_folder import user_folder
from ..errors import FitError, printable
from ..fitting.online.learned_files import LearnedSpace, forget_space, list_learned_spaces
from .table import print_lines

PACKAGE = Path(__file__).absolute().parents[1]  # not resolved: a link in custom_nodes counts as being there
NODES_FOLDER = "custom_nodes"
FOLDER_HELP = (
    "your decoder folder (default: ComfyUI's models/safelight if this package is in its custom_nodes, else the one "
    "that scripts use)"
)
COLUMNS = {
    "space": "space",
    "vae": "VAE",
    "pictures": "pictures",
    "saved_pairs": "saved pairs",
    "held_back": "held back",
    "learned_db": "learned, dB",
    "in_use_db": "without it, dB",
    "in_use": "decoder without it",
    "decoder": "learned decoder",
    "kind": "kind",
    "file_bytes": "bytes",
}
VAE_NAMES = {"": "unknown", None: "mixed"}


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `learned`."""
    learned = commands.add_parser("learned", help="show or delete what was learned from VAE decodes")
    learned.add_argument("--folder", type=Path, help=FOLDER_HELP)
    learned.add_argument("--reset", metavar="SPACE", help="delete all that was learned for a space, from all VAEs")
    learned.add_argument("--json", action="store_true", help="print JSON")
    learned.set_defaults(run=_learned)


def default_folder(package: Path = PACKAGE) -> Path:
    """The folder of the user's decoders: ComfyUI's if `package` is in its custom_nodes, else that of scripts.

    Raises:
        FitError: there is none.
    """
    folder = package.parents[1] / "models" / "safelight" if package.parent.name == NODES_FOLDER else user_folder()
    if folder is None:
        raise FitError("expected --folder DIR, the folder of your decoders: you have no home folder with one")
    return folder


def _learned(arguments: argparse.Namespace) -> int:
    folder = arguments.folder or default_folder()
    if arguments.folder and not folder.is_dir():
        raise FitError(f"expected a folder of decoders for --folder, but {folder} is not a folder")
    try:
        return _reset(folder, arguments) if arguments.reset is not None else _show(folder, arguments)
    except OSError as error:
        raise FitError(f"{error.filename or folder}: {error.strerror or error}") from None


def _reset(folder: Path, arguments: argparse.Namespace) -> int:
    removed = [str(path) for path in forget_space(folder, arguments.reset)]
    if arguments.json:
        print(json.dumps({"removed": removed}, indent=1))
    else:
        print_lines(*(f"removed {path}" for path in removed))
    return 0


def _show(folder: Path, arguments: argparse.Namespace) -> int:
    rows = [_facts(learned) for learned in list_learned_spaces(folder)]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        _print(rows)
    else:
        print_lines(f"nothing was learned in {folder}")
    return 0


def _facts(learned: LearnedSpace) -> dict[str, Any]:
    state = learned.state
    comparison = state.comparison if state else None
    return {
        "space": learned.space,
        "vae": learned.vae,
        "title": state and state.space.title,
        "decodes": state and state.decodes,
        "pictures": state and state.pictures,
        "pixels": state and state.pixels,
        "saved_pairs": learned.pairs,
        "held_back": state and len(state.test_pairs),
        "learned_db": learned.learned_db,
        "in_use": comparison and comparison.in_use,
        "in_use_db": comparison and comparison.in_use_db,
        "judged_on": comparison and comparison.judged_on,
        "decoder": learned.decoder and str(learned.decoder),
        "kind": learned.kind,
        "file_bytes": learned.file_bytes,
        "problem": learned.problem,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    lines = [list(COLUMNS.values())]
    for row in rows:
        names = {
            "vae": VAE_NAMES.get(row["vae"], row["vae"]),
            "decoder": Path(row["decoder"]).name if row["decoder"] else None,
        }
        lines.append([_format({**row, **names}[column]) for column in COLUMNS])
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row["problem"]:
            remedy = f"`--reset {row['space']}` deletes all that was learned for this space"
            if row["vae"] is not None:
                remedy = f"the next decode starts again with the saved pairs, or {remedy}"
            print_lines("", f"{row['space']}: {row['problem']}. {remedy[0].upper()}{remedy[1:]}.")


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else printable(str(value))
