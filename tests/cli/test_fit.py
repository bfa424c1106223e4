"""The `pairs`, `fit` and `compare` commands."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.cli import compare, fit, pair_input
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safelight.decoders.latents.space import LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.fitting import presets
from safelight.fitting.dataset import split_pairs
from safelight.fitting.fit import fit_decoders
from safelight.fitting.pairs import Pairs
from safelight.fitting.result import Baselines, SavedDecoders
from safelight.fitting.statistics import FitStatistics
from safetensors.torch import save_file

SPACE = SPACES["flux2"]


@pytest.fixture(autouse=True)
def _toys_are_plausible(monkeypatch):
    """The toy latents of these tests are of no VAE; `test_plausibility.py` tests the check."""
    monkeypatch.setattr("safelight.fitting.fit.require_known_scores", lambda *_: None)


@pytest.fixture
def pairs(tmp_path):
    """Saves latents whose first channels are the image's colors: every preset can fit them."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((10, 3, 12, 12), generator=generator)
    noise = torch.randn((10, SPACE.channels - 3, 12, 12), generator=generator)
    pixels = small.mul(255).to(torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    path = tmp_path / "pairs.safetensors"
    Pairs(torch.cat([small * 2 - 1, noise], dim=1), pixels).save(path)
    return path


def test_fit_writes_a_decoder_with_its_origin_in_the_card(tmp_path, pairs, capsys):
    out = tmp_path / "mine.safetensors"
    assert main(["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", "affine", "--out", str(out)]) == 0
    decoder = read_decoder(out)
    assert (decoder.card.name, decoder.card.space, decoder.card.kind) == ("mine", "flux2", "polynomial")
    assert decoder.card.fitted_on == "6 of 10 pairs of pairs.safetensors"
    assert str(tmp_path) not in decoder.card.source
    assert decoder.card.metrics["psnr_latent_db"] > 30
    loaded = Pairs.load(pairs)
    assert (decoder.decode(loaded.latents) - loaded.rgb(1)).abs().max() < 0.05
    assert "flux2" in (printed := capsys.readouterr().out)
    assert "mine" in printed


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_fit_trains_a_net(tmp_path, pairs, kind):
    out = tmp_path / "net.safetensors"
    arguments = ["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", kind, "--steps", "3", "--out", str(out)]
    assert main(arguments) == 0
    assert read_decoder(out).card.kind == kind


def test_pairs_are_encoded_from_images(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=4,
    )
    vae.save_pretrained(tmp_path / "vae")
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "pictures" / f"{i}.png")
    out = tmp_path / "pairs.safetensors"
    arguments = ["pairs", "--space", "sd1", "--encoder", str(tmp_path / "vae"), "--images", str(tmp_path / "pictures")]
    assert main([*arguments, "--size", "32", "--crops", "2", "--out", str(out)]) == 0
    pairs = Pairs.load(out)
    assert pairs.pixels.shape == (6, 3, 32, 32)
    rgb = pairs.rgb(pairs.downscale)
    expected = SPACES["sd1"].to_model(vae.eval().encode(rgb * 2 - 1).latent_dist.mode())
    assert torch.allclose(pairs.latents.float(), expected, atol=2e-3)


@pytest.fixture
def tiny_vae(tmp_path):
    """Saves a diffusers AutoencoderTiny with random weights."""
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        )
    vae.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_latents_of_a_tiny_autoencoder_are_in_model_space(tmp_path, tiny_vae):
    diffusers = pytest.importorskip("diffusers")
    out = tmp_path / "pairs.safetensors"
    arguments = ["pairs", "--space", "sd1", "--encoder", str(tiny_vae), "--procedural", "3", "--size", "32"]
    assert main([*arguments, "--out", str(out)]) == 0
    pairs = Pairs.load(out)
    assert pairs.pixels.shape == (3, 3, 32, 32)
    vae = diffusers.AutoencoderTiny.from_pretrained(tiny_vae).eval()
    expected = vae.encode(pairs.rgb(pairs.downscale) * 2 - 1).latents
    assert torch.allclose(pairs.latents.float(), expected, atol=2e-3)


