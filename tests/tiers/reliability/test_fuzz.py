"""Random inputs: each loader reads them correctly, or refuses them with its own error class.

SAFELIGHT_FUZZ=20000 pytest tests/tiers/reliability/test_fuzz.py
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

TRIED, ACCEPTED = Counter(), Counter()


@pytest.fixture(scope="module", autouse=True)
def figures():
    """Prints the number of inputs of each test. Fails if a test refused all of them: such inputs test little."""
    yield
    print(*(f"\n{count:,} inputs: {topic} ({ACCEPTED[topic]:,} were accepted)" for topic, count in TRIED.items()))
    assert all(ACCEPTED[topic] for topic in TRIED if topic != "folders of decoders"), "all inputs were refused"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
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
def changed_json(draw, value):
    """JSON like `value`, with other values in some places."""

    def changed(value, depth=0):
        chance = draw(st.integers(0, 11))
        if chance == 0:
            return draw(VALUES)
        if chance == 1 and isinstance(value, list):
            return value * draw(st.integers(0, 3))
        if isinstance(value, dict) and depth < 5:
            return {key: changed(item, depth + 1) for key, item in value.items() if draw(st.integers(0, 30))}
        if isinstance(value, list) and depth < 5:
            return [changed(item, depth + 1) for item in value]
        return value

    return changed(value)


@st.composite
def changed_bytes(draw, content):
    """Bytes like `content`, with some replaced, inserted or removed."""
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        change = draw(st.integers(0, 3))
        if change == 0:
            content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif change == 1:
            content[at:at] = draw(st.binary(max_size=9))
        elif change == 2:
            del content[at : at + draw(st.integers(1, 30))]
        else:
            del content[at:]
    return bytes(content)


def texts(card):
    """A card with its structures as JSON texts, as a header must hold them."""
    if not isinstance(card, dict):
        return card
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()}


@st.composite
def safetensors(draw):
    base = draw(st.sampled_from(BASES))
    change = draw(st.integers(0, 3))
    if change == 0:
        return draw(changed_bytes(base))
    length = int.from_bytes(base[:8], "little")
    header, numbers = json.loads(base[8 : 8 + length]), base[8 + length :]
    card = header.get("__metadata__", {})
    if change == 1:
        parsed = {key: json.loads(text) if text.startswith("{") else text for key, text in card.items()}
        header["__metadata__"] = texts(draw(changed_json(parsed))) if draw(st.integers(0, 9)) else draw(VALUES)
    else:
        header = draw(changed_json(header))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (numbers if change < 3 else draw(changed_bytes(numbers)))


def expect_short(error, path):
    """The message is short, whatever the file contains."""
    assert len(str(error)) < len(str(path)) + 1000


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


@given(content=safetensors())
def test_a_safetensors_file_is_read_or_refused(folder, content):
    topic = "safetensors as decoders, latents, pairs, statistics"
    TRIED[topic] += 1
    path = write(folder, "a.safetensors", content)
    for read, error in (
        (read_card, DecoderFileError),
        (read_decoder, DecoderFileError),
        (Pairs.load, FitError),
        (FitStatistics.load, FitError),
        (lambda path: read_latents(path, run="r", index=1, space="sd1"), LatentsError),
    ):
        try:
            found = read(path)
        except error as refusal:
            expect_short(refusal, path)
            continue
        ACCEPTED[topic] += 1
        if read is read_decoder:
            assert all(value.isfinite().all() for value in found.net.state_dict().values())
            assert found.card == read_card(path)


@given(content=safetensors())
def test_a_header_gives_the_shapes_that_the_safetensors_library_finds(folder, content):
    topic = "headers, compared with the library's reading"
    TRIED[topic] += 1
    path = write(folder, "b.safetensors", content)
    try:
        ours = {key: tuple(value.shape) for key, value in open_tensors(path, values=False)[1].items()}
    except DecoderFileError:
        ours = None
    try:
        library = {key: tuple(value.shape) for key, value in load(content).items()}
    except (SafetensorError, KeyError, ValueError, RuntimeError):
        library = None
    ACCEPTED[topic] += ours is not None
    if library is not None and ours is not None:
        assert ours == library
    if library is not None and ours is None:  # only an unknown dtype or odd metadata may be refused beyond the library
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        kinds = {facts["dtype"] for key, facts in header.items() if key != "__metadata__"}
        metadata = header.get("__metadata__")
        assert not kinds <= DTYPE_BYTES.keys() or not (metadata is None or isinstance(metadata, dict))


def torch_files(pickled):
    """A zip file like torch's, with `pickled` as its pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", bytes(48))
        archive.writestr("a/data/1", bytes(12))
    return file.getvalue()


