"""The command line's `learned`."""

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import FitError
from ..fitting.online.update import LearnedRow, inspect, reset

PACKAGE = Path(__file__).absolute().parents[1]  # as it was reached: a link among the host's nodes is among them
NODES = "custom_nodes"
COLUMNS = {
    "space": "space",
    "pictures": "pictures",
    "pixels": "pixels",
    "held_back": "held back",
    "learned_db": "learned, dB",
    "in_use_db": "without it, dB",
    "in_use": "which is",
    "file_bytes": "bytes",
    "taken": "",
}


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `learned`."""
    learned = commands.add_parser("learned", help="what the node VAE Decode and Learn has learned; forget it")
    learned.add_argument(
        "--folder", type=Path, help="models/safelight of a host; found where this package lies among its custom_nodes"
    )
    learned.add_argument("--reset", metavar="SPACE", help="forget what was learned of a space, and its learned decoder")
    learned.add_argument("--json", action="store_true", help="for programs")
    learned.set_defaults(run=_learned)


def default_folder(package: Path = PACKAGE) -> Path | None:
    """Where a host's own decoders are, of whose custom nodes `package` is one; None where it is not."""
    return package.parents[1] / "models" / "safelight" if package.parent.name == NODES else None


def _learned(arguments: argparse.Namespace) -> int:
    folder = arguments.folder or default_folder()
    if folder is None:
        raise FitError(
            f"expected --folder DIR, a host's models/safelight: it is found without only where this package lies in "
            f"{NODES}; it lies in {PACKAGE.parent}"
        )
    if arguments.folder and not folder.is_dir():
        raise FitError(f"expected a folder of decoders as --folder, there is none at {folder}")
    try:
        return _reset(folder, arguments) if arguments.reset is not None else _show(folder, arguments)
    except OSError as error:
        raise FitError(f"{error.filename or folder}: {error.strerror or error}") from None


def _reset(folder: Path, arguments: argparse.Namespace) -> int:
    removed = [str(path) for path in reset(folder, arguments.reset)]
    print(json.dumps({"removed": removed}, indent=1) if arguments.json else "\n".join(f"removed {p}" for p in removed))
    return 0


def _show(folder: Path, arguments: argparse.Namespace) -> int:
    rows = [_facts(row) for row in inspect(folder)]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        _print(rows)
    else:
        print(f"nothing was learned in {folder}")
    return 0


def _facts(row: LearnedRow) -> dict[str, Any]:
    learned = row.learned
    verdict = learned.verdict if learned else None
    return {
        "space": row.space,
        "title": learned and learned.space.title,
        "decodes": learned and learned.decodes,
        "pictures": learned and learned.pictures,
        "pixels": learned and learned.pixels,
        "held_back": learned and len(learned.held),
        "learned_db": verdict and verdict.learned_db,
        "in_use": verdict and verdict.in_use,
        "in_use_db": verdict and verdict.in_use_db,
        "judged_on": verdict and verdict.judged_on,
        "decoder": row.decoder and str(row.decoder),
        "file_bytes": row.file_bytes,
        "problem": row.problem,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    told = [list(COLUMNS.values())]
    for row in rows:
        taken = "a decoder was learned" if row["decoder"] else "no decoder yet"
        told.append([_text({**row, "taken": taken}[column]) for column in COLUMNS])
    widths = [max(len(line[i]) for line in told) for i in range(len(COLUMNS))]
    for line in told:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row["problem"]:
            print(f"\n{row['space']}: {row['problem']}; the next decode begins anew, or: --reset {row['space']}")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