def test_without_images_some_are_generated(tmp_path, tiny_vae):
    out = tmp_path / "mine.safetensors"
    arguments = ["fit", "--space", "sd1", "--encoder", str(tiny_vae), "--procedural", "12", "--size", "32"]
    assert main([*arguments, "--kind", "affine", "--out", str(out)]) == 0
    card = read_card(out)
    assert card.fitted_on == "8 of 12 procedural pictures of 32 px, seed 0"
    assert card.metrics["judged_on"].startswith("2 pairs held back")


@pytest.mark.parametrize("content", [None, "{}", '{"_class_name": "AutoencoderDC"}', "no json", "[]"])
def test_a_folder_that_is_no_autoencoder_is_refused(tmp_path, capsys, content):
    pytest.importorskip("diffusers")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert main(["fit", "--space", "sd1", "--encoder", str(tmp_path), "--images", str(tmp_path)]) == 2
    assert "expected a folder with diffusers' AutoencoderKL or AutoencoderTiny" in capsys.readouterr().err


def test_auto_writes_the_best_of_each_class_and_a_report(tmp_path, pairs, capsys):
    decoders, report = tmp_path / "decoders", tmp_path / "report"
    arguments = ["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", "auto", "--steps", "5", "--crops", "1"]
    arguments += ["--keep-all"]
    assert main([*arguments, "--out", str(decoders), "--report", str(report)]) == 0
    names = {path.stem for path in decoders.iterdir()}
    assert "flux2-conv" in names
    assert {"table.md", "sheet.png", "chart.png"} == {path.name for path in report.iterdir()}
    printed = capsys.readouterr().out
    assert (report / "table.md").read_text(encoding="utf-8").strip() in printed
    for name in names:
        assert f"{name}: " in printed
    assert "cubic: a polynomial of degree 3 in 32 channels" in printed


def test_nothing_is_overwritten(tmp_path, pairs):
    out = tmp_path / "mine.safetensors"
    arguments = ["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", "affine", "--out", str(out)]
    assert main(arguments) == 0
    content = out.read_bytes()
    assert main(arguments) == 0
    assert out.read_bytes() == content
    assert read_card(tmp_path / "mine-2.safetensors").name == "mine-2"


def test_decoders_in_a_folder_are_scored_and_add_their_space(tmp_path, capsys):
    row = LatentSpace(name="mine", title="Mine", channels=4, downscale=2, hosts={"comfyui": ("Mine",)}, source="a test")
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand((24, 3, 16, 16), generator=generator)
    small = torch.nn.functional.avg_pool2d(rgb, 2)
    toys = Pairs(torch.cat([small.sqrt(), small[:, :1]], 1), rgb.mul(255).byte())
    baselines = Baselines.from_catalogue(Catalogue(), row)
    folder = tmp_path / "decoders"
    result = fit_decoders("affine", row, split_pairs(toys, "toys", range(24)), baselines, folder, source="a test")
    SavedDecoders(folder, losers=True, doubles=True).update(result)
    toys.save(tmp_path / "toys.safetensors")
    arguments = ["--space", "mine", "--folder", str(folder), "--pairs", str(tmp_path / "toys.safetensors")]
    assert main(["fit", *arguments, "--kind", "quadratic", "--out", str(folder)]) == 0
    card = read_card(folder / "mine-quadratic.safetensors")
    assert card.latent_space == row
    assert "mine-affine" in card.metrics["beside"]
    assert "auto uses it" in capsys.readouterr().out
    assert main(["compare", *arguments]) == 0
    assert "mine-quadratic" in capsys.readouterr().out


def test_an_interrupted_training_writes_a_decoder_with_a_note(tmp_path, pairs, capsys, monkeypatch):
    def stop(bars, name, progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit.PresetProgressBars, "show", stop)
    out = tmp_path / "mine.safetensors"
    assert main(["fit", "--space", "flux2", "--pairs", str(pairs), "--steps", "9", "--out", str(out)]) == 0
    assert read_card(out).notes == "interrupted after 3 of 9 steps; the best until then"
    assert "interrupted after 3 of 9 steps" in capsys.readouterr().out


