"""The store of training pairs: bounded, oldest first, damaged files do no harm."""

import json
import os

import pytest
import torch
from safelight.decoders.files import tensor_file
from safelight.errors import FitError
from safelight.fitting.online.pair_store import PairStore
from safelight.fitting.pairs import Pairs


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pairs"


def pair(number, side=4, channels=4):
    return Pairs(
        torch.full((1, channels, side, side), number / 64).half(), torch.full((1, 3, 2 * side, 2 * side), number).byte()
    )


def write_hole(path, ids):
    """Writes a pair with a tensor of zeros that takes no space on the disk."""
    shapes = {"latents": ("F16", [1, 4, 4, 4], 128), "pixels": ("U8", [1, 3, 8, 8], 192)}
    shapes["image_ids"] = ("U8", [ids, 6], 6 * ids)
    header, end = {}, 0
    for name, (dtype, shape, size) in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)


def fill(store, numbers, **kwargs):
    for number in numbers:
        store.add(bytes([number]) * 16, pair(number, **kwargs))


def numbers_of(store, channels=4):
    return [int(pair.pixels[0, 0, 0, 0]) for pair in store.load(channels)]


def test_pairs_are_loaded_as_they_were_saved_oldest_first(folder):
    store = PairStore(folder)
    fill(store, [3, 1, 2])
    loaded = list(PairStore(folder).load(4))
    assert numbers_of(store) == [3, 1, 2]
    assert torch.equal(loaded[1].latents, pair(1).latents)
    assert torch.equal(loaded[1].pixels, pair(1).pixels)
    assert loaded[1].latents.dtype == torch.float16


def test_an_empty_store_has_no_folder(folder):
    store = PairStore(folder)
    assert (store.list(), list(store.load(4)), store.added) == ([], [], 0)
    assert not folder.exists()


def test_the_oldest_pairs_are_removed_when_the_limit_is_reached(folder):
    store = PairStore(folder)
    fill(store, [1])
    size = store.list()[0].size
    store = PairStore(folder, 3 * size)
    fill(store, range(2, 8))
    assert numbers_of(store) == [5, 6, 7]
    assert sum(each.size for each in store.list()) <= 3 * size
    assert store.added == 7  # with those that were removed


def test_a_smaller_limit_removes_pairs_with_the_next_one(folder):
    fill(PairStore(folder), range(6))
    size = PairStore(folder).list()[0].size
    store = PairStore(folder, 2 * size)
    fill(store, [6])
    assert numbers_of(store) == [5, 6]


def test_with_a_limit_of_zero_nothing_is_saved_and_earlier_pairs_are_removed(folder):
    fill(PairStore(folder, 0), range(3))
    assert not folder.exists()
    fill(PairStore(folder), range(3))
    fill(PairStore(folder, 0), [3])
    assert list(folder.iterdir()) == []


def test_a_pair_over_the_limit_is_not_saved(folder):
    fill(PairStore(folder, 1000), [1], side=64)
    assert PairStore(folder).list() == []


def test_numbers_go_on_after_the_eighth_digit(folder):
    store = PairStore(folder)
    fill(store, [1, 2])
    store.list()[-1].path.rename(folder / f"99999999-{'02' * 16}.safetensors")
    fill(store, [3])
    assert numbers_of(store) == [1, 2, 3]
    assert store.added == 100_000_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 400),
        lambda path: pair(1, channels=8).save(path),
        lambda path: Pairs(torch.zeros(2, 4, 4, 4), torch.zeros(2, 3, 8, 8).byte()).save(path),
        lambda path: write_hole(path, 1 << 28),
    ],
    ids=["cut short", "empty", "no tensors", "of another space", "two pictures", "a hole of 4 GB"],
)
def test_a_file_that_cannot_be_used_is_removed(folder, damage):
    store = PairStore(folder)
    fill(store, range(3))
    damage(store.list()[1].path)
    assert numbers_of(store) == [0, 2]
    assert len(store.list()) == 2


def test_a_pair_that_is_removed_while_others_are_loaded_is_left_out(folder):
    store = PairStore(folder)
    fill(store, range(3))
    loading = store.load(4)
    next(loading)
    store.list()[1].path.unlink()
    assert len(list(loading)) == 1


def test_other_files_are_left_alone(folder, tmp_path):
    store = PairStore(folder)
    fill(store, [1])
    names = ["notes-1.txt", "-.safetensors", "1-aa.safetensors", "00000001-xyz.safetensors", ".00000001-aa.safetensors"]
    for name in names:
        (folder / name).write_bytes(b"other")
    (folder / "00000002-aa.safetensors").mkdir()
    pair(9).save(tmp_path / "elsewhere.safetensors")
    (folder / "00000003-aa.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    assert numbers_of(store) == [1]
    store.clear()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*names, "00000002-aa.safetensors", "00000003-aa.safetensors"]
    )
    assert (tmp_path / "elsewhere.safetensors").exists()


def test_clearing_removes_the_folder(folder):
    store = PairStore(folder)
    fill(store, range(2))
    store.clear()
    assert not folder.exists()
    store.clear()


def test_a_full_disk_leaves_the_earlier_pairs(folder, monkeypatch):
    store = PairStore(folder)
    fill(store, range(2))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Pairs, "save", full)
    with pytest.raises(OSError, match="No space left"):
        fill(store, [2])
    assert numbers_of(store) == [0, 1]


def test_more_image_ids_than_pairs_are_refused_before_they_are_read(folder, tmp_path):
    path = tmp_path / "pairs.safetensors"
    write_hole(path, 1 << 28)
    with pytest.raises(FitError, match=r"expected image_ids \[1, 6\] uint8"):
        Pairs.load(path)


def test_saved_pairs_are_read_into_memory_and_not_mapped(folder, monkeypatch):
    store = PairStore(folder)
    fill(store, range(2))
    monkeypatch.setattr(tensor_file, "safe_open", lambda *_, **__: pytest.fail("it was mapped"))
    assert numbers_of(store) == [0, 1]
