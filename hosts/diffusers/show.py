"""Shows a run again, where the user works."""

import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import GoneError
from ...preview.sinks.base import Sink
from ...preview.sinks.page import PAGE_NAME
from ...screens.auto import in_notebook
from ...screens.terminal import TerminalScreen, graphics_here

if TYPE_CHECKING:
    from .watched_run import WatchedRun


def show_run(run: "WatchedRun") -> None:
    """Shows all steps in the notebook's cell, or the run's page in a browser; else the last picture.

    Without a notebook and a page, the terminal shows the last picture if it can, else the system's picture viewer.

    Raises:
        GoneError: there is no picture to show.
    """
    pictures, folder = run.pictures, run.folder
    if in_notebook() and pictures:
        from ...screens.notebook import NotebookScreen

        screen = NotebookScreen()
        screen.follow(run.run)
        _replay(screen, run)
        return
    if folder is not None and (page := folder / PAGE_NAME).is_file():
        if not webbrowser.open(page.absolute().as_uri()):
            print(f"no browser was found; the run's page is {page}")
        return
    if not pictures:
        raise GoneError("there is no picture to show: no step was sampled, or newer runs have replaced them in memory")
    if (graphics := graphics_here()) != "line":
        _replay(TerminalScreen(graphics), run)
    else:
        pictures[-1].image.show()


def newest(runs: Sequence["WatchedRun"]) -> "WatchedRun":
    """Returns the newest run.

    Raises:
        GoneError: there is none.
    """
    if not runs:
        raise GoneError("there is no run to show yet: call the pipeline in the block")
    return runs[-1]


def _replay(screen: Sink, run: "WatchedRun") -> None:
    screen.open()
    for picture in run.pictures:
        screen.show(picture)
    screen.close("finished" if run.state == "running" else run.state)
