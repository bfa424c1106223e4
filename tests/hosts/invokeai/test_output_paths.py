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
    run(host(), node, noise, "%date:yyyy%/%seed%_%width%x%height%")
    (folder,) = (tmp_path / "outputs").glob("2*/*")
    assert folder.name == "3_64x48_00001"
    assert folder.parent.name.isdigit()


class Noise(SimpleNamespace):
    UIConfig = SimpleNamespace(title="Create Latent Noise")


def graph_context(host):
    """A context whose queue item has a workflow of four nodes; `n` got its seed over a link."""
    nodes = {
        "n": Noise(type="noise", seed=0, width=64),
        "m": SimpleNamespace(type="main_model_loader", model=SimpleNamespace(name="Photo/XL: 1", hash="blake3:1")),
        "d": SimpleNamespace(
            type="safelight_denoise_latents", steps=6, scheduler=SimpleNamespace(value="euler_a"), noise=object(), a=""
        ),
        "e.1": SimpleNamespace(type="noise", seed=8, is_gray=True),
    }
    session = SimpleNamespace(
        graph=SimpleNamespace(nodes=nodes, edges=[]),
        execution_graph=SimpleNamespace(
            nodes={"n-1": Noise(type="noise", seed=4, width=64), "n-2": Noise(type="noise", seed=77, width=64)},
            edges=[],
        ),
        prepared_source_mapping={"n-1": "n", "n-2": "n", "n-3": "n"},
    )
    drawn = [{"data": {"id": "d", "label": "My Sampler"}}, {"data": {"id": "n", "label": ""}}, {"data": 3}, "x"]
    item = SimpleNamespace(session=session, session_id="s", workflow=SimpleNamespace(nodes=drawn))
    context = host()
    context._data = SimpleNamespace(queue_item=item)
    return context


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("n.seed", "77"),  # as the newest copy of the node ran
        ("noise.seed", "77"),
        ("Create Latent Noise.width", "64"),
        ("m.model", "Photo_XL_ 1"),
        ("My Sampler.steps", "6"),
        ("safelight_denoise_latents.scheduler", "euler_a"),
        ("e.1.seed", "8"),
        ("noise.is_gray", "true"),  # the first node of this type that has the input
    ],
)
def test_a_token_takes_the_value_of_a_node_of_the_workflow(host, noise, tmp_path, token, expected):
    node = SimpleNamespace(id="d", steps=6)
    run(graph_context(host), node, noise, f"a/%{token}%")
    assert (tmp_path / "outputs" / "a" / f"{expected}_00001" / "run.json").is_file()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("seed", "%seed% has no value; expected %date:yyyy-MM-dd%, %seed%, %width%, %height% or %Node.input%"),
        ("unknown", "%unknown% has no value"),
        ("Nobody.seed", "%Nobody.seed%: no node of this workflow has the id, label, type or title 'Nobody'"),
        ("n.sead", "%n.sead%: 'n' has no text or number in the input 'sead'; inputs with one: seed, width"),
        ("d.noise", "'d' has no text or number in the input 'noise'"),
        ("d.a", "'d' has no text or number in the input 'a'"),
    ],
)
def test_a_token_without_a_value_is_an_error_before_the_node_runs(host, noise, tmp_path, token, reason):
    ran = []
    options = InvokeOptions(write_intermediates=True, filename_prefix=f"a/%{token}%")
    with pytest.raises(SinkError, match="filename_prefix") as error:
        watched(ran.append, graph_context(host), SimpleNamespace(id="d", steps=6), options)
    assert reason in str(error.value)
    assert ran == []
    assert list((tmp_path / "outputs").iterdir()) == []


def test_without_a_graph_a_token_of_a_node_is_an_error_in_words(host, node, noise):
    with pytest.raises(SinkError, match="no node of this workflow has the id"):
        run(host(), node, noise, "%n.seed%")
    context = graph_context(host)
    context._data.queue_item.session.graph = None
    with pytest.raises(SinkError, match="does not say the values of its nodes"):
        run(context, node, noise, "%n.seed%")


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
