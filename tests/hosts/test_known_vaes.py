"""The file with the fingerprints of VAEs."""

import json

import pytest
from safelight.hosts.known_vaes import MAX_VAES, VAES_FILE, KnownVaes

VAE, ANOTHER = "0123456789ab", "ba9876543210"


def test_a_fingerprint_is_found_after_a_restart(tmp_path):
    assert not KnownVaes(tmp_path).exist
    KnownVaes(tmp_path).remember("loader", VAE)
    known = KnownVaes(tmp_path)
    assert known.exist
    assert (known.find("loader"), known.find("another")) == (VAE, None)


def test_the_oldest_fingerprints_are_forgotten(tmp_path):
    known = KnownVaes(tmp_path)
    for i in range(MAX_VAES + 2):
        known.remember(str(i), VAE)
    assert [known.find(str(i)) for i in (0, 1, 2)] == [None, None, VAE]


def test_a_damaged_file_counts_as_empty(tmp_path):
    known = KnownVaes(tmp_path)
    known.remember("loader", VAE)
    (tmp_path / "learned" / VAES_FILE).write_text('["loader"')
    assert known.find("loader") is None
    known.remember("loader", ANOTHER)
    assert known.find("loader") == ANOTHER


@pytest.mark.parametrize(
    "text", ["../../../elsewhere", "/etc", "x", "0123456789AB", "\x1b[2J", f"{VAE}/..", f"{VAE}\n"]
)
def test_a_text_that_is_no_fingerprint_is_not_used_as_one(tmp_path, text):
    known = KnownVaes(tmp_path)
    known.remember("loader", VAE)
    path = tmp_path / "learned" / VAES_FILE
    path.write_text(json.dumps({"loader": text, "another": VAE}))
    assert (known.find("loader"), known.find("another")) == (None, VAE)
