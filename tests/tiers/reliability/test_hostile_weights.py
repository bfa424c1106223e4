"""Hostile weight files are refused with a short message, within bounded memory, and no code in them runs."""

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import read_card, read_decoder, write_decoder
from safelight.decoders.files.tensor_file import open_tensors
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.taehv import taehv
from safelight.errors import DecoderFileError, FitError, LatentsError, PickledFileError
from safelight.fitting.pairs import Pairs
from safelight.fitting.statistics import FitStatistics
from safelight.preview.sinks.latent_files import read_latents
from safetensors.torch import load, save, save_file

MB = 1 << 20
GOOD = {"weight": torch.ones(3, 4, 1, 1), "bias": torch.zeros(3)}
CARD = {"format": "safelight.decoder/1", "name": "good", "kind": "polynomial", "source": "a test", "space": "sd1"}
CARD |= {"settings": json.dumps({"channels": 4}), "metrics": "{}"}


def safe(header, numbers=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


def tensor(shape=(1,), offsets=(0, 4), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def ours(tensors=GOOD, **facts):
    return save(tensors, CARD | facts)


def torch_file(state, change=lambda name, content: content, packed=zipfile.ZIP_STORED, old=False):
    """A file that `torch.save` writes, with changed entries."""
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=not old)
    if old:
        return file.getvalue()
    changed = io.BytesIO()
    with zipfile.ZipFile(file) as original, zipfile.ZipFile(changed, "w", packed) as archive:
        for name in original.namelist():
            archive.writestr(name, change(name, original.read(name)))
    return changed.getvalue()


def part(ending, replacement):
    return lambda name, content: replacement(content) if name.endswith(ending) else content


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def tar_with_a_pickle(bomb):
    """The oldest form of a torch file; the name of its first entry makes it look like a pickle: CVE-2025-32434."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        for name, content in {"\x80x": b"", "sys_info": pickle.dumps(bomb), "pickle": pickle.dumps(bomb)}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


NESTED = json.dumps([[]] * 300_000)
STATE = {"w": torch.zeros(4)}
FILES = {
    # Headers of safetensors files
    "a header of 2^63 bytes.safetensors": safe({"a": tensor()}, bytes(4), length=1 << 63),
    "a header as long as the file.safetensors": safe(b" " * 64, length=64),
    "a header of 5 MB.safetensors": safe({"__metadata__": {"x": "y" * 5_000_000}}),
    "a header of 300,000 lists.safetensors": safe({"__metadata__": NESTED}),
    "a header of 100,000 levels.safetensors": safe(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a trillion numbers in four bytes.safetensors": safe({"a": tensor((10**12,), (0, 4 * 10**12))}, bytes(4)),
    "a shape of a thousand axes.safetensors": safe({"a": tensor((2**61,) * 1000)}, bytes(4)),
    "a million axes.safetensors": safe({"a": tensor((1 << 60,) * 300_000)}, bytes(4)),
    "a shape without bytes.safetensors": safe({"a": tensor((0, 1 << 61, 1 << 61), (0, 0))}),
    "overlapping.safetensors": safe({"a": tensor((2,), (0, 8)), "b": tensor((2,), (4, 12))}, bytes(12)),
    "an end before the start.safetensors": safe({"a": tensor((1,), (4, 0))}, bytes(4)),
    "a negative offset.safetensors": safe({"a": tensor((1,), (-4, 0))}, bytes(4)),
    "a gap.safetensors": safe({"a": tensor(), "b": tensor((1,), (8, 12))}, bytes(12)),
    "more bytes than the header lists.safetensors": safe({"a": tensor()}, bytes(400)),
    "an unknown type.safetensors": safe({"a": tensor(dtype="F33")}, bytes(4)),
    "a shape of words.safetensors": safe({"a": tensor() | {"shape": "big"}}, bytes(4)),
    "a bool for a size.safetensors": safe({"a": tensor((True,))}, bytes(4)),
    "a list for a tensor.safetensors": safe({"a": []}),
    "metadata of numbers.safetensors": safe({"__metadata__": {"format": 1}, "a": tensor()}, bytes(4)),
    "metadata that is a list.safetensors": safe({"__metadata__": [1], "a": tensor()}, bytes(4)),
    "not utf-8.safetensors": safe(b'{"\xff\xfe": 1}'),
    # Cards
    "a name of a million letters.safetensors": ours(name="x" * 1_000_000),
    "a name with a line break.safetensors": ours(name="good\n\x1b[2Jevil"),
    "an empty name.safetensors": ours(name=""),
    "a space with a bell.safetensors": ours(space="sd1\x07"),
    "notes of 100 kB.safetensors": ours(notes="x" * 100_000),
    "a million layers.safetensors": ours(kind="mlp", settings=json.dumps({"widths": [4] * 400_000 + [3]})),
    "a million convolutions.safetensors": ours(
        kind="conv", settings=json.dumps({"channels": 4, "widths": [4] * 400_000})
    ),
    "a number of 4,000 digits.safetensors": ours(settings='{"channels": ' + "9" * 4000 + "}"),
    "settings of 5,000 digits.safetensors": ours(settings='{"channels": ' + "9" * 5000 + "}"),
    "an invalid latent space.safetensors": ours(latent_space='{"name": "sd1", "channels": 1e400}'),
    "NaN.safetensors": ours(GOOD | {"bias": torch.tensor([0.0, float("nan"), 0.0])}),
    "infinity.safetensors": ours(GOOD | {"weight": torch.full((3, 4, 1, 1), float("inf"))}),
    "beyond float32.safetensors": ours(GOOD | {"bias": torch.full((3,), 1e300, dtype=torch.float64)}),
    "integers.safetensors": ours(GOOD | {"bias": torch.zeros(3, dtype=torch.int32)}),
    # Entries of torch files
    "a size beyond the numbers.pt": torch_file(
        STATE, part("data.pkl", lambda pickled: pickled.replace(b"K\x04", b"J\x40\x42\x0f\x00"))
    ),
    "too few numbers.pt": torch_file(STATE, part("data/0", lambda numbers: numbers[:8])),
    "a negative size.pt": torch_file(
        STATE, part("data.pkl", lambda pickled: pickled.replace(b"K\x04", b"J\xff\xff\xff\xff"))
    ),
    "a missing entry.pt": torch_file(
        STATE, part("data.pkl", lambda pickled: pickled.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x009"))
    ),
    "an endless pickle.pt": torch_file(STATE, part("data.pkl", lambda _: b"\x80\x02" + b"}0" * 2_000_000 + b".")),
    "a pickle of marks.pt": torch_file(STATE, part("data.pkl", lambda _: b"\x80\x02" + b"N" * 60_000 + b"(t" * 60_000)),
    "nested tuples.pt": torch_file(STATE, part("data.pkl", lambda _: b"\x80\x02" + b"N" + b"\x85" * 190_000 + b".")),
    "a nested key.pt": torch_file(STATE, part("data.pkl", lambda _: b"\x80\x02}N" + b"\x85" * 90_000 + b"Ns.")),
    "a gigabyte of text.pt": torch_file(STATE, part("data.pkl", lambda _: b"\x80\x02X\x00\x00\x00\x40abc.")),
    "a memo with a gap.pt": torch_file(
        STATE, part("data.pkl", lambda _: b"\x80\x02Nr\xff\xff\xff\x7fj\xfe\xff\xff\x7f.")
    ),
    "an empty pickle.pt": torch_file(STATE, part("data.pkl", lambda _: b"")),
    "an old file with a wrong size.pt": torch_file(STATE, old=True).replace(b"K\x04", b"J\x40\x42\x0f\x00"),
    "an old file cut short.pt": torch_file(STATE, old=True)[:-8],
    "a web page.pt": b"<!DOCTYPE html>" * 200,
}


WRONG_NUMBERS = [f"{name}.safetensors" for name in ("NaN", "infinity", "beyond float32", "integers")]


@pytest.fixture(params=[read_card, read_decoder], ids=lambda read: read.__name__)
def read(request):
    return request.param


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_quickly_with_a_short_message(read, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    if name in WRONG_NUMBERS:
        read = read_decoder  # a card is read without the numbers
    began, before_kb = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecoderFileError) as caught:
        read(path)
    assert time.process_time() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200 * 1024
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 700


def test_a_compressed_file_does_not_expand_in_memory(read, tmp_path):
    zeros = part("data/0", lambda _: bytes(256 * MB))
    (tmp_path / "a.pt").write_bytes(torch_file(STATE, zeros, zipfile.ZIP_DEFLATED))
    assert (tmp_path / "a.pt").stat().st_size < MB
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecoderFileError, match=r"a\.pt: not a whole PyTorch file: its entries are compressed"):
        read(tmp_path / "a.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 50 * 1024


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_a_torch_file_gives_the_tensors_that_torch_load_gives(tmp_path, old):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        half = torch.randn(5, 4).half().T
    state = net.state_dict(keep_vars=True) | {"half": half, "part": half[1:, ::2], "none": torch.zeros(0, 3)}
    state |= {"one": torch.tensor(3.0), "wide": torch.zeros(1, 1).expand(7, 9), "yes": torch.ones(2, dtype=torch.bool)}
    state |= {"brain": torch.ones(3, dtype=torch.bfloat16), "double": torch.ones(3, dtype=torch.float64)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    expected = torch.load(tmp_path / "a.pt", weights_only=True)
    _, found = open_tensors(tmp_path / "a.pt")
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert (found[key].dtype, found[key].stride()) == (value.dtype, value.stride())
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(tmp_path, protocol):
    torch.save(STATE, tmp_path / "a.pt", pickle_protocol=protocol)
    assert torch.equal(open_tensors(tmp_path / "a.pt")[1]["w"], STATE["w"])


def test_the_oldest_form_of_a_torch_file_is_refused_and_runs_no_code(read, tmp_path):
    (tmp_path / "a.pt").write_bytes(tar_with_a_pickle(Bomb(tmp_path / "ran")))
    assert (tmp_path / "a.pt").read_bytes().startswith(b"\x80"), "it must begin like a pickle"
    with pytest.raises(DecoderFileError):
        read(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("where", ["key", "value", "reduce", "state"])
def test_code_anywhere_in_a_pickle_is_named_in_the_message_and_never_runs(read, tmp_path, where):
    bomb = Bomb(tmp_path / "ran")
    state = {
        "key": {"a": bomb},
        "value": {"w": torch.zeros(1), "x": [1, (2, bomb)]},
        "reduce": bomb,
        "state": {"a": {"b": bomb}},
    }
    torch.save(state[where], tmp_path / "a.pt")
    with pytest.raises(
        PickledFileError, match=r"besides tensors \(__builtin__ getattr\), and opening them would run code"
    ):
        read(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_a_header_read_without_numbers_equals_that_of_the_safetensors_library(tmp_path):
    for kind, tensors in {"good": GOOD, "empty": {"a": torch.zeros(0, 3), "b": torch.zeros(())}}.items():
        path = tmp_path / f"{kind}.safetensors"
        path.write_bytes(save(tensors, {"some": "text"}))
        facts, shapes = open_tensors(path, values=False)
        assert facts == {"some": "text"}
        assert {key: value.shape for key, value in shapes.items()} == {
            k: v.shape for k, v in load(path.read_bytes()).items()
        }


# Other files on the disk, and changes during use


def test_auto_and_the_list_of_decoders_work_with_a_folder_of_hostile_files(tmp_path, capsys):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    (tmp_path / "device.safetensors").symlink_to("/dev/zero")
    (tmp_path / "nowhere.pth").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.safetensors")
    os.mkfifo(tmp_path / "pipe.pt")
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.safetensors", "wb") as file:  # noqa: PTH123 - the name is no text
        file.write(ours(name="odd"))
    (tmp_path / "good.safetensors").write_bytes(ours())
    catalogue = Catalogue([tmp_path])
    assert {candidate.name for candidate in catalogue.of(SPACES["sd1"])} >= {"good", "odd", "sd1-conv-small"}
    assert catalogue.candidates(SPACES["sd1"])[0].name == "sd1-conv-2x"
    assert main(["decoders", "--folder", str(tmp_path)]) == 0
    assert main(["decoders", "--json", "--folder", str(tmp_path)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 30_000


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a device", "a loop"])
def test_a_path_that_is_no_regular_file_is_refused_without_waiting(read, tmp_path, kind):
    path = tmp_path / "a.safetensors"
    {
        "a pipe": lambda: os.mkfifo(path),
        "a folder": path.mkdir,
        "a device": lambda: path.symlink_to("/dev/zero"),
        "a loop": lambda: path.symlink_to(path),
    }[kind]()
    with pytest.raises(DecoderFileError, match=r"expected a file, got a link, a folder or a device|cannot be read"):
        read(path)


def test_a_link_to_a_decoder_is_a_decoder(read, tmp_path):
    (tmp_path / "far.bin").write_bytes(ours())
    (tmp_path / "near.safetensors").symlink_to(tmp_path / "far.bin")
    assert read(tmp_path / "near.safetensors").name == "good"


CHANGE_FILES_IN_USE = """
    import os, sys, torch
    from pathlib import Path
    from safelight.decoders.files.decoder_file import read_decoder
    from safelight.preview.sinks.latent_files import read_latents

    folder = Path(sys.argv[1])
    for change in ("cut", "overwritten"):
        decoder, latents = folder / f"decoder {change}.safetensors", folder / f"latents {change}.safetensors"
        tensors = [read_decoder(decoder).net.weight, read_latents(latents, run="r", index=1, space="sd1").denoised]
        before = [tensor.clone() for tensor in tensors]
        for path in (decoder, latents):
            os.truncate(path, 100) if change == "cut" else path.write_bytes(bytes(path.stat().st_size))
        assert all(map(torch.equal, tensors, before)), "the numbers changed"
    print("unchanged")
"""


def test_a_file_that_changes_during_use_changes_no_tensor_and_crashes_no_process(tmp_path):
    card = Card(name="a", space=None, kind="polynomial", settings={"channels": 512, "kernel": 11}, source="a test")
    facts = {"format": "safelight.latents/1", "run": "r", "space": "sd1", "step": "1"}
    for change in ("cut", "overwritten"):
        weights = {"weight": torch.ones(3, 512, 11, 11), "bias": torch.zeros(3)}
        write_decoder(tmp_path / f"decoder {change}.safetensors", card, weights)
        save_file({"denoised": torch.ones(1, 4, 256, 256)}, tmp_path / f"latents {change}.safetensors", facts)
    command = [sys.executable, "-c", textwrap.dedent(CHANGE_FILES_IN_USE), str(tmp_path)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stdout.strip()) == (0, "unchanged"), ran.stderr


def test_a_decoder_file_that_was_replaced_is_read_again(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(ours())
    catalogue = Catalogue([tmp_path])
    [before] = [c for c in catalogue.of(SPACES["sd1"]) if c.name == "good"]
    (tmp_path / "b").write_bytes(ours(name="better"))
    (tmp_path / "b").replace(path)
    assert before.open().name == "better"
    assert "better" in {c.name for c in catalogue.of(SPACES["sd1"])}
    path.unlink()
    with pytest.raises(DecoderFileError, match="cannot be read"):
        before.open()


@pytest.mark.parametrize("strides", [(1000, 1, 1), (16, 16, 16), (10**6, 10**6, 10**6)])
def test_a_video_decoder_with_a_million_frames_per_latent_frame_is_refused(read, tmp_path, strides):
    settings = json.dumps({"layers": taehv(4, (1, 1, 1, 1), strides)})
    (tmp_path / "a.safetensors").write_bytes(ours({"a": torch.zeros(1)}, kind="tiny_video", settings=settings))
    with pytest.raises(DecoderFileError, match=r"expected at most 128 frames per latent frame|numbers of 1 to 65,536"):
        read(tmp_path / "a.safetensors")


def test_a_decoder_that_upscales_more_than_the_vae_is_not_used(tmp_path):
    settings = {"channels": 4, "subpixel": 64}
    card = Card(name="huge", space="sd1", kind="polynomial", settings=settings, source="a test")
    write_decoder(
        tmp_path / "huge.safetensors", card, {"weight": torch.zeros(12288, 4, 1, 1), "bias": torch.zeros(12288)}
    )
    catalogue = Catalogue([tmp_path])
    assert "huge" not in {candidate.name for candidate in catalogue.of(SPACES["sd1"])}
    assert "it upscales 64 times, but the VAE of sd1 8 times" in [
        c.why for c in catalogue.choices() if c.card.name == "huge"
    ]


# Other files with tensors


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".safetensors")])
def test_hostile_latents_and_fitting_files_are_refused_with_a_message(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    for load_file in (Pairs.load, FitStatistics.load):
        with pytest.raises(FitError, match=r"expected|not the statistics"):
            load_file(path)
    with pytest.raises(LatentsError):
        read_latents(path, run="r", index=1, space="sd1")


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_latents_pairs_and_statistics_that_are_no_regular_file_are_refused_without_waiting(tmp_path, kind):
    path = tmp_path / "a.safetensors"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    for load_file in (Pairs.load, FitStatistics.load):
        with pytest.raises(FitError, match="expected a file, got a link, a folder or a device"):
            load_file(path)
    with pytest.raises(LatentsError, match="expected a file"):
        read_latents(path, run="r", index=1, space="sd1")
