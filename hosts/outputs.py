"""A folder that a user names, in the output folder of a host."""

from pathlib import Path

from ..decoders.errors import GoneError, brief


def folder_in(output: Path, wanted: str) -> Path:
    """The folder `wanted`, as a path in `output`.

    Raises:
        GoneError: it is not there, or leads out.
    """
    output = output.resolve()
    try:
        path = (output / wanted).resolve()
        inside, there = path.is_relative_to(output), path.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a link to itself
        raise GoneError(f"{brief(wanted)}: is no path: {brief(error)}") from None
    if not inside:
        raise GoneError(f"{brief(wanted)}: leads out of the output folder; runs are loaded from in there alone")
    if not there:
        raise GoneError(f"{brief(wanted)}: there is no such folder in the output folder (any more)")
    return path
