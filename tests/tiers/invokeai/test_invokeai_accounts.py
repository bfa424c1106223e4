"""What the accounts of a real InvokeAI reach of each other's runs; runs for a minute."""

import pytest
from safelight.preview.manifest import read_manifest

pytestmark = pytest.mark.timeout(1600)

STEPS = 4


@pytest.fixture(scope="module")
def accounts(lab):
    return lab("accounts")


@pytest.fixture(scope="module")
def seen(accounts):
    return accounts[0]


@pytest.fixture(scope="module")
def outputs(accounts):
    return accounts[1] / "root" / "outputs"


def test_a_run_is_in_the_folder_of_its_account(seen, outputs):
    assert seen["run"]["status"] == "completed", seen["run"]
    year, name = seen["folder"].split("/")
    assert (len(year), name) == (4, "7_64_00001")
    assert (outputs / "safelight_users" / seen["ann"] / year / name / "run.json").is_file()


def test_a_scheduler_of_second_order_has_the_steps_that_were_asked_for(seen, outputs):
    manifest = read_manifest(outputs / "safelight_users" / seen["ann"] / seen["folder"])
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3, 4]
    sampler = manifest["sampler"]
    assert (sampler["steps"], len(sampler["sigmas"]), sampler["strength"]) == (STEPS, STEPS + 1, 1.0)
    assert (sampler["prompt"], set(sampler["model"])) == ("a cat", {"name", "hash"})


def test_images_of_steps_are_no_intermediate_ones_and_have_metadata(seen):
    assert [image["metadata"]["safelight_step"] for image in seen["gallery"]] == [1, 2, 3, 4]
    assert {tuple(image["size"]) for image in seen["gallery"]} == {(64, 64)}
    assert len({image["metadata"]["safelight_run"] for image in seen["gallery"]}) == 1


def test_an_account_gets_sheets_of_its_own_runs(seen):
    assert seen["own_sheet"]["status"] == seen["connected_sheet"]["status"] == "completed", seen


def test_an_account_gets_no_sheet_of_another_ones_run(seen):
    assert len(seen["other_sheets"]) == 4
    for found in seen["other_sheets"]:
        assert found["status"] == "failed"
        assert "in the output folder" in found["error"] or "leads out of" in found["error"]


def test_an_account_writes_into_no_folder_of_another_one(seen):
    assert seen["other_prefix"]["status"] == "failed"
    assert "inside the output folder" in seen["other_prefix"]["error"]


def test_a_graph_with_a_decoder_and_a_space_that_are_gone_runs(seen):
    assert seen["gone"] == "completed"
