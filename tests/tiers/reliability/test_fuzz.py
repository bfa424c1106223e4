"""Inputs that nobody thought of: loaders and readers refuse them by their own errors, or read them as they are.

SAFELIGHT_FUZZ=20000 pytest tests/reliability/test_fuzz.py
"""

import io
import json
import math
import pickletools
import struct
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safelight.decoders.files.tensor_file import DTYPE_BYTES, open_tensors
from safelight.decoders.files.torch_pickle import UnsupportedPickleError, read_torch_pickle
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import DecoderFileError, FitError, GoneError, LatentsError, ManifestError, SinkError
from safelight.fitting.pairs import Pairs
from safelight.fitting.statistics import FitStatistics
from safelight.preview.file_names import name_problem
from safelight.preview.html.document import document
from safelight.preview.output_folder import existing_folder, prefix_folder
from safelight.preview.run_library import RunLibrary
from safelight.preview.saved_run import SavedRun
from safelight.preview.sinks.latent_files import read_latents
from safetensors import SafetensorError
from safetensors.torch import load, save

TRIED, TAKEN = Counter(), Counter()


@pytest.fixture(scope="module", autouse=True)
def figures():
    """How many inputs each test tried."""
    yield
    print(*(f"\n{count:,} inputs: {what} ({TAKEN[what]:,} were taken)" for what, count in TRIED.items()))
    assert all(TAKEN[what] for what in TRIED if what != "folders of decoders"), "inputs that are all refused try little"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


WEIGHTS = {"weight": torch.ones(3, 4, 1, 1), "bias": torch.zeros(3)}
CARD = {"format": "safelight.decoder/1", "name": "good", "kind": "polynomial", "source": "a test", "space": "sd1"}
CARD |= {"settings": json.dumps({"channels": 4}), "metrics": "{}"}
ROW = {"name": "mine", "title": "Mine", "channels": 4, "source": "a test", "comfyui": ["Mine"]}
BASES = [
    save(WEIGHTS, CARD),
    save(WEIGHTS, CARD | {"space": "mine", "latent_space": json.dumps(ROW)}),
    save({"in_proj.weight": torch.ones(3, 4), "out_proj.weight": torch.ones(3, 3), "out_proj.bias": torch.ones(3)}),
    save(
        {"denoised": torch.ones(1, 4, 2, 2)}, {"format": "safelight.latents/1", "run": "r", "space": "sd1", "step": "1"}
    ),
    save({"latents": torch.ones(2, 4, 2, 2), "pixels": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)}),
]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**30, -(2**63), 1e308, 1e-320, float("inf"), float("nan"), 0.5]),
    st.text(max_size=6),
    st.sampled_from(
        ["F32", "BF16", "I64", "conv", "mlp", "tiny", "tiny_video", "approx", "polynomial", "principal", "\ud800"]
    ),
    st.sampled_from(
        ["../x.png", "con.png", "a.png", "step_0001.png", "running", "finished", "safelight.run/1", "sd1", "<script>"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def spoiled(draw, value):
    """JSON like `value`, with something else in some places."""

    def at(value, depth=0):
        chance = draw(st.integers(0, 11))
        if chance == 0:
            return draw(VALUES)
        if chance == 1 and isinstance(value, list):
            return value * draw(st.integers(0, 3))
        if isinstance(value, dict) and depth < 5:
            return {key: at(one, depth + 1) for key, one in value.items() if draw(st.integers(0, 30))}
        if isinstance(value, list) and depth < 5:
            return [at(one, depth + 1) for one in value]
        return value

    return at(value)


@st.composite
def tampered(draw, content):
    """Bytes like `content`: some changed, put in, or cut out."""
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.integers(0, 3))
        if how == 0:
            content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == 1:
            content[at:at] = draw(st.binary(max_size=9))
        elif how == 2:
            del content[at : at + draw(st.integers(1, 30))]
        else:
            del content[at:]
    return bytes(content)


def texts(card):
    """A card's structures are JSON within JSON: a spoiled one is put back as a text most of the time."""
    if not isinstance(card, dict):
        return card
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()}


