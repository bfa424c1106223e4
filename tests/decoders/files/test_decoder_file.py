"""Tests which decoder files are read, and which are refused with which message."""

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import DECODER_FORMAT, read_card, read_decoder, write_decoder
from safelight.decoders.nets.registry import KINDS
from safelight.errors import DecoderFileError, MisshapenFileError, PickledFileError
from safetensors.torch import save_file

SETTINGS = {"channels": 4, "degree": 2}


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(3, 14, 1, 1, generator=generator), "bias": torch.randn(3, generator=generator)}


def card(**fields):
    return Card(**{"name": "test-quadratic", "space": "sd1", "kind": "polynomial", "settings": SETTINGS} | fields)


def write(path, *, tensors=None, leave_out=(), **metadata):
    """Writes a file in our format, as another program might do."""
    fields = {
        "format": DECODER_FORMAT,
        "name": "made-up",
        "kind": "polynomial",
        "source": "a test",
        "settings": json.dumps(SETTINGS),
        "metrics": "{}",
    } | metadata
    fields = {key: value for key, value in fields.items() if key not in leave_out}
    save_file(weights() if tensors is None else tensors, path, metadata=fields)
    return path


def mlp_weights():
    shapes = {"in_proj": (12, 4), "hidden_layers.0": (12, 12), "out_proj": (3, 12)}
    return {f"{layer}.weight": torch.zeros(shape) for layer, shape in shapes.items()} | {
        f"{layer}.bias": torch.zeros(shape[0]) for layer, shape in shapes.items()
    }


@pytest.fixture(params=[read_card, read_decoder], ids=lambda read: read.__name__)
def read(request):
    return request.param


# Valid files


def test_a_written_decoder_is_read_back(tmp_path):
    written = card(
        source="a formula, https://example.org",
        fitted_on="drawings",
        metrics={"psnr_latent_db": 20.25, "judged_on": "drawings"},
        licence="MIT",
        notes="Grün wirkt gelblich.",
    )
    write_decoder(tmp_path / "a.safetensors", written, weights())

    found = read_card(tmp_path / "a.safetensors")
    for field in ("name", "space", "kind", "settings", "source", "fitted_on", "metrics", "licence", "notes"):
        assert getattr(found, field) == getattr(written, field), field
    assert (found.parameters, found.scale) == (45, 1)

    decoder = read_decoder(tmp_path / "a.safetensors")
    assert decoder.card == found
    assert all(torch.equal(value, weights()[key]) for key, value in decoder.net.state_dict().items())


def test_unknown_facts_of_a_decoder_stay_unknown(tmp_path):
    write_decoder(tmp_path / "a.safetensors", card(space=None), weights())
    found = read_card(tmp_path / "a.safetensors")
    assert (found.space, found.fitted_on, found.licence, found.notes, found.metrics) == (None, None, None, None, {})


def test_writing_creates_one_file_and_replaces_an_older_one(tmp_path):
    for name in ("first", "second"):
        write_decoder(tmp_path / "a.safetensors", card(name=name), weights())
        assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
        assert read_card(tmp_path / "a.safetensors").name == name


def test_a_card_is_read_without_tensor_values_and_has_the_scale(tmp_path):
    settings = {"channels": 4, "subpixel": 8, "constant": False}
    write_decoder(tmp_path / "a.safetensors", card(settings=settings), {"weight": torch.zeros(192, 4, 1, 1)})
    found = read_card(tmp_path / "a.safetensors")
    assert (found.scale, found.parameters) == (8, 768)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn], ids=str)
def test_numbers_of_any_precision_are_read_as_float32(tmp_path, dtype):
    state = {key: value.to(dtype) for key, value in weights().items()}
    write_decoder(tmp_path / "a.safetensors", card(), state)
    found = read_decoder(tmp_path / "a.safetensors").net.state_dict()
    assert all(torch.equal(found[key], value.float()) for key, value in state.items())
    assert {value.dtype for value in found.values()} == {torch.float32}


@pytest.mark.parametrize("name", ["taesd_encoder.pth", "flux2.sft", "approx.safetensors", "Größe 8 (1).SafeTensors"])
def test_the_file_name_does_not_determine_the_kind(tmp_path, name):
    if name.endswith(".pth"):
        torch.save(mlp_weights(), tmp_path / name)
        assert read_card(tmp_path / name).kind == "mlp"
    else:
        assert read_card(write(tmp_path / name)).kind == "polynomial"


