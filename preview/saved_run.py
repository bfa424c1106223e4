"""A run that was kept, read back from its folder."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from PIL import Image

from ..decoders.files.regular_file import read_regular_file
from ..errors import GoneError, ManifestError, brief
from .file_names import name_problem
from .images.thumbnails import StepImage
from .manifest import MANIFEST_NAME, read_manifest
from .missing_steps import name_steps
from .sinks.latent_files import SavedLatents, read_latents

MAX_PICTURE_PIXELS, MAX_PICTURE_BYTES = 100_000_000, 1 << 28  # of a picture that is read
MAX_TOTAL_PIXELS = 1_000_000_000  # of all that are asked for at once: they are held in memory
PILLOW_FORMATS = ("PNG", "WEBP", "JPEG", "GIF")  # that a run's pictures may have: of the others some start programs
T = TypeVar("T")
# `step_0001.png`, `step_0001_item_02.webp`: letters, digits and three signs, so never a way out of the folder.
FILE = re.compile(r"(?!\.)[\w.\-]+\Z")
TEXTS = {"id": str, "state": str}


@dataclass(frozen=True, kw_only=True)
class StepEntry:
    """A step as `run.json` has it: `files` are its pictures, `latent` the file with its latents."""

    index: int
    sigma: float | None
    files: tuple[str, ...]
    latent: str | None


@final
class SavedRun:
    """A run's folder, seen through its manifest. The manifest may come from anywhere: nothing in it is believed.

    Args:
        folder: of the run.
        manifest: what its `run.json` says.

    Raises:
        ManifestError: it does not say what the manifest of a run says, or names files elsewhere.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        for key, kind in TEXTS.items():
            if not isinstance(manifest.get(key), kind):
                raise ManifestError(f"{folder / NAME}: expected {key} as a text, found {brief(manifest.get(key))}")
        self.id: str = manifest["id"]
        self.space: str | None = _text(manifest.get("space"))
        self.steps = _entries(folder, manifest.get("steps"))
        last = self.steps[-1].index if self.steps else 0
        total = _facts(manifest, "sampler").get("steps")
        self.total: int = max(total, last) if type(total) is int else last

    @classmethod
    def open(cls, folder: Path) -> "SavedRun":
        """The run in `folder`.

        Raises:
            ManifestError: there is none, or its record cannot be read.
        """
        return cls(folder, read_manifest(folder))

    def pictures(self, most: int) -> list[StepImage]:
        """At most `most` pictures, evenly spread, the first of each step, the last step among them; none if there are
        none.

        Raises:
            GoneError: a picture that the manifest lists is missing.
            ManifestError: it is no picture, or far too large.
        """
        kept: list[StepImage] = []
        room = MAX_TOTAL_PIXELS
        for step in spread_evenly([step for step in self.steps if step.files], most):
            image = self._picture(step.files[0])
            room -= math.prod(image.size)
            if room < 0:
                raise ManifestError(
                    f"{self.folder.name}: {len(kept) + 1} of its pictures have more than {MAX_PIXELS_TOGETHER:,} "
                    "pixels together; ask for fewer"
                )
            kept.append(StepImage(step.index, self.total, step.sigma, image))
        return kept

    def sheet(self) -> Image.Image | None:
        """The contact sheet that was written with the run; None if none was.

        Raises:
            GoneError: it is missing.
            ManifestError: it is no picture, far too large, or elsewhere.
        """
        name = self.manifest.get("sheet")
        if name is None:
            return None
        return self._picture(_expect_name(self.folder, name))

    def latents(self, index: int | None = None) -> SavedLatents:
        """The latents of a step; of the last one that has any, if it is None.

        Raises:
            GoneError: there is no such step, no latents of it were kept, or the file is missing.
            LatentsError: the file holds others.
        """
        kept = {step.index: step.latent for step in self.steps if step.latent}
        if not kept:
            raise GoneError("no latents were kept of this run: switch on keep_latents in Preview Steps, sample again")
        index = max(kept) if index is None else index
        if index not in kept:
            known = index in {step.index for step in self.steps}
            what = f"no latents were kept of step {index}" if known else f"this run has no step {index}"
            raise GoneError(f"{what}; there are latents of {name_steps(list(kept))}")
        return read_latents(self._path(kept[index]), run=self.id, index=index, space=self.space)

    def summary(self) -> str:
        """The run in a few lines, for people."""
        manifest = self.manifest
        sampler, decoder, notes = _facts(manifest, "sampler"), _facts(manifest, "decoder"), manifest.get("notes")
        settings = ", ".join(
            f"{key} {sampler[key]}" for key in ("name", "scheduler", "cfg", "seed") if _said(sampler, key)
        )
        pictures = [step.index for step in self.steps if step.files]
        latents = [step.index for step in self.steps if step.latent]
        lines = [
            f"{self.folder.name}: {manifest['state']}, {self.total} steps" + (f", {settings}" if settings else ""),
            f"space {self.space or 'unknown'}, decoder {decoder.get('name') or 'unknown'}",
            f"pictures of {name_steps(pictures)}" if pictures else "no pictures",
            f"latents of {name_steps(latents)}" if latents else "no latents",
            *(str(note) for note in (notes if isinstance(notes, list) else [])),
        ]
        return "\n".join(lines)

    def _picture(self, name: str) -> Image.Image:
        path = self._path(name)
        try:
            content = io.BytesIO(read_regular_file(path, MAX_PICTURE_BYTES, links=False))
            with Image.open(content, formats=PILLOW_FORMATS) as image:
                if math.prod(image.size) > MAX_PICTURE_PIXELS:
                    raise ManifestError(
                        f"{name}: {image.size[0]}x{image.size[1]} is too large for the picture of a step"
                    )
                return image.convert("RGB")
        except FileNotFoundError:
            raise GoneError(f"{name} is listed in run.json and missing in {self.folder.name}") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ManifestError(f"{name}: expected a picture: {error}") from None

    def _path(self, name: str) -> Path:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ManifestError(f"{name}: leads out of the folder {self.folder.name}; such files are not opened")
        return path


def spread_evenly(steps: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly spread, the last one always."""
    if len(steps) <= most:
        return list(steps)
    if most == 1:
        return [steps[-1]]
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def _entries(folder: Path, steps: Any) -> list[StepEntry]:
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ManifestError(f"{folder / NAME}: expected steps as a list")
    return sorted((_entry(folder, step) for step in steps), key=lambda entry: entry.index)


def _entry(folder: Path, step: dict[str, Any]) -> StepEntry:
    index, sigma, files, latent = (step.get(key) for key in ("index", "sigma", "files", "latent"))
    if type(index) is not int or index < 0 or not isinstance(files, list):
        raise ManifestError(
            f"{folder / NAME}: expected an index and files of each step, found {brief(index)} and {brief(files)}"
        )
    for name in (*files, *([] if latent is None else [latent])):
        _expect_name(folder, name)
    if not isinstance(sigma, int | float):
        sigma = None
    return StepEntry(index=index, sigma=sigma, files=tuple(files), latent=latent)


def _expect_name(folder: Path, name: Any) -> str:
    if not isinstance(name, str) or not FILE.match(name) or name_problem(name):
        raise ManifestError(f"{folder / NAME}: {brief(name)} is not the name of a file in the folder")
    return name


def _facts(manifest: Mapping[str, Any], key: str) -> dict[str, Any]:
    facts = manifest.get(key)
    return facts if isinstance(facts, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _said(facts: Mapping[str, Any], key: str) -> bool:
    return isinstance(facts.get(key), str | int | float)
