"""A saved run, read from its folder."""

import errno
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from PIL import Image

from ..decoders.files.contained_file import read_below
from ..errors import GoneError, ManifestError, describe
from .images.thumbnails import StepImage
from .manifest import read_manifest
from .missing_steps import name_steps
from .output_folder import run_title
from .sinks.latent_files import SavedLatents, read_latents

MAX_PICTURE_PIXELS, MAX_PICTURE_BYTES = 100_000_000, 1 << 28
MAX_TOTAL_PIXELS = 1_000_000_000  # of the pictures that are in memory together
PILLOW_FORMATS = ("PNG", "WEBP", "JPEG", "GIF")  # for some others Pillow starts a program
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StepEntry:
    """A step in `run.json`: `files` are its pictures, `latent` is the file with its latents."""

    index: int
    sigma: float | None
    files: tuple[str, ...]
    latent: str | None


@final
class SavedRun:
    """The pictures and latents in the folder of a run.

    Args:
        folder: folder of the run.
        manifest: manifest of the run, from `read_manifest` or from a run of this process.
        title: name of the run in messages; None for the folder's name.
        root: folder that `folder` is in, as for `read_manifest`.
    """

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], title: str | None = None, root: Path | None = None
    ) -> None:
        self.folder, self.manifest, self.title = folder, manifest, title or folder.name
        self._root = root or folder
        self._inside = folder.relative_to(self._root)
        self.id: str = manifest["id"]
        self.space: str | None = manifest["space"]
        self.steps = [
            StepEntry(index=step["index"], sigma=step["sigma"], files=tuple(step["files"]), latent=step["latent"])
            for step in manifest["steps"]
        ]
        last = self.steps[-1].index if self.steps else 0
        self.total: int = max(manifest["sampler"]["steps"] or 0, last)

    @classmethod
    def open(cls, folder: Path, root: Path | None = None) -> "SavedRun":
        """The run in `folder`, which may come from anywhere.

        Args:
            folder: folder of the run.
            root: folder that `folder` is in, as for `read_manifest`.

        Raises:
            ManifestError: there is no run, or its manifest is not valid.
        """
        return cls(folder, read_manifest(folder, root), run_title(folder), root)

    def pictures(self, most: int) -> list[StepImage]:
        """At most `most` pictures: the first one of each step, steps evenly spread, the last step included.

        Raises:
            GoneError: a picture that the manifest lists is missing.
            ManifestError: a file is no picture, or too large.
        """
        steps = spread_evenly([step for step in self.steps if step.files], most)
        images: dict[str, Image.Image] = {}  # a file that several steps name is read once
        pixels_left = MAX_TOTAL_PIXELS
        for name in dict.fromkeys(step.files[0] for step in steps):
            images[name] = self._picture(name, pixels_left)
            pixels_left -= math.prod(images[name].size)
        return [StepImage(step.index, self.total, step.sigma, images[step.files[0]]) for step in steps]

    def items(self) -> list[Image.Image]:
        """The pictures of all batch items of the last step that has pictures; of a video the first frame of each.

        Raises:
            GoneError: a picture that the manifest lists is missing.
            ManifestError: a file is no picture, or too large.
        """
        files = next((step.files for step in reversed(self.steps) if step.files), ())
        count = (self.manifest["picture"] or {}).get("items")
        per_item = len(files) // count if type(count) is int and 0 < count <= len(files) else 1
        pixels_left, found = MAX_TOTAL_PIXELS, list[Image.Image]()
        for name in files[::per_item]:
            found.append(self._picture(name, pixels_left))
            pixels_left -= math.prod(found[-1].size)
        return found

    def sheet(self) -> Image.Image | None:
        """The contact sheet of the run; None if it has none.

        Raises:
            GoneError: the file is missing.
            ManifestError: it is no picture, or too large.
        """
        name = self.manifest["sheet"]
        return None if name is None else self._picture(name)

    def latents(self, index: int | None = None) -> SavedLatents:
        """The latents of a step; None for the last step that has latents.

        Raises:
            GoneError: there is no such step, it has no latents, or the file is missing.
            LatentsError: the file holds other latents.
        """
        files = {step.index: step.latent for step in self.steps if step.latent}
        if not files:
            raise GoneError("no latents were saved of this run; switch on keep_latents and sample again")
        index = max(files) if index is None else index
        if index not in files:
            exists = index in {step.index for step in self.steps}
            problem = f"no latents were saved of step {index}" if exists else f"this run has no step {index}"
            raise GoneError(f"{problem}; there are latents of {name_steps(list(files))}")
        path = self.folder / files[index]
        return read_latents(path, run=self.id, index=index, space=self.space, root=self._root)

    def summary(self) -> str:
        """The run in a few lines, for people."""
        manifest, sampler = self.manifest, self.manifest["sampler"]
        settings = ", ".join(
            f"{key} {sampler[key]}"
            for key in ("name", "scheduler", "cfg", "seed")
            if isinstance(sampler[key], str | int | float)
        )
        pictures = [step.index for step in self.steps if step.files]
        latents = [step.index for step in self.steps if step.latent]
        decoder = manifest["decoder"] or {}
        return "\n".join(
            [
                f"{self.title}: {manifest['state']}, {self.total} steps" + (f", {settings}" if settings else ""),
                *_model_lines(sampler),
                f"space {self.space or 'unknown'}, decoder {decoder.get('name') or 'unknown'}",
                f"pictures of {name_steps(pictures)}" if pictures else "no pictures",
                f"latents of {name_steps(latents)}" if latents else "no latents",
                *manifest["notes"],
            ]
        )

    def _picture(self, name: str, pixels_left: int = MAX_TOTAL_PIXELS) -> Image.Image:
        """Opens a picture. Its size is checked in the file's header, before its pixels are decoded."""
        try:
            content = io.BytesIO(read_below(self._root, self._inside / name, MAX_PICTURE_BYTES))
            with Image.open(content, formats=PILLOW_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PICTURE_PIXELS:
                    raise ManifestError(f"{name}: {width}x{height} is too large for the picture of a step")
                if width * height > pixels_left:
                    raise ManifestError(
                        f"{self.title}: its pictures have more than {MAX_TOTAL_PIXELS:,} pixels together; ask for fewer"
                    )
                return image.convert("RGB")
        except FileNotFoundError:
            raise GoneError(f"{name} is listed in run.json and missing in {self.title}") from None
        except ManifestError:
            raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ManifestError(f"{name}: is a link; a run's files are opened only in its own folder") from None
            raise ManifestError(f"{name}: expected a picture: {describe(error)}") from None
        except Exception as error:  # an image library may raise anything for a damaged file
            raise ManifestError(f"{name}: expected a picture: {describe(error)}") from None


def _model_lines(sampler: Mapping[str, Any]) -> list[str]:
    """A line with the model and its LoRAs, if the manifest, which may come from anywhere, names them."""
    model, loras = sampler.get("model"), sampler.get("loras")
    files = [file for file in (model, *(loras if isinstance(loras, list) else ())) if isinstance(file, Mapping)]
    texts = [
        f"{file['name']} {file.get('weight') or ''}".strip() for file in files if isinstance(file.get("name"), str)
    ]
    return ["model " + ", LoRA ".join(texts)] if texts and files[0] is model else []


def spread_evenly(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, evenly spread, the last one included."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
