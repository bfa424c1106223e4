"""The commands `demo`, `decode`, `spaces` and `decoders`."""

import io
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


def read_pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("code_page", ["cp1252", "cp437", "cp932", "ascii"])
def test_a_name_that_the_code_page_of_a_pipe_lacks_is_printed_as_an_escape(tmp_path, monkeypatch, code_page):
    (tmp_path / "r\N{LATIN SMALL LETTER E WITH CARON}\N{HIRAGANA LETTER A}\N{CAT FACE}.safetensors").write_bytes(b"?")
    monkeypatch.setenv("SAFELIGHT_DECODERS", str(tmp_path))
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding=code_page, write_through=True) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["decoders"]) == 0
        text = written.getvalue().decode(code_page)
    assert "\nnot usable: r" in text
    assert "\\U0001f431.safetensors" in text


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_the_demo_records_every_step(tmp_path, capsys, sampler):
    assert main(["demo", "--out", str(tmp_path), "--steps", "5", "--sampler", sampler]) == 0
    folder = tmp_path / "demo_00001"
    manifest = read_manifest(folder)
    assert manifest["state"] == "finished"
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3, 4, 5]
    listed = {file for step in manifest["steps"] for file in step["files"]}
    assert listed == {f"step_000{i}.png" for i in range(1, 6)}
    assert {path.name for path in folder.iterdir()} == listed | {"run.json", "index.html", "sheet.png", "steps.webp"}
    assert read_pixels(folder / "step_0005.png").shape[:2] == tuple(
        manifest["picture"][side] for side in ("shown_height", "shown_width")
    )
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["step", "sigma", "decoder", "decode", "ms", "file"]
    assert [line.split()[0] for line in table[1:6]] == ["1", "2", "3", "4", "5"]
    assert all(manifest["decoder"]["name"] in line and "step_000" in line for line in table[1:6])


def test_the_demo_begins_with_a_blur_and_ends_with_a_picture(tmp_path):
    main(["demo", "--out", str(tmp_path), "--steps", "8", "--enlarge", "off"])
    first, last = (read_pixels(tmp_path / "demo_00001" / f"step_000{i}.png").astype(float) for i in (1, 8))

    def detail(picture):
        return np.abs(np.diff(picture, axis=0)).mean() + np.abs(np.diff(picture, axis=1)).mean()

    assert detail(last) > 3 * detail(first)


def test_the_seed_decides_the_picture_of_the_demo(tmp_path):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(["demo", "--out", str(tmp_path / out), "--steps", "3", "--seed", seed, "--enlarge", "off"])
    a, b, c = (read_pixels(tmp_path / out / "demo_00001" / "step_0003.png") for out in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_each_run_of_the_demo_has_its_own_folder(tmp_path):
    for _ in range(2):
        main(["demo", "--out", str(tmp_path), "--steps", "1"])
    assert {path.name for path in tmp_path.iterdir()} == {"demo_00001", "demo_00002"}


def test_the_demo_can_show_noisy_latents(tmp_path):
    main(["demo", "--out", str(tmp_path), "--steps", "2", "--show", "noisy", "--enlarge", "off"])
    assert read_manifest(tmp_path / "demo_00001")["steps"][0]["show"] == "noisy"
    assert read_pixels(tmp_path / "demo_00001" / "step_0001.png").std() > 20


def test_every_n_steps_and_write_csv_and_no_animation(tmp_path):
    options = ["--every-n-steps", "2", "--write-csv", "--animation", "off"]
    assert main(["demo", "--out", str(tmp_path), "--steps", "4", *options]) == 0
    folder = tmp_path / "demo_00001"
    assert [step["index"] for step in read_manifest(folder)["steps"]] == [1, 3, 4]
    lines = (folder / "steps.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["index", "1", "3", "4"]
    steps = {f"step_000{i}.png" for i in (1, 3, 4)}
    assert {path.name for path in folder.iterdir()} == steps | {"run.json", "index.html", "sheet.png", "steps.csv"}


def test_no_sheet_and_another_animation(tmp_path):
    options = ["--no-sheet", "--animation", "gif", "--animation-fps", "4", "--animation-from-step", "2"]
    assert main(["demo", "--out", str(tmp_path), "--steps", "3", *options]) == 0
    folder = tmp_path / "demo_00001"
    with Image.open(folder / "steps.gif") as animation:
        assert animation.n_frames == 2
    assert not (folder / "sheet.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--every-n-steps", "0"], "every_n_steps: expected 1 to 10000, got 0"),
        (["--animation-fps", "0"], "animation_fps: expected 0.1 to"),
        (["--animation-from-step", "3", "--animation-to-step", "2"], "from step 3 to step 2 has no frames"),
    ],
)
def test_a_value_out_of_range_is_refused(tmp_path, capsys, options, message):
    assert main(["demo", "--out", str(tmp_path), *options]) == 2
    assert message in (error := capsys.readouterr().err)
    assert error.startswith("safelight: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "choices"),
    [(["--animation", "avi"], ("off", "webp", "gif", "mp4")), (["--file-format", "bmp"], ("png", "webp", "jpg"))],
)
def test_a_value_that_is_not_among_the_choices_is_refused(capsys, options, choices):
    with pytest.raises(SystemExit) as exit_:
        main(["demo", *options])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert all(choice in error for choice in (options[0], *choices))