# Files of other formats


def test_a_missing_file_is_reported(read, tmp_path):
    with pytest.raises(DecoderFileError, match=r"gone\.safetensors: cannot be read: No such file"):
        read(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_folder_is_reported(read, tmp_path, suffix):
    (tmp_path / f"a{suffix}").mkdir()
    with pytest.raises(DecoderFileError, match="expected a file, got a link, a folder or a device"):
        read(tmp_path / f"a{suffix}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders on this system")
def test_a_pipe_does_not_block(read, tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(DecoderFileError, match="expected a file, got a link, a folder or a device"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.ckpt", "a.bin", "a.gguf", "a", "a.safetensors.part", ".safetensors"])
def test_an_unsupported_suffix_is_reported(read, tmp_path, name):
    write(tmp_path / name)
    with pytest.raises(DecoderFileError, match=r"expected a file ending in \.safetensors, \.sft, \.pt, \.pth"):
        read(tmp_path / name)


def broken(text, size=None):
    """Returns a safetensors file with this header and one value; `size` replaces the true length of the header."""
    return struct.pack("<Q", len(text) if size is None else size) + text.encode() + bytes(4)


ONE = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'

BROKEN = {
    "empty": b"",
    "garbage": bytes(range(256)) * 20,
    "a web page": b"<!DOCTYPE html><html><body>404: Not Found</body></html>" * 20,
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "a huge header": broken("{}", size=1 << 62),
    "a header longer than the file": broken('{"a":{}}', size=10_000),
    "a header that is no JSON": broken("not json"),
    "a header that is a list": broken("[]"),
    "a shape longer than its bytes": broken(f'{{"a":{ONE}}}'.replace("[1]", "[1000000]")),
    "bytes beyond the file": broken(f'{{"a":{ONE}}}'.replace("[1]", "[2500]").replace("[0,4]", "[0,10000]")),
    "a negative shape": broken(f'{{"a":{ONE}}}'.replace("[1]", "[-1]")),
    "overlapping tensors": broken(f'{{"a":{ONE},"b":{ONE}}}'),
    "half a zip": b"PK\x03\x04" + bytes(200),
    "half a pickle": b"\x80\x02}q\x00",
}


def test_the_valid_version_of_the_broken_header_is_read(read, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(broken(f'{{"a":{ONE}}}'))
    with pytest.raises(DecoderFileError, match="found tensors 'a'"):
        read(tmp_path / "a.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", list(BROKEN))
def test_a_broken_file_is_reported(read, tmp_path, content, suffix):
    (tmp_path / f"a{suffix}").write_bytes(BROKEN[content])
    whole = "safetensors" if suffix == ".safetensors" else "PyTorch"
    with pytest.raises(DecoderFileError, match=rf"a\{suffix}: not a whole {whole} file") as caught:
        read(tmp_path / f"a{suffix}")
    assert not isinstance(caught.value, PickledFileError)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_truncated_file_is_reported(read, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write(path) if suffix == ".safetensors" else torch.save(mlp_weights(), path)
    content = path.read_bytes()
    for size in (1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DecoderFileError, match="not a whole"):
            read(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_file_that_is_too_large_is_not_read(read, tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate((1 << 30) + 1)  # a sparse file, which needs no disk space
    with pytest.raises(DecoderFileError, match="1,073,741,825 bytes; a decoder for previews has at most 1,073,741,824"):
        read(tmp_path / name)


# Pickles


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_the_bomb_of_these_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["a torch file", "an old torch file", "a bare pickle", "beside real tensors"])
def test_a_file_with_code_is_refused_and_the_code_never_runs(read, tmp_path, how):
    path, bomb = tmp_path / "a.pt", Bomb(tmp_path / "ran")
    if how == "a bare pickle":
        path.write_bytes(pickle.dumps({"in_proj.weight": bomb}, protocol=2))
    elif how == "beside real tensors":
        torch.save(mlp_weights() | {"extra": bomb}, path)
    else:
        torch.save({"a": bomb}, path, _use_new_zipfile_serialization=how == "a torch file")
    with pytest.raises(
        PickledFileError, match=r"would run code; ask for a safetensors file, or save only its state dict"
    ):
        read(path)
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_module_is_refused(read, tmp_path):
    with torch.random.fork_rng():
        torch.save(torch.nn.Linear(4, 3), tmp_path / "a.pth")
    with pytest.raises(PickledFileError, match="Python objects besides tensors"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(3)], "expected a state dict of tensors, got a list"),
        (torch.zeros(3), "expected a state dict of tensors, got a Tensor"),
        (
            {"state_dict": {"weight": torch.zeros(3)}, "epoch": 3},
            "got 'state_dict': dict in it; save only the decoder's",
        ),
        ({3: torch.zeros(3)}, "got 3: Tensor in it"),
        ({"weight": torch.zeros(3).to_sparse()}, "objects besides tensors .torch._utils _rebuild_sparse_tensor"),
        ({"weight": torch.zeros(3, device="meta")}, "besides tensors .torch._utils _rebuild_meta_tensor_no_storage"),
    ],
    ids=["list", "tensor", "nested", "number as key", "sparse", "without numbers"],
)
def test_a_pickle_that_is_not_a_state_dict_is_reported(read, tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(DecoderFileError, match=message):
        read(tmp_path / "a.pt")


def test_a_tensor_that_is_far_larger_than_its_file_is_refused(read, tmp_path):
    torch.save(mlp_weights() | {"in_proj.weight": torch.zeros(1, 1).expand(12, 10**12)}, tmp_path / "a.pt")
    with pytest.raises(MisshapenFileError, match=r"tensors of 48,000,000,000,.* bytes; a decoder .* at most"):
        read(tmp_path / "a.pt")


# Wrong tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, r"tensor 'bias' should have shape \(3,\), has none: it is missing \(and 0 more"),
        ({"more": torch.zeros(2)}, r"tensor 'more' should have shape none: it is not needed, has \(2,\)"),
        ({"weight": torch.zeros(14, 3, 1, 1)}, r"'weight' should have shape \(3, 14, 1, 1\), has \(14, 3, 1, 1\)"),
        (
            {"weight": torch.zeros(3, 14)},
            r"'weight' should have shape \(3, 14, 1, 1\), has \(3, 14\).*download the file again",
        ),
        ({"weight": None, "bias": None}, r"and 1 more like it"),
    ],
    ids=["missing", "extra", "transposed", "flat", "all missing"],
)
def test_tensors_of_the_wrong_shape_are_refused(read, tmp_path, change, message):
    tensors = {key: value for key, value in (weights() | change).items() if value is not None}
    with pytest.raises(MisshapenFileError, match=message):
        read(write(tmp_path / "a.safetensors", tensors=tensors))


@pytest.mark.parametrize(
    "change",
    [
        {"in_proj.bias": None},
        {"hidden_layers.0.weight": torch.tensor(1.0)},
        {"hidden_layers.0.weight": None},
        {"out_proj.weight": torch.zeros(3, 13)},
    ],
    ids=["no bias", "a number for a layer", "half a layer", "the wrong width"],
)
def test_a_published_file_with_wrong_shapes_is_refused(read, tmp_path, change):
    tensors = {key: value for key, value in (mlp_weights() | change).items() if value is not None}
    save_file(tensors, tmp_path / "a.safetensors")
    if change == {"hidden_layers.0.weight": None}:  # then the layer does not exist, and its bias is ignored
        assert read(tmp_path / "a.safetensors") is not None
        return
    with pytest.raises(MisshapenFileError, match=r"tensor 'layers\.\d\.\w+' should have shape"):
        read(tmp_path / "a.safetensors")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_weights_that_are_not_finite_are_refused(tmp_path, bad, dtype):
    tensors = {key: value.to(dtype) for key, value in weights().items()}
    tensors["bias"][1] = bad
    with pytest.raises(
        MisshapenFileError, match="tensor 'bias' contains values that are not finite; download the file again"
    ):
        read_decoder(write(tmp_path / "a.safetensors", tensors=tensors))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64], ids=str)
