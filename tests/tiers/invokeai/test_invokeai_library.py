"""The library on a real InvokeAI's server; runs for half a minute."""

import json

import pytest
from safelight.cli.view import serve

from ... import older

pytestmark = pytest.mark.timeout(1600)


@pytest.fixture(scope="module")
def library(lab):
    return lab("library")


@pytest.fixture(scope="module")
def seen(library):
    found = library[0]
    older.expect(
        found["first"]["page"]["status"] == 200, "InvokeAI", found["version"], "a server that packs can extend"
    )
    return found


@pytest.mark.parametrize("when", ["first", "reloaded"])
def test_the_page_lists_the_runs_with_their_facts(seen, when):
    found = seen[when]
    assert (found["page"]["status"], found["page"]["type"]) == (200, "text/html; charset=utf-8")
    assert (found["bare"]["status"], found["bare"]["to"]) == (307, "safelight/")
    runs = found["library"]["json"]["runs"]
    assert [run["prompt"] for run in runs] == ["a fox in snow", "a lighthouse at dawn"]
    assert [run["sampler"]["seed"] for run in runs] == [41, 40]
    assert {(run["model"], run["host"], run["state"]) for run in runs} == {("tiny-sd1", "invokeai", "finished")}
    assert [run["folder"] for run in runs] == ["safelight/steps_00002", "safelight/steps_00001"]


def test_a_run_opens_with_its_pictures(seen):
    assert len(seen["first"]["run"]["json"]["steps"]) == 4
    assert (seen["first"]["picture"]["status"], seen["first"]["picture"]["type"]) == (200, "image/png")
    assert "default-src 'none'" in seen["first"]["picture"]["policy"]


def test_the_workflow_of_a_run_is_the_one_that_invokeai_stored(seen):
    without, with_workflow = seen["first"]["workflows"]
    assert without["status"] == 404
    names = {node["id"] for node in with_workflow["json"]["nodes"]}
    assert {"denoise", "noise", "model"} <= names


def test_runs_are_changed_and_other_sites_are_refused(seen):
    assert seen["first"]["star"] == 200
    assert seen["reloaded"]["library"]["json"]["runs"][0]["star"] is True
    for asked in ("other_site", "other_name"):
        assert seen["first"][asked]["status"] == 403


def test_invokeai_itself_answers_as_before(seen):
    for when in ("first", "reloaded"):
        assert (seen[when]["ui"]["status"], seen[when]["api"]["status"]) == (200, 200)
        assert seen[when]["api"]["json"]["version"] == seen["version"]
    assert seen["reloaded"]["status"] == 200


def test_the_log_names_the_page_and_a_variable_switches_it_off(seen):
    assert f"the library of all runs: {seen['address']}" in seen["log"]
    assert seen["off"]["json"] is None  # InvokeAI's own page, as for every other path


def test_safelight_view_shows_the_same_runs_without_invokeai(library):
    seen, place = library
    server = serve(place / "root" / "outputs", 0)
    try:
        listed = json.loads(server.site.get("/library").body)["runs"]
    finally:
        server.server_close()
    assert [run["id"] for run in listed] == [run["id"] for run in seen["first"]["library"]["json"]["runs"]]