@st.composite
def safetensors(draw):
    base = draw(st.sampled_from(BASES))
    how = draw(st.integers(0, 3))
    if how == 0:
        return draw(tampered(base))
    length = int.from_bytes(base[:8], "little")
    header, numbers = json.loads(base[8 : 8 + length]), base[8 + length :]
    card = header.get("__metadata__", {})
    if how == 1:
        loose = {key: json.loads(text) if text.startswith("{") else text for key, text in card.items()}
        header["__metadata__"] = texts(draw(spoiled(loose))) if draw(st.integers(0, 9)) else draw(VALUES)
    else:
        header = draw(spoiled(header))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (numbers if how < 3 else draw(tampered(numbers)))


def expect_brief(refused, path):
    """What is told of a file is for people, whatever is in it."""
    assert len(str(refused)) < len(str(path)) + 1000


def file_of(place, name, content):
    path = place / name
    path.write_bytes(content)
    return path


@given(content=safetensors())
def test_a_safetensors_file_is_a_decoder_or_refused(place, content):
    TRIED["safetensors as decoders, latents, pairs, sums"] += 1
    path = file_of(place, "a.safetensors", content)
    for read, error in (
        (read_card, DecoderFileError),
        (read_decoder, DecoderFileError),
        (Pairs.load, FitError),
        (FitStatistics.load, FitError),
        (lambda path: read_latents(path, run="r", index=1, space="sd1"), LatentsError),
    ):
        try:
            found = read(path)
        except error as refused:
            expect_brief(refused, path)
            continue
        TAKEN["safetensors as decoders, latents, pairs, sums"] += 1
        if read is read_decoder:
            assert all(value.isfinite().all() for value in found.net.state_dict().values())
            assert found.card == read_card(path)


@given(content=safetensors())
def test_what_only_a_header_tells_is_what_the_library_finds(place, content):
    TRIED["headers beside the library's own reading"] += 1
    path = file_of(place, "b.safetensors", content)
    try:
        mine = {key: tuple(value.shape) for key, value in open_tensors(path, values=False)[1].items()}
    except DecoderFileError:
        mine = None
    try:
        theirs = {key: tuple(value.shape) for key, value in load(content).items()}
    except (SafetensorError, KeyError, ValueError, RuntimeError):
        theirs = None
    TAKEN["headers beside the library's own reading"] += mine is not None
    if theirs is not None and mine is not None:
        assert mine == theirs
    if theirs is not None and mine is None:  # stricter, never looser where it counts
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        kinds = {facts["dtype"] for key, facts in header.items() if key != "__metadata__"}
        metadata = header.get("__metadata__")
        assert not kinds <= DTYPE_BYTES.keys() or not (metadata is None or isinstance(metadata, dict))


def torch_files(pickled):
    """A zip file like torch's with this in the place of its pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", bytes(48))
        archive.writestr("a/data/1", bytes(12))
    return file.getvalue()


def whole(old=False):
    file = io.BytesIO()
    torch.save(WEIGHTS | {"half": torch.ones(2).half()}, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


with zipfile.ZipFile(io.BytesIO(whole())) as archive:
    PICKLE = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
PLACES = [place for *_, place in pickletools.genops(PICKLE)]
WORDS = [PICKLE[at:to] for at, to in pairwise([*PLACES, len(PICKLE)])]
OPCODES = st.sampled_from([operation.code.encode("latin-1") for operation in pickletools.opcodes])


@st.composite
def pickles(draw):
    """The operations of a state dict in another order, with some of others' among them."""
    words = list(WORDS)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(words)))
        how = draw(st.integers(0, 4))
        if how == 0:
            words.insert(at, draw(OPCODES) + draw(st.binary(max_size=6)))
        elif how == 1:
            words.insert(at, draw(st.sampled_from(WORDS)))
        elif how == 2:
            del words[at : at + draw(st.integers(1, 8))]
        elif how == 3:
            words[at : at + 1] = [draw(OPCODES)]
        else:
            words[at:at] = words[: draw(st.integers(0, len(words)))]
    return b"".join(words)


