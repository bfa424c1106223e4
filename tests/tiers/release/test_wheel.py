"""The wheel: it has what runs, changes nothing in a host, and works without one."""

import json
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import PurePosixPath

import pytest

from ...test_packed_files import pages_of_the_viewer, running_modules, running_scripts, weights
from .conftest import run


def test_the_wheel_has_what_runs_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    modules = running_modules()
    expected = modules | running_scripts({"comfy.js", *pages_of_the_viewer(modules)}) | weights()
    assert sorted(names) == sorted(f"safelight/{path}" for path in expected)


def test_the_wheel_alone_installs_no_other_package(bare):
    listed = json.loads(run(bare.python, "-m", "pip", "list", "--format", "json", cwd=bare.place))
    assert {package["name"] for package in listed} <= {"pip", "setuptools", "safelight"}
    failed = subprocess.run([bare.program, "demo"], cwd=bare.place, capture_output=True, text=True)
    assert failed.returncode == 2
    assert 'pip install "safelight[standalone]"' in failed.stderr
    assert list(bare.place.iterdir()) == []


def test_the_installed_copy_is_the_one_of_the_wheel(installed):
    place = run(installed.python, "-c", "import safelight; print(safelight.__file__)", cwd=installed.place)
    assert PurePosixPath(place.strip()).is_relative_to(installed.folder.as_posix())
    version = run(
        installed.python, "-c", "import importlib.metadata as m; print(m.version('safelight'))", cwd=installed.place
    )
    assert installed.safelight("--version") == f"safelight {version}"


def test_demo_writes_a_run_that_a_page_opens(installed):
    output = installed.safelight("demo", "--steps", 3, "--out", installed.place / "demo")
    (folder,) = (installed.place / "demo").iterdir()
    assert str(folder) in output
    assert {"index.html", "run.json", "sheet.png", "step_0003.png", "steps.webp"} <= {
        path.name for path in folder.iterdir()
    }
    assert json.loads((folder / "run.json").read_text("utf-8"))["state"] == "finished"


@pytest.mark.parametrize("command", ["decoders", "spaces"])
def test_lists_show_what_ships(installed, command):
    rows = json.loads(installed.safelight(command, "--json"))
    assert "flux2" in {row.get("space", row["name"]) for row in rows}


def test_view_serves_the_library(installed):
    installed.safelight("demo", "--steps", 2, "--out", installed.place / "viewed")
    command = [installed.program, "view", "viewed", "--no-open", "--port", "0"]
    with subprocess.Popen(command, cwd=installed.place, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = next(word for line in server.stdout for word in line.split() if word.startswith("http://"))
            with urllib.request.urlopen(address) as page:
                text = page.read().decode()
        finally:
            server.kill()
    assert "<title>" in text
    assert "viewed" in text


def test_watch_records_a_loop_of_ones_own(installed, example_script):
    pytest.importorskip("diffusers")
    script = example_script("watch_a_scheduler_loop.py")
    run(installed.python, script, "--steps", 3, "--out", installed.place / "watched", cwd=installed.place)
    (folder,) = (installed.place / "watched").iterdir()
    assert len(list(folder.glob("step_*.png"))) == 3
    assert sys.executable != str(installed.python)
