"""The example scripts, called as their docstrings say."""

import json
import runpy
import string
from pathlib import Path

import diffusers
import pytest
import safelight
import torch
from PIL import Image

FOLDER = Path(safelight.__file__).parent / "example_scripts"
SCRIPT = FOLDER / "watch_a_pipeline.py"


@pytest.fixture
def saved(sd1, tmp_path):
    """A folder with a tiny pipeline whose tokenizer knows only letters."""
    transformers = pytest.importorskip("transformers")
    letters = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    words = {word: i for i, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=8,
        bos_token_id=words["<|startoftext|>"],
        eos_token_id=words["<|endoftext|>"],
    )
    parts = {
        "text_encoder": transformers.CLIPTextModel(config),
        "tokenizer": transformers.CLIPTokenizer(
            vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"), model_max_length=16
        ),
    }
    pipe = diffusers.StableDiffusionPipeline(**{**sd1.components, **parts}, requires_safety_checker=False)
    pipe.save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


@pytest.mark.filterwarnings("ignore")
def test_the_script_watches_a_pipeline_from_a_folder(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv",
        [str(SCRIPT), str(saved), "a lighthouse", "--out", str(tmp_path / "runs"), "--steps", "3", "--device", "cpu"],
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")
    folder = tmp_path / "runs" / "steps_00001"
    assert f"3 steps in {folder}" in capsys.readouterr().out
    manifest = json.loads((folder / "run.json").read_text())
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3]
    assert manifest["sampler"]["seed"] == 0
    with Image.open(folder / "final.png") as image:
        assert image.mode == "RGB"


def test_the_script_with_a_loop_of_its_own_watches_a_scheduler(tmp_path, monkeypatch, capsys):
    script = FOLDER / "watch_a_scheduler_loop.py"
    monkeypatch.setattr("sys.argv", [str(script), "--out", str(tmp_path / "runs"), "--steps", "3"])
    runpy.run_path(str(script), run_name="__main__")
    folder = tmp_path / "runs" / "steps_00001"
    assert capsys.readouterr().out == f"3 steps in {folder}; open {folder / 'index.html'}\n"
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["state"], manifest["space"], manifest["notes"]) == ("finished", "flux2", [])
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3]
