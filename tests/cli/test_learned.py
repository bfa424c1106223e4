"""The `learned` command."""

import json

import pytest
import torch
from safelight.cli.learned import default_folder
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.tensor_file import open_tensors, write_tensors
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.measured_scores import read_measured
from safelight.fitting.online.learned_files import LearnedFiles
from safelight.fitting.online.state import DecodedPair
from safelight.fitting.online.update import learn_from_decode

VAE = "a1b2c3d4e5f6"

pytestmark = pytest.mark.usefixtures("_one_thread")


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def learn(tmp_path):
    """Learns from some decodes of a made-up VAE."""

    def learn(count, vae):
        generator = torch.Generator().manual_seed(1)
        table = torch.randn(3, 4, generator=generator) * 0.1
        for _ in range(count):
            latents = torch.randn(1, 4, 20, 30, generator=generator)
            rgb = (0.5 + torch.einsum("rc,bchw->brhw", table, latents)).clamp(0, 1)
            learn_from_decode(tmp_path, SPACES["sdxl"], DecodedPair(latents, rgb), Catalogue([tmp_path]), vae=vae)
        return LearnedFiles(tmp_path, "sdxl", vae)

    return learn


@pytest.fixture
def files(learn):
    return learn(8, VAE)


@pytest.fixture
def folder(files):
    return files.folder


def cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_table_has_a_row_for_each_space_and_vae(folder, learn, capsys):
    learn(1, "")
    assert main(["learned", "--folder", str(folder)]) == 0
    head, unknown, row = capsys.readouterr().out.splitlines()
    assert cells(head) == [
        *("space", "VAE", "pictures", "saved pairs", "held back", "learned, dB", "without it, dB"),
        *("decoder without it", "learned decoder", "kind", "bytes"),
    ]
    assert cells(row)[:5] == ["sdxl", VAE, "6", "6", "2"]
    assert float(cells(row)[5]) > float(cells(row)[6]) + 6
    assert cells(row)[7].startswith("sdxl-")
    assert cells(row)[8:10] == ["sdxl-learned-a1b2c3.safetensors", "polynomial"]
    assert cells(unknown)[:5] == ["sdxl", "unknown", "1", "1", "0"]
    assert cells(unknown)[5:10] == ["-"] * 5


