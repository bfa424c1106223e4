"""Every mutation still fits the code, and every promise has one."""

import ast
import re
from pathlib import Path

import pytest

from .list import MUTATIONS
from .mutation import ROOT, Mutation, MutationError


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_a_text_that_occurs_once(mutation):
    for path, content in mutation.changed_files(ROOT).items():
        assert content != path.read_text("utf-8")
        if path.suffix == ".py":
            ast.parse(content)  # else every test would notice it


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_tests_that_must_notice_a_mutation_exist(mutation):
    assert mutation.noticed_by
    for path, _, name in (test.partition("::") for test in mutation.noticed_by):
        assert f"def {name}" in (ROOT / path).read_text("utf-8")
    assert mutation.tier != "several", "its tests are of one tier, so that one command runs them"


def test_names_of_mutations_are_unique():
    names = [mutation.name for mutation in MUTATIONS]
    assert len(names) == len(set(names))


def test_every_promise_of_the_readme_and_every_threat_has_a_mutation():
    readme = (ROOT / "README.md").read_text("utf-8").split("## What you get", 1)[1].split("\n## ", 1)[0]
    security = (ROOT / "SECURITY.md").read_text("utf-8").split("| threat | defense |", 1)[1].split("\n\n", 1)[0]
    promises = re.findall(r"^\* \*\*(.+?)\*\*", readme, re.MULTILINE)
    threats = [line.split(" | ")[0].removeprefix("| ") for line in security.splitlines()[2:]]
    assert len(promises) > 4
    assert len(threats) > 10
    assert {mutation.promise for mutation in MUTATIONS} == {*promises, *threats}


def test_a_mutation_whose_text_is_gone_or_ambiguous_is_an_error(tmp_path):
    def mutation(old):
        return Mutation("a name", "a promise", "code.py", old, "new", ("tests/x.py",))

    (tmp_path / "code.py").write_text("one two two")
    assert mutation("one").changed_files(tmp_path) == {tmp_path / "code.py": "new two two"}
    with pytest.raises(MutationError, match=r"expected the text once in code\.py, found it 2 times: 'two'"):
        mutation("two").changed_files(tmp_path)
    with pytest.raises(MutationError, match="found it 0 times"):
        mutation("three").changed_files(tmp_path)
    with pytest.raises(MutationError, match=r"there is no file code\.py"):
        mutation("one").changed_files(Path("elsewhere"))
