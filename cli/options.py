"""Command-line options derived from the options of a run."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ..preview.options import RunOptions, row

DECODER_HELP = "a name that `safelight decoders` lists, a kind, or a file"


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
    """The run options among the parsed arguments.

    Raises:
        OptionError: a value is not allowed.
    """
    return RunOptions.of(vars(arguments), **fixed)