def test_json_has_all_values(files, capsys):
    assert main(["learned", "--folder", str(files.folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    counts = ("decodes", "pictures", "pixels", "saved_pairs", "held_back")
    assert [row[name] for name in ("space", "vae", *counts)] == ["sdxl", VAE, 8, 6, 3600, 6, 2]
    assert row["learned_db"] > row["in_use_db"]
    assert row["in_use"].startswith("sdxl-")
    assert row["judged_on"].startswith("2 of the user's pictures")
    written = [files.decoder, *(path for path in files.parent.rglob("*") if path.is_file())]
    assert row["file_bytes"] == sum(path.stat().st_size for path in written)
    assert (row["decoder"], row["kind"]) == (str(files.decoder), "polynomial")
    assert row["problem"] is None


def test_reset_removes_a_space_with_all_its_vaes(folder, learn, capsys):
    other = learn(2, "0f1e2d3c4b5a")
    assert main(["learned", "--folder", str(folder), "--reset", "sdxl"]) == 0
    assert capsys.readouterr().out.count("removed") == 3
    assert not other.parent.exists()
    assert not list(folder.rglob("*.safetensors"))
    assert main(["learned", "--folder", str(folder)]) == 0
    assert "nothing was learned" in capsys.readouterr().out


def test_reset_in_json_lists_what_was_removed(files, capsys):
    assert main(["learned", "--folder", str(files.folder), "--reset", "sdxl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": [str(files.parent), str(files.decoder)]}


def test_reset_of_an_unknown_space_lists_the_learned_ones(folder, capsys):
    assert main(["learned", "--folder", str(folder), "--reset", "sd1"]) == 2
    assert "learned spaces: sdxl" in capsys.readouterr().err


def test_a_damaged_file_is_reported_and_can_be_removed(files, capsys):
    folder = str(files.folder)
    files.state.write_bytes(files.state.read_bytes()[:2000])
    assert main(["learned", "--folder", folder]) == 0
    out = capsys.readouterr().out
    assert "The next decode starts again with the saved pairs, or `--reset sdxl` deletes" in out
    assert main(["learned", "--folder", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["problem"]
    assert main(["learned", "--folder", folder, "--reset", "sdxl"]) == 0
    assert not files.parent.exists()


def test_what_an_earlier_version_learned_is_listed(files, capsys):
    folder = files.folder
    files.decoder.rename(folder / "other.safetensors")
    metadata, tensors = open_tensors(folder / "other.safetensors", (folder / "other.safetensors").read_bytes())
    earlier = {key: text for key, text in metadata.items() if key != "vae"}
    write_tensors(folder / "sdxl-learned.safetensors", tensors, earlier)
    (folder / "other.safetensors").unlink()
    write_tensors(folder / "learned" / "sdxl.safetensors", tensors, {"format": "safelight.learned/1"})
    assert main(["learned", "--folder", str(folder)]) == 0
    out = capsys.readouterr().out
    assert ["sdxl", "mixed", "-", "0"] in [cells(line)[:4] for line in out.splitlines()]
    assert "which mixed the VAEs of a space; it is not used any more. `--reset sdxl` deletes all" in out
    assert main(["learned", "--folder", str(folder), "--reset", "sdxl"]) == 0
    assert not list(folder.rglob("*.safetensors"))


def test_a_missing_folder_is_refused(tmp_path, capsys):
    assert main(["learned", "--folder", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_in_custom_nodes_the_default_is_the_folder_of_comfyui(tmp_path):
    assert default_folder(tmp_path / "custom_nodes" / "any name") == tmp_path / "models" / "safelight"


def test_elsewhere_the_default_is_the_folder_of_scripts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAFELIGHT_DECODERS", str(tmp_path / "usual"))
    assert default_folder(tmp_path / "elsewhere" / "safelight") == tmp_path / "usual"
    assert main(["learned"]) == 0
    assert f"nothing was learned in {tmp_path / 'usual'}" in capsys.readouterr().out
    monkeypatch.setattr("safelight.cli.learned.user_folder", lambda: None)
    assert main(["learned"]) == 2
    assert "expected --folder DIR" in capsys.readouterr().err


def test_the_list_of_decoders_has_the_scores_on_the_users_pictures(files, learn, capsys):
    learn(8, "0f1e2d3c4b5a")
    assert main(["decoders", "--folder", str(files.folder)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert "measured" in head
    rows = {line.split()[0]: line for line in lines}
    db = read_measured(files.folder, "sdxl", VAE).psnr_latent_db["sdxl-learned-a1b2c3"]
    for name in ("sdxl-learned-a1b2c3", "sdxl-learned-0f1e2d"):  # each on the pictures of its own VAE
        assert f"{db:.1f} dB on 2 of your pictures" in rows[name]
    assert "dB on 2 of your pictures" in rows["sdxl-affine-comfyui"]
    assert "your pictures" not in rows["sd1-cubic"]
    assert main(["decoders", "--json", "--folder", str(files.folder)]) == 0
    rows = {row["name"]: row["measured"] for row in json.loads(capsys.readouterr().out)}
    assert rows["sdxl-learned-a1b2c3"]["psnr_latent_db"] == db
    assert rows["sd1-cubic"] == {}


def test_the_list_of_decoders_has_no_empty_column(tmp_path, capsys):
    assert main(["decoders", "--folder", str(tmp_path)]) == 0
    assert "measured" not in capsys.readouterr().out.splitlines()[0]


def test_removing_a_learned_decoder_says_that_it_will_be_written_again(files, capsys):
    assert main(["decoders", "--folder", str(files.folder), "--remove", "sdxl-learned-a1b2c3"]) == 0
    out = capsys.readouterr().out
    assert f"removed {files.decoder}" in out
    assert "`safelight learned --reset sdxl`" in out
    assert files.state.exists()