def test_weights_of_another_type_are_refused(tmp_path, dtype):
    tensors = {key: value.to(dtype) for key, value in weights().items()}
    with pytest.raises(MisshapenFileError, match=f"should contain floating point numbers, but contains {dtype}"):
        read_decoder(write(tmp_path / "a.safetensors", tensors=tensors))


def test_the_message_for_an_unknown_file_lists_its_tensors(read, tmp_path):
    save_file({f"lora.{i}": torch.zeros(1) for i in range(9)}, tmp_path / "a.safetensors")
    with pytest.raises(
        DecoderFileError, match=r"Expected its own format, or TAESD, .*Birch-san MLP; found tensors 'lora\.0', .*choose"
    ):
        read(tmp_path / "a.safetensors")


def test_a_file_without_tensors_is_reported(read, tmp_path):
    save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(DecoderFileError, match="found tensors none;"):
        read(tmp_path / "a.safetensors")


# Invalid cards


@pytest.mark.parametrize("missing", ["name", "kind", "source", "settings", "metrics"])
def test_a_card_with_a_missing_key_is_reported(read, tmp_path, missing):
    with pytest.raises(DecoderFileError, match=f"the card in its metadata cannot be read: KeyError.'{missing}'"):
        read(write(tmp_path / "a.safetensors", leave_out=[missing]))


