"""The command line `safelight`: its commands, and the exit code."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from ..errors import SafelightError
from ..version import safelight_version
from . import compare, decode, demo, export, fit, get, gradio, index, learned, lists, report, view
from .table import warn

FAILED = 2  # argparse uses the same exit code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `safelight` with these arguments and returns the exit code."""
    _escape_what_cannot_be_printed(sys.stdout)
    arguments = _parser().parse_args(argv)
    vars(arguments).update({name: _with_home(value) for name, value in vars(arguments).items()})
    try:
        return arguments.run(arguments)
    except SafelightError as error:
        warn(f"safelight: {error}")
        return FAILED
    except BrokenPipeError:  # a reader such as `head` closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that is too long, or a folder that this account may not open
        place = f"{error.filename}: " if error.filename else ""
        warn(f"safelight: {place}{error.strerror or error}")
        return FAILED
    except KeyboardInterrupt:
        return 130


def _escape_what_cannot_be_printed(stream: Any) -> None:
    """Makes a stream print escapes for characters that it has no code for, as stderr does.

    On Windows, the output to a pipe or a file has the code page of the country, in which most names cannot be written.
    """
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def _with_home(value: Any) -> Any:
    """Replaces `~` in a path or a list of paths: in `--out=~/runs` a shell leaves it."""
    if isinstance(value, list):
        return [_with_home(item) for item in cast("list[Any]", value)]
    return value.expanduser() if isinstance(value, Path) and value.parts[:1] == ("~",) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="safelight", description="Truthful previews of diffusion runs.")
    parser.add_argument("--version", action="version", version=f"safelight {safelight_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo.add_command(commands)
    lists.add_commands(commands)
    decode.add_command(commands)
    view.add_command(commands)
    index.add_command(commands)
    gradio.add_command(commands)
    fit.add_commands(commands)
    compare.add_command(commands)
    export.add_command(commands)
    learned.add_commands(commands)
    get.add_command(commands)
    report.add_command(commands)
    return parser
