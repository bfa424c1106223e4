"""A prompt that an earlier version saved in its pictures runs today, and Load Run opens that version's run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

RELEASED = Path(__file__).resolve().parents[2] / "released"


@pytest.fixture(params=sorted(path.name for path in RELEASED.iterdir()))
def run(request):
    """The folder of a run of an earlier version."""
    return RELEASED / request.param / "run"


def test_the_prompt_in_an_old_picture_runs_and_writes_the_same_latents(server, run):
    with Image.open(run / "step_0001.png") as picture:
        prompt = json.loads(picture.text["prompt"])
    (preview,) = (node for node in prompt.values() if node["class_type"] == "SafelightPreview")
    preview["inputs"]["filename_prefix"] = "upgraded/steps"
    assert server.play(prompt).ends == ["execution_success"]
    (folder,) = (server.output / "upgraded").iterdir()
    manifest = json.loads((folder / "run.json").read_text("utf-8"))
    assert [step["latent"] for step in manifest["steps"]] == [f"step_{index:04}.safetensors" for index in (1, 2, 3)]
    before, now = (load_file(place / "step_0003.safetensors") for place in (run, folder))
    assert before.keys() == now.keys()
    assert [name for name in before if not torch.allclose(before[name], now[name], atol=1e-5)] == []


def test_load_run_opens_an_old_run(server, run):
    shutil.copytree(run, server.output / "from_before_00001")
    inputs = {"run": "none", "folder": "from_before_00001", "step": 0, "max_images": 64}
    graph = {
        "1": {"class_type": "SafelightLoadRun", "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    played = server.play(graph)
    assert played.refusal is None
    assert played.ends == ["execution_success"]
    shown = played.histories[0]["outputs"]["2"]["images"]
    assert len(shown) == 3
