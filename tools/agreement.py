"""Measures how far right and wrong decoders of a space agree with a reference, to set the limits of trials.

A wrong decoder is the right one with its channels shuffled, rotated into each other, or negated.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from ..decoders.agreement import ENOUGH_PICTURES, Agreement, compare_pictures
from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import read_decoder
from ..decoders.latents.space_table import SPACES
from ..fitting.encoders import read_encoder
from ..fitting.image_crops import find_images, read_crops
from ..fitting.pairs import Pairs, encode_pairs

SHUFFLES = 3
Change = Callable[[Tensor], Tensor]


def changes(channels: int, seed: int) -> Mapping[str, Change]:
    """Returns functions of latents `[B, C, H, W]` that make a right decoder a wrong one. `right` changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(channels, channels, generator=generator))[0]
    orders = [torch.randperm(channels, generator=generator) for _ in range(SHUFFLES)]
    return {
        "right": lambda latents: latents,
        **{f"shuffled {i}": lambda latents, order=order: latents[:, order] for i, order in enumerate(orders, 1)},
        "rotated": lambda latents: torch.einsum("oc,bchw->bohw", rotation, latents),
        "negated": lambda latents: -latents,
    }


@torch.no_grad()
def agreements(decoder: Decoder, reference: Decoder, pairs: Pairs, change: Change) -> list[Agreement]:
    """Returns the agreement of a decoder with a reference on each picture that proves something."""
    found: list[Agreement | None] = []
    for latents in pairs.latents.float().split(1):
        size = (latents.shape[2], latents.shape[3])
        found.append(compare_pictures(decoder.decode(change(latents)), reference.decode(latents), size))
    return [agreement for agreement in found if agreement is not None]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m safelight.tools.agreement", description=__doc__)
    parser.add_argument("--space", required=True, help="latent space, a name from `safelight spaces`")
    parser.add_argument("--encoder", type=Path, required=True, help="TAESD-like encoder of the space")
    parser.add_argument("--decoder", type=Path, required=True, help="right decoder file")
    parser.add_argument("--reference", action="append", required=True, help="name of a reference; use again for more")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders of images")
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels (%(default)s)")
    parser.add_argument("--count", type=int, default=20, help="number of images (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the crops (%(default)s)")
    options = parser.parse_args(argv)

    space, decoder = SPACES[options.space], read_decoder(options.decoder)
    crops = read_crops(find_images(options.images)[-options.count :], options.size, 1, options.seed)
    pairs = encode_pairs(read_encoder(options.encoder), crops, space.channels)
    print(f"{'reference':24} {'decoder':12} pictures     min  median     max   of {ENOUGH_PICTURES} pictures")
    for name in options.reference:
        reference = Catalogue().candidates(space, name)[0].open()
        for change, function in changes(space.channels, options.seed).items():
            found = agreements(decoder, reference, pairs, function)
            values = [agreement.value for agreement in found]
            together = [sum(found[i : i + ENOUGH_PICTURES], Agreement()).value for i in range(0, len(found) - 2, 3)]
            if together:
                spread = f"{min(values):7.2f} {median(values):7.2f} {max(values):7.2f}"
                print(
                    f"{name:24} {change:12} {len(found):8} {spread}   {min(together):.2f} to {max(together):.2f}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
