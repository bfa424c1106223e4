"""Breaks the promises in a copy of the repository, one after the other, and says which tests notice.

`python -m tests.mutations` runs those that core tests must notice. Arguments select others: `--tier comfyui`, `--tier
all`, or words of their names. The exit status is 1 if one was not noticed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .list import MUTATIONS
from .mutation import ROOT, Mutation

PACKAGE = "safelight"  # name of the copy's folder: its parent is put on the path, before the checkout
LIMIT_S = 3600
FAILED, PASSED = 1, 0  # exit codes of pytest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.split("\n", 1)[0])
    parser.add_argument("words", nargs="*", help="only mutations with these words in their name")
    parser.add_argument("--tier", default="core", help="only those that this tier must notice; all: every tier")
    parser.add_argument("--list", action="store_true", help="print them and run nothing")
    arguments = parser.parse_args()
    selected = [
        mutation
        for mutation in MUTATIONS
        if (arguments.tier in ("all", mutation.tier) or arguments.words)
        and all(word in mutation.name for word in arguments.words)
    ]
    if not selected:
        parser.error("no mutation of this tier has all of these words in its name; --tier all --list prints all")
    if arguments.list:
        for mutation in selected:
            print(f"{mutation.tier:12} {mutation.promise}: {mutation.name}")
        return 0
    with tempfile.TemporaryDirectory(prefix="safelight-mutations-") as folder:
        copy = copy_of_the_repository(Path(folder))
        _expect_passing(copy, selected)
        missed = [mutation for mutation in selected if not is_noticed(copy, mutation)]
    print(f"{len(selected) - len(missed)} of {len(selected)} mutations were noticed")
    for mutation in missed:
        print(f"NOT NOTICED: {mutation.name} ({mutation.file}), by {' '.join(mutation.noticed_by)}")
    return 1 if missed else 0


def copy_of_the_repository(folder: Path) -> Path:
    """Copies the files that git tracks or would add into `folder`; returns the copy."""
    copy = folder / PACKAGE
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    # The rigs of the host tiers ask git which files belong to the repository.
    subprocess.run(["git", "init", "--quiet", copy], check=True)
    return copy


def is_noticed(copy: Path, mutation: Mutation) -> bool:
    """Applies a mutation to the copy, runs the tests that must notice it, and takes the mutation back."""
    contents = mutation.changed_files(copy)
    before = {path: path.read_text("utf-8") for path in contents}
    began = time.monotonic()
    try:
        for path, content in contents.items():
            path.write_text(content, "utf-8")
        code, output = run_tests(copy, mutation.noticed_by, "-x")
    finally:
        for path, content in before.items():
            path.write_text(content, "utf-8")
    if code not in (FAILED, PASSED):
        raise SystemExit(f"{mutation.name}: the tests could not run:\n{output[-3000:]}")
    by = re.findall(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    print(
        f"{'noticed' if code == FAILED else 'MISSED '} {mutation.name} {time.monotonic() - began:.0f} s {' '.join(by)}"
    )
    return code == FAILED


def run_tests(copy: Path, paths: tuple[str, ...], *options: str) -> tuple[int, str]:
    """Runs tests of the copy; returns pytest's exit code and its output."""
    environment = {**os.environ, "PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *paths],
        cwd=copy,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    return done.returncode, done.stdout + done.stderr


def _expect_passing(copy: Path, mutations: list[Mutation]) -> None:
    """Runs the tests without a mutation: a test that fails anyway would notice everything."""
    where = subprocess.run(
        [sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy.parent)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    if Path(where).parent != copy:
        raise SystemExit(f"the tests would import {where} in place of the copy {copy}")
    paths = tuple(dict.fromkeys(path for mutation in mutations for path in mutation.noticed_by))
    code, output = run_tests(copy, paths) if paths else (PASSED, "")
    if code != PASSED:
        raise SystemExit(f"without any mutation, the tests do not pass:\n{output[-3000:]}")
    if "did not run" in output or (re.search(r"^SKIPPED", output, re.MULTILINE) and "passed" not in output):
        raise SystemExit(f"tests that must notice mutations were skipped:\n{output[-1000:]}")


if __name__ == "__main__":
    sys.exit(main())
