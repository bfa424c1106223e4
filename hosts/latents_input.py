"""Reads latents from the files that people have: safetensors, .latent, .npy, .npz and .pt."""

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..decoders.files.regular_file import NotRegularFileError, TooLargeError, read_regular_file
from ..decoders.files.tensor_file import Metadata, Tensors, open_tensors
from ..decoders.files.torch_pickle import PICKLE_START, ZIP_START, UnsupportedPickleError, read_torch_pickle
from ..decoders.latents.space import AUDIO, IMAGE, LatentSpace, Spaces
from ..decoders.latents.tokens import from_tokens, plain_latents, token_side
from ..errors import DecoderFileError, LatentsError, brief
from ..preview.sinks.latent_files import MAX_LATENT_FILE_BYTES

LATENT_SUFFIXES = (".safetensors", ".sft", ".latent", ".npy", ".npz", ".pt", ".pth", ".bin")
FORMS = "safetensors, .latent, .npy, .npz or .pt"
NPY_START = b"\x93NUMPY"
COMFY_TENSOR, COMFY_VERSION = "latent_tensor", "latent_format_version_0"
FIRST_NAMES = ("latents", COMFY_TENSOR, "denoised")  # tensors that are taken if a file has several that fit
DOUBLE_BYTES = 8
NUMPY_ERRORS = (ValueError, EOFError, MemoryError, OverflowError, SyntaxError, TypeError)
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)


class HowToRead(NamedTuple):
    """The user's answers about latents that a file does not describe.

    Args:
        space: latent space; None to guess it.
        tensor: name of the tensor; None for `latents`, or the only one that fits.
        scaled: whether the latents are in model space; None for what the file says, or yes.
        size: width and height of the final image, in pixels, to which tokens are arranged; None if unknown.
    """

    space: LatentSpace | None = None
    tensor: str | None = None
    scaled: bool | None = None
    size: tuple[int, int] | None = None


class FoundLatents(NamedTuple):
    """Model space latents `[B, C, T, H, W]` of a file, their space, and whether their shape decided the space."""

    latents: Tensor
    space: LatentSpace
    guessed: bool


def read_latents(path: Path, spaces: Spaces, how: HowToRead, max_bytes: int = MAX_LATENT_FILE_BYTES) -> FoundLatents:
    """Reads the latents of a file.

    A tensor may be `[C, H, W]`, `[B, C, H, W]`, `[C, T, H, W]`, `[B, C, T, H, W]`, packed as its space packs latents,
    or tokens `[N, C]` or `[B, N, C]` with `how.size`.

    Args:
        path: path of the file.
        spaces: latent spaces that are known.
        how: the user's answers.
        max_bytes: largest size of the file, and of the arrays that are compressed in it.

    Raises:
        LatentsError: the file cannot be read, has no tensor or several that fit, or several spaces fit.
    """
    facts, tensors = read_tensors(path, max_bytes)
    tensors = {name: values for name, values in tensors.items() if values.is_floating_point() and values.numel()}
    space = how.space
    if space is None and (name := facts.get("space", "")) in spaces:
        space = spaces[name]
    guessed = space is None
    try:
        candidates = _candidates(tensors, how.tensor)
        if space is None:
            candidates, space = _guess(candidates, spaces, how)
        name, latents = _only_fitting(candidates, space, how.size)
    except LatentsError as error:
        raise LatentsError(f"{path}: {error}") from None
    scaled = how.scaled
    if scaled is None:
        # ComfyUI saves the latents that the VAE decodes. Files without a version have Stable Diffusion 1's model space.
        # Source: ComfyUI 0.33, nodes.py, SaveLatent.
        scaled = name != COMFY_TENSOR or COMFY_VERSION not in facts
    return FoundLatents(latents if scaled else space.to_model(latents), space, guessed)


def files_in(paths: Iterable[Path]) -> list[Path]:
    """Returns the files, and in place of each folder the latent files in it, sorted by name.

    Raises:
        LatentsError: a folder has no such file.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in LATENT_SUFFIXES and file.is_file())
        if not inside:
            raise LatentsError(f"{path}: expected files of latents ({FORMS}) in this folder, found none")
        found += inside
    return found


def read_tensors(path: Path, max_bytes: int = MAX_LATENT_FILE_BYTES) -> tuple[Metadata, Tensors]:
    """Reads the tensors of a file and the texts in it. The content decides the format, not the name.

    Args:
        path: path of the file.
        max_bytes: largest size of the file, and of the arrays that are compressed in it.

    Raises:
        LatentsError: it is not a file of tensors, or opening it would run code.
    """
    try:
        content = read_regular_file(path, max_bytes)
        if content[8:9] == b"{":
            facts, tensors = open_tensors(path, content, max_bytes=max_bytes)
            return {**facts, **({COMFY_VERSION: ""} if COMFY_VERSION in tensors else {})}, tensors
        if content.startswith(NPY_START):
            return {}, {"latents": _numpy_tensor(content)}
        if content.startswith(ZIP_START) and (arrays := _numpy_arrays(content, max_bytes)):
            return {}, arrays
        if content.startswith((ZIP_START, PICKLE_START)):
            return {}, _limited(_torch_tensors(read_torch_pickle(content)), max_bytes)
        raise ValueError("it begins like another format")
    except UnsupportedPickleError as error:
        reason = f"it contains Python objects besides tensors ({brief(error)}), and opening them would run code; "
        reason += "save only the tensor, with torch.save(latents, ...)"
    except TooLargeError:
        reason = f"it has more than {max_bytes:,} bytes"
    except NotRegularFileError as error:
        reason = str(error.strerror)
    except OSError as error:
        reason = error.strerror or str(error)
    except (DecoderFileError, *NUMPY_ERRORS, *ZIP_ERRORS) as error:
        reason = brief(error, 200).removeprefix(f"{path}: ")
    raise LatentsError(f"{path}: expected a file of latents ({FORMS}): {reason}") from None


def _numpy_tensor(content: bytes) -> Tensor:
    array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if array.dtype.kind != "f":  # numbers such as the size of an image; bfloat16, which NumPy saves as bytes
        return torch.empty(0, dtype=torch.int64)
    # Torch reads neither the byte order of another machine nor numbers of 16 bytes.
    dtype = array.dtype.newbyteorder("=") if array.dtype.itemsize <= DOUBLE_BYTES else np.dtype(np.float64)
    return torch.from_numpy(np.array(array, dtype, order="C", ndmin=array.ndim))


def _numpy_arrays(content: bytes, max_bytes: int) -> Tensors:
    """Reads the arrays of an .npz file; none if the zip file is another format."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        if sum(entry.file_size for entry in entries) > max_bytes:
            raise ValueError(f"its arrays have more than {max_bytes:,} bytes")
        return {entry.filename.removesuffix(".npy"): _numpy_tensor(archive.read(entry)) for entry in entries}


