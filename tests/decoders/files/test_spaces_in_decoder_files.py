"""Tests rows of latent spaces in decoder files: which are read back, and which are refused."""

import json
from dataclasses import replace

import pytest
import torch
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import DECODER_FORMAT, read_card, read_decoder, write_decoder
from safelight.decoders.latents.identify import Evidence, identify
from safelight.decoders.latents.space import MAX_SPACE_CHANNELS, MAX_STRIDE, LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import DecoderFileError
from safetensors.torch import save_file

STATE = {"weight": torch.zeros(3, 4, 1, 1), "bias": torch.zeros(3)}
ROW = LatentSpace(
    name="mine",
    title="Mine – größer",
    channels=4,
    downscale=16,
    scale=0.7,
    shift=-0.25,
    mean=(0.1, 0.2, 0.3, 1 / 3),
    std=(1.0, 2.0, 3.0, 4.0),
    hosts={"comfyui": ("MyFormat",)},
    files=("mydecoder",),
    source="a test",
)


def write(path, row, **metadata):
    """Writes a file as another program might do; `row` is data for JSON, or JSON text."""
    fields = {
        "format": DECODER_FORMAT,
        "name": "made-up",
        "kind": "polynomial",
        "source": "a test",
        "space": "mine",
        "settings": '{"channels": 4}',
        "metrics": "{}",
        "latent_space": row if isinstance(row, str) else json.dumps(row),
    } | metadata
    save_file(STATE, path, metadata=fields)
    return path


@pytest.mark.parametrize("row", [ROW, *SPACES], ids=lambda row: row.name)
def test_a_space_row_survives_writing_and_reading(tmp_path, row):
    path = tmp_path / "a.safetensors"
    settings = {"channels": row.channels}
    state = {"weight": torch.zeros(3, row.channels, 1, 1), "bias": torch.zeros(3)}
    card = Card(name="a", space=row.name, kind="polynomial", settings=settings, latent_space=row, source="a test")
    write_decoder(path, card, state)
    assert read_card(path).latent_space == row
    assert read_decoder(path).card.latent_space == row
    assert hash(read_card(path).latent_space) == hash(row)


def test_a_file_without_a_space_row_has_none(tmp_path):
    write_decoder(
        tmp_path / "a.safetensors",
        replace(read_card(write(tmp_path / "b.safetensors", ROW.facts())), latent_space=None),
        STATE,
    )
    assert read_card(tmp_path / "a.safetensors").latent_space is None


def test_the_facts_of_a_row_have_no_default_values():
    assert LatentSpace(name="x", title="X", channels=4, source="here").facts() == {
        "name": "x",
        "title": "X",
        "channels": 4,
        "source": "here",
    }


HOSTILE = {
    "channels": [10**9, MAX_SPACE_CHANNELS + 1, 0, -1, 4.0, "4", True, None, [4], {}],
    "packed": [10**9, -16, 1.5, "16", [16]],
    "downscale": [10**9, MAX_STRIDE + 1, 0, 8.0, "8", None],
    "frame_stride": [10**9, 0, "4"],
    "dims": [0, 4, 2.0, "2", None, True],
    "name": ["../x", "", "Mine", "a b", "x" * 65, "x\n", 7, None, ["mine"]],
    "title": ["\x1b[2J", "a\nb", 7, None, ["Mine"]],
    "source": ["", 7, None, {}],
    "layout": ["heap", "", 7, None, ["plain"], {}],
    "scale": [0, float("nan"), float("inf"), 10**400, "1", None, [1.0]],
    "shift": [float("nan"), -float("inf"), 10**400, "0", None],
    "mean": [[1.0] * 3, [1.0, 2.0, 3.0, "4"], [float("nan")] * 4, [10**400] * 4, [[1.0]] * 4, 7, "1234", {}],
    "std": [[1.0] * 5, [0.0] * 4, [-1.0] * 4, [float("inf")] * 4, 7],
    "comfyui": ["MyFormat", 7, None, [7], [""], [["MyFormat"]], {"a": 1}],
    "invokeai": ["flux", [None]],
    "diffusers": [{}, [{}]],
    "files": ["tae", [""], [7], 7],
    "color": ["red"],
    "hosts": [{}, {"comfyui": ["MyFormat"]}, ["MyFormat"], 7, None],
    "__class__": ["x"],
    "self": [1],
}
CASES = [(field, value) for field, values in HOSTILE.items() for value in values]


@pytest.mark.parametrize(("field", "value"), CASES, ids=lambda part: repr(part)[:30])
def test_a_hostile_space_row_is_refused_with_the_file_name_and_changes_nothing_else(tmp_path, field, value):
    facts = ROW.facts() | {field: value}
    changed = {"space": str(value)} if field == "name" else {}
    path = write(tmp_path / "a.safetensors", facts, **changed)
    for read in (read_card, read_decoder):
        with pytest.raises(DecoderFileError, match=r"a\.safetensors: the card in its metadata cannot be read"):
            read(path)
    catalogue = Catalogue([tmp_path])
    assert {space.name for space in catalogue.spaces()} == {space.name for space in SPACES}
    assert "made-up" not in [card.name for card in catalogue.all()]
    assert len(catalogue.choices()) == len(catalogue.all())


@pytest.mark.parametrize("text", ["", "{", "null", "7", "[]", '"row"', "[[1]]", "[" * 100_000, "{}"])
def test_an_invalid_row_is_refused(tmp_path, text):
    with pytest.raises(DecoderFileError, match="the card in its metadata cannot be read"):
        read_card(write(tmp_path / "a.safetensors", text))


@pytest.mark.parametrize("missing", ["name", "title", "channels", "source"])
def test_a_row_with_a_missing_key_is_refused(tmp_path, missing):
    facts = {key: value for key, value in ROW.facts().items() if key != missing}
    with pytest.raises(DecoderFileError, match=missing):
        read_card(write(tmp_path / "a.safetensors", facts))


def test_a_row_with_another_name_than_the_decoder_s_space_is_refused(tmp_path):
    with pytest.raises(DecoderFileError, match="its space is sd1, but it contains the row of mine"):
        read_card(write(tmp_path / "a.safetensors", ROW.facts(), space="sd1"))


@pytest.mark.parametrize("read", [read_card, read_decoder])
def test_a_row_with_other_channels_than_the_decoder_is_refused(tmp_path, read):
    facts = replace(ROW, channels=16, mean=None, std=None).facts()
    with pytest.raises(DecoderFileError, match="decodes 4 channels, but contains the row of a space of 16"):
        read(write(tmp_path / "a.safetensors", facts))


def test_a_structure_with_too_many_levels_is_refused(tmp_path):
    deep = json.dumps({"judged_on": json.loads("[" * 500 + "]" * 500)})
    with pytest.raises(DecoderFileError, match="at most 8 levels"):
        read_card(write(tmp_path / "a.safetensors", ROW.facts(), metrics=deep))


def test_a_file_with_a_space_row_decodes_an_unknown_format(tmp_path):
    write(tmp_path / "a.safetensors", ROW.facts())
    catalogue = Catalogue([tmp_path])
    evidence = Evidence(host="comfyui", format_name="MyFormat", channels=4, scale=0.7, shift=-0.25)
    space = identify(evidence, catalogue.spaces())
    assert space == ROW
    assert catalogue.candidates(space)[0].open().decode(torch.zeros(1, 4, 2, 2)).shape == (1, 3, 2, 2)
