"""The `decode` command: decodes saved latents to PNGs."""

import argparse
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from ..decoders.catalogue import AUTO
from ..decoders.decoder import Decoder, to_bytes
from ..decoders.latents.space import LatentSpace
from ..errors import LatentsError
from ..preview.images.encode import ImageEncoding
from .decoder_choice import DECODER_HELP, add_folder_option, choose_decoder


def add_command(commands: Any) -> None:
    """Adds `decode` to the command line."""
    decode = commands.add_parser("decode", help="decode saved latents to PNGs")
    decode.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="safetensors file with `latents` in model space, or ComfyUI's .latent file",
    )
    decode.add_argument("--space", required=True, help="a name that `safelight spaces` lists")
    decode.add_argument("--decoder", default=AUTO, help=DECODER_HELP)
    decode.add_argument("--out", type=Path, default=Path(), help="folder for the PNGs (default: current folder)")
    add_folder_option(decode)
    decode.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    catalogue, name = choose_decoder(arguments.decoder, arguments.folder)
    space = catalogue.spaces()[arguments.space]
    stems = [path.stem for path in arguments.files]
    if repeated := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise LatentsError(
            f"several files are called {', '.join(repeated)}, so their PNGs would overwrite each other; "
            "decode them one by one"
        )
    candidate = catalogue.candidates(space, name)[0]
    for path in arguments.files:
        latents = read_latents(path, space)
        arguments.out.mkdir(parents=True, exist_ok=True)
        _write_pngs(latents, candidate.open(), arguments.out, path.stem)
    return 0


def _write_pngs(latents: Tensor, decoder: Decoder, out: Path, stem: str) -> None:
    """Writes a PNG for each item and frame of `latents` `[B, C, T, H, W]`."""
    frames = latents.shape[2]
    for item, clip in enumerate(tqdm(latents, unit="item", file=sys.stderr, disable=len(latents) == 1), 1):
        for frame in range(frames):
            pixels = to_bytes(decoder.decode(clip[None, :, frame]))[0].numpy()
            name = f"{stem}_{item:02d}" + (f"_frame_{frame + 1:03d}" if frames > 1 else "") + ".png"
            (out / name).write_bytes(ImageEncoding().encode(pixels, pixels.shape[1::-1]))
            print(f"{out / name}  {pixels.shape[1]}x{pixels.shape[0]}  {decoder.name}")


def read_latents(path: Path, space: LatentSpace) -> Tensor:
    """Reads model space latents `[B, C, T, H, W]` from a safetensors file of Safelight or ComfyUI.

    Raises:
        LatentsError: the file is not one of these, or its tensor does not fit `space`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in ("latents", "latent_tensor") if key in file.keys()}  # noqa: SIM118
            has_version = "latent_format_version_0" in file.keys()  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise LatentsError(f"{path}: expected a safetensors file with a tensor `latents`: {error}") from None
    if "latents" in tensors:
        return space.unpack(tensors["latents"].float())
    if "latent_tensor" in tensors:
        # ComfyUI saves the latents that the VAE decodes. Files without a version have Stable Diffusion 1's model space.
        # Source: ComfyUI 0.33, nodes.py, SaveLatent.
        latents = space.unpack(tensors["latent_tensor"].float())
        return space.to_model(latents) if has_version else latents
    raise LatentsError(
        f"{path}: expected a tensor `latents` [B, C, H, W] or [B, C, T, H, W], or `latent_tensor` of a .latent file, "
        "found neither"
    )
