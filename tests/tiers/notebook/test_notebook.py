"""The example notebook with a real kernel, its saved output in a real browser, and a running cell in JupyterLab."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "example_scripts/watch_in_a_notebook.ipynb"
JPEG, HTML, VIEW = "image/jpeg", "text/html", "application/vnd.jupyter.widget-view+json"


def run(notebook, folder):
    """Runs a notebook in a folder and returns it."""
    import nbclient

    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    return notebook


def displays(cell):
    """The displays with a picture; the pipeline's progress bar is another display."""
    shown = [output.data for output in cell.outputs if output.output_type == "display_data"]
    return [data for data in shown if JPEG in data]


def jpeg_of(data):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data[JPEG]))))


@pytest.fixture(scope="module")
def ran(tiny, tmp_path_factory):
    """The example after it was run, with a pipeline."""
    import nbformat

    folder = tmp_path_factory.mktemp("example")
    notebook = nbformat.read(EXAMPLE, 4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source += f"\nPIPELINE = {str(tiny)!r}\nOPTIONS = {{'num_inference_steps': 6}}\n"
    run(notebook, folder)
    nbformat.write(notebook, folder / "example.ipynb")
    return folder, notebook


def page_of(folder):
    """Converts the saved notebook to a page."""
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level=ERROR", "example.ipynb"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "example.html"


def test_the_example_is_small_and_has_no_outputs():
    notebook = json.loads(EXAMPLE.read_text("utf-8"))
    assert all(cell.get("outputs", []) == [] for cell in notebook["cells"])
    assert EXAMPLE.stat().st_size < 10_000


def test_each_run_ends_as_one_display_with_viewer_and_last_picture_and_no_widget(ran):
    _, notebook = ran
    demo, watched = (cell for cell in notebook.cells if cell.cell_type == "code" and displays(cell))
    for cell in (demo, watched):
        (data,) = displays(cell)
        assert HTML in data
        assert VIEW not in data
        assert len(data[HTML]) < 400_000
        assert jpeg_of(data).std() > 5
    assert "step 12 / 12" in displays(demo)[0]["text/plain"]
    assert "step 6 / 6" in displays(watched)[0]["text/plain"]
    assert all(output.output_type != "error" for cell in notebook.cells for output in cell.get("outputs", []))


def test_the_run_of_the_pipeline_is_also_in_a_folder(ran):
    folder, _ = ran
    manifest = json.loads((folder / "runs/steps_00001/run.json").read_text())
    assert (manifest["state"], len(manifest["steps"])) == ("finished", 6)


def test_the_viewer_in_a_saved_notebook_works_without_a_kernel(ran, hand, tmp_path):
    folder, _ = ran
    hand("open", url=page_of(folder).as_uri())
    frame = "iframe >> nth=0"
    hand("says", ".parts .step", within=frame, text="step 12 / 12")
    last = hand("other", ".pane:first-child img", within=frame, than=None)
    assert last["src"].startswith("blob:")
    assert last["src"].endswith("#step_0012.jpg")
    hand("click", ".stage", within=frame)
    hand("press", keys=["ArrowLeft", "ArrowLeft"])
    hand("says", ".parts .step", within=frame, text="step 10 / 12")
    tenth = hand("other", ".pane:first-child img", within=frame, than=last["src"])
    assert tenth["src"].endswith("#step_0010.jpg")
    hand("press", keys=["Home"])
    hand("says", ".parts .step", within=frame, text="step 1 / 12")
    hand("shot", path=str(tmp_path / "saved.png"))
    hand("says", ".parts .step", within="iframe >> nth=1", text="step 6 / 6")
    assert [
        problem for problem in hand("heard") if "require" not in problem["from"] and "http" not in problem["from"][:4]
    ] == []


CELL = ".jp-Notebook .jp-CodeCell >> nth={} >> "
SLOW = """
import threading, time
from pathlib import Path
from diffusers import DiffusionPipeline
from safelight.hosts.diffusers import watch

pipe = DiffusionPipeline.from_pretrained({pipeline!r})
pipe.set_progress_bar_config(disable=True)
pipe.unet.register_forward_pre_hook(lambda *_: time.sleep(0.1))  # a slow model
with watch(pipe) as run:
    pipe("a lighthouse", num_inference_steps=900)
print(run.runs[-1].state, len(run.pictures) < 900)
"""


def test_the_picture_of_a_running_cell_changes_and_stop_saves_the_steps_so_far(tiny, lab, hand, tmp_path):
    import nbformat

    folder = tmp_path / "notebooks"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(SLOW.format(pipeline=str(tiny)))]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "P"}})
    nbformat.write(notebook, folder / "live.ipynb")
    hand("open", url=f"{lab(folder)}/lab/tree/live.ipynb?reset")
    hand("wait", ".jp-Notebook-ExecutionIndicator[data-status=idle]")
    hand("click", CELL.format(0) + ".cm-content")
    hand("press", keys=["Shift+Enter"])
    live = [None]
    for _ in range(4):
        live.append(hand("other", CELL.format(0) + ".jp-OutputArea img", than=live[-1])["src"])
    assert len(set(live)) == 5
    hand("shot", path=str(tmp_path / "live.png"))
    hand("click", CELL.format(0) + "button:has-text('Stop')")
    hand("says", CELL.format(0) + ".jp-OutputArea", text="interrupted True")
    frame = ".jp-CodeCell iframe >> nth=0"
    hand("says", ".parts .step", within=frame, text=r"stopped at step \d+ / 900")
    newest = hand("other", ".pane:first-child img", within=frame, than=None)
    hand("click", ".stage", within=frame)
    hand("press", keys=["ArrowLeft"])
    hand("other", ".pane:first-child img", within=frame, than=newest["src"])
    hand("shot", path=str(tmp_path / "stopped.png"))


def test_an_untrusted_notebook_shows_the_last_picture_and_runs_no_script(ran, lab, hand, tmp_path):
    folder, _ = ran
    hand("open", url=f"{lab(folder)}/lab/tree/example.ipynb?reset")
    output = CELL.format(0) + ".jp-OutputArea-output img"
    picture = hand("other", output, than=None)
    assert picture["src"].startswith("data:image/jpeg")
    assert hand("count", ".jp-OutputArea-output iframe[srcdoc]") == 0
    hand("shot", path=str(tmp_path / "untrusted.png"))
