"""`safelight index`: writes a page that opens all runs in a folder, without a server."""

import argparse
import webbrowser
from pathlib import Path
from typing import Any

from ..errors import PageError
from ..hosts.saved_library import saved_library
from ..preview.html.library_page import LIBRARY_PAGE, write_library_page
from ..preview.run_library import MAX_FOLDER_DEPTH
from .runs_folder import add_runs_folder, runs_folder
from .table import print_lines


def add_command(commands: Any) -> None:
    """Adds `index` to the command line."""
    index = commands.add_parser("index", help=f"write {LIBRARY_PAGE}, a page that opens all runs in a folder")
    add_runs_folder(index, f"folder with runs, up to {MAX_FOLDER_DEPTH} levels below it")
    index.add_argument("--open", action="store_true", help="open the page in a browser")
    index.set_defaults(run=_run_index)


def _run_index(arguments: argparse.Namespace) -> int:
    folder = runs_folder(arguments)
    library = saved_library(folder).runs
    count = len(library.runs())
    if not count:
        found = "no folder" if isinstance(folder, Path) and not folder.is_dir() else "no run"
        raise PageError(f"{folder}: expected runs (folders with a run.json), found {found}")
    page = write_library_page(library)
    is_local = isinstance(folder, Path)
    print_lines(f"{count} run{'s' * (count != 1)}: {page if is_local else f'{library.place}/{LIBRARY_PAGE}'}")
    if arguments.open and is_local:  # the page of a store shows its pictures only where the store serves them
        webbrowser.open(page.as_uri())
    return 0