def test_an_mp4_without_pyav_names_the_package_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["demo", "--out", str(tmp_path), "--animation", "mp4"]) == 2
    assert "PyAV" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_zero_steps_are_refused(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--steps", "0"])
    assert exit_.value.code == 2
    assert "--steps" in capsys.readouterr().err


@pytest.mark.parametrize("decoder", ["no-such-decoder", "tiny", "sd1-linear-comfyui"])
def test_an_unusable_decoder_is_an_error_before_sampling(tmp_path, capsys, decoder):
    assert main(["demo", "--out", str(tmp_path), "--decoder", decoder]) == 2
    assert "safelight: " in (err := capsys.readouterr().err)
    assert "flux2-affine-comfyui" in err, "the message must list the available decoders"


def test_decode_writes_a_picture_for_each_item(tmp_path, latents, capsys):
    save_file({"latents": latents}, tmp_path / "two.safetensors")
    arguments = ["decode", str(tmp_path / "two.safetensors"), "--space", "flux2", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--decoder", "flux2-affine-comfyui"]) == 0
    expected = to_bytes(open_shipped("flux2-affine-comfyui").decode(latents)).numpy()
    for item in (0, 1):
        assert (read_pixels(tmp_path / "out" / f"two_0{item + 1}.png") == expected[item]).all()
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_packed_and_unpacked_latents_decode_to_the_same_picture(tmp_path, latents):
    save_file({"latents": torch.pixel_unshuffle(latents, 2)}, tmp_path / "packed.safetensors")
    save_file({"latents": latents}, tmp_path / "unpacked.safetensors")
    for name in ("packed", "unpacked"):
        main(["decode", str(tmp_path / f"{name}.safetensors"), "--space", "flux2", "--out", str(tmp_path)])
    assert (read_pixels(tmp_path / "packed_02.png") == read_pixels(tmp_path / "unpacked_02.png")).all()


def test_decode_writes_a_picture_for_each_frame_of_a_video(tmp_path):
    save_file({"latents": torch.randn(1, 16, 3, 4, 5)}, tmp_path / "clip.safetensors")
    assert main(["decode", str(tmp_path / "clip.safetensors"), "--space", "wan21", "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {f"clip_01_frame_00{i}.png" for i in (1, 2, 3)}


@pytest.mark.parametrize("space", ["sdxl", "sd3", "wan21"])
def test_latents_that_comfyui_saved_are_converted_to_model_space(tmp_path, space):
    row = SPACES[space]
    shape = (1, row.channels, 1, 4, 5) if row.dims == 3 else (1, row.channels, 4, 5)
    model = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    saved = {"latent_tensor": row.to_vae(model), "latent_format_version_0": torch.tensor([])}
    save_file(saved, tmp_path / "comfy.latent")
    save_file({"latents": model}, tmp_path / "ours.safetensors")
    for name in ("comfy.latent", "ours.safetensors"):
        assert main(["decode", str(tmp_path / name), "--space", space, "--out", str(tmp_path)]) == 0
    comfy, ours = (read_pixels(tmp_path / f"{name}_01.png").astype(int) for name in ("comfy", "ours"))
    assert np.abs(comfy - ours).max() <= 1


def test_a_decoder_can_be_a_file(tmp_path, latents):
    from safelight.decoders.files.shipped import WEIGHTS

    own = tmp_path / "mine.safetensors"
    own.write_bytes((WEIGHTS / "flux2-affine-sdcpp.safetensors").read_bytes())
    save_file({"latents": latents}, tmp_path / "x.safetensors")
    arguments = ["decode", str(tmp_path / "x.safetensors"), "--space", "flux2", "--out", str(tmp_path)]
    assert main([*arguments, "--decoder", str(own)]) == 0
    expected = to_bytes(open_shipped("flux2-affine-sdcpp").decode(latents)).numpy()
    assert (read_pixels(tmp_path / "x_01.png") == expected[0]).all()


@pytest.mark.parametrize(
    ("tensors", "space", "message"),
    [
        ({"latents": torch.zeros(1, 4, 8, 8)}, "flux2", r"C = 32, got \[1, 4, 8, 8\]"),
        ({"a": torch.zeros(8, 8), "b": torch.zeros(2)}, "sd1", "expected a tensor `latents`"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, "sd7", "no latent space is named 'sd7'; there are: sd1, sdxl"),
    ],
)
def test_latents_that_do_not_fit_are_refused(tmp_path, capsys, tensors, space, message):
    save_file(tensors, tmp_path / "x.safetensors")
    assert main(["decode", str(tmp_path / "x.safetensors"), "--space", space]) == 2
    assert message.replace("\\", "") in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path, capsys, content):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert main(["decode", str(path), "--space", "sd1"]) == 2
    assert "expected a file of latents (safetensors, .latent, .npy, .npz or .pt)" in capsys.readouterr().err


def test_the_lists_can_be_json(capsys):
    assert main(["decoders", "--json"]) == 0
    decoders = json.loads(capsys.readouterr().out)
    assert {"name", "space", "kind", "scale", "parameters", "source", "metrics"} <= decoders[0].keys()
    assert main(["spaces", "--json"]) == 0
    spaces = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in spaces} == {space.name for space in SPACES}
    assert {row["space"] for row in decoders} <= {row["name"] for row in spaces}


def test_the_lists_are_tables(capsys):
    assert main(["spaces"]) == 0
    assert main(["decoders"]) == 0
    printed = capsys.readouterr().out
    assert "FLUX.2" in printed
    assert "flux2-affine-comfyui" in printed


ROW = LatentSpace(name="mine", title="My own", channels=5, scale=0.5, hosts={"comfyui": ("MyFormat",)}, source="a test")


@pytest.fixture
def folder(tmp_path):
    """A user's folder: a fit for FLUX.2 that beats the default, and one for a new latent space."""
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


def listed_rows(capsys, *arguments):
    """Returns the rows of a list in JSON, by name."""

    def fail(constant):
        pytest.fail(f"{constant} is not JSON")

    assert main(list(map(str, arguments))) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out, parse_constant=fail)}


