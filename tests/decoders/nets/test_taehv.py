"""Tests small video decoders: the published architecture, recognized by content, run frame by frame."""

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.files.decoder_file import build, read_card, read_decoder
from safelight.decoders.nets.polynomial import Polynomial
from safelight.decoders.nets.taehv import Taehv, taehv
from safelight.errors import LatentsError, MisshapenFileError
from safetensors.torch import save_file

SMALL = (24, 16, 8, 8)
VARIANTS = {
    "taehv": {"layers": taehv(16, SMALL)},
    "taew2_2": {"layers": taehv(48, SMALL, patch=2)},
    "taeltx_2": {"layers": taehv(128, SMALL, (2, 2, 2), patch=4)},
    "taem1": {"layers": taehv(12, SMALL, (1, 2, 3))},
    "super": {"layers": taehv(32, (32, 16, 8, 8), patch=2, wide=True)},
    "taeh3": {"layers": taehv(24, SMALL, patch=2), "chunk": 5},
    "two stages": {"layers": taehv(16, (12, 8, 8), (2, 1), patch=3)},
    "five stages": {"layers": taehv(20, (16, 8, 8, 8, 8, 4), (1, 2, 2, 1, 1))},
}


def net_of(settings, gain=2.0):
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Taehv(**settings).state_dict().items()}
    state = {}
    for key, shape in shapes.items():
        fan_in = shape[1:].numel() if len(shape) > 1 else 8
        state[key] = torch.randn(shape, generator=generator) * gain / fan_in**0.5
    return build("tiny_video", settings, state).eval()


def all_at_once(net, latents):
    """Decodes in the published "parallel" way: time in the batch axis, the whole video through one layer at a time.

    Source: https://github.com/madebyollin/taehv, `apply_model_with_memblocks_parallel`.
    """
    items = len(latents)
    x = latents.transpose(1, 2).flatten(0, 1)
    for layer in net.layers:
        kind = type(layer).__name__
        if "MemBlock" in kind:
            clip = x.unflatten(0, (items, -1))
            past = F.pad(clip, (0, 0, 0, 0, 0, 0, 1, 0))[:, : clip.shape[1]].flatten(0, 1)
            x = layer(x, past)
        elif kind == "TGrow":
            x = layer.conv(x).reshape(-1, x.shape[1], *x.shape[2:])
        else:
            x = layer(x)
    rgb = x.unflatten(0, (items, -1))
    trim = net.stride - 1
    if not net.chunk:
        return rgb[:, trim:]
    groups = [rgb[:, i : i + net.chunk * net.stride] for i in range(0, rgb.shape[1], net.chunk * net.stride)]
    return torch.cat([group[:, trim:] for group in groups], 1)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_decoding_frame_by_frame_equals_the_published_parallel_way(name):
    net = net_of(VARIANTS[name])
    count = 7 if net.chunk else 3
    latents = torch.randn(2, net.channels, count, 3, 4, generator=torch.Generator().manual_seed(1))
    frames = torch.stack(list(net.frames(latents)), 1)
    expected = all_at_once(net, latents)
    assert frames.shape == expected.shape
    assert frames.shape[2:] == (3, 3 * net.scale, 4 * net.scale)
    assert frames.std() > 1e-3
    torch.testing.assert_close(frames, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "count", "expected"), [("taehv", 21, 81), ("taem1", 3, 13), ("taeltx_2", 3, 17), ("taeh3", 7, 22)]
)
@torch.no_grad()
def test_a_video_has_as_many_frames_as_the_vae_decodes(name, count, expected):
    net = net_of(VARIANTS[name])
    assert sum(1 for _ in net.frames(torch.zeros(1, net.channels, count, 1, 1))) == expected


