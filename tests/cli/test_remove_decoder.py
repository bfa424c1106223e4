"""`safelight decoders --remove`: only the named decoder file of the given folder goes."""

import json

import pytest
from safelight.cli import lists
from safelight.cli.main import main
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import write_decoder
from safelight.decoders.nets.polynomial import Polynomial
from safetensors.torch import save_file


def write(path, name=None):
    path.parent.mkdir(exist_ok=True)
    card = Card(name=name or path.stem, space="sdxl", kind="polynomial", settings={"channels": 4}, source="a test")
    write_decoder(path, card, Polynomial(4).state_dict())
    return path


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "own"
    write(folder / "mine.safetensors")
    write(folder / "other.safetensors", name="named within")
    write(folder / "inner" / "deep.safetensors")
    write(tmp_path / "outside.safetensors")
    save_file({"unet.weight": Polynomial(4).weight.detach()}, folder / "checkpoint.safetensors")
    (folder / "notes.txt").write_text("mine")
    return folder


def files_in(folder):
    return {path.relative_to(folder.parent).as_posix() for path in folder.parent.rglob("*") if path.is_file()}


def remove(folder, name, *options):
    return main(["decoders", "--folder", str(folder), "--remove", name, *options])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mine.safetensors", "own/mine.safetensors"),
        ("mine", "own/mine.safetensors"),
        ("named within", "own/other.safetensors"),
        ("other.safetensors", "own/other.safetensors"),
    ],
)
def test_a_decoder_is_removed_by_the_name_of_its_file_or_its_own(folder, capsys, name, file):
    before = files_in(folder)
    assert remove(folder, name) == 0
    assert before - files_in(folder) == {file}
    assert capsys.readouterr().out == f"removed {folder.parent / file}\n"


def test_json_names_the_removed_file(folder, capsys):
    assert remove(folder, "mine", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"removed": [str(folder / "mine.safetensors")]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside.safetensors", "expected the name of a decoder file"),
        ("outside.safetensors", "there are: mine.safetensors, other.safetensors"),
        ("deep.safetensors", "expected the name of a decoder file"),
        ("inner/deep.safetensors", "expected the name of a decoder file"),
        ("checkpoint.safetensors", "expected the name of a decoder file"),
        ("notes.txt", "expected the name of a decoder file"),
        ("", "expected the name of a decoder file"),
        ("*", "expected the name of a decoder file"),
        ("sdxl-affine-comfyui", "ships with Safelight and is not removed"),
    ],
)
def test_any_other_name_removes_nothing(folder, capsys, name, message):
    before = files_in(folder)
    assert remove(folder, name) == 2
    assert files_in(folder) == before
    assert message in capsys.readouterr().err


def test_a_name_in_two_files_must_be_that_of_a_file(folder, tmp_path, capsys):
    write(folder / "copy.safetensors", name="mine")
    assert remove(folder, "mine") == 2
    assert "copy.safetensors and" in capsys.readouterr().err
    assert remove(folder, "copy.safetensors") == 0
    write(tmp_path / "second" / "mine.safetensors")
    both = ["--folder", str(folder), "--folder", str(tmp_path / "second")]
    assert main(["decoders", *both, "--remove", "mine.safetensors"]) == 2
    assert "only its folder" in capsys.readouterr().err


def test_without_a_folder_that_of_comfyui_is_used_or_asked_for(folder, capsys, monkeypatch):
    assert main(["decoders", "--remove", "mine"]) == 2
    assert "a folder: give it with --folder DIR" in capsys.readouterr().err
    monkeypatch.setattr(lists, "default_folder", lambda: folder)
    assert main(["decoders"]) == 0
    assert "named within" in capsys.readouterr().out
    assert main(["decoders", "--remove", "mine"]) == 0
    assert not (folder / "mine.safetensors").exists()


def test_a_file_that_cannot_be_removed_is_named(folder, capsys, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(folder), "unlink", refuse)
    assert remove(folder, "mine") == 2
    assert "mine.safetensors: Permission denied" in capsys.readouterr().err
