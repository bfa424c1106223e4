"""The command `get`: the list without a network, and a download."""

import json
from pathlib import Path

import pytest
from safelight.cli import get
from safelight.cli.main import FAILED, main
from safelight.decoders.published_decoders import PUBLISHED_DECODERS
from safelight.errors import DownloadError


@pytest.fixture
def downloads(monkeypatch):
    """Replaces the download; returns the calls."""
    calls = []

    def download(decoder, folder, *, server, progress):
        progress(10, 20)
        calls.append((decoder.name, folder, server))
        return folder / decoder.file_name

    monkeypatch.setattr(get, "download", download)
    return calls


def test_the_list_names_each_decoder_beside_what_is_installed_and_downloads_nothing(tmp_path, capsys, downloads):
    (tmp_path / "taesdxl_decoder.pth").write_bytes(b"")
    assert main(["get", "--folder", str(tmp_path), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == PUBLISHED_DECODERS.keys()
    assert rows["taesdxl"]["installed"] == "yes"
    assert rows["taesd"]["installed"] == ""
    assert rows["taef2"]["worth"] == "38.8 dB latent, 28.0 dB full size"
    assert rows["taef2"]["beside"].startswith("flux2-conv-full, 3")
    assert (rows["taew2_1"]["size"], rows["taew2_1"]["licence"]) == ("23 to 46 MB", "MIT")
    assert rows["taew2_1"]["beside"] == "wan21-affine-comfyui, a table of 51 numbers"
    assert downloads == []

    assert main(["get"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == list(get.COLUMNS)


def test_a_name_downloads_that_decoder_into_the_folder(tmp_path, capsys, downloads):
    assert main(["get", "taesdxl", "--folder", str(tmp_path), "--server", "http://mirror/"]) == 0
    assert downloads == [("taesdxl", tmp_path, "http://mirror")]
    assert capsys.readouterr().out == f"{tmp_path / 'taesdxl_decoder.pth'}  MIT, for sdxl\n"
    assert main(["get", "taesdxl", "--folder", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "taesdxl_decoder.pth")


def test_without_a_folder_the_usual_one_is_used(tmp_path, capsys, downloads, monkeypatch):
    monkeypatch.setenv("SAFELIGHT_DECODERS", str(tmp_path / "usual"))
    assert main(["get", "taesd"]) == 0
    assert downloads[0][1] == tmp_path / "usual"


def test_an_error_is_one_line(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise DownloadError("no network")

    monkeypatch.setattr(get, "download", refuse)
    assert main(["get", "taesd", "--folder", str(Path(tmp_path))]) == FAILED
    assert capsys.readouterr().err.splitlines()[-1].endswith("safelight: no network")
    assert main(["get", "unheard"]) == FAILED
