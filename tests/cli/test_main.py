"""The command line, as typed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Card, to_bytes
from safelight.decoders.files.decoder_file import read_decoder, write_decoder
from safelight.decoders.files.shipped import default_for, open_shipped
from safelight.decoders.latents.space import LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.preview.manifest import read_manifest
from safetensors.torch import save_file


@pytest.fixture
def latents():
    return torch.randn((2, 32, 6, 8), generator=torch.Generator().manual_seed(0))


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_the_demo_records_every_step(tmp_path, capsys, sampler):
    assert main(["demo", "--out", str(tmp_path), "--steps", "5", "--sampler", sampler]) == 0
    folder = tmp_path / "demo_00001"
    manifest = read_manifest(folder)
    assert manifest["state"] == "finished"
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3, 4, 5]
    named = {file for step in manifest["steps"] for file in step["files"]}
    assert named == {f"step_000{i}.png" for i in range(1, 6)}
    assert {path.name for path in folder.iterdir()} == named | {"run.json", "index.html", "sheet.png", "steps.webp"}
    assert opened(folder / "step_0005.png").shape[:2] == tuple(
        manifest["picture"][side] for side in ("shown_height", "shown_width")
    )
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["step", "sigma", "decoder", "decode", "ms", "file"]
    assert [line.split()[0] for line in table[1:6]] == ["1", "2", "3", "4", "5"]
    assert all(manifest["decoder"]["name"] in line and "step_000" in line for line in table[1:6])


def test_the_demo_ends_in_a_picture_and_begins_in_a_blur(tmp_path):
    main(["demo", "--out", str(tmp_path), "--steps", "8", "--enlarge", "off"])
    first, last = (opened(tmp_path / "demo_00001" / f"step_000{i}.png").astype(float) for i in (1, 8))

    def detail(picture):
        return np.abs(np.diff(picture, axis=0)).mean() + np.abs(np.diff(picture, axis=1)).mean()

    assert detail(last) > 3 * detail(first)


def test_the_demo_is_the_same_for_the_same_seed_and_another_for_another(tmp_path):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(["demo", "--out", str(tmp_path / out), "--steps", "3", "--seed", seed, "--enlarge", "off"])
    a, b, c = (opened(tmp_path / out / "demo_00001" / "step_0003.png") for out in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_runs_of_the_demo_do_not_overwrite_each_other(tmp_path):
    for _ in range(2):
        main(["demo", "--out", str(tmp_path), "--steps", "1"])
    assert {path.name for path in tmp_path.iterdir()} == {"demo_00001", "demo_00002"}


def test_the_demo_shows_noise_when_asked(tmp_path):
    main(["demo", "--out", str(tmp_path), "--steps", "2", "--show", "noisy", "--enlarge", "off"])
    assert read_manifest(tmp_path / "demo_00001")["steps"][0]["show"] == "noisy"
    assert opened(tmp_path / "demo_00001" / "step_0001.png").std() > 20


def test_a_step_count_of_nothing_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--steps", "0"])
    assert exit_.value.code == 2
    assert "--steps" in capsys.readouterr().err


@pytest.mark.parametrize("decoder", ["no-such-decoder", "tiny", "sd1-linear-comfyui"])
def test_a_decoder_that_cannot_be_used_is_told_before_anything_is_sampled(tmp_path, capsys, decoder):
    assert main(["demo", "--out", str(tmp_path), "--decoder", decoder]) == 2
    assert "safelight: " in (err := capsys.readouterr().err)
    assert "flux2-affine-comfyui" in err, "it does not say what there is"


def test_decode_writes_a_picture_for_each_item(tmp_path, latents, capsys):
    save_file({"latents": latents}, tmp_path / "two.safetensors")
    arguments = ["decode", str(tmp_path / "two.safetensors"), "--space", "flux2", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--decoder", "flux2-affine-comfyui"]) == 0
    expected = to_bytes(open_shipped("flux2-affine-comfyui").decode(latents)).numpy()
    for item in (0, 1):
        assert (opened(tmp_path / "out" / f"two_0{item + 1}.png") == expected[item]).all()
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_packed_latents_decode_as_unpacked_ones_do(tmp_path, latents):
    save_file({"latents": torch.pixel_unshuffle(latents, 2)}, tmp_path / "packed.safetensors")
    save_file({"latents": latents}, tmp_path / "plain.safetensors")
    for name in ("packed", "plain"):
        main(["decode", str(tmp_path / f"{name}.safetensors"), "--space", "flux2", "--out", str(tmp_path)])
    assert (opened(tmp_path / "packed_02.png") == opened(tmp_path / "plain_02.png")).all()


def test_video_latents_give_a_picture_for_each_frame(tmp_path):
    save_file({"latents": torch.randn(1, 16, 3, 4, 5)}, tmp_path / "clip.safetensors")
    assert main(["decode", str(tmp_path / "clip.safetensors"), "--space", "wan21", "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {f"clip_01_frame_00{i}.png" for i in (1, 2, 3)}


@pytest.mark.parametrize("space", ["sdxl", "sd3", "wan21"])
def test_what_comfyui_saves_is_brought_to_model_space(tmp_path, space):
    row = SPACES[space]
    shape = (1, row.channels, 1, 4, 5) if row.dims == 3 else (1, row.channels, 4, 5)
    model = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    saved = {"latent_tensor": row.to_vae(model), "latent_format_version_0": torch.tensor([])}
    save_file(saved, tmp_path / "comfy.latent")
    save_file({"latents": model}, tmp_path / "ours.safetensors")
    for name in ("comfy.latent", "ours.safetensors"):
        assert main(["decode", str(tmp_path / name), "--space", space, "--out", str(tmp_path)]) == 0
    comfy, ours = (opened(tmp_path / f"{name}_01.png").astype(int) for name in ("comfy", "ours"))
    assert np.abs(comfy - ours).max() <= 1


def test_a_decoder_may_be_named_by_its_file(tmp_path, latents):
    from safelight.decoders.files.shipped import WEIGHTS

    own = tmp_path / "mine.safetensors"
    own.write_bytes((WEIGHTS / "flux2-affine-sdcpp.safetensors").read_bytes())
    save_file({"latents": latents}, tmp_path / "x.safetensors")
    arguments = ["decode", str(tmp_path / "x.safetensors"), "--space", "flux2", "--out", str(tmp_path)]
    assert main([*arguments, "--decoder", str(own)]) == 0
    expected = to_bytes(open_shipped("flux2-affine-sdcpp").decode(latents)).numpy()
    assert (opened(tmp_path / "x_01.png") == expected[0]).all()


@pytest.mark.parametrize(
    ("tensors", "space", "told"),
    [
        ({"latents": torch.zeros(1, 4, 8, 8)}, "flux2", r"C = 32, got \[1, 4, 8, 8\]"),
        ({"samples": torch.zeros(1, 4, 8, 8)}, "sd1", "expected a tensor `latents`"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, "sd7", "no latent space is named 'sd7'; there are: sd1, sdxl"),
    ],
)
def test_latents_that_do_not_fit_are_told(tmp_path, capsys, tensors, space, told):
    save_file(tensors, tmp_path / "x.safetensors")
    assert main(["decode", str(tmp_path / "x.safetensors"), "--space", space]) == 2
    assert told.replace("\\", "") in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_file_that_is_none_is_told(tmp_path, capsys, content):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert main(["decode", str(path), "--space", "sd1"]) == 2
    assert "expected a safetensors file with a tensor `latents`" in capsys.readouterr().err


def test_the_lists_are_for_programs_too(capsys):
    assert main(["decoders", "--json"]) == 0
    decoders = json.loads(capsys.readouterr().out)
    assert {"name", "space", "kind", "scale", "parameters", "source", "metrics"} <= decoders[0].keys()
    assert main(["spaces", "--json"]) == 0
    spaces = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in spaces} == {space.name for space in SPACES}
    assert {row["space"] for row in decoders} <= {row["name"] for row in spaces}


def test_the_lists_are_for_people_too(capsys):
    assert main(["spaces"]) == 0
    assert main(["decoders"]) == 0
    printed = capsys.readouterr().out
    assert "FLUX.2" in printed
    assert "flux2-affine-comfyui" in printed


ROW = LatentSpace(name="mine", title="My own", channels=5, scale=0.5, hosts={"comfyui": ("MyFormat",)}, source="a test")


@pytest.fixture
def folder(tmp_path):
    """A user's folder: a fit for FLUX.2 that beats the default, and one for a space of its own."""
    folder = tmp_path / "own"
    folder.mkdir()
    metrics = {"psnr_full_db": 99.0, "beside": {default_for("flux2")[0]: {"psnr_full_db": 20.5}}, "odd": float("nan")}
    for name, space, channels, facts in (
        ("better", "flux2", 32, {"metrics": metrics}),
        ("first", "mine", 5, {"latent_space": ROW}),
    ):
        card = Card(
            name=name, space=space, kind="polynomial", settings={"channels": channels}, source="a\ttest", **facts
        )
        generator = torch.Generator().manual_seed(channels)
        state = {"weight": torch.randn(3, channels, 1, 1, generator=generator) * 0.2, "bias": torch.full((3,), 0.5)}
        write_decoder(folder / f"{name}.safetensors", card, state)
    return folder


