"""Tests flat decoders of any shape: derived from keys and shapes, compared with a functional forward."""

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.decoder import to_bytes
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safelight.decoders.files.flat_layers import derive_layers
from safelight.decoders.nets.base import MAX_LAYERS
from safelight.decoders.nets.checkerboard import CHECK_SIDE_PX, DARK, LIGHT, over_checkerboard
from safelight.errors import DecoderFileError, MisshapenFileError
from safetensors.torch import save_file

# One text for each position of the `Sequential`: `conv IN OUT`, `free` for one without bias, `point` for 1x1,
# `block IN OUT`, `pooled N`; `clamp`, `relu`, `up` and `shuffle SIDE` have no weights.
BLOCKS_64 = ["block 64 64"] * 3
UP_64 = ["up", "free 64 64"]
BLOCKS_96, UP_96 = ["block 96 96"] * 3, ["up", "free 96 96"]
BLOCKS_8 = ["block 8 8"]
WILD = {
    "16x with transparency by a 2x2 head": [
        *("clamp", "conv 64 256", "relu", *["block 256 256"] * 3, "up", "free 256 128"),
        *(*["block 128 128"] * 3, "up", "free 128 64", *BLOCKS_64, *UP_64, "block 64 64", "conv 64 16", "shuffle 2"),
    ],
    "16x with 64 channels": [
        *("clamp", "conv 64 64", "relu", *BLOCKS_64, *UP_64, *BLOCKS_64, *UP_64, *BLOCKS_64, *UP_64),
        *("block 64 64", *UP_64, "conv 64 3"),
    ],
    "16x with 64 channels by a 2x2 head": [
        *("clamp", "conv 64 64", "relu", *BLOCKS_64, *UP_64, *BLOCKS_64, *UP_64, *BLOCKS_64, *UP_64),
        *("block 64 64", "conv 64 12", "shuffle 2"),
    ],
    "8x with 16 channels": [
        *("clamp", "conv 16 64", "relu", *BLOCKS_64, *UP_64, *BLOCKS_64, *UP_64, *BLOCKS_64, *UP_64),
        *("block 64 64", "conv 64 3"),
    ],
    "16x with 24 channels, 96 wide": [
        *("clamp", "conv 24 96", "relu", *BLOCKS_96, *UP_96, *BLOCKS_96, *UP_96, *BLOCKS_96, *UP_96),
        *(*BLOCKS_96, *UP_96, "block 96 96", "conv 96 3"),
    ],
    "32x": ["clamp", "conv 32 8", "relu", *[*BLOCKS_8, "up", "free 8 8"] * 5, "block 8 8", "conv 8 3"],
    "2x with pooled blocks": ["clamp", "conv 4 8", "relu", "pooled 8", "pooled 8", "up", "free 8 8", "conv 8 3"],
    "without a clamp": ["conv 4 8", "relu", *BLOCKS_8, "up", "free 8 8", "conv 8 3"],
    "blocks that change the width": ["clamp", "conv 4 16", "relu", "block 16 8", "up", "block 8 6", "conv 6 3"],
    "pixels of a square between layers": ["clamp", "conv 4 16", "relu", "conv 16 32", "shuffle 2", "conv 8 3"],
    "an activation before the square": ["conv 4 8", "relu", "block 8 8", "conv 8 32", "relu", "shuffle 2", "conv 8 3"],
    "an activation before an upscaling": ["conv 4 8", "relu", "conv 8 8", "relu", "up", "free 8 8", "conv 8 3"],
    "a layer of single pixels": ["clamp", "point 4 8", "relu", *BLOCKS_8, "up", "free 8 8", "relu", "conv 8 3"],
    "an upscaling between blocks": ["clamp", "conv 4 8", "relu", *BLOCKS_8, "up", *BLOCKS_8, "conv 8 27", "shuffle 3"],
}


