"""Encodes generated scenes into the FLUX.2 latents that `safelight demo` samples."""

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
from .scenes import SCENES, draw_scene, scene_title

LATENTS_FORMAT = "safelight.latents/1"
DEMO_SPACE = "flux2"
DEMO_SOURCE = "scenes drawn by safelight.tools.scenes, encoded by TAEF2: https://github.com/madebyollin/taesd"


def encode_scenes(encoder: torch.nn.Module, size_px: int) -> Tensor:
    """Encodes every scene; returns latents `[N, C, H, W]` float16 in model space."""
    with torch.inference_mode():
        images = (torch.from_numpy(np.moveaxis(draw_scene(name, size_px), -1, 0).copy()) for name in SCENES)
        return torch.cat([encoder(image[None]) for image in images]).half()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m safelight.tools.demo_latents", description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="taef2_encoder.pth, as published by madebyollin")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--size", type=int, default=512, help="width and height of the scenes in pixels")
    options = parser.parse_args(argv)

    encoder = read_encoder(options.encoder)
    if encoder.architecture != "taef2" or options.size < encoder.scale or options.size % encoder.scale:
        parser.error(
            f"expected TAEF2's encoder and a --size that is a multiple of {encoder.scale}; "
            f"got {encoder.architecture} and {options.size}"
        )
    metadata = {
        "format": LATENTS_FORMAT,
        "space": DEMO_SPACE,
        "source": DEMO_SOURCE,
        "command": f"python -m safelight.tools.demo_latents --encoder {options.encoder.name} "
        f"--out {options.out.name} --size {options.size}",
        "encoder_sha256": hashlib.sha256(options.encoder.read_bytes()).hexdigest(),
        "titles": json.dumps([scene_title(name) for name in SCENES]),
    }
    latents = encode_scenes(encoder, options.size)
    partial = options.out.with_name(f".{options.out.name}.{os.getpid()}.part")
    partial.write_bytes(save({"latents": latents}, metadata))
    partial.replace(options.out)
    print(f"{options.out}: {tuple(latents.shape)}, {options.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