def told(capsys, *arguments):
    def strict(constant):
        pytest.fail(f"{constant} is no JSON")

    assert main(list(map(str, arguments))) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out, parse_constant=strict)}


def test_of_each_decoder_it_is_said_what_it_costs_and_why_it_is_taken(capsys):
    rows = told(capsys, "decoders", "--json")
    default, why = default_for("flux2")
    assert (rows[default]["auto"], rows[default]["why"]) == (True, why)
    assert rows[default]["cost"] == open_shipped(default).net.cost
    assert sum(row["auto_accelerated"] for row in rows.values() if row["space"] == "flux2") == 1
    assert f"dB less than {default} on the same images" in rows["flux2-affine-7x7"]["why"]
    assert f"dB less than {default} on the same images" in rows["flux2-affine-comfyui"]["why"]
    assert rows["flux1-linear-invokeai"]["why"].startswith("not compared with")
    assert all(row["why"] for row in rows.values())


def test_a_folder_of_one_s_own_is_among_the_lists(folder, capsys):
    rows = told(capsys, "decoders", "--json", "--folder", folder)
    assert rows["better"]["auto"]
    assert not rows[default_for("flux2")[0]]["auto"]
    assert rows["better"]["metrics"]["odd"] is None
    assert rows["first"]["why"] == "the only one available"
    spaces = told(capsys, "spaces", "--json", "--folder", folder)
    assert spaces["flux2"]["decoder"] == "better"
    assert spaces["mine"]["decoder"] == "first"
    assert "mine" not in told(capsys, "spaces", "--json")


