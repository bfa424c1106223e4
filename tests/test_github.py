"""The workflows and forms in `.github`: pinned, without rights that they do not need, and true."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("[0-9]*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)+")
PLACEHOLDER = "OWNER_NAME"


def text_of(path):
    return path.read_text("utf-8")


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def test_there_are_workflows_and_forms():
    assert [path.stem for path in WORKFLOWS] == ["nightly", "publish", "tests"]
    assert len(FORMS) == 3


@each(WORKFLOWS)
def test_each_action_is_pinned_to_a_commit(path):
    used = re.findall(r"^ *(?:- )?uses: (.+)$", text_of(path), re.MULTILINE)
    assert used
    assert [name for name in used if not (PINNED.fullmatch(name) or name.startswith("./"))] == []


def test_an_action_has_one_commit_in_all_workflows():
    used = {found for path in WORKFLOWS for found in re.findall(r"uses: ([\w/-]+)@(\S+)", text_of(path))}
    assert len({name for name, _ in used}) == len(used)


@each(WORKFLOWS)
def test_a_workflow_may_only_read_and_saves_no_key_in_the_checkout(path):
    text = text_of(path)
    assert "\npermissions:\n  contents: read\n" in text
    assert not re.search(r"^ +[\w-]+: write$", text.replace("id-token: write", ""), re.MULTILINE)
    assert "pull_request_target" not in text
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


@each(WORKFLOWS)
def test_every_job_has_a_limit_of_time(path):
    jobs = text_of(path).split("\njobs:\n")[1]
    assert jobs.count("runs-on:") == jobs.count("timeout-minutes:")


def test_only_the_job_that_publishes_on_pypi_gets_a_token_of_github():
    owners = [path.stem for path in WORKFLOWS if "id-token: write" in text_of(path)]
    assert owners == ["publish"]
    publish = text_of(GITHUB / "workflows/publish.yml")
    assert publish.count("id-token: write") == 1
    assert "environment: pypi\n    permissions:\n      id-token: write\n" in publish


def test_the_core_runs_on_three_systems_from_the_oldest_python_on():
    text = text_of(GITHUB / "workflows/tests.yml")
    oldest = re.search(r'requires-python = ">=([\d.]+)"', text_of(ROOT / "pyproject.toml"))[1]
    versions = re.findall(r'"(3\.\d+)"', re.search(r"^ +python: \[(.*)\]$", text, re.MULTILINE)[1])
    assert versions == [f"3.{minor}" for minor in range(int(oldest.split(".")[1]), 15)]
    assert "os: [ubuntu-latest, windows-latest, macos-latest]" in text


def test_every_tier_with_a_host_runs_at_night():
    text = text_of(GITHUB / "workflows/nightly.yml")
    named = set(re.findall(r"tests/tiers/(\w+)", text)) | set(re.search(r"tier: \[(.*)\]", text)[1].split(", "))
    assert {"comfyui", "browser", "invokeai", "diffusers", "release"} <= named
    assert [name for name in named if not (ROOT / "tests/tiers" / name).is_dir()] == []


def test_each_variable_is_one_that_the_tests_read():
    rules = text_of(ROOT / "tests/conftest.py")
    named = {name for path in WORKFLOWS for name in re.findall(r"\b(SAFELIGHT_\w+|INVOKEAI_\w+)", text_of(path))}
    assert named
    assert [name for name in named if name not in rules] == []


@each(sorted(path for path in GITHUB.rglob("*") if path.is_file()))
def test_no_file_names_a_place_of_one_machine(path):
    assert re.findall(r"(?:^|[\s\"'=])/(?:work|opt|home|root|Users|tmp)/", text_of(path)) == []


@each(FORMS)
def test_each_form_says_what_is_needed_and_requires_it(path):
    text = text_of(path)
    assert re.match(r"name: .+\ndescription: .+\nlabels: \[\w+\]\nbody:\n", text)
    ids = re.findall(r"^    id: (\w+)$", text, re.MULTILINE)
    assert len(ids) == len(set(ids)) >= 2
    assert "required: true" in text


def test_forms_about_faults_ask_for_the_report():
    asking = [path.name for path in FORMS if "`safelight report` prints" in text_of(path)]
    assert asking == ["1-bug.yml", "2-model.yml"]


def test_the_owner_is_a_placeholder_only_where_contributing_says():
    places = [ROOT / "pyproject.toml", *(path for path in GITHUB.rglob("*") if path.is_file())]
    named = {path.relative_to(ROOT).as_posix() for path in places if PLACEHOLDER in text_of(path)}
    contributing = text_of(ROOT / "CONTRIBUTING.md")
    assert named - {".github/workflows/publish.yml"} == set(re.findall(r"^\* `([^`]+)`: ", contributing, re.MULTILINE))
