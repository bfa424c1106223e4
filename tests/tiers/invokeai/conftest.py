"""A real InvokeAI with this checkout among its node packs, asked as its UI asks it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

HOST = "INVOKEAI_PYTHON"  # the Python of a virtual environment that InvokeAI is installed in
REPOSITORY = Path(__file__).resolve().parents[3]
LAB = Path(__file__).parent / "lab"
LIMIT_S = 1500


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Runs one of the lab's scripts in InvokeAI's Python; what it saw, and the folder where it worked."""
    invokeai = os.environ[HOST]

    def run(script):
        place = tmp_path_factory.mktemp(script)
        done = subprocess.run(
            [invokeai, LAB / f"{script}.py", REPOSITORY, place], capture_output=True, text=True, timeout=LIMIT_S
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return json.loads((place / "seen.json").read_text()), place

    return run
