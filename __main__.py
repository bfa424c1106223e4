"""Runs the command line: the program `safelight`, and `python -m safelight`."""

import sys
from importlib.util import find_spec

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


if __name__ == "__main__":
    sys.exit(main())
