"""Pairs from folders of latent files and pictures of the same name."""

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.cli.latent_folder import read_latent_folder
from safelight.cli.main import main
from safelight.decoders.files.decoder_file import read_card
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import FitError
from safelight.fitting.image_ids import image_id
from safetensors.torch import save_file

SPACE = SPACES["sd1"]


def save_latent(path, latents):
    """Writes latents as ComfyUI 0.33's SaveLatent does: the VAE's values, and a tensor that names the version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"latent_tensor": SPACE.to_vae(latents), "latent_format_version_0": torch.tensor([])}, path)


def save_pair(folder, name, size=(12, 10), seed=0, items=1):
    """Writes latents whose first channels are the colors, and their picture one folder above, as ComfyUI does."""
    height, width = size
    rgb = torch.rand(items, 3, height, width, generator=torch.Generator().manual_seed(seed))
    latents = torch.cat([rgb * 2 - 1, rgb[:, :1]], 1)
    save_latent(folder / "latents" / f"{name}.latent", latents)
    pixels = rgb[0].mul(255).round().byte().movedim(0, -1).numpy().repeat(8, 0).repeat(8, 1)
    Image.fromarray(pixels).save(folder / f"{name}.png")
    return latents, pixels


def test_crops_of_latents_and_pictures_show_the_same_place(tmp_path):
    for seed in range(3):
        _, pixels = save_pair(tmp_path, f"ComfyUI_{seed:05}_", seed=seed)
    pairs, notes = read_latent_folder(tmp_path, SPACE, 64, 2, seed=0)
    assert pairs.latents.shape == (6, 4, 8, 8)
    assert pairs.pixels.shape == (6, 3, 64, 64)
    assert ((pairs.latents[:, :3].float() + 1) / 2 - pairs.rgb(1)).abs().max() < 0.01
    assert pairs.image_ids[4:] == (image_id(np.asarray(pixels)),) * 2
    assert len(set(pairs.image_ids)) == 3
    assert not notes


def test_what_is_no_pair_is_left_out_with_the_reason(tmp_path):
    save_pair(tmp_path, "good")
    save_pair(tmp_path, "small", size=(4, 4))
    save_pair(tmp_path, "batch", items=2)
    save_pair(tmp_path, "lonely")
    (tmp_path / "lonely.png").unlink()
    save_pair(tmp_path, "upscaled")
    Image.new("RGB", (160, 192)).save(tmp_path / "upscaled.png")
    save_pair(tmp_path, "twice")
    Image.new("RGB", (80, 96)).save(tmp_path / "twice.jpg")
    save_pair(tmp_path, "damaged")
    (tmp_path / "latents" / "damaged.latent").write_bytes(b"no latents")
    pairs, notes = read_latent_folder(tmp_path, SPACE, 64, 1, seed=0)
    assert len(pairs) == 1
    assert {note.split(": ")[2] for note in notes} == {
        "smaller than a crop (--size)",
        "latents of several pictures",
        "no picture of the same name",
        "the picture has another size than the VAE gives",
        "several pictures of this name",
        "unreadable, or of another space",
    }


def test_a_folder_without_pairs_and_a_wrong_crop_size_are_refused(tmp_path):
    with pytest.raises(FitError, match=r"found none: .*it holds no latent file"):
        read_latent_folder(tmp_path, SPACE, 64, 1, seed=0)
    save_pair(tmp_path, "good")
    with pytest.raises(FitError, match="a multiple of 8 pixels, got 60"):
        read_latent_folder(tmp_path, SPACE, 60, 1, seed=0)


def test_fit_takes_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("safelight.fitting.fit.require_known_scores", lambda *_: None)
    for seed in range(6):
        save_pair(tmp_path / "mine", f"{seed}", size=(14, 14), seed=seed)
    save_pair(tmp_path / "mine", "small", size=(4, 4))
    out = tmp_path / "new.safetensors"
    arguments = ["fit", "--space", "sd1", "--pairs", str(tmp_path / "mine"), "--size", "96", "--kind", "affine"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert read_card(out).fitted_on == "8 of 12 pairs of mine"
    assert len(read_card(out).image_ids) == 5
    assert "mine: 1 latent files are left out: smaller than a crop (--size)" in capsys.readouterr().out