def test_an_interrupted_fit_does_not_encode_its_pictures_again(tmp_path, tiny_vae, capsys, monkeypatch):
    arguments = ["fit", "--space", "sd1", "--encoder", str(tiny_vae), "--procedural", "6", "--size", "32"]
    arguments += ["--kind", "conv", "--steps", "5", "--out", str(tmp_path / "out")]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fit.PresetProgressBars, "show", stop)
        assert main(arguments) == 0
    with monkeypatch.context() as patched:
        patched.setattr(pair_input, "_encoder", lambda *_: pytest.fail("the pictures were encoded again"))
        assert main(arguments) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sd1-conv.safetensors"]
    assert read_card(tmp_path / "out" / "sd1-conv.safetensors").notes is None


def test_an_interrupted_fit_goes_on_where_it_stopped(tmp_path, pairs, capsys, monkeypatch):
    arguments = ["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", "auto", "--steps", "9", "--keep-all"]
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    shown, show = [], fit.PresetProgressBars.show

    def stop(bars, name, progress):
        if name == "conv" and progress.step == 3 and ("conv", 3) not in shown:
            shown.append((name, 3))
            raise KeyboardInterrupt
        shown.append((name, progress.step))
        show(bars, name, progress)

    monkeypatch.setattr(fit.PresetProgressBars, "show", stop)
    out = tmp_path / "parts"
    assert main([*arguments, "--out", str(out)]) == 0
    assert read_card(out / "flux2-conv.safetensors").notes == "interrupted after 3 of 9 steps; the best until then"
    assert (out / "flux2-auto.fit-state").exists()
    assert "the same command goes on where this one was interrupted" in capsys.readouterr().out
    shown[:] = [("conv", 3)]
    assert main([*arguments, "--out", str(out)]) == 0
    assert "the fit goes on where it stopped" in capsys.readouterr().err
    assert {name for name, _ in shown} == {"neighbourhood", "conv"}  # the first cannot be fitted to so few pictures
    assert [step for name, step in shown[1:] if name == "conv"] == list(range(4, 10))
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}
    for path in out.iterdir():
        decoder, whole = read_decoder(path), read_decoder(tmp_path / "whole" / path.name)
        assert decoder.card.notes is None
        for key, tensor in whole.net.state_dict().items():
            assert torch.equal(decoder.net.state_dict()[key], tensor)


@pytest.mark.parametrize("option", ["--out", "--report"])
def test_an_output_folder_that_cannot_be_written_is_reported(tmp_path, pairs, capsys, option):
    (tmp_path / "file").write_text("no folder")
    arguments = ["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", "affine", "--out", str(tmp_path)]
    assert main([*arguments, option, str(tmp_path / "file" / "deeper")]) == 2
    assert "file" in capsys.readouterr().err