def test_the_list_has_the_cost_of_each_decoder_and_why_auto_takes_it(capsys):
    rows = listed_rows(capsys, "decoders", "--json")
    default, why = default_for("flux2")
    assert (rows[default]["auto"], rows[default]["why"]) == (True, why)
    assert rows[default]["cost"] == open_shipped(default).net.cost
    assert sum(row["auto_accelerated"] for row in rows.values() if row["space"] == "flux2") == 1
    assert f"dB less than {default} on the same images" in rows["flux2-affine-7x7"]["why"]
    assert f"dB less than {default} on the same images" in rows["flux2-affine-comfyui"]["why"]
    assert rows["flux1-linear-invokeai"]["why"].startswith("not compared with")
    assert all(row["why"] for row in rows.values())


def test_the_lists_include_a_folder_of_the_user(folder, capsys):
    rows = listed_rows(capsys, "decoders", "--json", "--folder", folder)
    assert rows["better"]["auto"]
    assert not rows[default_for("flux2")[0]]["auto"]
    assert rows["better"]["metrics"]["odd"] is None
    assert rows["first"]["why"] == "the only one available"
    spaces = listed_rows(capsys, "spaces", "--json", "--folder", folder)
    assert spaces["flux2"]["decoder"] == "better"
    assert spaces["mine"]["decoder"] == "first"
    assert "mine" not in listed_rows(capsys, "spaces", "--json")


