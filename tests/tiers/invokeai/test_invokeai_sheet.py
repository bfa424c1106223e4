"""Contact sheets of runs in InvokeAI, with graphs that look like InvokeAI's."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safelight.errors import GoneError, ManifestError, SafelightError
from safelight.hosts.invokeai.graph import SHEET
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.steps_sheet import contact_sheet
from safelight.hosts.invokeai.watch import watched
from safelight.preview.manifest import read_manifest
from safelight.preview.sinks.contact_sheet import CAPTION_PX, GAP_PX

DENOISE = "safelight_denoise_latents"


def edge(source, destination):
    return SimpleNamespace(source=SimpleNamespace(node_id=source), destination=SimpleNamespace(node_id=destination))


class Session:
    """InvokeAI's session: a graph as the user drew it, and as it runs, where each node has a new id.

    Args:
        outputs: folder.
        nodes: type of each node, by name.
        edges: pairs of names.
    """

    def __init__(self, outputs, nodes, edges, prefix="safelight/steps"):
        def node(name, kind):
            inputs = {"write_intermediates": False, "filename_prefix": prefix} if kind == DENOISE else {}
            return SimpleNamespace(id=name, type=kind, steps=3, **inputs)

        def graph(rename):
            return SimpleNamespace(
                model_dump_json=lambda: "{}",
                nodes={rename(name): node(rename(name), kind) for name, kind in nodes.items()},
                edges=[edge(rename(source), rename(end)) for source, end in edges],
            )

        session = SimpleNamespace(
            graph=graph(str),
            execution_graph=graph("run-{}".format),
            prepared_source_mapping={f"run-{name}": name for name in nodes},
        )
        self.nodes = {name: session.execution_graph.nodes[f"run-{name}"] for name in nodes}
        self.context = SimpleNamespace(
            _data=SimpleNamespace(queue_item=SimpleNamespace(session_id="s", session=session, workflow=None)),
            config=SimpleNamespace(get=lambda: SimpleNamespace(outputs_path=outputs, root_path=outputs)),
            util=SimpleNamespace(
                is_canceled=lambda: False, signal_progress=lambda *_: None, sd_step_callback=lambda *_: None
            ),
        )

    def denoise(self, name="denoise", steps=3, **settings):
        def invoke(context):
            for i in range(1, steps + 1):
                x0 = torch.full((1, 16, 6, 8), i / 10)
                state = SimpleNamespace(
                    step=i, order=1, total_steps=steps, timestep=0, latents=x0, predicted_original=x0
                )
                context.util.sd_step_callback(state, "sd-3")

        chosen = InvokeOptions(filename_prefix=self.nodes[name].filename_prefix, **settings)
        watched(invoke, self.context, self.nodes[name], chosen)

    def sheet(self, name="sheet", folder="", most=48):
        return contact_sheet(self.context, self.nodes[name], folder, most)


@pytest.fixture
def session(tmp_path):
    def make(edges=(("denoise", "sheet"),), **more):
        nodes = {"denoise": DENOISE, "again": DENOISE, "crop": "lcrop", "sheet": SHEET}
        return Session(tmp_path, nodes, edges, **more)

    return make


def tiles(picture):
    """The number of steps of 64x48 that fit into the picture."""
    return (picture.width - GAP_PX) // (256 + GAP_PX) * ((picture.height - GAP_PX) // (192 + CAPTION_PX + GAP_PX))


def folders(outputs):
    return sorted(path.relative_to(outputs).as_posix() for path in Path(outputs).glob("*/*_*"))


def test_a_connected_sheet_shows_the_run_of_its_latents_even_if_no_steps_were_written(session, tmp_path):
    lab = session()
    lab.denoise()
    picture = lab.sheet()
    folder = tmp_path / "safelight" / "steps_00001"
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", "sheet.png"]
    assert tiles(picture) == 3
    assert picture.mode == "RGB"


def test_a_run_with_step_files_shows_at_most_max_images_steps(session):
    lab = session()
    lab.denoise(write_intermediates=True, steps=6)
    assert [tiles(lab.sheet(most=most)) for most in (1, 3, 6, 48)] == [1, 3, 6, 6]


def test_nodes_between_denoise_and_sheet_do_not_hide_the_run(session):
    lab = session((("denoise", "crop"), ("crop", "sheet")))
    lab.denoise()
    assert tiles(lab.sheet()) == 3


def test_the_nearer_of_two_runs_in_a_row_is_shown(session, tmp_path):
    lab = session((("denoise", "again"), ("again", "sheet")))
    lab.denoise(steps=1)
    lab.denoise("again", steps=3)
    assert folders(tmp_path) == ["safelight/steps_00001"]  # the first run has no sheet
    assert read_manifest(tmp_path / "safelight" / "steps_00001")["host"]["node"] == "again"
    assert tiles(lab.sheet()) == 3


def test_each_run_of_a_node_that_ran_several_times_has_its_own_sheet(tmp_path):
    passes = []
    for steps in (1, 4):
        lab = Session(tmp_path, {"denoise": DENOISE, "sheet": SHEET}, [("denoise", "sheet")])
        lab.nodes["denoise"].id = f"pass {steps}"
        graph = lab.context._data.queue_item.session.execution_graph
        graph.nodes = {node.id: node for node in graph.nodes.values()}
        graph.edges = [edge(f"pass {steps}", "run-sheet")]
        lab.denoise(steps=steps, sheet=True)
        passes.append(lab)
    assert [tiles(lab.sheet()) for lab in passes] == [1, 4]


def test_a_run_without_a_sheet_node_writes_nothing(session, tmp_path):
    session(()).denoise()
    assert list(tmp_path.iterdir()) == []


def test_a_typed_folder_selects_the_run(session):
    lab = session(())
    lab.denoise(write_intermediates=True, steps=4)
    assert tiles(lab.sheet(folder=" safelight/steps_00001 ")) == 4


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("", "connect the latents of a Denoise"),
        ("safelight/steps_00009", "no such folder"),
        ("../elsewhere", "leads out"),
        ("\0", "not a path"),
    ],
)
def test_without_a_run_the_message_says_what_to_do(session, folder, why):
    with pytest.raises(GoneError, match=why):
        session(()).sheet(folder=folder)


def test_a_run_without_pictures_has_no_sheet(session, tmp_path):
    lab = session(())
    lab.denoise(animation="webp")
    with pytest.raises(GoneError, match="write_intermediates and sheet were off"):
        lab.sheet(folder="safelight/steps_00001")


def test_a_missing_folder_of_a_run_is_reported(session):
    lab = session()
    with pytest.raises(GoneError, match="it took no step, or was deleted"):
        lab.sheet()


def test_a_record_with_a_path_out_of_the_folder_is_refused(session, tmp_path):
    lab = session(())
    lab.denoise(sheet=True)
    record = tmp_path / "safelight" / "steps_00001" / "run.json"
    record.write_text(record.read_text().replace("sheet.png", "../sheet.png"))
    with pytest.raises(ManifestError, match="is not the name of a file in the folder"):
        lab.sheet(folder="safelight/steps_00001")


def test_a_prefix_is_not_a_glob_pattern(session):
    lab = session(prefix="a/[steps]")
    lab.denoise()
    assert tiles(lab.sheet()) == 3


def test_a_context_without_a_session_has_no_run(tmp_path):
    context = SimpleNamespace(config=SimpleNamespace(get=lambda: SimpleNamespace(outputs_path=tmp_path)))
    with pytest.raises(SafelightError, match="connect the latents"):
        contact_sheet(context, SimpleNamespace(id="x"), "", 4)
