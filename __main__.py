"""Runs the command line: the program `safelight`, `python -m safelight`, and `python FOLDER` for a pack in a host."""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

NEEDED = ("torch", "numpy", "PIL", "safetensors", "tqdm")  # in the extra `standalone`; a host brings them
FAILED = 2  # as for a command that failed


def main() -> int:
    """Runs the command line with the arguments of the process, and returns the exit code."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        print(
            f"safelight: {', '.join(missing)} must be installed, because the command line runs without a host. "
            'Use `pip install "safelight[standalone]"` with this Python.',
            file=sys.stderr,
        )
        return FAILED
    from .cli.main import main as run

    return run()


def _import_package() -> str:
    """Imports the package from this file's folder, whose name need not be one of a module, and returns its name."""
    folder = Path(__file__).absolute().parent  # not resolved: a link in custom_nodes counts as being there
    sys.path.remove(sys.path[0])  # Python has put the folder there: our `nodes` could hide a host's
    spec = spec_from_file_location("safelight", folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"expected the files of Safelight in {folder}; install it again")
    sys.modules[spec.name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return spec.name


if __name__ == "__main__":
    __package__ = __package__ or _import_package()  # empty if Python was started with the folder
    sys.exit(main())
