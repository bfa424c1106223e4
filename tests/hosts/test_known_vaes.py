"""The file with the fingerprints of VAEs."""

from safelight.hosts.known_vaes import MAX_VAES, VAES_FILE, KnownVaes


def test_a_fingerprint_is_found_after_a_restart(tmp_path):
    assert not KnownVaes(tmp_path).exist
    KnownVaes(tmp_path).remember("loader", "abc")
    known = KnownVaes(tmp_path)
    assert known.exist
    assert (known.find("loader"), known.find("another")) == ("abc", None)


def test_the_oldest_fingerprints_are_forgotten(tmp_path):
    known = KnownVaes(tmp_path)
    for i in range(MAX_VAES + 2):
        known.remember(str(i), "abc")
    assert [known.find(str(i)) for i in (0, 1, 2)] == [None, None, "abc"]


def test_a_damaged_file_counts_as_empty(tmp_path):
    known = KnownVaes(tmp_path)
    known.remember("loader", "abc")
    (tmp_path / "learned" / VAES_FILE).write_text('["loader"')
    assert known.find("loader") is None
    known.remember("loader", "def")
    assert known.find("loader") == "def"
