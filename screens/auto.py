"""Chooses the screen for the place where a script runs."""

import sys
from collections.abc import Mapping
from typing import Any, TextIO

from ..preview.sinks.base import NoSink, Sink
from .terminal import graphics_here, terminal


def screen_here(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> Sink:
    """Returns the screen of a notebook's cell, or of a terminal that can draw pictures, or `NoSink`.

    Args:
        stream: stream to the terminal; None for stderr.
        environment: environment variables that describe the terminal; None for those of the process.
    """
    if in_notebook():
        from .notebook import NotebookScreen

        return NotebookScreen()
    # Hosts have their own progress line, and a second one would show the same.
    return NoSink() if graphics_here(environment, stream) == "line" else terminal(stream, environment)


def in_notebook(modules: Mapping[str, Any] = sys.modules) -> bool:
    """Whether this runs in the cell of a notebook: in an IPython with a kernel. IPython is not imported."""
    ipython = modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
