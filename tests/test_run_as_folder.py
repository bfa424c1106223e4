"""`python FOLDER COMMAND` runs the command line of a pack, whatever its folder is called."""

import subprocess
import sys
from pathlib import Path

import pytest
import safelight

ROOT = Path(safelight.__file__).parent


@pytest.fixture
def pack(tmp_path):
    """The package as a pack of a ComfyUI, under a name that no module can have."""
    place = tmp_path / "custom_nodes" / "a pack-1.0"
    place.parent.mkdir()
    try:
        place.symlink_to(ROOT, target_is_directory=True)
    except OSError:  # Windows allows links only to some accounts
        pytest.skip("this account may not create links")
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.33.0"\n', "utf-8")
    return place


def test_a_command_runs_and_knows_the_host_around_the_pack(pack):
    command = [sys.executable, pack, "report", "--runs", "1"]
    done = subprocess.run(command, cwd=pack.parents[1], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Safelight ")
    assert lines[1].startswith("host: ComfyUI 0.33.0, frontend ")
