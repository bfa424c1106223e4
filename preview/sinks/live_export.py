"""Gives a live run's picture as a file to save: the written file, else a picture of the final size."""

import io
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from PIL import Image, ImageSequence

from ...decoders.files.contained_file import read_below
from ..file_names import PICTURE_TYPES
from ..images.encode import RESAMPLING, ImageEncoding
from ..manifest import picture_files
from .live_runs import LiveRun
from .run_folder import RunFolder

ENCODING = ImageEncoding(file_format="png")
ENLARGE = RESAMPLING["lanczos"]


class ExportedPicture(NamedTuple):
    """A file: its name for the user, and its content."""

    name: str
    content: bytes


def exported_picture(live: LiveRun, file: str, frame: int | None, max_bytes: int) -> ExportedPicture | None:
    """The picture that the live run shows in `file`, as the user wants to have it; None if there is none.

    If the run writes files, it is the written one. Else, it is the live picture at the size of the final image, with
    the workflow: a PNG, or a WebP for all frames of a video.

    Args:
        live: the run.
        file: file name of a live picture; only compared with the names in the manifest.
        frame: number of one frame of a video, from 0; None for all.
        max_bytes: largest file that is read.
    """
    entry = live.folder.step_of(file)
    if entry is None:
        return None
    written = _written(live, entry, PurePath(file).stem, frame, max_bytes)
    if written is not None:
        return ExportedPicture(_name(live, file, frame, written.suffix), written.content)
    picture = _read(live.folder, PurePath(file), max_bytes)
    if picture is None:
        return None
    frames = _frames(picture, frame)
    content = _encoded(live, entry, file, frames)
    return ExportedPicture(_name(live, file, frame, f".{ENCODING.ending(len(frames))}"), content)


class _WrittenFile(NamedTuple):
    suffix: str
    content: bytes


def _written(
    live: LiveRun, entry: Mapping[str, Any], stem: str, frame: int | None, max_bytes: int
) -> _WrittenFile | None:
    """The written file with the same content as a live picture; a grid of a batch is not the same."""
    folder = live.export.written
    step = None if folder is None else folder.step(entry["index"])
    if folder is None or step is None or step["at"] != entry["at"]:
        return None
    if frame is None:
        paths = [PurePath(name) for name in picture_files(step) if PurePath(name).stem == stem]
    elif stem in step.get("folders", ()) and _count(folder) == _count(live.folder):
        paths = [PurePath(stem, f"frame_{frame + 1:04d}{suffix}") for suffix in PICTURE_TYPES]
    else:
        paths = []
    for path in paths:
        if (content := _read(folder, path, max_bytes)) is not None:
            return _WrittenFile(path.suffix, content)
    return None


def _count(folder: RunFolder) -> int:
    """The number of frames of a run's pictures: of a long video, the live ones have fewer."""
    return (folder.picture or {}).get("frames", 1)


def _read(folder: RunFolder, path: PurePath, max_bytes: int) -> bytes | None:
    try:
        return read_below(folder.path.parent, PurePath(folder.path.name, path), max_bytes)
    except OSError:  # the user deleted or moved it, or newer runs needed the room
        return None


def _frames(picture: bytes, frame: int | None) -> list[Image.Image]:
    """All frames of a picture, or one. If it has fewer, its last one: an encoder may merge equal frames."""
    with Image.open(io.BytesIO(picture)) as image:
        if frame is not None:
            image.seek(min(frame, getattr(image, "n_frames", 1) - 1))
            return [image.convert("RGB")]
        return [each.convert("RGB") for each in ImageSequence.Iterator(image)]


def _encoded(live: LiveRun, entry: Mapping[str, Any], file: str, frames: list[Image.Image]) -> bytes:
    sizes = live.folder.picture or {}
    shown = sizes.get("shown_width", 0), sizes.get("shown_height", 0)
    if all(shown):
        frames = [image if image.size == shown else image.resize(shown, ENLARGE) for image in frames]
    texts = live.export.texts()
    if texts:
        texts = {**texts, "safelight": json.dumps(_facts(live, entry, file))}
    return ENCODING.save(frames, texts, sizes.get("fps"))


def _facts(live: LiveRun, entry: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The run and the step of a picture, as in files that Safelight writes."""
    run = live.folder.run
    decoder = entry.get("decoder") or (run.decoder or {}).get("name")
    show = "noisy" if file in entry.get("noisy_files", ()) else entry["show"]
    return {"run": run.id, "sigma": entry["sigma"], "show": show, "step": entry["index"], "decoder": decoder}


def _name(live: LiveRun, file: str, frame: int | None, suffix: str) -> str:
    """The name of the file: prefix, seed, step, and where there are several, item and frame."""
    seed = live.folder.run.sampler.get("seed")
    seeds = [f"seed{seed}"] if isinstance(seed, int) else []
    frames = [] if frame is None else [f"frame_{frame + 1:04d}"]
    return "_".join([live.export.prefix, *seeds, PurePath(file).stem, *frames]) + suffix