def test_compare_scores_every_decoder_on_the_same_images(pairs, capsys):
    assert main(["compare", "--space", "flux2", "--pairs", str(pairs)]) == 0
    printed = capsys.readouterr().out
    assert "flux2-affine-comfyui" in printed
    assert "flux2-affine-sdcpp" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to fit on: use --encoder FILE [--images DIR], or --pairs FILE"),
        (["--pairs", "missing.safetensors"], "cannot be read"),
        (
            ["--out", "mine.pth", "--pairs", "missing.safetensors"],
            "expected a folder, or a name that ends in .safetensors",
        ),
    ],
)
def test_missing_input_is_reported(capsys, arguments, message):
    assert main(["fit", "--space", "flux2", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_pairs_of_another_space_are_refused(tmp_path, pairs, capsys):
    assert main(["fit", "--space", "sd1", "--pairs", str(pairs), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "expected latents of 4 channels, found 32" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()


def test_a_file_without_pairs_is_refused(tmp_path, capsys):
    save_file({"latents": torch.zeros(1, 4, 2, 2)}, tmp_path / "half.safetensors")
    assert main(["fit", "--space", "sd1", "--pairs", str(tmp_path / "half.safetensors")]) == 2
    assert "pixels missing" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--size", "--crops", "--steps", "--procedural"])
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_an_invalid_number_is_refused_with_the_name_of_its_option(capsys, option, number):
    with pytest.raises(SystemExit):
        main(["fit", "--space", "flux2", option, number])
    assert f"argument {option}: expected a whole number from 1 up, got '{number}'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("fit", "--out"), ("fit", "--report"), ("compare", "--out"), ("pairs", "--out")])
def test_an_output_that_cannot_be_written_is_reported_before_the_work(tmp_path, pairs, capsys, monkeypatch, arguments):
    for command in (fit, compare):
        monkeypatch.setattr(command, "named_pairs", lambda *_: pytest.fail("images were read"))
    (tmp_path / "file").touch()
    name, option = arguments
    where = str(tmp_path / "file" / "within" / "name.safetensors")
    assert main([name, "--space", "flux2", "--pairs", str(pairs), "--out", str(tmp_path), option, where]) == 2
    assert re.search(r"cannot be written to: .*; free some space, or choose another folder", capsys.readouterr().err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is full")
def test_a_full_disk_is_reported_before_the_work(tmp_path, pairs, capsys, monkeypatch):
    monkeypatch.setattr(pair_input.tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("wb"))  # noqa: SIM115
    for command in (fit, compare):
        monkeypatch.setattr(command, "named_pairs", lambda *_: pytest.fail("images were read"))
    assert main(["fit", "--space", "flux2", "--pairs", str(pairs), "--out", str(tmp_path)]) == 2
    assert "No space left on device; free some space" in capsys.readouterr().err


def test_pairs_of_two_files_are_fitted_together(tmp_path, pairs):
    loaded, out = Pairs.load(pairs), tmp_path / "mine.safetensors"
    for name, part in {"one": slice(0, 3), "two": slice(3, 10)}.items():
        Pairs(loaded.latents[part], loaded.pixels[part]).save(tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("one", "two")]
    assert main(["fit", "--space", "flux2", "--pairs", *files, "--kind", "affine", "--out", str(out)]) == 0
    # Two crops per image, as `pairs` cuts them; each file begins with another image.
    assert re.fullmatch(r"[67] of 10 pairs of one.safetensors, two.safetensors", read_card(out).fitted_on)


@pytest.fixture
def sessions(tmp_path, pairs):
    """Options that fit on images 0-3, 4-6 and 0-6, with image 7 for validation and 8 and 9 for the test."""
    loaded = Pairs.load(pairs)
    parts = {"one": slice(0, 4), "two": slice(4, 7), "all": slice(0, 7), "choose": slice(7, 8), "judge": slice(8, 10)}
    for name, part in parts.items():
        Pairs(loaded.latents[part], loaded.pixels[part]).save(tmp_path / f"{name}.safetensors")
    held_back = [f"--{name}={tmp_path / name}.safetensors" for name in ("choose", "judge")]

    def options(name, out, *statistics, kind="affine"):
        files = [f"--statistics={tmp_path / file}" for file in statistics]
        chosen = [
            "--space=flux2",
            f"--pairs={tmp_path / name}.safetensors",
            f"--kind={kind}",
            f"--out={tmp_path / out}",
        ]
        return ["fit", *chosen, *held_back, *files]

    return options


def test_two_sessions_give_the_same_decoder_as_one(tmp_path, sessions, capsys):
    sums = tmp_path / "sums.safetensors"
    assert main(sessions("one", "first.safetensors", sums.name)) == 0
    assert "sums.safetensors: 576 latent pixels in 1 sitting\n" in capsys.readouterr().out
    assert main(sessions("two", "second.safetensors", sums.name)) == 0
    assert "sums.safetensors: 1,008 latent pixels in 2 sittings\n" in capsys.readouterr().out
    assert main(sessions("all", "at-once.safetensors")) == 0
    apart, at_once = (read_decoder(tmp_path / f"{name}.safetensors") for name in ("second", "at-once"))
    assert apart.card.fitted_on == "3 pairs of two.safetensors; 1,008 latent pixels in 2 sittings"
    assert at_once.card.fitted_on == "7 pairs of all.safetensors"
    for name, tensor in at_once.net.state_dict().items():
        assert torch.equal(apart.net.state_dict()[name], tensor)


def test_statistics_of_another_machine_are_added(tmp_path, sessions):
    assert main(sessions("one", "first.safetensors", "here.safetensors")) == 0
    there = (tmp_path / "here.safetensors").rename(tmp_path / "there.safetensors")
    content = there.read_bytes()
    assert main(sessions("two", "both.safetensors", "here.safetensors", "there.safetensors")) == 0
    assert there.read_bytes() == content
    assert read_card(tmp_path / "both.safetensors").fitted_on.endswith("; 1,008 latent pixels in 2 sittings")
    assert FitStatistics.load(tmp_path / "here.safetensors").count == 2


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("two", "quadratic", "expected statistics of quadratic for flux2, got those of affine for flux2"),
        ("two", "conv", "got conv: a training needs the images themselves"),
        ("two", "auto", "got auto: a training needs the images themselves"),
        ("one", "affine", "4 of the 4 training images are in the statistics already"),
    ],
)
def test_statistics_that_cannot_be_continued_are_not_changed(tmp_path, sessions, capsys, name, kind, message):
    sums = tmp_path / "sums.safetensors"
    assert main(sessions("one", "first.safetensors", sums.name)) == 0
    content = sums.read_bytes()
    assert main(sessions(name, "second.safetensors", sums.name, kind=kind)) == 2
    assert message in capsys.readouterr().err
    assert sums.read_bytes() == content
    assert not (tmp_path / "second.safetensors").exists()


def test_damaged_statistics_are_refused_before_the_work_and_not_changed(tmp_path, sessions, capsys, monkeypatch):
    sums = tmp_path / "sums.safetensors"
    assert main(sessions("one", "first.safetensors", sums.name)) == 0
    damaged = bytearray(sums.read_bytes())
    damaged[-1] ^= 1
    sums.write_bytes(damaged)
    for command in (fit, compare):
        monkeypatch.setattr(command, "named_pairs", lambda *_: pytest.fail("images were read"))
    assert main(sessions("two", "second.safetensors", sums.name)) == 2
    assert "the content does not match its checksum; remove the file to start again" in capsys.readouterr().err
    assert sums.read_bytes() == damaged


def test_an_interrupted_write_leaves_the_old_statistics(tmp_path, sessions, monkeypatch):
    sums = tmp_path / "sums.safetensors"
    assert main(sessions("one", "first.safetensors", sums.name)) == 0
    content, replace = sums.read_bytes(), os.replace

    def interrupted(partial, name, **folders):
        if Path(name).name == sums.name:
            raise KeyboardInterrupt
        return replace(partial, name, **folders)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupted)
        assert main(sessions("two", "second.safetensors", sums.name)) == 130
    assert sums.read_bytes() == content
    assert not list(tmp_path.glob(".*"))
    assert main(sessions("two", "second.safetensors", sums.name)) == 0
    assert FitStatistics.load(sums).count == 2


def test_a_device_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--space", "flux2", "--device", "abacus"])
    assert (
        "argument --device: expected a device that PyTorch can use here, such as cpu or cuda" in capsys.readouterr().err
    )


@pytest.mark.gpu
def test_a_gpu_fits_a_decoder_like_that_of_the_cpu(tmp_path, pairs):
    arguments = ["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", "conv", "--steps", "40"]
    for device in ("cpu", "cuda"):
        assert main([*arguments, "--device", device, "--out", str(tmp_path / f"{device}.safetensors")]) == 0
    on_cpu, on_gpu = (read_card(tmp_path / f"{device}.safetensors").metrics for device in ("cpu", "cuda"))
    assert on_gpu["psnr_latent_db"] == pytest.approx(on_cpu["psnr_latent_db"], abs=1.5)


def test_images_are_encoded_and_nets_trained_on_the_chosen_device(tmp_path, tiny_vae, monkeypatch):
    """The device "cpu:0" stands for another one: it has another name."""
    seen = set()
    encode, train = pair_input.encode_with_vae, presets.train_net
    monkeypatch.setattr(
        pair_input,
        "encode_with_vae",
        lambda vae, space, rgb: seen.add(("rgb", str(rgb.device))) or encode(vae, space, rgb),
    )
    monkeypatch.setattr(
        presets,
        "train_net",
        lambda net, a, b, recipe, *rest, **more: (
            seen.add(("recipe", recipe.device)) or train(net, a, b, recipe, *rest, **more)
        ),
    )
    arguments = ["fit", "--space", "sd1", "--encoder", str(tiny_vae), "--procedural", "6", "--size", "32"]
    arguments += ["--kind", "conv", "--steps", "2", "--device", "cpu:0", "--out", str(tmp_path / "out.safetensors")]
    assert main(arguments) == 0
    assert seen == {("rgb", str(torch.zeros(1).to("cpu:0").device)), ("recipe", "cpu:0")}