def torch_bytes(old=False):
    file = io.BytesIO()
    torch.save(WEIGHTS | {"half": torch.ones(2).half()}, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


with zipfile.ZipFile(io.BytesIO(torch_bytes())) as archive:
    PICKLE = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
OFFSETS = [offset for *_, offset in pickletools.genops(PICKLE)]
OPERATIONS = [PICKLE[at:to] for at, to in pairwise([*OFFSETS, len(PICKLE)])]
OPCODES = st.sampled_from([operation.code.encode("latin-1") for operation in pickletools.opcodes])


@st.composite
def pickles(draw):
    """The operations of a state dict, with some removed, repeated, or replaced by other operations."""
    operations = list(OPERATIONS)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(operations)))
        change = draw(st.integers(0, 4))
        if change == 0:
            operations.insert(at, draw(OPCODES) + draw(st.binary(max_size=6)))
        elif change == 1:
            operations.insert(at, draw(st.sampled_from(OPERATIONS)))
        elif change == 2:
            del operations[at : at + draw(st.integers(1, 8))]
        elif change == 3:
            operations[at : at + 1] = [draw(OPCODES)]
        else:
            operations[at:at] = operations[: draw(st.integers(0, len(operations)))]
    return b"".join(operations)


@given(
    content=pickles().map(torch_files)
    | changed_bytes(torch_bytes())
    | changed_bytes(torch_bytes(old=True))
    | changed_bytes(PICKLE).map(torch_files)
)
def test_a_pickled_file_is_a_state_dict_or_refused(folder, content):
    TRIED["pickled files"] += 1
    try:
        found = read_torch_pickle(content)
    except (UnsupportedPickleError, ValueError):
        pass
    else:
        ACCEPTED["pickled files"] += 1
        for value in found.values() if isinstance(found, dict) else [found]:
            if isinstance(value, torch.Tensor) and value.numel() < 10_000:
                value.clone()
    path = write(folder, "a.pt", content)
    for read in (read_card, read_decoder):
        try:
            read(path)
        except DecoderFileError as refusal:
            expect_short(refusal, path)


@given(contents=st.lists(safetensors() | pickles().map(torch_files), min_size=1, max_size=3))
def test_a_folder_of_random_files_does_not_hide_the_shipped_decoders(tmp_path_factory, contents):
    TRIED["folders of decoders"] += 1
    folder = tmp_path_factory.mktemp("decoders")
    for i, content in enumerate(contents):
        (folder / f"{i}{'.pt' if content.startswith(b'PK') else '.safetensors'}").write_bytes(content)
    catalogue = Catalogue([folder])
    assert catalogue.candidates(SPACES["sd1"])[0].name == "sd1-conv-2x"
    assert "sd1" in catalogue.spaces()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


# Records of runs

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


@given(manifest=changed_json(MANIFEST), length=st.none() | st.integers())
def test_the_record_of_a_run_is_valid_or_refused(folder, manifest, length):
    TRIED["records of runs"] += 1
    text = json.dumps(manifest).encode()
    if length is not None and text:
        text = text[: length % len(text)]
    run_folder = folder / "run"
    run_folder.mkdir(exist_ok=True)
    (run_folder / "run.json").write_bytes(text)
    try:
        saved = SavedRun.open(run_folder)
        saved.summary().encode("utf-8", "surrogatepass")
        for step in saved.steps:
            assert all(Path(name).name == name and name_problem(name) is None for name in step.files)
        ACCEPTED["records of runs"] += 1
        saved.pictures(3)
    except (ManifestError, GoneError) as refusal:
        expect_short(refusal, run_folder)
    for entry in RunLibrary(run_folder).runs().values():
        for facts in (entry.summary(), entry.manifest):
            json.dumps(facts, allow_nan=False)
        html = document(entry.manifest, "script()", connect_src="'self'").html
        assert html.count("</script>") == 3  # the texts, the run, the viewer
        assert html.count("<script") == 3
        assert all(Path(name).name == name for name in entry.files)


# Paths


@given(
    prefix=st.text(max_size=40)
    | st.lists(st.sampled_from(["..", ".", "/", "\\", "a", "con", " ", "\0", "~", "%"])).map("".join)
)
def test_a_prefix_leads_into_the_output_folder_or_is_refused(folder, prefix):
    TRIED["prefixes"] += 1
    outputs = folder / "outputs"
    outputs.mkdir(exist_ok=True)
    try:
        found = prefix_folder(outputs, prefix)
    except SinkError:
        pass
    else:
        ACCEPTED["prefixes"] += 1
        assert outputs in found.parents
        assert math.isfinite(len(bytes(found)))
    try:
        assert existing_folder(outputs, prefix).is_relative_to(outputs)
    except GoneError as refusal:
        expect_short(refusal, outputs)
