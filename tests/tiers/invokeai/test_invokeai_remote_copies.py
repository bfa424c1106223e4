"""The setting that copies saved runs to a store, in a real InvokeAI; runs for a minute."""

import pytest

pytestmark = pytest.mark.timeout(1600)


@pytest.fixture(scope="module")
def seen(lab):
    return lab("remote_copies")[0]


def test_a_saved_run_is_copied_to_the_store(seen):
    assert seen["place"] == f"bucket/runs/kept/run_00001_{seen['id'][:8]}"
    assert seen["same"]
    assert {"run.json", "index.html", "step_0001.png"} <= set(seen["names"])


def test_an_address_of_this_machine_is_refused(seen):
    [note] = seen["refused"]
    assert note.startswith("the run is not copied: remote: expected the address of a store such as s3://bucket/runs")
    assert not seen["elsewhere"]
