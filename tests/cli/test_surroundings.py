"""The host around a copy of the package, as the files there say."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest
import safelight
from safelight.cli.surroundings import find_surroundings

ROOT = Path(safelight.__file__).parent


@pytest.fixture
def installed(monkeypatch):
    """The versions of installed packages."""
    versions = {"comfyui-frontend-package": "1.49.6", "InvokeAI": "6.14.2"}

    def find(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", find)
    return versions


@pytest.fixture
def comfyui(tmp_path):
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.33.0"\n', "utf-8")
    (tmp_path / "user/default").mkdir(parents=True)
    return tmp_path


def save_settings(comfyui, content):
    (comfyui / "user/default/comfy.settings.json").write_text(content, "utf-8")


def test_comfyui_is_found_by_its_folder_of_custom_nodes(comfyui, installed):
    save_settings(comfyui, json.dumps({"Safelight.Learn": True, "Safelight.Key": "secret", "Comfy.Locale": "de"}))
    around = find_surroundings(comfyui / "custom_nodes" / "any name")
    assert around.host == "ComfyUI 0.33.0, frontend 1.49.6"
    assert around.settings == {"Safelight.Learn": True}
    assert around.runs == (comfyui / "temp/safelight", comfyui / "output")
    assert around.decoders == comfyui / "models/safelight"


def test_an_unknown_version_is_called_unknown(comfyui, installed):
    installed.clear()
    (comfyui / "comfyui_version.py").write_text('__version__ = "/home/anna"\n', "utf-8")
    assert find_surroundings(comfyui / "custom_nodes/x").host == "ComfyUI unknown, frontend unknown"


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "[" * 100_000, '"text"'])
def test_damaged_settings_are_none(comfyui, installed, content):
    save_settings(comfyui, content)
    assert find_surroundings(comfyui / "custom_nodes/x").settings == {}


def test_a_folder_in_the_place_of_the_settings_is_none(comfyui, installed):
    (comfyui / "user/default/comfy.settings.json").mkdir()
    assert find_surroundings(comfyui / "custom_nodes/x").settings == {}


def test_invokeai_is_found_by_its_root(tmp_path, installed):
    (tmp_path / "nodes").mkdir()
    assert find_surroundings(tmp_path / "nodes/safelight").host is None  # any folder may be called nodes
    (tmp_path / "databases").mkdir()
    (tmp_path / "safelight").mkdir()
    (tmp_path / "safelight/settings.json").write_text('{"learn": true, "other": 1}', "utf-8")
    around = find_surroundings(tmp_path / "nodes/safelight")
    assert (around.host, around.settings) == ("InvokeAI 6.14.2", {"learn": True})
    assert (around.runs, around.decoders) == ((tmp_path / "outputs",), tmp_path / "safelight")


def test_a_clone_elsewhere_has_no_host(tmp_path, installed):
    around = find_surroundings(tmp_path / "safelight")
    assert (around.host, around.settings, around.runs, around.decoders) == (None, {}, (Path("runs"),), None)


def test_every_setting_that_comfyuis_page_offers_is_reported(comfyui, installed):
    offered = re.findall(r'^ +id: "(Safelight\.[\w.]+)"', (ROOT / "web/comfy.js").read_text("utf-8"), re.MULTILINE)
    assert len(offered) > 5
    save_settings(comfyui, json.dumps(dict.fromkeys(offered, 1)))
    assert set(find_surroundings(comfyui / "custom_nodes/x").settings) == set(offered)
