"""Gets the pairs of latents and images that a command line names."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from ..decoders.catalogue import Catalogue
from ..decoders.files.decoder_file import read_decoder
from ..decoders.latents.space import LatentSpace
from ..errors import FitError
from ..fitting.encoders import read_encoder
from ..fitting.fit_state import FitState
from ..fitting.image_crops import cut_crops_of, find_images, image_size, read_image
from ..fitting.image_ids import UNKNOWN_IMAGE, image_id
from ..fitting.noisy_latents import noisy_pairs, vary_latents
from ..fitting.pairs import Encode, Pairs, encode_pairs
from ..fitting.procedural_images import generate_images
from ..fitting.processes import ONE_PROCESS, Processes, own_device
from ..hosts.vae_encode import encode_with_vae, open_autoencoder
from .latent_folder import read_latent_folder

DEFAULT_GENERATED_IMAGES = 96
Image = TypeVar("Image")
RESERVED_BYTES = 1 << 20  # disk space that a decoder, or a report, may need


def add_pair_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name pairs and their latent space."""
    parser.add_argument(
        "--space", required=True, help="latent space, a name from `safelight spaces`; a new name with --channels"
    )
    parser.add_argument("--channels", type=positive, help="number of channels of a new latent space")
    parser.add_argument("--scale", type=float, help="factor from the VAE's values to the model's, of a new space (1)")
    parser.add_argument("--shift", type=float, help="offset that is subtracted before it, of a new space (0)")
    parser.add_argument("--downscale", type=positive, help="image pixels per latent pixel, of a new space (8)")
    parser.add_argument("--title", help="name for people of a new space (its name)")
    parser.add_argument(
        "--folder", type=Path, action="append", default=[], help="folder with your decoders, to score them as well"
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        nargs="+",
        default=[],
        help="safetensors files with `latents` in model space and `pixels`, or folders of latent files with a picture "
        "of the same name, such as ComfyUI's .latent and .png; alternatively use --encoder",
    )
    parser.add_argument(
        "--encoder", type=Path, help="TAESD-like encoder file, or folder with diffusers' AutoencoderKL or -Tiny"
    )
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="folders of images (default: generated)")
    parser.add_argument(
        "--procedural",
        type=positive,
        default=DEFAULT_GENERATED_IMAGES,
        metavar="N",
        help="number of generated images, without --images (%(default)s)",
    )
    parser.add_argument("--size", type=positive, default=256, help="side of the crops in pixels (%(default)s)")
    parser.add_argument("--crops", type=positive, default=2, help="number of crops per image (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed for crops and training (%(default)s)")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option for a GPU."""
    parser.add_argument(
        "--device",
        type=device,
        default="cpu",
        help="device that encodes images and trains, such as cuda; the rest stays on the CPU (%(default)s)",
    )


def device(text: str) -> str:
    """Parses the name of a device that is there; of several processes, each gets its own GPU.

    Raises:
        ArgumentTypeError: the text names no such device.
    """
    try:
        name = own_device(text)
        torch.zeros(1, device=name)
    except FitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # PyTorch without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise argparse.ArgumentTypeError(
            f"expected a device that PyTorch can use here, such as cpu or cuda, got {text!r}: {reason}"
        ) from None
    return name


def add_teacher_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options for half-way latents."""
    parser.add_argument("--teacher", type=Path, help="decoder file to imitate on noisy latents (default: none)")
    parser.add_argument(
        "--halfway", type=int, default=256, help="number of noisy latents to add, with --teacher (%(default)s)"
    )


def positive(text: str) -> int:
    """Parses a whole number from 1 up.

    Raises:
        ArgumentTypeError: the text is no such number.
    """
    if not text.isdecimal() or (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text!r}")
    return number


class NamedPairs(NamedTuple):
    """The pairs that a command line names.

    Args:
        pairs: the pairs.
        description: description of the pairs, for the card of a decoder.
        image_numbers: for each pair, the same value as for the other pairs of its image.
        notes: what the user should know about them.
    """

    pairs: Pairs
    description: str
    image_numbers: Sequence[Hashable]
    notes: Sequence[str] = ()


