"""The `decode` command: decodes saved latents to PNGs."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..decoders.catalogue import AUTO, Candidate
from ..decoders.decoder import Decoder, to_bytes
from ..decoders.files.contained_file import write_below
from ..decoders.later_frames import as_first_frames
from ..errors import LatentsError, printable
from ..hosts.latents_input import FORMS, FoundLatents, HowToRead, files_in, read_latents
from ..preview.decode.not_finite import (
    OVERFLOW_ADVICE,
    mark_pixels,
    not_finite_mask,
    percent,
    share_of,
    without_not_finite,
)
from ..preview.images.encode import ImageEncoding, shrink
from ..preview.images.grid import GRID_COLOR
from ..preview.output_folder import expect_no_file
from ..preview.sinks.contact_sheet import NAME, TILE_PX, lay_out_captioned
from .decoder_choice import DECODER_HELP, add_folder_option, choose_decoder, expect_decoder
from .table import print_lines, warn

NOT_FINITE, NOT_READ = 1, 2  # exit codes: latents are NaN or infinite; a file has no latents that can be decoded


def add_command(commands: Any) -> None:
    """Adds `decode` to the command line."""
    decode = commands.add_parser("decode", help="decode saved latents to PNGs")
    decode.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help=f"file with latents ({FORMS}), or folder of such files"
    )
    decode.add_argument(
        "--space", help="a name that `safelight spaces` lists (default: the one that the file names, or that fits)"
    )
    decode.add_argument("--decoder", default=AUTO, help=DECODER_HELP)
    decode.add_argument("--out", type=Path, default=Path(), help="folder for the PNGs (default: current folder)")
    decode.add_argument("--sheet", action="store_true", help=f"write all pictures into {NAME} as well")
    decode.add_argument(
        "--tensor", metavar="NAME", help="tensor to decode (default: latents, or the only one whose shape fits)"
    )
    decode.add_argument(
        "--scaled",
        choices=("yes", "no"),
        help="whether the latents are in model space; no: as the VAE encodes them, such as kohya's caches (default: "
        "as the file says, or yes)",
    )
    decode.add_argument(
        "--size", type=_size, metavar="WxH", help="size of the final image, for tokens [B, N, C] such as FLUX's"
    )
    add_folder_option(decode)
    decode.set_defaults(run=_run)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected width and height such as 1024x768, got {text!r}")
    return int(match[1]), int(match[2])


def _run(arguments: argparse.Namespace) -> int:
    catalogue, decoder_name = choose_decoder(arguments.decoder, arguments.folder)
    expect_decoder(catalogue, decoder_name)
    spaces = catalogue.spaces()
    scaled = None if arguments.scaled is None else arguments.scaled == "yes"
    space = None if arguments.space is None else spaces[arguments.space]
    how = HowToRead(space, arguments.tensor, scaled, arguments.size)
    expect_no_file(arguments.out.absolute(), "--out")
    files = files_in(arguments.files)
    stems = [path.stem for path in files]
    if repeated := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise LatentsError(
            f"several files are called {', '.join(repeated)}, so their PNGs would overwrite each other; "
            "decode them one by one"
        )
    candidates: dict[str, Candidate] = {}
    sheet: dict[str, Image.Image] = {}
    exit_code = 0
    for path in files:
        try:
            found = read_latents(path, spaces, how)
        except LatentsError as error:
            warn(f"safelight: {error}")
            exit_code = NOT_READ
            continue
        if found.guessed:
            warn(f"{path}: latent space {found.space.name}, the only one that fits")
        if found.space.name not in candidates:
            candidates[found.space.name] = catalogue.candidates(found.space, decoder_name)[0]
        arguments.out.mkdir(parents=True, exist_ok=True)
        decoder = candidates[found.space.name].open()
        mask = not_finite_mask(found.latents)
        for name, pixels in _pictures(found, mask, decoder, path.stem):
            write_below(arguments.out, PurePath(name), ImageEncoding().encode(pixels, pixels.shape[1::-1]))
            print_lines(f"{arguments.out / name}  {pixels.shape[1]}x{pixels.shape[0]}  {decoder.name}")
            if arguments.sheet:
                sheet[name.removesuffix(".png")] = _tile(pixels)
        if mask is not None:
            warn(
                f"safelight: {path}: {percent(share_of(mask))} of the latents are NaN or infinite, which a pattern "
                f"marks. {OVERFLOW_ADVICE}"
            )
            exit_code = max(exit_code, NOT_FINITE)
    if sheet:
        path = arguments.out / NAME
        laid_out = lay_out_captioned(list(sheet.values()), list(map(printable, sheet)))
        write_below(arguments.out, PurePath(NAME), ImageEncoding().save([laid_out]))
        print_lines(f"{path}  {len(sheet)} pictures")
    return exit_code


def _pictures(
    found: FoundLatents, mask: Tensor | None, decoder: Decoder, stem: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields file name and pixels `[H, W, 3]` of each item and frame of the latents.

    A pattern covers what `mask` `[B, T, H, W]` marks.
    """
    latents = found.latents if mask is None else without_not_finite(found.latents)
    latents = as_first_frames(latents, found.space)  # each frame is decoded alone
    frames = latents.shape[2]
    for item, clip in enumerate(tqdm(latents, unit="item", file=sys.stderr, disable=len(latents) == 1), 1):
        for frame in range(frames):
            pixels = to_bytes(decoder.decode(clip[None, :, frame]))[0].numpy()
            if mask is not None:
                mark_pixels(pixels[None, None], mask[item - 1, frame][None, None])
            yield f"{stem}_{item:02d}" + (f"_frame_{frame + 1:03d}" if frames > 1 else "") + ".png", pixels


def _tile(pixels: np.ndarray) -> Image.Image:
    """The picture in the middle of a square tile: the pictures of several files may have different shapes."""
    image = shrink(Image.fromarray(pixels), TILE_PX)
    scale = TILE_PX / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    tile = Image.new("RGB", (TILE_PX, TILE_PX), GRID_COLOR)
    tile.paste(image, ((TILE_PX - image.width) // 2, (TILE_PX - image.height) // 2))
    return tile
