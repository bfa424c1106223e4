"""The screen for wherever a script runs."""

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from ..preview.sinks.base import NoSink, Sink
from .terminal import graphics_here, terminal


def screen_here(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> Sink:
    """Where whoever runs this looks: the cell of a notebook, else the terminal if it draws pictures, else nowhere.

    Args:
        stream: to the terminal; stderr if None.
        environment: that tells what the terminal can; the process's if None.
    """
    if in_notebook():
        from .notebook import NotebookScreen

        return NotebookScreen()
    # Hosts have a progress line of their own: a second one says nothing new.
    return NoSink() if graphics_here(environment, stream) == "line" else terminal(stream, environment)


def in_notebook(modules: Mapping[str, Any] = sys.modules) -> bool:
    """Whether this runs in a cell of a notebook: in an IPython that has a kernel. IPython is not imported for it."""
    found = modules.get("IPython")
    shell = found.get_ipython() if found is not None else None
    return getattr(shell, "kernel", None) is not None