@pytest.mark.parametrize("text", ["", "channels=4", "{", "[1]", "null", "7", '"four"', "[" * 100_000])
@pytest.mark.parametrize("field", ["settings", "metrics"])
def test_an_invalid_structure_is_reported(read, tmp_path, field, text):
    with pytest.raises(DecoderFileError, match="the card in its metadata cannot be read"):
        read(write(tmp_path / "a.safetensors", **{field: text}))


@pytest.mark.parametrize("field", ["settings", "metrics", "latent_space"])
def test_a_structure_that_is_far_larger_in_memory_is_not_parsed(read, tmp_path, field, monkeypatch):
    text = json.dumps({"x": [[]] * 50_000}, separators=(",", ":"))
    path = write(tmp_path / "a.safetensors", **{"space": "sd1", field: text})
    parse = json.loads
    monkeypatch.setattr(
        "safelight.decoders.files.decoder_file.json.loads",
        lambda given: pytest.fail("it was parsed") if given == text else parse(given),
    )
    with pytest.raises(DecoderFileError, match=r"at most 100,000 characters, got 150,007"):
        read(path)


def test_a_newer_format_is_reported_with_the_advice_to_update(read, tmp_path):
    with pytest.raises(
        DecoderFileError, match=r"expected format safelight\.decoder/1, got 'safelight\.decoder/2'.*newer.*: update"
    ):
        read(write(tmp_path / "a.safetensors", format="safelight.decoder/2"))


@pytest.mark.parametrize("kind", ["conv9", "", "Polynomial", "__class__"])
def test_the_error_for_an_unknown_kind_lists_the_known_ones(read, tmp_path, kind):
    with pytest.raises(DecoderFileError, match=rf"a kind among polynomial, mlp, .*, got '{kind}'; a newer Safelight"):
        read(write(tmp_path / "a.safetensors", kind=kind))


