"""What a person chose for the whole of InvokeAI, in a file; needs no host."""

import json

import pytest
from safelight.hosts.invokeai.preferences import InvokePreferences
from safelight.preview.decode.memory_budget import DEVICE_BYTES


@pytest.fixture
def file(tmp_path):
    (tmp_path / "safelight").mkdir()
    return tmp_path / "safelight" / "settings.json"


def test_without_a_file_all_is_as_it_comes(tmp_path):
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
def test_what_previews_may_take_of_a_device(tmp_path, file, saved, expected):
    file.write_text(json.dumps(saved))
    assert InvokePreferences.of(tmp_path).device_bytes == expected


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"device_mb": Infinity}', " " * 2_000_000 + "{}"])
def test_what_makes_no_sense_is_as_if_it_was_not_there(tmp_path, file, content, caplog):
    file.write_text(content)
    assert InvokePreferences.of(tmp_path) == InvokePreferences()
    is_json = "Infinity" in content  # to Python it is
    assert ('expected such as {"everywhere": true' in caplog.text) != is_json