def named_space(arguments: argparse.Namespace) -> LatentSpace:
    """The space that `--space` names; with `--channels` a new one.

    Raises:
        FitError: the options describe no new space.
        UnknownSpaceError: no space has this name.
    """
    spaces = Catalogue(arguments.folder).spaces()
    numbers: dict[str, Any] = given(arguments, "channels", "scale", "shift", "downscale")
    if arguments.channels is None:
        if numbers:
            raise FitError("expected --channels with --scale, --shift or --downscale: they describe a new latent space")
        return spaces[arguments.space]
    if arguments.space in spaces:
        raise FitError(
            f"the latent space {arguments.space} is known ({spaces[arguments.space].title}): leave out --channels, or "
            "choose another name for a new space"
        )
    try:
        return LatentSpace(
            name=arguments.space, title=arguments.title or arguments.space, source=command_line(), **numbers
        )
    except ValueError as error:
        raise FitError(str(error)) from None


def named_pairs(
    arguments: argparse.Namespace,
    space: LatentSpace,
    state: FitState | None = None,
    processes: Processes = ONE_PROCESS,
) -> NamedPairs:
    """Loads or encodes the pairs that the options name.

    Args:
        arguments: parsed options.
        space: latent space of the pairs.
        state: state of a fit, which may have the encoded pairs already.
        processes: processes that fit together; each gets the pairs of its share of the images.

    Raises:
        FitError: the options name none, or they cannot be used.
    """
    if arguments.pairs:
        return _loaded_pairs(arguments, space, processes)
    if not arguments.encoder:
        raise FitError("nothing to fit on: use --encoder FILE [--images DIR], or --pairs FILE")
    encode = partial(_encoded_pairs, arguments, space, processes)
    pairs = encode() if state is None else state.pairs(encode)
    count = int(processes.total(torch.tensor(len(pairs))))
    if not arguments.images:
        description = f"{count} procedural pictures of {arguments.size} px, seed {arguments.seed}"
    else:
        folders = ", ".join(path.name for path in arguments.images)
        description = f"{count} crops of {arguments.size} px from {folders}"
    return NamedPairs(pairs, description, pairs.image_ids)


def _encoded_pairs(arguments: argparse.Namespace, space: LatentSpace, processes: Processes) -> Pairs:
    encode = _encoder(arguments.encoder, space, arguments.device)
    crops = (_crops if arguments.images else _generated_images)(arguments, processes)
    ids: list[str] = []

    def pixels() -> Iterator[np.ndarray]:
        for image, crop in crops:
            ids.append(image)
            yield crop

    pairs = encode_pairs(encode, pixels(), space.channels)
    return replace(pairs, image_ids=tuple(ids))


