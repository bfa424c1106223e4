"""Runs the command line: `python -m safelight`."""

import sys

from .cli.main import main

sys.exit(main(sys.argv[1:]))