def weights_of(positions, seed=0):
    """Returns random weights by their published keys."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def put(key, n_in, n_out, side=3, bias=True):
        state[f"{key}.weight"] = torch.randn(n_out, n_in, side, side, generator=generator) / (n_in * side**2) ** 0.5
        if bias:
            state[f"{key}.bias"] = torch.randn(n_out, generator=generator) * 0.1

    for i, text in enumerate(positions):
        kind, *numbers = text.split()
        if kind in ("conv", "free", "point"):
            put(i, *map(int, numbers), side=1 if kind == "point" else 3, bias=kind != "free")
        elif kind in ("block", "pooled"):
            n_in, n_out = int(numbers[0]), int(numbers[-1])
            for at, n in ((0, n_in), (2, n_out), (4, n_out)):
                put(f"{i}.conv.{at}", n, n_out)
            if n_in != n_out:
                put(f"{i}.skip", n_in, n_out, 1, bias=False)
            if kind == "pooled":
                put(f"{i}.pool.0", n_in, 4 * n_in, 1, bias=False)
                state[f"{i}.pool.1.weight"] = 1 + torch.randn(4 * n_in, generator=generator) * 0.1
                state[f"{i}.pool.1.bias"] = torch.randn(4 * n_in, generator=generator) * 0.1
                put(f"{i}.pool.3", 4 * n_in, n_in, 1, bias=False)
    return state


def forward(positions, state, x):
    """Computes the picture, RGB or RGBA, from the weights."""

    def conv(x, key):
        weight = state[f"{key}.weight"].float()
        bias = state.get(f"{key}.bias")
        return F.conv2d(x, weight, None if bias is None else bias.float(), padding=weight.shape[-1] // 2)

    for i, text in enumerate(positions):
        kind, *numbers = text.split()
        if kind == "clamp":
            x = 3 * torch.tanh(x / 3)
        elif kind == "relu":
            x = F.relu(x)
        elif kind == "up":
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        elif kind == "shuffle":
            x = F.pixel_shuffle(x, int(numbers[0]))
        elif kind in ("conv", "free", "point"):
            x = conv(x, i)
        else:
            if kind == "pooled":
                weight, bias = state[f"{i}.pool.1.weight"].float(), state[f"{i}.pool.1.bias"].float()
                x = x + conv(F.relu(F.group_norm(conv(x, f"{i}.pool.0"), 4, weight, bias)), f"{i}.pool.3")
            hidden = F.relu(conv(F.relu(conv(x, f"{i}.conv.0")), f"{i}.conv.2"))
            x = F.relu(conv(hidden, f"{i}.conv.4") + (conv(x, f"{i}.skip") if f"{i}.skip.weight" in state else x))
    return x


def save(state, path):
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


def latents_of(state):
    first = next(value for key, value in state.items() if key.endswith("weight"))
    return torch.randn(1, first.shape[1], 3, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", WILD)
def test_a_flat_decoder_of_any_shape_decodes_like_its_layers(tmp_path, name, suffix):
    state = weights_of(WILD[name])
    decoder = read_decoder(save(state, tmp_path / f"unknown{suffix}"))
    latents = latents_of(state)
    expected = forward(WILD[name], state, latents)
    assert expected.std() > 0.01
    with torch.no_grad():
        torch.testing.assert_close(decoder.net(latents), over_checkerboard(expected), rtol=1e-3, atol=1e-4)
    assert decoder.card.kind == "tiny"
    assert decoder.card.parameters == sum(value.numel() for value in state.values())
    assert [side // base for side, base in zip(expected.shape[2:], (3, 4), strict=True)] == [decoder.scale] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_numbers_of_few_bits_are_read_as_float32(tmp_path, dtype, suffix):
    positions = WILD["2x with pooled blocks"]
    state = {key: value.to(dtype) for key, value in weights_of(positions).items()}
    decoder = read_decoder(save(state, tmp_path / f"x{suffix}"))
    expected = forward(positions, state, latents_of(state))
    with torch.no_grad():
        torch.testing.assert_close(decoder.net(latents_of(state)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["decoder.", "taesd_decoder.", "vae.decoder.", "model."])
def test_any_prefix_is_read_and_an_encoder_beside_it_is_ignored(tmp_path, prefix):
    positions = WILD["an upscaling between blocks"]
    state = weights_of(positions)
    renamed = {f"{prefix}{key}": value for key, value in state.items()} | {"encoder.0.weight": torch.zeros(8, 3, 3, 3)}
    decoder = read_decoder(save(renamed, tmp_path / "x.safetensors"))
    with torch.no_grad():
        expected = forward(positions, state, latents_of(state))
        torch.testing.assert_close(decoder.net(latents_of(state)), expected, rtol=1e-4, atol=1e-5)


def test_kernels_with_an_axis_of_time_that_see_one_frame_are_read(tmp_path):
    positions = WILD["8x with 16 channels"]
    state = weights_of(positions)
    flat = {key: value[:, :, None] if value.ndim == 4 else value for key, value in state.items()}
    decoder = read_decoder(save(flat, tmp_path / "x.safetensors"))
    with torch.no_grad():
        expected = forward(positions, state, latents_of(state))
        torch.testing.assert_close(decoder.net(latents_of(state)), expected, rtol=1e-3, atol=1e-4)


def test_only_a_layout_that_was_published_for_one_space_names_it(tmp_path):
    spaces = {name: read_card(save(weights_of(WILD[name]), tmp_path / f"{i}.pth")).space for i, name in enumerate(WILD)}
    assert {name: space for name, space in spaces.items() if space} == {
        "16x with transparency by a 2x2 head": "qwen_image21"
    }


# Transparency


def test_a_transparent_picture_is_shown_over_a_checkerboard():
    side = 2 * CHECK_SIDE_PX
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, side, side)
    alpha = torch.ones(1, 1, side, side)
    assert torch.equal(over_checkerboard(torch.cat([red, alpha], 1)), red)
    clear = over_checkerboard(torch.cat([red, 0 * alpha], 1))
    assert [clear[0, :, 0, 0].tolist(), clear[0, :, 0, -1].tolist()] == [
        pytest.approx([LIGHT] * 3),
        pytest.approx([DARK] * 3),
    ]
    half = over_checkerboard(torch.cat([red, 0.5 * alpha], 1))
    torch.testing.assert_close(half, (red + clear) / 2)


def test_colors_out_of_range_do_not_shine_through_a_transparent_pixel():
    rgba = torch.tensor([9.0, -9.0, 0.5, 0.1]).view(1, 4, 1, 1)
    assert to_bytes(over_checkerboard(rgba)).flatten().tolist() == [163, 138, 150]


# Files that are no decoder


def shapes_of(positions):
    return {key: tuple(value.shape) for key, value in weights_of(positions).items()}


@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        (["conv 3 8", "block 8 8", "free 8 8", "block 8 8", "conv 8 4"], "an encoder is not a decoder"),
        (["clamp", "conv 12 8", "relu", "block 8 8", "free 8 8", "block 8 8", "conv 8 64"], "enlarges nothing"),
        (["clamp", "conv 4 8", "relu", "block 8 8", "up", "free 8 8", "conv 8 5"], "gives 5 channels, which is no RGB"),
        (["clamp", "conv 4 8", "relu", "block 8 8", "up", "free 8 8", "block 8 3"], "gives 3 channels, which is no"),
        (["clamp", "conv 4 8", "relu", "block 8 8", "up", "free 6 8", "conv 8 3"], "gives 8 channels, .* takes 6"),
        (["clamp", "conv 4 8", "block 7 7", "up", "free 7 8", "conv 8 3"], "gives 8 channels, .* takes 7"),
        (
            ["clamp", "clamp", "conv 4 8", "relu", "block 8 8", "up", "free 8 8", "conv 8 3"],
            "layer 0 or 1, got layer 2",
        ),
        (["clamp", "conv 4 8", *["relu"] * 900, "conv 8 3"], "the 900 layers between 1 and 902 have no weights"),
    ],
)
def test_a_flat_file_that_is_no_decoder_is_refused_with_the_reason(positions, reason):
    with pytest.raises(ValueError, match=reason):
        derive_layers(shapes_of(positions))


def test_kernels_that_reach_over_time_are_refused_with_the_reason(tmp_path):
    state = {
        key: v[:, :, None].repeat(1, 1, 3, 1, 1) if v.ndim == 4 else v for key, v in weights_of(WILD["32x"]).items()
    }
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "x.safetensors")
    with pytest.raises(DecoderFileError, match=r"It looks like one, but its convolutions reach over time"):
        read_card(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"weight": (3, 4)},
        {"0.weight": (8, 4, 3, 3)},
        {"0.weight": (8, 4), "1.weight": (3, 8)},
        {"0.weight": (0, 4, 3, 3), "1.weight": (3, 0, 3, 3)},
        {"0.weight": (8, 4, 3, 3), "1.attention.weight": (8, 8, 1, 1)},
        {"decoder.up.0.block.0.conv1.weight": (8, 8, 3, 3), "decoder.conv_in.weight": (8, 4, 3, 3)},
        {"a.0.weight": (8, 4, 3, 3), "a.1.weight": (3, 8, 3, 3), "b.0.weight": (8, 4, 3, 3)},
    ],
)
def test_other_files_are_no_flat_decoders(shapes):
    assert derive_layers(shapes) is None


def test_a_file_with_a_missing_or_odd_tensor_is_refused(tmp_path):
    state = weights_of(WILD["an upscaling between blocks"])
    without = {key: value for key, value in state.items() if key != "3.conv.2.bias"}
    with pytest.raises(MisshapenFileError, match=r"layers\.3\.conv\.2\.bias' should have shape \(8,\), has none"):
        read_card(save(without, tmp_path / "a.safetensors"))
    odd = state | {"3.conv.2.weight": torch.zeros(8, 8, 5, 5)}
    with pytest.raises(MisshapenFileError, match=r"layers\.3\.conv\.2\.weight"):
        read_card(save(odd, tmp_path / "b.safetensors"))


def test_more_layers_than_any_decoder_has_are_refused(tmp_path):
    positions = ["clamp", "conv 4 8", "relu", *["block 8 8"] * MAX_LAYERS, "up", "free 8 8", "conv 8 3"]
    with pytest.raises(DecoderFileError, match=rf"expected 1 to {MAX_LAYERS} layers, got {MAX_LAYERS + 6}"):
        read_card(save(weights_of(positions), tmp_path / "x.safetensors"))