def _torch_tensors(found: object) -> Tensors:
    if isinstance(found, Tensor):
        return {"latents": found}
    if isinstance(found, Mapping):
        return {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    raise ValueError(
        f"expected a tensor, or tensors by name, got a {type(found).__name__}; save one tensor: torch.stack(...)"
    )


def _limited(tensors: Tensors, max_bytes: int) -> Tensors:
    """The tensors of torch, in which a view may repeat one number: a file of 1 kB can claim any size."""
    if sum(values.numel() * values.element_size() for values in tensors.values()) > max_bytes:
        raise ValueError(f"its tensors have more than {max_bytes:,} bytes")
    return tensors


def _candidates(tensors: Tensors, wanted: str | None) -> Tensors:
    """The tensors that may be the latents: the named one, one with a known name, or all."""
    if wanted is not None and wanted not in tensors:
        raise LatentsError(f"expected a tensor {wanted!r} of floating point numbers, found {_listed(tensors)}")
    name = wanted or next((name for name in FIRST_NAMES if name in tensors), None)
    return tensors if name is None else {name: tensors[name]}


def _only_fitting(tensors: Tensors, space: LatentSpace, size: tuple[int, int] | None) -> tuple[str, Tensor]:
    """The name and the plain latents of the only tensor that fits the space."""
    fitting: dict[str, Tensor] = {}
    errors: list[LatentsError] = []
    for name, values in tensors.items():
        try:
            fitting[name] = plain_latents(values.float(), space, size)
        except LatentsError as error:
            errors.append(error)
    if len(fitting) > 1:
        found = _listed({name: tensors[name] for name in fitting})
        raise LatentsError(f"several tensors could be the latents: {found}; name one with --tensor")
    if not fitting and len(errors) == 1:
        raise errors[0]
    if not fitting:
        raise LatentsError(
            f"expected a tensor `latents` [B, C, H, W] or [B, C, T, H, W] of {space.title} with C = {space.channels}, "
            f"found {_listed(tensors)}"
        )
    return next(iter(fitting.items()))


def _guess(tensors: Tensors, spaces: Spaces, how: HowToRead) -> tuple[Tensors, LatentSpace]:
    """The only tensor that can be latents, and the only space that has latents of its shape."""
    fitting = {
        name: rows for name, values in tensors.items() if (rows := [s for s in spaces if _is_usual(values, s, how)])
    }
    if not fitting:
        raise LatentsError(
            f"expected a tensor of latents, such as `latents` [B, C, H, W], found {_listed(tensors)}; "
            "if one of them is, name its latent space with --space"
        )
    if len(fitting) > 1:
        found = _listed({name: tensors[name] for name in fitting})
        raise LatentsError(f"several tensors could be the latents: {found}; name one with --tensor")
    (name, rows), *_ = fitting.items()
    if len(rows) > 1:
        raise LatentsError(
            f"several latent spaces have latents {list(tensors[name].shape)}: {', '.join(row.name for row in rows)}; "
            "choose one with --space"
        )
    return {name: tensors[name]}, rows[0]


def _is_usual(latents: Tensor, space: LatentSpace, how: HowToRead) -> bool:
    """Whether latents of this space usually have this shape. `unpack` accepts more, such as a frame of a video."""
    shape, channels = latents.shape, {space.channels, space.packed_channels}
    if space.dims == AUDIO:
        try:
            space.unpack(latents)
        except LatentsError:
            return False
        return latents.ndim == (4 if space.layout == "bands" else 3)
    if latents.ndim in (2, 3) and token_side(latents, space):
        try:
            return how.size is None or bool(from_tokens(latents, space, how.size).numel())
        except LatentsError:
            pass
    ndim = 4 if space.dims == IMAGE else 5
    return any(latents.ndim == axes and shape[axes - ndim + 1] in channels for axes in (ndim, ndim - 1))


def _listed(tensors: Tensors) -> str:
    """The tensors of a file, with their shapes."""
    names = [f"{brief(name, 60)} {list(values.shape)}" for name, values in list(tensors.items())[:6]]
    more = f" and {len(tensors) - 6} more" if len(tensors) > 6 else ""
    return (", ".join(names) or "no tensor of floating point numbers") + more
