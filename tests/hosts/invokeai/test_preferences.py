"""The settings file for all of InvokeAI."""

import json

import pytest
from safelight.hosts.invokeai.preferences import InvokePreferences
from safelight.preview.decode.memory_budget import DEVICE_BYTES


@pytest.fixture
def file(tmp_path):
    (tmp_path / "safelight").mkdir()
    return tmp_path / "safelight" / "settings.json"


def test_without_a_file_all_settings_have_their_defaults(tmp_path):
    assert InvokePreferences.of(tmp_path) == InvokePreferences(everywhere=False, device_bytes=DEVICE_BYTES)


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({"device_mb": 512}, 512 << 20),
        ({"device_mb": 0.5}, 1 << 19),
        ({"device_mb": 0}, 0),
        ({"device_mb": -1}, DEVICE_BYTES),
        ({"device_mb": True}, DEVICE_BYTES),
        ({"device_mb": "512"}, DEVICE_BYTES),
        ({"everywhere": True}, DEVICE_BYTES),
    ],
)
def test_the_memory_budget_of_a_device_is_read(tmp_path, file, saved, expected):
    file.write_text(json.dumps(saved))
    assert InvokePreferences.of(tmp_path).device_bytes == expected


@pytest.mark.parametrize(
    ("saved", "expected"),
    [({"remote": "s3://bucket/runs"}, "s3://bucket/runs"), ({"remote": 3}, ""), ({"remote": None}, ""), ({}, "")],
)
def test_the_address_of_copies_is_read_as_it_is(tmp_path, file, saved, expected):
    file.write_text(json.dumps(saved))
    assert InvokePreferences.of(tmp_path).remote == expected


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"device_mb": Infinity}', " " * 2_000_000 + "{}"])
def test_an_unusable_file_counts_as_absent(tmp_path, file, content, caplog):
    file.write_text(content)
    assert InvokePreferences.of(tmp_path) == InvokePreferences()
    is_json = "Infinity" in content  # Python accepts it
    assert ('expected such as {"everywhere": true' in caplog.text) != is_json
