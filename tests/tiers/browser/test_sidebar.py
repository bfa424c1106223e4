"""The library in the sidebar of a real ComfyUI, by keyboard."""

import shutil

import pytest

from .conftest import _drive


@pytest.fixture(scope="module")
def seen(browsed_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sidebar")
    for runs in browsed_server.output.glob("[!.]*"):  # saved by other tests; they would be listed too
        shutil.rmtree(runs, ignore_errors=True)
    return _drive(
        "sidebar.mjs",
        url=f"http://127.0.0.1:{browsed_server.port}",
        profiles=str(folder),
        shots=str(folder),
        latent_format="Flux",
    )


def test_live_and_saved_runs_of_all_workflows_are_listed_once(seen):
    assert sorted(seen["listed"]["badges"]) == ["", "not saved"]
    assert seen["saved"]["folder"] == "safelight/steps_00001"
    assert "Save this live run to the output folder" in seen["starred"]["actions"]
    assert seen["starred"]["said"].startswith("Starred: newer runs do not remove it")
    assert "Save this live run to the output folder" not in seen["saved"]["actions"]


def test_keys_act_on_the_run_and_not_on_the_graph(seen):
    assert seen["deleted"]["said"] == "Run deleted"
    assert {seen[scene]["nodes"] for scene in ("listed", "deleted", "undone", "searched")} == {4}
    assert seen["opened"]["opened"]


def test_the_workflow_of_a_run_opens_under_the_name_of_its_folder(seen):
    assert seen["workflow"]["tab"].startswith("steps_00001")
    assert seen["workflow"]["nodes"] == 4


def test_the_menu_of_a_picture_gives_stars_and_deletes_and_the_tab_undoes_it(seen):
    for label in ("Give this run a star", "Write a note on this run", "Delete this run"):
        assert label in seen["menu"]
    assert seen["deletedInMenu"]["said"] == "Run moved to the trash"
    assert seen["undoneInTab"]["stars"] == 2


def test_it_fits_at_280_and_800_pixels(seen):
    assert (seen["narrow"]["wide"], seen["wide"]["wide"]) == (0, 0)
    assert seen["narrow"]["columns"] < seen["wide"]["columns"]


def test_nothing_of_it_reports_an_error(seen):
    assert seen["errors"] == []
