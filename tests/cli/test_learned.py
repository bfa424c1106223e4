"""The `learned` command."""

import json

import pytest
import torch
from safelight.cli.learned import default_folder
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.fitting.online.state import DecodedPair
from safelight.fitting.online.update import learn_from_decode

pytestmark = pytest.mark.usefixtures("_one_thread")


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path):
    """Learns from eight decodes of a made-up VAE."""
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(3, 4, generator=generator) * 0.1
    for _ in range(8):
        latents = torch.randn(1, 4, 20, 30, generator=generator)
        rgb = (0.5 + torch.einsum("rc,bchw->brhw", table, latents)).clamp(0, 1)
        learn_from_decode(tmp_path, SPACES["sdxl"], DecodedPair(latents, rgb), Catalogue([tmp_path]))
    return tmp_path


def test_the_table_lists_each_learned_space(folder, capsys):
    assert main(["learned", "--folder", str(folder)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["space", "pictures", "pixels", "held"]
    assert row.split()[:4] == ["sdxl", "6", "3,600", "2"]
    assert "a decoder was learned" in row
    assert "sdxl-affine-comfyui" in row


def test_json_has_all_values(folder, capsys):
    assert main(["learned", "--folder", str(folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["space"], row["decodes"], row["pictures"], row["pixels"], row["held_back"]) == ("sdxl", 8, 6, 3600, 2)
    assert row["learned_db"] > row["in_use_db"]
    assert row["in_use"] == "sdxl-affine-comfyui"
    assert row["file_bytes"] == (folder / "learned" / "sdxl.safetensors").stat().st_size
    assert row["decoder"] == str(folder / "sdxl-learned.safetensors")
    assert row["problem"] is None


def test_reset_removes_a_space(folder, capsys):
    assert main(["learned", "--folder", str(folder), "--reset", "sdxl"]) == 0
    assert capsys.readouterr().out.count("removed") == 2
    assert not list(folder.rglob("*.safetensors"))
    assert main(["learned", "--folder", str(folder)]) == 0
    assert "nothing was learned" in capsys.readouterr().out


def test_reset_of_an_unknown_space_lists_the_learned_ones(folder, capsys):
    assert main(["learned", "--folder", str(folder), "--reset", "sd1"]) == 2
    assert "learned spaces: sdxl" in capsys.readouterr().err


def test_a_damaged_file_is_reported_and_can_be_removed(folder, capsys):
    path = folder / "learned" / "sdxl.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    assert main(["learned", "--folder", str(folder)]) == 0
    assert "--reset sdxl" in capsys.readouterr().out
    assert main(["learned", "--folder", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["problem"]
    assert main(["learned", "--folder", str(folder), "--reset", "sdxl"]) == 0
    assert not path.exists()


def test_the_folder_is_required_outside_of_comfyui(capsys):
    assert main(["learned"]) == 2
    assert "--folder DIR" in capsys.readouterr().err


def test_a_missing_folder_is_refused(tmp_path, capsys):
    assert main(["learned", "--folder", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_in_custom_nodes_the_default_is_the_folder_of_comfyui(tmp_path):
    assert default_folder(tmp_path / "custom_nodes" / "any name") == tmp_path / "models" / "safelight"
    assert default_folder(tmp_path / "elsewhere" / "safelight") is None
