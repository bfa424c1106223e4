"""`learned`, as typed."""

import json

import pytest
import torch
from safelight.cli.learned import default_folder
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.fitting.online.state import DecodedPair
from safelight.fitting.online.update import learn

pytestmark = pytest.mark.usefixtures("_one_thread")


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path):
    """Eight decodes of a made-up VAE."""
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(3, 4, generator=generator) * 0.1
    for _ in range(8):
        latents = torch.randn(1, 4, 20, 30, generator=generator)
        rgb = (0.5 + torch.einsum("rc,bchw->brhw", table, latents)).clamp(0, 1)
        learn(tmp_path, SPACES["sdxl"], DecodedPair(latents, rgb), Catalogue([tmp_path]))
    return tmp_path


def test_it_tells_what_was_learned_of_each_space(folder, capsys):
    assert main(["learned", "--folder", str(folder)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["space", "pictures", "pixels", "held"]
    assert row.split()[:4] == ["sdxl", "6", "3,600", "2"]
    assert "a decoder was learned" in row
    assert "sdxl-affine-comfyui" in row


def test_for_programs_it_tells_all_of_it(folder, capsys):
    assert main(["learned", "--folder", str(folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["space"], row["decodes"], row["pictures"], row["pixels"], row["held_back"]) == ("sdxl", 8, 6, 3600, 2)
    assert row["learned_db"] > row["in_use_db"]
    assert row["in_use"] == "sdxl-affine-comfyui"
    assert row["file_bytes"] == (folder / "learned" / "sdxl.safetensors").stat().st_size
    assert row["decoder"] == str(folder / "sdxl-learned.safetensors")
    assert row["problem"] is None


def test_reset_forgets_the_space(folder, capsys):
    assert main(["learned", "--folder", str(folder), "--reset", "sdxl"]) == 0
    assert capsys.readouterr().out.count("removed") == 2
    assert not list(folder.rglob("*.safetensors"))
    assert main(["learned", "--folder", str(folder)]) == 0
    assert "nothing was learned" in capsys.readouterr().out


def test_reset_of_what_was_never_learned_says_what_was(folder, capsys):
    assert main(["learned", "--folder", str(folder), "--reset", "sd1"]) == 2
    assert "there is: sdxl" in capsys.readouterr().err


def test_a_damaged_file_is_told_of_and_can_be_reset(folder, capsys):
    path = folder / "learned" / "sdxl.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    assert main(["learned", "--folder", str(folder)]) == 0
    assert "--reset sdxl" in capsys.readouterr().out
    assert main(["learned", "--folder", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["problem"]
    assert main(["learned", "--folder", str(folder), "--reset", "sdxl"]) == 0
    assert not path.exists()


def test_without_a_host_around_it_the_folder_has_to_be_said(capsys):
    assert main(["learned"]) == 2
    assert "--folder DIR" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["learned", "--folder", str(tmp_path / "none")]) == 2
    assert "there is none" in capsys.readouterr().err


def test_among_custom_nodes_it_is_the_hosts_folder(tmp_path):
    assert default_folder(tmp_path / "custom_nodes" / "any name") == tmp_path / "models" / "safelight"
    assert default_folder(tmp_path / "elsewhere" / "safelight") is None