@given(
    content=pickles().map(torch_files)
    | tampered(whole())
    | tampered(whole(old=True))
    | tampered(PICKLE).map(torch_files)
)
def test_a_pickled_file_is_a_state_dict_or_refused(place, content):
    TRIED["pickled files"] += 1
    try:
        found = read_torch_pickle(content)
    except (UnsupportedPickleError, ValueError):
        pass
    else:
        TAKEN["pickled files"] += 1
        for value in found.values() if isinstance(found, dict) else [found]:
            if isinstance(value, torch.Tensor) and value.numel() < 10_000:
                value.clone()
    path = file_of(place, "a.pt", content)
    for read in (read_card, read_decoder):
        try:
            read(path)
        except DecoderFileError as refused:
            expect_brief(refused, path)


@given(contents=st.lists(safetensors() | pickles().map(torch_files), min_size=1, max_size=3))
def test_a_folder_of_anything_has_a_decoder_for_every_space(tmp_path_factory, contents):
    TRIED["folders of decoders"] += 1
    folder = tmp_path_factory.mktemp("decoders")
    for i, content in enumerate(contents):
        (folder / f"{i}{'.pt' if content.startswith(b'PK') else '.safetensors'}").write_bytes(content)
    catalogue = Catalogue([folder])
    assert catalogue.candidates(SPACES["sd1"])[0].name == "sd1-conv-small"
    assert "sd1" in catalogue.spaces()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


# Records of runs.

MANIFEST = {
    "format": "safelight.run/1",
    "id": "5f0c1e0a-9c1b-4d3e-8a56-0d4a6a1f0e55",
    "state": "finished",
    "started": "2026-01-01T00:00:00.000+00:00",
    "seconds": 1.5,
    "host": {"name": "headless", "node": None},
    "space": "sd1",
    "decoder": {"name": "sd1-conv-small", "kind": "conv", "scale": 2, "source": "x"},
    "sampler": {"steps": 2, "sigmas": [1.0, 0.5, 0.0], "seed": 7, "cfg": 1.0, "name": "euler", "scheduler": "normal"},
    "picture": {"width": 8, "height": 8, "shown_width": 64, "shown_height": 64, "items": 1, "frames": 1, "fps": None},
    "steps": [
        {
            "index": i,
            "sigma": 0.5,
            "at": 0.1,
            "show": "denoised",
            "files": [f"step_000{i}.png"],
            "latent": None,
            "decode_ms": 1.0,
        }
        for i in (1, 2)
    ],
    "sheet": "sheet.png",
    "animation": None,
    "page": "index.html",
    "notes": ["one"],
}


@given(told=spoiled(MANIFEST), tampering=st.none() | st.integers())
def test_the_record_of_a_run_is_one_or_refused(place, told, tampering):
    TRIED["records of runs"] += 1
    text = json.dumps(told).encode()
    if tampering is not None and text:
        text = text[: tampering % len(text)]
    folder = place / "run"
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_bytes(text)
    try:
        saved = SavedRun.open(folder)
        saved.summary().encode("utf-8", "surrogatepass")
        for step in saved.steps:
            assert all(Path(name).name == name and name_problem(name) is None for name in step.files)
        TAKEN["records of runs"] += 1
        saved.pictures(3)
    except (ManifestError, GoneError) as refused:
        expect_brief(refused, folder)
    for kept in RunLibrary(folder).runs().values():
        for facts in (kept.summary(), kept.manifest):
            json.dumps(facts, allow_nan=False)
        html = document(kept.manifest, "script()", connect_src="'self'").html
        assert html.count("</script>") == 2
        assert html.count("<script") == 2
        assert all(Path(name).name == name for name in kept.files)


# Places.


@given(
    prefix=st.text(max_size=40)
    | st.lists(st.sampled_from(["..", ".", "/", "\\", "a", "con", " ", "\0", "~", "%"])).map("".join)
)
def test_a_prefix_leads_into_the_folder_or_nowhere(place, prefix):
    TRIED["prefixes"] += 1
    outputs = place / "outputs"
    outputs.mkdir(exist_ok=True)
    try:
        found = prefix_folder(outputs, prefix)
    except SinkError:
        pass
    else:
        TAKEN["prefixes"] += 1
        assert outputs in found.parents
        assert math.isfinite(len(bytes(found)))
    try:
        assert existing_folder(outputs, prefix).is_relative_to(outputs)
    except GoneError as refused:
        expect_brief(refused, outputs)
