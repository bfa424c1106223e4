"""Writes the report of a fit or a comparison into a folder."""

from pathlib import Path

from PIL import Image

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
        sheet.save(folder / SHEET)
        chart.save(folder / CHART)
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
        (folder / TABLE).write_text(table + "\n", encoding="utf-8")
    except OSError as error:
        raise _cannot_write(folder, error) from None


def _cannot_write(folder: Path, error: OSError) -> FitError:
    return FitError(f"{folder}: the report cannot be written: {error.strerror or error}")
