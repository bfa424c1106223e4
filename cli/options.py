"""Adds the options of a run to a command."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ..preview.options import RunOptions, row
from .decoder_choice import DECODER_HELP


def add_options(command: argparse.ArgumentParser, names: Sequence[str], defaults: Mapping[str, Any]) -> None:
    """Adds an option for each row of `RunOptions` in `names`: `every_n_steps` becomes `--every-n-steps`.

    Args:
        command: parser of the command.
        names: names of the rows.
        defaults: defaults that differ from those of the rows.
    """
    for name in names:
        option = row(name)
        default = defaults.get(name, option.default)
        text = (DECODER_HELP if name == "decoder" else option.help).replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        if option.type is bool:
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        else:
            text += " (%(default)s)" if name == "decoder" else " Default: %(default)s."
            command.add_argument(flag, type=option.type, choices=option.choices or None, default=default, help=text)


def options_of(arguments: argparse.Namespace, **fixed: Any) -> RunOptions:
    """Returns the run options among the parsed arguments.

    Args:
        arguments: parsed arguments.
        fixed: values that the command fixes.

    Raises:
        OptionError: a value is not allowed.
        SinkError: the animation needs PyAV, which is not installed.
    """
    return RunOptions.of(vars(arguments), **fixed)