@torch.no_grad()
def test_an_image_equals_the_first_frame_of_a_video():
    net = net_of(VARIANTS["taehv"])
    latents = torch.randn(2, 16, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    decoder = Decoder(Card(name="a", space="wan21", kind="tiny_video"), net)
    first, *_ = decoder.frames(latents)
    assert torch.equal(decoder.decode(latents[:, :, 0]), first)


@torch.no_grad()
def test_a_frame_depends_on_earlier_frames_and_not_on_later_ones():
    net = net_of(VARIANTS["taehv"])
    latents = torch.randn(1, 16, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    other = latents.clone()
    other[:, :, 1] += 1
    same, changed = list(net.frames(latents)), list(net.frames(other))
    assert torch.equal(same[0], changed[0])
    assert not torch.equal(same[1], changed[1])
    assert not torch.equal(same[-1], changed[-1])


@torch.no_grad()
def test_frames_are_decoded_one_at_a_time():
    net, calls = net_of(VARIANTS["taehv"]), []
    net.layers[1].register_forward_hook(lambda *_: calls.append(1))
    next(net.frames(torch.zeros(1, 16, 81, 2, 2)))
    assert len(calls) == 1


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_a_published_file_is_recognized_by_its_content(tmp_path, name, dtype):
    state = {key: value.to(dtype) for key, value in net_of(VARIANTS[name]).state_dict().items()}
    net = build("tiny_video", VARIANTS[name], state).eval()
    state = {key.replace("layers.", "decoder."): value for key, value in state.items()}
    path = tmp_path / "video.safetensors"
    save_file(state | {"encoder.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    card = read_card(path)
    assert (card.kind, card.space, card.channels, card.scale) == ("tiny_video", None, net.channels, net.scale)
    assert card.cost == net.cost
    decoder = read_decoder(path)
    latents = torch.randn(1, net.channels, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    assert decoder.net.state_dict().keys() == net.state_dict().keys()
    for found, expected in zip(decoder.frames(latents), net.frames(latents), strict=True):
        assert torch.equal(found, expected.clamp(0, 1))


def test_the_file_name_determines_the_slope_of_lighttae(tmp_path):
    state = {
        key.replace("layers.", "decoder."): v for key, v in net_of({"layers": taehv(32, patch=2)}).state_dict().items()
    }
    for name, slope in (("lighttaehy1_5.safetensors", 0.2), ("taehv1_5.safetensors", 0.0)):
        save_file(state, tmp_path / name)
        assert read_card(tmp_path / name).settings.get("slope", 0.0) == slope


def test_a_file_with_a_missing_tensor_is_refused(tmp_path):
    state = {key.replace("layers.", "decoder."): v for key, v in net_of(VARIANTS["taehv"]).state_dict().items()}
    save_file({key: v for key, v in state.items() if key != "decoder.4.conv.2.bias"}, tmp_path / "a.safetensors")
    with pytest.raises(MisshapenFileError, match=r"layers\.4\.conv\.2\.bias"):
        read_card(tmp_path / "a.safetensors")


# Videos through decoders without memory


def test_a_decoder_without_memory_decodes_each_latent_frame_like_an_image():
    net = Polynomial(4)
    net.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    decoder = Decoder(Card(name="a", space="sd1", kind="polynomial"), net)
    latents = torch.randn(2, 4, 5, 3, 6, generator=torch.Generator().manual_seed(1))
    frames = list(decoder.frames(latents))
    assert len(frames) == 5
    for i, frame in enumerate(frames):
        assert torch.equal(frame, decoder.decode(latents[:, :, i]))


def test_a_long_video_is_decoded_in_parts(monkeypatch):
    monkeypatch.setattr("safelight.decoders.nets.base.MAX_FRAME_PIXELS", 4 * 6 * 3)
    net, batches = Polynomial(4), []
    net.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    frames = list(Decoder(Card(name="a", space="sd1", kind="polynomial"), net).frames(torch.zeros(1, 4, 8, 4, 6)))
    assert (len(frames), batches) == (8, [3, 3, 2])


@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (1, 5, 1, 2, 2)])
def test_latents_that_are_not_a_video_with_these_channels_are_refused(shape):
    decoder = Decoder(Card(name="a", space="sd1", kind="polynomial"), Polynomial(4))
    with pytest.raises(LatentsError, match=r"expects latents \[B, 4, T, H, W\]"):
        list(decoder.frames(torch.zeros(shape)))
