"""`safelight index`: writes a page that opens all runs in a folder, without a server."""

import argparse
import webbrowser
from pathlib import Path
from typing import Any

from ..errors import PageError
from ..hosts.comfyui.prompt_text import saved_prompt
from ..preview.html.library_page import LIBRARY_PAGE, write_library_page
from ..preview.run_library import MAX_FOLDER_DEPTH, RunLibrary
from .table import print_lines


def add_command(commands: Any) -> None:
    """Adds `index` to the command line."""
    index = commands.add_parser("index", help=f"write {LIBRARY_PAGE}, a page that opens all runs in a folder")
    index.add_argument(
        "folder", type=Path, metavar="DIR", help=f"folder with runs, up to {MAX_FOLDER_DEPTH} levels below it"
    )
    index.add_argument("--open", action="store_true", help="open the page in a browser")
    index.set_defaults(run=_run_index)


def _run_index(arguments: argparse.Namespace) -> int:
    library = RunLibrary(arguments.folder, saved_prompt)
    count = len(library.runs())
    if not count:
        found = "no run" if arguments.folder.is_dir() else "no folder"
        raise PageError(f"{arguments.folder}: expected runs (folders with a run.json), found {found}")
    page = write_library_page(library)
    print_lines(f"{count} run{'s' * (count != 1)}: {page}")
    if arguments.open:
        webbrowser.open(page.as_uri())
    return 0
