"""Measures the mesh of decoders in sub-pixels, on smooth pictures and on half-way latents.

The target of smooth pictures is the picture, that of half-way latents the teacher's decode. Both are averaged to the
size that the decoder outputs.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import read_decoder
from ..decoders.latents.space_table import SPACES
from ..fitting.encoders import read_encoder
from ..fitting.image_crops import find_images, read_crops
from ..fitting.noisy_latents import LATENT_CHANGES, noisy_pairs
from ..fitting.pairs import Encode, Pairs, encode_pairs
from .mesh_energy import mesh_levels

BLUR_LATENT_PX = (2.0, 4.0)  # sigmas of the blur of smooth pictures, in latent pixels
MIN_SIGMA_PX = 4.0  # of a blur that is applied to a smaller picture
HALFWAY = ("mean of 12", "blurred 5x5", "denoised 0.95", "denoised 0.9", "denoised 0.8", "denoised 0.7")


def smooth_pairs(pairs: Pairs, encode: Encode, sigmas: Sequence[float] = BLUR_LATENT_PX) -> Pairs:
    """Blurs the pictures of `pairs` and encodes them again.

    Args:
        pairs: pairs with pictures of one size.
        encode: encoder of their space.
        sigmas: standard deviations of the blur in latent pixels; the pictures take turns.
    """
    pixels = [
        blur(picture[None].float(), sigmas[i % len(sigmas)] * pairs.downscale).round().to(torch.uint8)[0]
        for i, picture in enumerate(pairs.pixels)
    ]
    return encode_pairs(encode, (picture.movedim(0, -1).numpy() for picture in pixels), pairs.channels)


def blur(rgb: Tensor, sigma_px: float) -> Tensor:
    """Blurs pictures `[B, 3, H, W]` in 0..255 with a Gaussian and a mirrored border; a wide one on a small picture."""
    shrink = max(1, int(sigma_px / MIN_SIGMA_PX))
    size = [max(1, side // shrink) for side in rgb.shape[2:]]
    small = F.interpolate(rgb, size=size, mode="area") if shrink > 1 else rgb
    sigma_px /= shrink
    reach = min(round(3 * sigma_px), min(size) - 1)
    offsets = torch.arange(-reach, reach + 1, dtype=rgb.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma_px**2))
    kernel = (kernel / kernel.sum()).expand(rgb.shape[1], 1, 1, -1)
    for padding, weights in (((reach, reach, 0, 0), kernel), ((0, 0, reach, reach), kernel.transpose(2, 3))):
        small = F.conv2d(F.pad(small, padding, mode="reflect"), weights, groups=rgb.shape[1])
    blurred = F.interpolate(small, size=rgb.shape[2:], mode="bicubic") if shrink > 1 else small
    return blurred.clamp(0, 255)


@torch.no_grad()
def mesh_rows(
    decoders: Sequence[Decoder], cases: Iterator[tuple[str, Pairs]]
) -> Iterator[tuple[str, str, float, float]]:
    """Yields case, decoder, the mesh of its pictures and that of the target, in levels of 255."""
    for case, pairs in cases:
        for decoder in decoders:
            rgb = torch.cat([decoder.decode(latents.float()) for latents in pairs.latents.split(8)])
            yield (
                case,
                decoder.name,
                mesh_levels(rgb, decoder.scale),
                mesh_levels(pairs.rgb(decoder.scale), decoder.scale),
            )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m safelight.tools.mesh", description=__doc__)
    parser.add_argument("--space", required=True, help="latent space, a name from `safelight spaces`")
    parser.add_argument("--encoder", type=Path, required=True, help="TAESD-like encoder of the space")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of images")
    parser.add_argument(
        "--teacher", type=Path, help="decoder file, the target on half-way latents (default: skip them)"
    )
    parser.add_argument("--decoder", type=Path, action="append", default=[], help="additional decoder file")
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels (%(default)s)")
    parser.add_argument("--count", type=int, default=24, help="number of images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the crops (%(default)s)")
    options = parser.parse_args(argv)

    space, encode = SPACES[options.space], read_encoder(options.encoder)
    installed = [candidate.open() for candidate in Catalogue().of(space)] + [*map(read_decoder, options.decoder)]
    decoders = [decoder for decoder in installed if decoder.scale > 1]
    crops = read_crops(find_images(options.images)[: options.count], options.size, 1, options.seed)
    pairs = encode_pairs(encode, crops, space.channels)

    def cases() -> Iterator[tuple[str, Pairs]]:
        yield "smooth pictures", smooth_pairs(pairs, encode)
        yield "photographs", pairs
        if options.teacher:
            halfway = partial(noisy_pairs, pairs.latents, read_decoder(options.teacher).decode)
            yield from ((name, halfway(LATENT_CHANGES[name])) for name in HALFWAY)

    print(f"mesh in levels of 255, of the decoder and of the target, on {len(pairs)} crops of {options.size} px")
    for case, name, mesh, target in mesh_rows(decoders, cases()):
        print(f"{case:16} {name:28} {mesh:6.2f} {target:6.2f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
