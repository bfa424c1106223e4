"""Makes the FLUX.2 latents that `safelight demo` samples, from pictures drawn by program."""

import argparse
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from ..fitting.encoders import read_encoder
from .scenes import SCENES, draw, title

FORMAT = "safelight.latents/1"
SPACE = "flux2"
SOURCE = "scenes drawn by safelight.tools.scenes, encoded by TAEF2: https://github.com/madebyollin/taesd"


def encode(encoder: torch.nn.Module, size_px: int) -> Tensor:
    """Every scene, as latents `[N, C, H, W]` float16 in model space."""
    with torch.inference_mode():
        pictures = (torch.from_numpy(np.moveaxis(draw(name, size_px), -1, 0).copy()) for name in SCENES)
        return torch.cat([encoder(picture[None]) for picture in pictures]).half()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m safelight.tools.demo_latents", description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="taef2_encoder.pth, as madebyollin publishes it")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--size", type=int, default=512, help="width and height of the pictures in pixels")
    options = parser.parse_args(argv)

    encoder = read_encoder(options.encoder)
    if encoder.architecture != "taef2" or options.size < encoder.scale or options.size % encoder.scale:
        parser.error(
            f"expected TAEF2's encoder and a --size that is a multiple of {encoder.scale}; "
            f"got {encoder.architecture} and {options.size}"
        )
    metadata = {
        "format": FORMAT,
        "space": SPACE,
        "source": SOURCE,
        "command": f"python -m safelight.tools.demo_latents --encoder {options.encoder.name} "
        f"--out {options.out.name} --size {options.size}",
        "encoder_sha256": hashlib.sha256(options.encoder.read_bytes()).hexdigest(),
        "titles": json.dumps([title(name) for name in SCENES]),
    }
    latents = encode(encoder, options.size)
    beside = options.out.with_name(f".{options.out.name}.{os.getpid()}.part")
    beside.write_bytes(save({"latents": latents}, metadata))
    beside.replace(options.out)
    print(f"{options.out}: {tuple(latents.shape)}, {options.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
