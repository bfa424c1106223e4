"""Contact sheets of runs in InvokeAI, with graphs that look like the host's."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safelight.errors import GoneError, ManifestError, SafelightError
from safelight.hosts.invokeai.graph import SHEET
from safelight.hosts.invokeai.steps_sheet import contact_sheet
from safelight.hosts.invokeai.watch import InvokeOptions, watched
from safelight.preview.manifest import read_manifest
from safelight.preview.sinks.contact_sheet import CAPTION_PX, GAP_PX

DENOISE = "safelight_denoise_latents"


def edge(source, destination):
    return SimpleNamespace(source=SimpleNamespace(node_id=source), destination=SimpleNamespace(node_id=destination))


class Session:
    """The host's session: a graph as it was drawn, and as it runs, each node with a new id.

    Args:
        outputs: folder.
        nodes: type of each by its name.
        edges: pairs of names.
    """

    def __init__(self, outputs, nodes, edges, prefix="safelight/steps"):
        def node(name, kind):
            watched_too = {"write_intermediates": False, "filename_prefix": prefix} if kind == DENOISE else {}
            return SimpleNamespace(id=name, type=kind, steps=3, **watched_too)

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
    """How many steps of 64x48 there is room for."""
    return (picture.width - GAP_PX) // (256 + GAP_PX) * ((picture.height - GAP_PX) // (192 + CAPTION_PX + GAP_PX))


def folders(outputs):
    return sorted(path.relative_to(outputs).as_posix() for path in Path(outputs).glob("*/*_*"))


def test_connected_it_is_of_the_run_that_made_the_latents_though_no_steps_were_written(session, tmp_path):
    made = session()
    made.denoise()
    picture = made.sheet()
    folder = tmp_path / "safelight" / "steps_00001"
    assert sorted(path.name for path in folder.iterdir()) == ["run.json", "sheet.png"]
    assert tiles(picture) == 3
    assert picture.mode == "RGB"


def test_with_files_of_its_steps_as_many_are_on_it_as_one_wants(session):
    made = session()
    made.denoise(write_intermediates=True, steps=6)
    assert [tiles(made.sheet(most=most)) for most in (1, 3, 6, 48)] == [1, 3, 6, 6]


def test_latents_that_were_changed_on_the_way_are_still_of_their_run(session):
    made = session((("denoise", "crop"), ("crop", "sheet")))
    made.denoise()
    assert tiles(made.sheet()) == 3


def test_of_two_runs_in_a_row_it_is_of_the_nearer_one(session, tmp_path):
    made = session((("denoise", "again"), ("again", "sheet")))
    made.denoise(steps=1)
    made.denoise("again", steps=3)
    assert folders(tmp_path) == ["safelight/steps_00001"]  # no sheet was asked of the first
    assert read_manifest(tmp_path / "safelight" / "steps_00001")["host"]["node"] == "again"
    assert tiles(made.sheet()) == 3


def test_where_a_node_ran_several_times_each_has_its_own(tmp_path):
    passes = []
    for steps in (1, 4):
        made = Session(tmp_path, {"denoise": DENOISE, "sheet": SHEET}, [("denoise", "sheet")])
        made.nodes["denoise"].id = f"pass {steps}"
        graph = made.context._data.queue_item.session.execution_graph
        graph.nodes = {one.id: one for one in graph.nodes.values()}
        graph.edges = [edge(f"pass {steps}", "run-sheet")]
        made.denoise(steps=steps, sheet=True)
        passes.append(made)
    assert [tiles(made.sheet()) for made in passes] == [1, 4]


def test_a_run_that_nobody_wants_a_sheet_of_writes_nothing(session, tmp_path):
    session(()).denoise()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_named_is_the_one(session):
    made = session(())
    made.denoise(write_intermediates=True, steps=4)
    assert tiles(made.sheet(folder=" safelight/steps_00001 ")) == 4


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("", "connect the latents of a Denoise"),
        ("safelight/steps_00009", "no such folder"),
        ("../elsewhere", "leads out"),
        ("\0", "is no path"),
    ],
)
def test_where_there_is_no_run_it_is_said_what_to_do(session, folder, why):
    with pytest.raises(GoneError, match=why):
        session(()).sheet(folder=folder)


def test_a_run_without_pictures_is_told(session, tmp_path):
    made = session(())
    made.denoise(animation=True)
    with pytest.raises(GoneError, match="without write_intermediates and sheet"):
        made.sheet(folder="safelight/steps_00001")


def test_a_folder_that_is_gone_is_told(session):
    made = session()
    with pytest.raises(GoneError, match="it took no step, or was deleted"):
        made.sheet()


def test_a_record_that_leads_elsewhere_is_refused(session, tmp_path):
    made = session(())
    made.denoise(sheet=True)
    record = tmp_path / "safelight" / "steps_00001" / "run.json"
    record.write_text(record.read_text().replace("sheet.png", "../sheet.png"))
    with pytest.raises(ManifestError, match="is not the name of a file in the folder"):
        made.sheet(folder="safelight/steps_00001")


def test_a_prefix_with_signs_of_patterns_is_taken_as_it_is(session):
    made = session(prefix="a/[steps]")
    made.denoise()
    assert tiles(made.sheet()) == 3


def test_a_host_without_a_session_has_no_run(tmp_path):
    context = SimpleNamespace(config=SimpleNamespace(get=lambda: SimpleNamespace(outputs_path=tmp_path)))
    with pytest.raises(SafelightError, match="connect the latents"):
        contact_sheet(context, SimpleNamespace(id="x"), "", 4)