def _loaded_pairs(arguments: argparse.Namespace, space: LatentSpace, processes: Processes) -> NamedPairs:
    files: list[Pairs] = []
    notes: list[str] = []
    for path in arguments.pairs:
        if path.is_dir():
            pairs, left_out = read_latent_folder(path, space, arguments.size, arguments.crops, arguments.seed)
            notes += left_out
        else:
            pairs = load_pairs(path, space)
        files.append(pairs)
        if UNKNOWN_IMAGE in pairs.image_ids:
            notes.append(
                f"no image ids in {path.name}: whether decoders were fitted on its images cannot be checked, and "
                f"{arguments.crops} pairs in a row count as one image (--crops)"
            )
    numbers = [
        (file, i // arguments.crops) if image == UNKNOWN_IMAGE else image
        for file, pairs in enumerate(files)
        for i, image in enumerate(pairs.image_ids)
    ]
    names = ", ".join(path.name for path in arguments.pairs)
    return NamedPairs(_own_part(files, processes), f"{len(numbers)} pairs of {names}", processes.share(numbers), notes)


def _own_part(files: Sequence[Pairs], processes: Processes) -> Pairs:
    """Joins files of pairs. Of several processes, each reads only its share.

    Raises:
        FitError: the files do not fit together, or there are fewer pairs than processes.
    """
    reduce(add, (pairs[:1] for pairs in files))  # if sizes differ, this is an error in all processes
    begin, end = processes.share_bounds(sum(map(len, files)))
    parts: list[Pairs] = []
    for pairs in files:
        first, last = max(0, begin), min(len(pairs), end)
        if first < last:
            parts.append(pairs if last - first == len(pairs) else pairs[first:last])
        begin, end = begin - len(pairs), end - len(pairs)
    if not parts:
        raise FitError("expected a pair for each process, got fewer; start fewer processes")
    return reduce(add, parts)


def _crops(arguments: argparse.Namespace, processes: Processes) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the id of an image and a crop of it."""
    paths = find_images(arguments.images)
    begin, _ = processes.share_bounds(len(paths))
    before = map(image_size, paths[:begin])
    images = map(read_image, _progress_bar(processes.share(paths), processes))
    return cut_crops_of(images, arguments.size, arguments.crops, arguments.seed, before)


def _generated_images(arguments: argparse.Namespace, processes: Processes) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the id of a generated image and the image."""
    numbers = processes.share(range(arguments.procedural))
    stream = generate_images(len(numbers), arguments.size, arguments.seed, numbers.start)
    return ((image_id(image), image) for image in _progress_bar(stream, processes, len(numbers)))


def _progress_bar(images: Iterable[Image], processes: Processes, count: int | None = None) -> Iterable[Image]:
    """Shows how many images are encoded, in the first process."""
    return tqdm(images, total=count, unit="image", file=sys.stderr, disable=not processes.is_first)


def add_noisy_pairs(
    pairs: Pairs, description: str, arguments: argparse.Namespace, processes: Processes = ONE_PROCESS
) -> tuple[Pairs, str]:
    """Adds half-way latents, decoded by `--teacher` if there is one; the new pairs and their description."""
    if not arguments.teacher or arguments.halfway < 1:
        return pairs, description
    most = max(1, len(processes.share(range(arguments.halfway))))
    latents = pairs.latents[:: max(1, len(pairs) // most)][:most]
    teacher = read_decoder(arguments.teacher)
    noisy = noisy_pairs(
        latents, teacher.decode, lambda latents, _: vary_latents(latents, arguments.seed + processes.rank)
    )
    count = int(processes.total(torch.tensor(len(latents))))
    return pairs + noisy, f"{description}, and {count} half-way latents decoded by {arguments.teacher.name}"


def load_pairs(path: Path, space: LatentSpace) -> Pairs:
    """Loads a file of pairs.

    Raises:
        FitError: it holds no pairs of this space.
    """
    pairs = Pairs.load(path)
    if pairs.channels != space.channels:
        raise FitError(f"{path}: expected latents of {space.channels} channels, found {pairs.channels}")
    return pairs


def _encoder(path: Path, space: LatentSpace, device_name: str) -> Encode:
    encode = partial(encode_with_vae, open_autoencoder(path).to(device_name), space) if path.is_dir() else None
    encode = encode or read_encoder(path).to(device_name)
    return lambda rgb: encode(rgb.to(device_name))


def require_room(*folders: Path | None) -> None:
    """Raises `FitError` if a folder cannot be written to; called before the work, which would be lost otherwise."""
    for folder in folders:
        if folder is None:
            continue
        existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=existing) as file:
                file.write(bytes(RESERVED_BYTES))
        except OSError as error:
            raise FitError(
                f"{folder}: cannot be written to: {error.strerror or error}; free some space, or choose another folder"
            ) from None


def given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options among `names` that the user gave."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def command_line() -> str:
    """The command line, with the names of files and folders but without their paths."""
    words = (Path(word).name if "/" in word or "\\" in word else word for word in sys.argv[1:])
    return shlex.join(["safelight", *words])
