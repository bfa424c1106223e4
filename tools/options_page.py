"""Writes `docs/options.md`, the table of all options of a run, from `RunOptions`.

python -m safelight.tools.options_page docs/options.md
"""

import argparse
from pathlib import Path

from ..preview.options import OptionRow, rows

COMMAND = "python -m safelight.tools.options_page docs/options.md"
PAGE = f"""\
# Options of a run

The same options, with the same names, defaults and meanings, are inputs of **Preview Steps** in ComfyUI, fields of the
*(Safelight)* denoise nodes in InvokeAI, and arguments of `watch()` and `Options(...)` in Python. Commands have those
that apply, as `--every-n-steps`. Some hosts have other defaults, which their pages name.

| option | default | values | meaning |
|---|---|---|---|
{{table}}

This table is written by `{COMMAND}`.
"""


def page() -> str:
    """Returns the text of the page."""
    return PAGE.format(table="\n".join(map(_line, rows())))


def _line(row: OptionRow) -> str:
    needs = f" Only with {' or '.join(f'`{name}`' for name in row.needs)}." if row.needs else ""
    cells = (f"`{row.name}`", f"`{_shown(row.default)}`", _values(row), row.help + needs)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(row: OptionRow) -> str:
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    if row.type is bool:
        return "`true`, `false`"
    if row.minimum is not None and row.maximum is not None:
        return f"{row.minimum:,} to {row.maximum:,}"
    return "text"


def main() -> None:
    """Writes the page to the path on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="FILE", help="page to write")
    parser.parse_args().path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
