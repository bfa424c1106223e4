"""What the command line writes: a link under the name of a file is replaced, and never written through."""

import os

import numpy as np
import pytest
from PIL import Image
from safelight.cli.main import main
from safelight.cli.report_folder import CHART, SHEET, TABLE, write_report

pytestmark = pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_bytes(b"mine")
    return path


def test_a_report_writes_through_no_link(tmp_path, victim):
    folder = tmp_path / "report"
    folder.mkdir()
    for name in (TABLE, SHEET, CHART):
        (folder / name).symlink_to(victim)
    write_report(folder, "| a |", Image.new("RGB", (4, 3)), Image.new("RGB", (5, 3)))
    assert victim.read_bytes() == b"mine"
    assert (folder / TABLE).read_text() == "| a |\n"
    assert [size_of(folder / name) for name in (SHEET, CHART)] == [(4, 3), (5, 3)]


def test_decoded_pictures_and_their_sheet_write_through_no_link(tmp_path, victim):
    latents, out = tmp_path / "a.npy", tmp_path / "out"
    np.save(latents, np.zeros((1, 4, 8, 8), np.float32))
    out.mkdir()
    for name in ("a_01.png", "sheet.png"):
        (out / name).symlink_to(victim)
    assert main(["decode", str(latents), "--space", "sd1", "--sheet", "--out", str(out)]) == 0
    assert victim.read_bytes() == b"mine"
    assert all(not (out / name).is_symlink() and size_of(out / name) for name in ("a_01.png", "sheet.png"))
