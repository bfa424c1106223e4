"""Where runs are written in InvokeAI's outputs folder, and whose runs a user reaches."""

import logging
from types import SimpleNamespace

import pytest
from safelight.errors import GoneError, SinkError
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.output_paths import typed_folder
from safelight.hosts.invokeai.steps_sheet import contact_sheet
from safelight.hosts.invokeai.watch import watched
from safelight.preview.manifest import read_manifest

from .fake_host import euler

SAVED = InvokeOptions(write_intermediates=True)
OWN = "safelight/steps_00001"


def run(context, node, noise, prefix="safelight/steps"):
    options = InvokeOptions(write_intermediates=True, filename_prefix=prefix)
    return watched(lambda c: euler(c, noise), context, node, options)


def sheet(context, folder):
    return contact_sheet(context, SimpleNamespace(id="sheet"), folder, 48)


def test_runs_of_accounts_are_apart(host, node, noise, tmp_path):
    for user in ("ann", "ben"):
        run(host(user=user), node, noise)
    users = tmp_path / "outputs" / "safelight_users"
    assert sorted(path.name for path in users.iterdir()) == ["ann", "ben"]
    assert all((users / user / OWN / "run.json").is_file() for user in ("ann", "ben"))


@pytest.mark.parametrize(
    "typed",
    [
        OWN,
        f"safelight_users/ann/{OWN}",
        f"../ann/{OWN}",
        f"x/../../ann/{OWN}",
        "{outputs}/safelight_users/ann/" + OWN,
        "../../single/run_00001",
        ".." + "/.." * 3,
    ],
)
def test_an_account_gets_no_sheet_of_another_ones_run(host, node, noise, tmp_path, typed):
    run(host(user="ann"), node, noise)
    run(host(), node, noise, "single/run")  # from a time without accounts
    with pytest.raises(GoneError):
        sheet(host(user="ben"), typed.format(outputs=tmp_path / "outputs"))
    assert sheet(host(user="ann"), OWN).size[0] > 64


@pytest.mark.parametrize("prefix", ["../ann/x", "../../x", "a/../../ann/x"])
def test_an_account_writes_into_its_own_folder_only(host, node, noise, prefix):
    with pytest.raises(SinkError, match="inside the output folder"):
        run(host(user="ben"), node, noise, prefix)


@pytest.mark.parametrize("user", ["", "..", "a/b", 7, ".hidden"])
def test_an_account_that_is_no_name_gets_no_folder(host, node, noise, user):
    with pytest.raises(SinkError, match="which account"):
        run(host(user=user), node, noise)


def test_the_connected_run_is_found_by_its_own_account_only(host, node, noise):
    ann, ben = host(user="ann"), host(user="ben")
    run(ann, node, noise)
    assert typed_folder(ann, node) == OWN
    node.write_intermediates = True
    edge = SimpleNamespace(source=SimpleNamespace(node_id="d"), destination=SimpleNamespace(node_id="sheet"))
    graph = SimpleNamespace(nodes={"d": node, "sheet": SimpleNamespace(id="sheet")}, edges=[edge])
    for context in (ann, ben):
        context._data.queue_item.session = SimpleNamespace(execution_graph=graph)
    assert sheet(ann, "").size[0] > 64
    with pytest.raises(GoneError, match="no folder of this run"):
        sheet(ben, "")


def test_without_accounts_paths_are_those_of_the_outputs_folder(host, node, noise, tmp_path):
    run(host(), node, noise)
    assert (tmp_path / "outputs" / OWN / "run.json").is_file()
    assert sheet(host(), OWN).size[0] > 64


@pytest.mark.parametrize("prefix", ["images/x", "Images/a/b", "tensors/run", "conditioning/x", "a/../videos/x"])
def test_a_prefix_in_a_folder_of_invokeai_is_refused(host, node, noise, prefix):
    with pytest.raises(SinkError, match="InvokeAI's own files"):
        run(host(), node, noise, prefix)


def test_a_prefix_that_only_begins_like_a_folder_of_invokeai_is_allowed(host, node, noise, tmp_path):
    run(host(), node, noise, "images")
    assert (tmp_path / "outputs" / "images_00001" / "run.json").is_file()


def test_tokens_of_a_prefix_are_replaced(host, node, noise, tmp_path):
    run(host(), node, noise, "%date:yyyy%/%seed%_%width%x%height%_%unknown%")
    (folder,) = (tmp_path / "outputs").glob("2*/*")
    assert folder.name == "3_64x48_%unknown%_00001"
    assert folder.parent.name.isdigit()


def test_the_log_and_the_result_name_the_folder(host, node, noise, tmp_path, caplog):
    context = host()
    with caplog.at_level(logging.INFO, "safelight"):
        run(context, node, noise, "a/b")
    folder = tmp_path / "outputs" / "a" / "b_00001"
    assert [record.message for record in caplog.records] == [f"the run is in {folder}"]
    assert typed_folder(context, node) == "a/b_00001"


def test_a_run_without_files_has_no_folder(host, noise, caplog):
    context, node = host(), SimpleNamespace(id="without files", steps=6)
    with caplog.at_level(logging.INFO, "safelight"):
        watched(lambda c: euler(c, noise), context, node, InvokeOptions())
    assert caplog.records == []
    assert typed_folder(context, node) == ""


def test_the_record_has_the_facts_of_the_node(host, noise, tmp_path):
    model = SimpleNamespace(name="Photo", hash="blake3:1")
    lora = SimpleNamespace(lora=SimpleNamespace(name="Ink", hash="blake3:2"), weight=0.5)
    node = SimpleNamespace(
        id="d", steps=10, seed=3, cfg_scale=[4.0, 2.0], guidance=3.5, denoising_start=0.4, denoising_end=1,
        transformer=SimpleNamespace(transformer=model, loras=[lora]),
    )  # fmt: skip

    def edge(source, target, field):
        return SimpleNamespace(
            source=SimpleNamespace(node_id=source, field="x"), destination=SimpleNamespace(node_id=target, field=field)
        )

    nodes = {
        "d": node,
        "p": SimpleNamespace(type="compel", prompt="a barn"),
        "n": SimpleNamespace(type="compel", prompt="blurry"),
        "c": SimpleNamespace(type="collect"),
    }
    edges = [
        edge("p", "c", "item"),
        edge("c", "d", "positive_conditioning"),
        edge("n", "d", "negative_conditioning"),
    ]
    context = host()
    session = SimpleNamespace(
        execution_graph=SimpleNamespace(nodes=nodes, edges=edges),
        graph=SimpleNamespace(nodes={}, edges=[]),
        prepared_source_mapping={},
    )
    context._data = SimpleNamespace(queue_item=SimpleNamespace(session=session, session_id="s", workflow=None))
    run(context, node, noise, "facts")
    sampler = read_manifest(tmp_path / "outputs" / "facts_00001")["sampler"]
    assert sampler == {
        "steps": 6, "seed": 3, "cfg": None, "name": None, "scheduler": None,
        "sigmas": [1.0, 0.95, 0.8, 0.5, 0.3, 0.1, 0.0],
        "prompt": "a barn", "model": {"name": "Photo", "hash": "blake3:1"},
        "loras": [{"name": "Ink", "hash": "blake3:2", "weight": 0.5}],
        "strength": 0.6, "cfg_of_steps": [4.0, 2.0], "guidance": 3.5,
    }  # fmt: skip
