"""Which device this is: its name, whether it is a part of one (MIG), and the repository's own tests on it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import torch

from ...preview.decode.memory_budget import MB
from .device import Device
from .rows import Row, equal, failed

DEVICE_PART, TESTS = "device", "tests"
LIMITS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF")
MARK = "mark.gpu"
TESTS_TIMEOUT_S = 90
ROOT = Path(__file__).parents[2]


def device_rows(device: Device) -> Iterator[Row]:
    """The device, and what limits it."""
    facts = device.api.get_device_properties(0)
    free, total = device.api.mem_get_info()
    yield Row(DEVICE_PART, "name", facts.name)
    yield Row(DEVICE_PART, "MB of memory, and MB that are free", f"{total // MB:,}, {free // MB:,}")
    yield Row(DEVICE_PART, "multiprocessors", facts.multi_processor_count)
    yield Row(DEVICE_PART, "part of a device (MIG)", "yes" if is_slice(facts.name) else "no")
    yield Row(DEVICE_PART, "visible devices", device.api.device_count())
    limits = ", ".join(f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ)
    yield Row(DEVICE_PART, "variables that limit it", limits or "none")
    yield Row(DEVICE_PART, "PyTorch", f"{torch.__version__}, CUDA {torch.version.cuda}, HIP {torch.version.hip}")


def is_slice(name: str) -> bool:
    """Whether a device is a MIG slice, by its name or by the id under which it was made visible."""
    return " MIG " in f" {name} " or "MIG-" in os.environ.get("CUDA_VISIBLE_DEVICES", "")


def repository_rows(_: Device) -> Iterator[Row]:
    """The tests of the repository that need a device."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text("utf-8")]
    if not files:
        yield Row(TESTS, "tests that need a device", "not run: they are in a checkout of Safelight, not in a package")
        return
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junit-xml={report}"]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, timeout=TESTS_TIMEOUT_S, check=False
        )
        if not report.is_file():
            yield failed(TESTS, (done.stderr or done.stdout)[-300:])
            return
        yield from counted(report.read_text("utf-8"))


def counted(report: str) -> Iterator[Row]:
    """The rows of a report in JUnit's form: each test has to run and pass.

    Raises:
        xml.etree.ElementTree.ParseError: it is no XML.
    """
    cases = list(ET.fromstring(report).iter("testcase"))  # noqa: S314 - pytest wrote it here
    wrong = [case for case in cases if any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))]
    yield Row(TESTS, "tests that need a device", len(cases), "at least 1", bool(cases))
    names = ", ".join(f"{case.get('classname')}::{case.get('name')}" for case in wrong)
    yield equal(TESTS, "tests that failed or did not run", names or "none", "none")
