"""The pack works in a folder of any name, also of one that needs quoting in a URL."""

from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from .conftest import REPOSITORY, serving

ODD_NAME = "Säfe light (1) {2} [x] 100% + 日本"


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("comfyui"), ODD_NAME) as server:
        yield server


def scripts(server):
    return [path for path in server.get("/extensions").json() if ODD_NAME in unquote(path)]


def test_each_script_that_the_host_announces_is_served_once(oddly_named):
    [script] = scripts(oddly_named)
    reply = oddly_named.get(script)
    assert (reply.status, reply.body) == (200, (REPOSITORY / "web/comfy.js").read_bytes())
    assert reply.headers["content-type"].startswith(("text/javascript", "application/javascript"))
    assert "no-cache" in reply.headers["cache-control"] or "no-store" in reply.headers["cache-control"]


def test_modules_help_pages_and_example_workflows_are_served(oddly_named):
    base = f"/extensions/{quote(ODD_NAME)}"
    for path in [*(REPOSITORY / "web").glob("*.mjs"), REPOSITORY / "web/docs/SafelightPreview.md"]:
        reply = oddly_named.get(f"{base}/{path.relative_to(REPOSITORY / 'web').as_posix()}")
        assert (reply.status, reply.body) == (200, path.read_bytes()), path
    templates = oddly_named.get("/api/workflow_templates").json()[ODD_NAME]
    for name in templates:
        reply = oddly_named.get(f"/api/workflow_templates/{quote(ODD_NAME)}/{quote(name)}.json")
        assert (reply.status, reply.body) == (200, (REPOSITORY / f"example_workflows/{name}.json").read_bytes())


@pytest.mark.parametrize(
    "path", ["../README.md", "%2e%2e/README.md", "..%2FREADME.md", "nothing.js", "", "docs", "%00"]
)
def test_no_other_file_is_served(oddly_named, path):
    assert oddly_named.get(f"/extensions/{quote(ODD_NAME)}/{path}").status in (403, 404)


def test_scripts_of_the_host_and_of_other_names_are_not_affected(oddly_named):
    assert oddly_named.get("/extensions/core/nothing.js").status == 404
    assert oddly_named.get("/extensions/Safe/comfy.js").status == 404
    names = {Path(path).parts[2] for path in oddly_named.get("/extensions").json()}
    assert quote(ODD_NAME) in names


def test_a_run_is_recorded_in_such_a_folder(oddly_named, wire):
    played = oddly_named.play(wire(preview={"write_intermediates": True}))
    assert played.ends == ["execution_success"]
    assert played.named("safelight.step")
