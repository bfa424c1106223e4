"""The folder of the user's decoder files."""

import sys
from pathlib import Path

import pytest
from safelight.decoders.files.user_folder import user_folder


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    for name in ("SAFELIGHT_DECODERS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".local/share/safelight"),
        ("linux", {"XDG_DATA_HOME": "{home}/data"}, "data/safelight"),
        ("linux", {"XDG_DATA_HOME": "relative"}, ".local/share/safelight"),
        ("darwin", {"XDG_DATA_HOME": "{home}/data"}, "Library/Application Support/safelight"),
        ("win32", {}, "AppData/Local/safelight"),
        ("win32", {"LOCALAPPDATA": "{home}/local"}, "local/safelight"),
        ("linux", {"SAFELIGHT_DECODERS": "{home}/mine"}, "mine"),
    ],
)
def test_it_is_where_the_system_has_the_data_of_programs(home, monkeypatch, platform, variables, expected):
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=home))
    assert user_folder() == home / expected


def test_without_a_home_there_is_none(monkeypatch):
    def fail():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", fail)
    assert user_folder() is None
