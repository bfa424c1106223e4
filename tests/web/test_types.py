"""The check of the types in `web`: it covers every module, hides nothing, and says when it cannot run."""

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = json.loads((ROOT / "tsconfig.json").read_text("utf-8"))
SCRIPTS = sorted(path for path in (ROOT / "web").iterdir() if path.suffix in (".mjs", ".js"))
STUBS = sorted((ROOT / "typings").glob("*.d.ts"))
MEMBER = re.compile(r"^ {4}(\w+)\??[:(]", re.MULTILINE)
INTERFACE = re.compile(r"^ {2}interface (\w+)", re.MULTILINE)


def test_every_module_is_checked():
    paths = [path.relative_to(ROOT).as_posix() for path in (*SCRIPTS, *STUBS)]
    assert len(paths) > 80
    assert [path for path in paths if not any(fnmatchcase(path, each) for each in CONFIG["include"])] == []
    assert "exclude" not in CONFIG


def test_the_check_is_strict():
    options = CONFIG["compilerOptions"]
    assert options["checkJs"] is True
    assert options["strict"] is True
    assert [name for name, value in options.items() if value is False] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_module_switches_the_check_off(path):
    assert re.findall(r"@ts-\w+", path.read_text("utf-8")) == []


def test_the_stubs_name_only_what_a_module_uses():
    source = "\n".join(path.read_text("utf-8") for path in SCRIPTS)
    stubs = "\n".join(path.read_text("utf-8") for path in STUBS)
    members = set(MEMBER.findall(stubs))
    assert "getInputLink" in members
    assert sorted(name for name in members if not re.search(rf"\b{name}\b", source)) == []
    others = source + re.sub(r"^ {2}interface \w+", "", stubs, flags=re.MULTILINE)
    assert [name for name in INTERFACE.findall(stubs) if not re.search(rf"\b{name}\b", others)] == []


@pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")
@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("required",), 1)])
def test_without_node_the_script_says_that_nothing_was_checked(tmp_path, arguments, code):
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    command = [shutil.which("bash"), ROOT / ".ci/types", *arguments]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert (ran.returncode, ran.stdout) == (
        code,
        "The types of web/ were not checked: there is no Node with npm on the PATH\n",
    )