def test_the_table_says_where_a_decoder_is_taken(folder, capsys):
    assert main(["decoders", "--folder", str(folder)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"cost", "auto"} <= set(lines["name"].split())
    assert " cpu gpu " in lines[default_for("sdxl")[0]]
    fast = Catalogue([folder]).candidates(SPACES["flux2"], accelerated=True)[0].name
    assert " gpu " in lines[fast]
    assert " cpu " not in lines[fast]
    assert "'a\\ttest'" in lines["better"], "a name moves no cursor"


def test_a_space_that_a_file_brings_is_decoded_by_the_file(folder, tmp_path, capsys):
    latents = torch.randn(1, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    save_file({"latents": latents}, tmp_path / "x.safetensors")
    save_file(
        {"latent_tensor": ROW.to_vae(latents), "latent_format_version_0": torch.tensor([])}, tmp_path / "y.latent"
    )
    arguments = ["decode", str(tmp_path / "x.safetensors"), str(tmp_path / "y.latent"), "--space", "mine"]
    assert main([*arguments, "--folder", str(folder), "--out", str(tmp_path)]) == 0
    expected = to_bytes(read_decoder(folder / "first.safetensors").decode(latents)).numpy()[0]
    assert (opened(tmp_path / "x_01.png") == expected).all()
    assert np.abs(opened(tmp_path / "y_01.png").astype(int) - expected).max() <= 1
    assert main(arguments) == 2
    assert "no latent space is named 'mine'" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", ["better", "better.safetensors", "auto"])
def test_a_decoder_of_one_s_own_is_had_by_name(folder, tmp_path, latents, wanted):
    save_file({"latents": latents}, tmp_path / "x.safetensors")
    arguments = ["decode", tmp_path / "x.safetensors", "--space", "flux2", "--folder", folder, "--out", tmp_path]
    assert main([*map(str, arguments), "--decoder", wanted]) == 0
    expected = to_bytes(read_decoder(folder / "better.safetensors").decode(latents)).numpy()
    assert (opened(tmp_path / "x_02.png") == expected[1]).all()


def test_several_files_are_decoded_each_with_a_fresh_decoder(tmp_path, latents):
    for name in ("a", "b"):
        save_file({"latents": latents if name == "a" else latents * 2}, tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    for out, names in (("both", files), ("alone", files[1:])):
        arguments = ["decode", *names, "--space", "flux2", "--decoder", "principal", "--out", str(tmp_path / out)]
        assert main(arguments) == 0
    assert len(list((tmp_path / "both").iterdir())) == 4
    assert (opened(tmp_path / "both/b_01.png") == opened(tmp_path / "alone/b_01.png")).all()


def test_files_whose_pictures_would_have_one_name_are_refused(tmp_path, latents, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_file({"latents": latents}, tmp_path / folder / "x.safetensors")
    files = [str(tmp_path / folder / "x.safetensors") for folder in "ab"]
    assert main(["decode", *files, "--space", "flux2", "--out", str(tmp_path)]) == 2
    assert "several files are called x" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_a_folder_that_is_none_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["decoders", "--folder", str(tmp_path / "nowhere")])
    assert "expected a folder of decoder files" in capsys.readouterr().err


def test_it_runs_as_a_module():
    finished = subprocess.run([sys.executable, "-m", "safelight", "--help"], capture_output=True, text=True, check=True)
    assert "demo" in finished.stdout


def test_the_demo_is_drawn_in_the_terminal_when_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SAFELIGHT_TERMINAL", "blocks")
    assert main(["demo", "--out", str(tmp_path), "--steps", "2", "--live"]) == 0
    drawn = capsys.readouterr().err
    assert "▀" in drawn
    assert "step 2 / 2" in drawn
