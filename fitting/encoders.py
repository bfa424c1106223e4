"""The encoders of the TAESD family: images in, latents in model space out.

Source: https://github.com/madebyollin/taesd/blob/5cccb12dc72074a4be35680c3b108548a7c69978/taesd.py
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..decoders.files.tensor_file import open_tensors
from ..decoders.nets.taesd import Block
from ..errors import DecoderFileError, MisshapenFileError


def conv(n_in: int, n_out: int, stride: int = 1, *, bias: bool = True) -> nn.Module:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=bias)


def downsample(n: int) -> nn.Module:
    return conv(n, n, stride=2, bias=False)


def blocks(n: int, *, pooled: bool = False) -> list[nn.Module]:
    return [Block(n, n, pooled) for _ in range(3)]


def taesd(channels: int, *, pooled: bool = False) -> nn.Sequential:
    """8x: TAESD, TAESDXL (4 channels), TAESD3, TAEF1 (16); with `pooled`, TAEF2 (32)."""
    return nn.Sequential(
        *(conv(3, 64), Block(64, 64)),
        *(downsample(64), *blocks(64)),
        *(downsample(64), *blocks(64)),
        *(downsample(64), *blocks(64, pooled=pooled)),
        conv(64, channels),
    )


def taesana(channels: int) -> nn.Sequential:
    """32x: TAESANA (32 channels)."""
    return nn.Sequential(
        *(conv(3, 32, stride=2), nn.ReLU(), conv(32, 64, stride=2), nn.ReLU(), Block(64, 64)),
        *(downsample(64), *blocks(64)),
        *(downsample(64), *blocks(64)),
        *(downsample(64), *blocks(64)),
        conv(64, channels),
    )


ENCODERS = {
    "taesd": taesd,
    "taef2": lambda channels: taesd(channels, pooled=True),
    "taesana": taesana,
}
# Tensors that identify an architecture. First the last layer: its number of outputs is the number of channels. Then a
# tensor that only this architecture has.
_MARKS = {"taesana": ("17.weight", "2.weight"), "taef2": ("14.weight", "11.pool.0.weight"), "taesd": ("14.weight",)}
# Published plain, as half of an autoencoder, as ComfyUI saves it, and as diffusers' `AutoencoderTiny`.
_PREFIXES = ("", "encoder.", "taesd_encoder.", "encoder.layers.")


class TaesdEncoder(nn.Module):
    """One of `ENCODERS`: rgb `[B, 3, H, W]` in 0..1 to latents `[B, C, H/scale, W/scale]` in model space.

    Args:
        architecture: name in `ENCODERS`.
        channels: number of latent channels.
    """

    def __init__(self, architecture: str, channels: int) -> None:
        super().__init__()
        self.layers = ENCODERS[architecture](channels)
        self.architecture = architecture
        self.channels = channels
        self.scale = 2 ** sum(getattr(layer, "stride", 1) == (2, 2) for layer in self.layers)

    def forward(self, rgb: Tensor) -> Tensor:
        return self.layers(rgb)


def read_encoder(path: Path) -> TaesdEncoder:
    """Reads an encoder from a safetensors or `.pth` file, on the CPU, in float32, without running code in the file.

    Raises:
        DecoderFileError: the file is missing, broken or no such encoder; each reason has a subclass.
    """
    _, tensors = open_tensors(path)
    architecture, prefix = _recognize(path, tensors)
    state = {
        f"layers.{key.removeprefix(prefix)}": tensor.float()
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }
    last, *_ = _MARKS[architecture]
    # On "meta" no weights are drawn: drawing would change the global random state of a running sampler.
    with torch.device("meta"):
        encoder = TaesdEncoder(architecture, len(tensors[prefix + last]))
    expected = {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    wrong = sorted(key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key))
    if wrong:
        raise MisshapenFileError(
            f"{path}: tensor {wrong[0]!r} of {architecture} should have shape {expected.get(wrong[0], 'none')}, "
            f"has {shapes.get(wrong[0], 'none')} (and {len(wrong) - 1} more like it); download the file again"
        )
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise MisshapenFileError(f"{path}: tensor {key!r} holds NaN or infinity; download the file again")
    encoder.load_state_dict(state, assign=True)
    return encoder.eval().requires_grad_(False)


def _recognize(path: Path, tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    for architecture, marks in _MARKS.items():
        for prefix in _PREFIXES:
            first = tensors.get(f"{prefix}0.weight", torch.empty(0))
            if first.ndim == 4 and first.shape[1] == 3 and all(prefix + mark in tensors for mark in marks):
                return architecture, prefix
    found = ", ".join(map(repr, list(tensors)[:4])) or "none at all"
    raise DecoderFileError(f"{path}: expected an encoder of {', '.join(ENCODERS)}; found tensors {found}")
