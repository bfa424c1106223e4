"""`python -m safelight`."""

import sys

from .hosts.cli import main

sys.exit(main(sys.argv[1:]))
