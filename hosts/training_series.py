"""The pictures of one prompt and seed over a training, in a folder that a later process continues."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, final

from PIL import Image

from ..errors import ManifestError
from ..preview.file_names import name_problem
from ..preview.images.animated import ENCODES
from ..preview.images.encode import ImageEncoding
from ..preview.manifest import read_manifest
from ..preview.options import RunOptions
from ..preview.run import Run, State
from ..preview.run_summary import started_s
from ..preview.saved_run import SavedRun, spread_evenly
from ..preview.sinks.animation import MAX_FRAMES, MAX_SIDE_PX
from ..preview.sinks.base import Sink
from ..preview.sinks.contact_sheet import MAX_PICTURES, lay_out
from ..preview.sinks.contact_sheet import NAME as SHEET
from ..preview.sinks.run_folder import RunFolder

HOST = {"name": "trainer"}
MAX_NAME_CHARS = 48  # of a prompt in the name of a folder


@dataclass(frozen=True, kw_only=True)
class Series:
    """What stays the same over the training.

    Args:
        prompt: prompt of the picture; None if unknown.
        seed: seed of the noise; None if unknown.
        name: name that the user gave to its folder; empty for one made of the prompt and the seed.
    """

    prompt: str | None
    seed: int | None
    name: str = ""

    @property
    def folder_name(self) -> str:
        """Name of the prompt's folder, before a number is added where two prompts begin alike."""
        words = re.sub(r"[^\w]+", "-", (self.name or self.prompt or "sample").lower()).strip("-_")[:MAX_NAME_CHARS]
        words = words.strip("-_") or "sample"
        words = words if name_problem(words) is None else f"prompt-{words}"  # such as `con`, a device on Windows
        return words if self.name or self.seed is None else f"{words}_seed-{self.seed}"

    def is_of(self, manifest: Mapping[str, Any]) -> bool:
        """Whether a run is of this prompt and seed; a name that the user gave is enough."""
        sampler = manifest["sampler"]
        return bool(self.name) or (sampler.get("prompt"), sampler.get("seed")) == (self.prompt, self.seed)


def open_series(out: Path, series: Series, space: str, facts: Mapping[str, Any]) -> RunFolder:
    """Returns the folder of a series, with the steps of earlier validations.

    Args:
        out: folder of the training.
        series: prompt and seed.
        space: name of the latent space.
        facts: further facts for `sampler` in `run.json`.
    """
    sampler = {**facts, "prompt": series.prompt, "seed": series.seed}
    folders = _folders(out, series.folder_name)
    while True:
        folder = next(folders)
        if not folder.exists() or not any(folder.iterdir()):
            return RunFolder(folder, Run(host=HOST, space=space, sampler=sampler))
        with suppress(ManifestError):  # another folder, or a damaged one, stays as it is
            earlier = read_manifest(folder)
            if series.is_of(earlier) and earlier["space"] == space:
                return _continued(folder, earlier, sampler)


def _folders(out: Path, name: str) -> Iterator[Path]:
    yield out / name
    yield from (out / f"{name}-{number}" for number in count(2))


def _continued(folder: Path, earlier: Mapping[str, Any], sampler: Mapping[str, Any]) -> RunFolder:
    began = started_s(earlier)
    so_far = earlier["seconds"] or 0.0
    run = Run(
        host=HOST,
        space=earlier["space"],
        sampler={**earlier["sampler"], **{name: fact for name, fact in sampler.items() if fact is not None}},
        id=earlier["id"],
        started=datetime.now().astimezone() if began is None else datetime.fromtimestamp(began).astimezone(),
        notes=list(earlier["notes"]),
        before_s=so_far if began is None else max(so_far, time.time() - began),
    )
    continued = RunFolder(folder, run)
    continued.resume(earlier)
    return continued


@final
class SeriesPictures(Sink):
    """Writes the contact sheet and the animation of all validations so far, from their files.

    Args:
        folder: folder of the series.
        options: the user's options.
    """

    name = "sheet and animation"

    def __init__(self, folder: RunFolder, options: RunOptions) -> None:
        self._folder, self._options = folder, options

    def close(self, state: State) -> None:
        wanted = self._options.sheet or self._options.animates
        saved = SavedRun(self._folder.path, self._folder.manifest())
        if not wanted or not (pictures := saved.pictures(MAX_FRAMES)):
            return
        if self._options.sheet:
            self._folder.write(SHEET, ImageEncoding().save([lay_out(spread_evenly(pictures, MAX_PICTURES))]))
            self._folder.announce(sheet=SHEET)
        if self._options.animates:
            frames = [_of_size(picture.image, pictures[-1].image.size) for picture in pictures]
            name = f"steps.{self._options.animation}"
            self._folder.write(name, ENCODES[self._options.animation](frames, self._options.pace()))  # type: ignore[index]
            self._folder.announce(animation=name)


def _of_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture at the size of the last one, at most `MAX_SIDE_PX`."""
    shrunk = min(1.0, MAX_SIDE_PX / max(size))
    width, height = (max(1, round(side * shrunk)) for side in size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
