"""Writes `steps.csv`, a table of a run's steps."""

import csv
import io
from typing import final

from ..run import State
from .base import Delivery, Sink
from .run_folder import RunFolder

NAME = "steps.csv"
COLUMNS = {"index": "index", "sigma": "sigma", "at": "seconds", "decode_ms": "decode_ms"}  # key in run.json: heading


@final
class StepsCsv(Sink):
    """Writes `steps.csv` when the run has ended: index, sigma, seconds since the start, decode time, first file.

    Args:
        folder: folder of the run.
    """

    name = "steps.csv"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def close(self, state: State) -> None:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([*COLUMNS.values(), "file"])
        for step in self._folder.manifest()["steps"]:
            writer.writerow([*(step[key] for key in COLUMNS), *(step["files"][:1] or [step["latent"]])])
        self._folder.write(NAME, table.getvalue().encode())
        self._folder.announce(csv=NAME)
