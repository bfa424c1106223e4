"""The viewer's modules, by their own tests, which Node runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
OLDEST = 20


def version_of(node: str) -> int:
    told = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    return int(told.removeprefix("v").split(".")[0])


@pytest.mark.skipif(NODE is None or version_of(NODE) < OLDEST, reason=f"no Node {OLDEST} or newer on the path")
def test_the_modules_of_the_viewer_pass_their_own_tests():
    tests = sorted(str(path) for path in Path(__file__).parent.glob("*.test.mjs"))
    ran = subprocess.run([NODE, "--test", *tests], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert int(re.search(r"pass (\d+)", ran.stdout)[1]) >= len(tests)
