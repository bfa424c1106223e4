"""The hash that tells model files apart reads few parts of a file."""

import hashlib
import os

import pytest
from safelight.decoders.files.read_cache import SETTLED_NS
from safelight.hosts.model_file_hash import BLOCK_BYTES, BLOCKS, model_file_hash


@pytest.fixture(autouse=True)
def later(monkeypatch):
    """Moves the clock far beyond all writes of a test."""
    from safelight.decoders.files import read_cache

    real = read_cache.time_ns
    monkeypatch.setattr(read_cache, "time_ns", lambda: real() + 2 * SETTLED_NS)


def sparse(path, size, **bytes_at):
    with path.open("wb") as file:
        file.truncate(size)
        for at, value in bytes_at.items():
            file.seek(int(at[1:]))
            file.write(bytes([value]))
    return path


def test_a_small_file_is_hashed_whole_after_its_size(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert model_file_hash(path) == f"blocks:{hashlib.sha256(b'3one').hexdigest()}"


def test_of_a_large_file_evenly_spread_blocks_are_hashed_with_the_first_and_the_last(tmp_path):
    size = 40 * BLOCK_BYTES + 123
    path = tmp_path / "a"
    path.write_bytes(os.urandom(size))
    content, digest = path.read_bytes(), hashlib.sha256(str(size).encode())
    for i in range(BLOCKS):
        at = i * (size - BLOCK_BYTES) // (BLOCKS - 1)
        digest.update(content[at : at + BLOCK_BYTES])
    assert model_file_hash(path) == f"blocks:{digest.hexdigest()}"


def test_files_of_many_gigabytes_with_other_content_or_size_have_other_hashes(tmp_path):
    size = 20 << 30
    files = [
        sparse(tmp_path / "a", size),
        sparse(tmp_path / "b", size, x0=1),
        sparse(tmp_path / "c", size, **{f"x{size - 1}": 1}),
        sparse(tmp_path / "d", size + 1),
    ]
    assert len({model_file_hash(path) for path in files}) == len(files)


def test_a_file_is_read_again_only_if_it_changed(tmp_path, monkeypatch):
    path, opened = tmp_path / "a", []
    from safelight.hosts import model_file_hash as module

    open_file = module.open_regular_file
    monkeypatch.setattr(module, "open_regular_file", lambda path: opened.append(path) or open_file(path))
    path.write_bytes(b"one")
    assert model_file_hash(path) == model_file_hash(path)
    assert len(opened) == 1
    path.write_bytes(b"two")
    assert model_file_hash(path) == f"blocks:{hashlib.sha256(b'3two').hexdigest()}"


def test_what_cannot_be_read_has_no_hash(tmp_path):
    assert model_file_hash(tmp_path / "nowhere") is None
    assert model_file_hash(tmp_path) is None
