"""Runs the viewer's own tests with Node."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
MIN_NODE = 20


def major_version(node: str) -> int:
    printed = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    return int(printed.removeprefix("v").split(".")[0])


@pytest.mark.skipif(NODE is None or major_version(NODE) < MIN_NODE, reason=f"no Node {MIN_NODE} or newer on the path")
def test_the_tests_of_the_viewer_pass():
    tests = sorted(str(path) for path in Path(__file__).parent.glob("*.test.mjs"))
    ran = subprocess.run([NODE, "--test", *tests], check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert int(re.search(r"pass (\d+)", ran.stdout)[1]) >= len(tests)