def test_the_table_names_the_devices_on_which_auto_takes_a_decoder(folder, capsys):
    assert main(["decoders", "--folder", str(folder)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"cost", "auto"} <= set(lines["name"].split())
    assert " cpu gpu " in lines[default_for("sdxl")[0]]
    fast = Catalogue([folder]).candidates(SPACES["flux2"], accelerated=True)[0].name
    assert " gpu " in lines[fast]
    assert " cpu " not in lines[fast]
    assert "a\\ttest" in lines["better"], "control characters must be escaped"


def test_a_decoder_file_can_define_its_latent_space(folder, tmp_path, capsys):
    latents = torch.randn(1, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    save_file({"latents": latents}, tmp_path / "x.safetensors")
    save_file(
        {"latent_tensor": ROW.to_vae(latents), "latent_format_version_0": torch.tensor([])}, tmp_path / "y.latent"
    )
    arguments = ["decode", str(tmp_path / "x.safetensors"), str(tmp_path / "y.latent"), "--space", "mine"]
    assert main([*arguments, "--folder", str(folder), "--out", str(tmp_path)]) == 0
    expected = to_bytes(read_decoder(folder / "first.safetensors").decode(latents)).numpy()[0]
    assert (read_pixels(tmp_path / "x_01.png") == expected).all()
    assert np.abs(read_pixels(tmp_path / "y_01.png").astype(int) - expected).max() <= 1
    assert main(arguments) == 2
    assert "no latent space is named 'mine'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["better", "better.safetensors", "auto"])
def test_a_decoder_in_a_folder_of_the_user_is_found_by_name(folder, tmp_path, latents, name):
    save_file({"latents": latents}, tmp_path / "x.safetensors")
    arguments = ["decode", tmp_path / "x.safetensors", "--space", "flux2", "--folder", folder, "--out", tmp_path]
    assert main([*map(str, arguments), "--decoder", name]) == 0
    expected = to_bytes(read_decoder(folder / "better.safetensors").decode(latents)).numpy()
    assert (read_pixels(tmp_path / "x_02.png") == expected[1]).all()


def test_each_of_several_files_is_decoded_with_a_new_decoder(tmp_path, latents):
    for name in ("a", "b"):
        save_file({"latents": latents if name == "a" else latents * 2}, tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    for out, names in (("both", files), ("alone", files[1:])):
        arguments = ["decode", *names, "--space", "flux2", "--decoder", "principal", "--out", str(tmp_path / out)]
        assert main(arguments) == 0
    assert len(list((tmp_path / "both").iterdir())) == 4
    assert (read_pixels(tmp_path / "both/b_01.png") == read_pixels(tmp_path / "alone/b_01.png")).all()


def test_files_with_the_same_name_are_refused(tmp_path, latents, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_file({"latents": latents}, tmp_path / folder / "x.safetensors")
    files = [str(tmp_path / folder / "x.safetensors") for folder in "ab"]
    assert main(["decode", *files, "--space", "flux2", "--out", str(tmp_path)]) == 2
    assert "several files are called x" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_a_folder_that_does_not_exist_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["decoders", "--folder", str(tmp_path / "nowhere")])
    assert "expected a folder of decoder files" in capsys.readouterr().err


def test_the_command_line_runs_as_a_module():
    finished = subprocess.run([sys.executable, "-m", "safelight", "--help"], capture_output=True, text=True, check=True)
    assert "demo" in finished.stdout


def test_the_demo_can_be_drawn_in_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SAFELIGHT_TERMINAL", "blocks")
    assert main(["demo", "--out", str(tmp_path), "--steps", "2", "--live"]) == 0
    drawn = capsys.readouterr().err
    assert "▀" in drawn
    assert "step 2 / 2" in drawn


def test_a_file_that_cannot_be_used_is_listed_with_the_reason(tmp_path, capsys):
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    rows = listed_rows(capsys, "decoders", "--json", "--folder", tmp_path)
    assert rows["flux2-conv-small"]["usable"] is True
    assert (rows["broken.safetensors"]["usable"], rows["broken.safetensors"]["auto"]) == (False, False)
    assert "not a whole safetensors file" in rows["broken.safetensors"]["why"]
    assert main(["decoders", "--folder", str(tmp_path)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"not usable: broken.safetensors: {tmp_path / 'broken.safetensors'}: not a whole")
