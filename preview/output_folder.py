"""A folder that a user names, in the output folder of a host."""

from itertools import count
from pathlib import Path

from ..errors import GoneError, brief


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


def numbered_folder(parent: Path, name: str) -> Path:
    """The first free `<name>_00001`, `<name>_00002` and so on in `parent`."""
    return next(path for i in count(1) if not (path := parent / f"{name}_{i:05d}").exists())


def create_numbered_folder(parent: Path, name: str) -> Path:
    """The same, made at once: another run may ask now."""
    while True:
        folder = numbered_folder(parent, name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:
            pass  # whoever opens the folder tells the user why it cannot be made
        return folder
