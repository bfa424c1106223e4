"""Writes the report of a fit or a comparison into a folder."""

import io
from pathlib import Path, PurePath

from PIL import Image

from ..decoders.files.contained_file import write_below
from ..errors import FitError
from .table import print_lines

TABLE, SHEET, CHART = "table.md", "sheet.png", "chart.png"


def write_report(folder: Path, table: str, sheet: Image.Image, chart: Image.Image) -> None:
    """Writes a table, a sheet and a chart, and prints where they are.

    Raises:
        FitError: a file cannot be written.
    """
    write_table(folder, table)
    try:
        write_below(folder, PurePath(SHEET), _png(sheet))
        write_below(folder, PurePath(CHART), _png(chart))
    except OSError as error:
        raise _cannot_write(folder, error) from None
    print_lines("", f"{folder}: {TABLE}, {SHEET}, {CHART}")


def write_table(folder: Path, table: str) -> None:
    """Writes the table only.

    Raises:
        FitError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_below(folder, PurePath(TABLE), f"{table}\n".encode())
    except OSError as error:
        raise _cannot_write(folder, error) from None


def _png(image: Image.Image) -> bytes:
    image.save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def _cannot_write(folder: Path, error: OSError) -> FitError:
    return FitError(f"{folder}: the report cannot be written: {error.strerror or error}")