ABSURD = {
    "polynomial": [
        {},
        {"channels": 0},
        {"channels": -4},
        {"channels": 10**9},
        {"channels": 10**9, "degree": 3},
        {"channels": 10**40},
        {"channels": "4"},
        {"channels": 4.0},
        {"channels": None},
        {"channels": [4]},
        {"channels": {"a": 4}},
        {"channels": True},
        {"channels": float("inf")},
        {"channels": 4, "degree": 7},
        {"channels": 4, "degree": 10**12},
        {"channels": 4, "degree": 2.5},
        {"channels": 4, "degree": "two"},
        {"channels": 4, "degree": 2, "kernel": 2},
        {"channels": 4, "degree": 2, "kernel": 10**12 + 1},
        {"channels": 4, "degree": 2, "subpixel": 1000},
        {"channels": 4, "degree": 2, "color": "blue"},
        {"channels": 4, "degree": 2, "self": 1},
        {"channels": 4, "degree": 2, "output_range": [1, 1]},
        {"channels": 4, "degree": 2, "output_range": [0]},
        {"channels": 4, "degree": 2, "output_range": [0, 1, 2]},
        {"channels": 4, "degree": 2, "output_range": "ab"},
        {"channels": 4, "degree": 2, "output_range": 255},
        {"channels": 4, "degree": 2, "output_range": None},
        {"channels": 4, "degree": 2, "output_range": [float("nan"), 1]},
        {"channels": 4, "degree": 2, "output_range": [0, float("inf")]},
    ],
    "mlp": [
        {"widths": []},
        {"widths": [4]},
        {"widths": [4, 12]},
        {"widths": "abc"},
        {"widths": 4},
        {"widths": [4, 12.5, 3]},
        {"widths": [4, -12, 3]},
        {"widths": [10**12, 10**12, 3]},
        {"widths": [[4], 3]},
    ],
    "conv": [
        {"channels": 4},
        {"channels": 0, "widths": [8]},
        {"channels": "4", "widths": [8]},
        {"channels": 4, "widths": 8},
        {"channels": 4, "widths": "ab"},
        {"channels": 4, "widths": [0]},
        {"channels": 4, "widths": [8, -8]},
        {"channels": 4, "widths": [8.5]},
        {"channels": 4, "widths": [10**12, 10**12]},
        {"channels": 4, "widths": [8], "kernel": 2},
        {"channels": 4, "widths": [8], "kernel": 10**12 + 1},
        {"channels": 4, "widths": [8], "subpixel": 0},
        {"channels": 4, "widths": [8], "subpixel": 1000},
        {"channels": 4, "widths": [8], "output_range": [-1, 1]},
    ],
    "tiny": [
        {},
        {"layers": 4},
        {"layers": []},
        {"layers": "abc"},
        {"layers": [[]]},
        {"layers": [["clamp"]]},
        {"layers": [["shrink", 4, 3]]},
        {"layers": [["memory", 4]]},
        {"layers": [[["conv"], 4, 3]]},
        {"layers": [["conv", "4", 3]]},
        {"layers": [["conv", 4]]},
        {"layers": [["conv", 4, 0]]},
        {"layers": [["conv", -4, 3]]},
        {"layers": [["conv", 10**12, 10**12]]},
        {"layers": [["conv", 4.0, 3]]},
        {"layers": [["conv", 4, 3], ["shuffle", 1000]]},
        {"layers": [["conv", 4, 3], *[["up"]] * 40]},
        {"layers": [["conv", 4, 4]] * 1000},
        {"layers": [["conv", 4, 3]], "output_range": [-1, 1]},
    ],
    "tiny_video": [
        {"layers": [["memory"]]},
        {"layers": [["memory", 10**12]]},
        {"layers": [["grow", 4, 0]]},
        {"layers": [["grow", 4, 1000]]},
        {"layers": [["grow", 4, 64], ["grow", 4, 64]]},
        {"layers": [["memory", 4]], "slope": "steep"},
        {"layers": [["memory", 4]], "chunk": -1},
        {"layers": [["memory", 4]], "chunk": "5"},
        {"layers": [["memory", 4]], "output_range": [-1, 1]},
    ],
    "approx": [{"channels": -1}, {"channels": 10**12}, {"channels": 4, "output_range": [0, 1]}],
    "principal": [{"channels": 0}, {"channels": -1}, {"channels": "4"}, {"channels": 4.5}, {"channels": True}],
    "timeline": [{"channels": 0}, {"channels": "4"}, {"channels": 2.5}],
    "pixels": [{"channels": "3"}, {"output_range": [0, 1]}],
}
absurd = [(kind, settings) for kind, rows in ABSURD.items() for settings in rows]


def test_absurd_settings_are_tried_for_every_kind():
    assert ABSURD.keys() == KINDS.keys()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("kind", "settings"), absurd, ids=[f"{kind} {settings}" for kind, settings in absurd])
def test_absurd_settings_are_refused_with_the_file_name(read, tmp_path, kind, settings):
    tensors = {} if kind in ("principal", "timeline", "pixels") else None
    path = write(tmp_path / "a.safetensors", tensors=tensors, kind=kind, settings=json.dumps(settings))
    with pytest.raises(DecoderFileError, match=r"a\.safetensors: (cannot create a decoder of kind|tensor )") as caught:
        read(path)
    assert type(caught.value) in (DecoderFileError, MisshapenFileError)
