"""Stores a run's latents, one file for each step, and reads them back."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple, final

import torch
from safetensors.torch import save
from torch import Tensor

from ...decoders.files.tensor_file import open_tensors
from ...errors import DecoderFileError, GoneError, LatentsError, brief
from ..cadence import Cadence
from ..decode.memory_budget import MB
from ..step import StepInfo
from .run_folder import RunFolder

FORMAT = "safelight.latents/1"
MAX_LATENT_FILE_BYTES = 2048 * MB  # 81 frames of 832x480 of Wan have 17 MB
TENSORS = ("noisy", "denoised", "sigmas")


class Room(NamedTuple):
    """The free bytes of a place, and the name of the place for the user."""

    free_bytes: int
    place: str


class Need(NamedTuple):
    """The number of files that a run's latents need, and the size of each."""

    files: int
    bytes_each: int

    @classmethod
    def of(cls, latents: Tensor, cadence: Cadence, total: int) -> "Need":
        """Returns the need of a run of `total` steps, with latents like `latents`, that saves those steps of `cadence`.

        Each file has noisy and denoised latents. The estimate may be float32 where the sampler's latents are not.
        """
        number_bytes = max(latents.element_size(), torch.float32.itemsize)
        return cls(cadence.most_steps(total), 2 * latents.numel() * number_bytes)

    @property
    def total_bytes(self) -> int:
        return self.files * self.bytes_each


@final
class LatentFiles:
    """Writes `step_0001.safetensors` and so on: a step's denoised and noisy latents, unchanged.

    Values and dtype are the sampler's, in model space and in the sampler's layout: `noisy` at the start of the step,
    `denoised` the model's estimate of x0, `sigmas` the whole schedule. If the run's latents do not fit on the disk,
    none are written.

    Args:
        folder: folder of the run.
        need: space that the run needs.
        room: function that returns the free space; the worker calls it when the run begins.
        sigmas: `[steps + 1]` noise levels of the run; None if the host does not report them.
        facts: further facts for each file, by name.

    Attributes:
        refused: whether there is no room for them. Any thread may read it.
    """

    name: ClassVar[str] = "latents"

    def __init__(
        self,
        folder: RunFolder,
        need: Need,
        room: Callable[[], Room],
        *,
        sigmas: Tensor | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self._folder, self.need, self._room = folder, need, room
        self._sigmas = {} if sigmas is None else {"sigmas": sigmas.detach().to("cpu", copy=True).contiguous()}
        self._facts = dict(facts or {})
        self.refused = False

    def open(self) -> None:
        """Checks whether the run's latents fit."""
        free, place = self._room()
        if self.need.total_bytes > free:
            self.refused = True
            self._folder.run.note(
                f"no latents are saved: {self.need.files} steps of {_mb(self.need.bytes_each)} need "
                f"{_mb(self.need.total_bytes)}, {place} has room for {_mb(max(0, free))}; "
                "save fewer with every_n_steps"
            )

    def write(self, step: StepInfo, latents: Mapping[str, Tensor]) -> None:
        """Writes one step's `noisy` and `denoised`, or the one that exists."""
        if self.refused:
            return
        tensors = {name: values.cpu().contiguous() for name, values in latents.items()} | self._sigmas
        run = self._folder.run
        facts = {"format": FORMAT, "run": run.id, "space": run.space or "", "step": str(step.index)}
        name = f"step_{step.index:04d}.safetensors"
        self._folder.write(name, save(tensors, {**self._facts, **facts}))
        self._folder.record_latent(step, name)


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedLatents:
    """One step's latents, read from a file that `LatentFiles` wrote.

    Args:
        index: number of the step.
        noisy, denoised: latents in model space, in the sampler's layout; None if the sampler did not provide them.
        sigmas: `[steps + 1]` noise levels of the run.
        facts: the other facts in the file, by name.
    """

    index: int
    noisy: Tensor | None
    denoised: Tensor | None
    sigmas: Tensor | None
    facts: Mapping[str, str] = field(default_factory=dict)


def read_latents(path: Path, *, run: str, index: int, space: str | None, root: Path | None = None) -> SavedLatents:
    """Reads the latents of step `index` of a run.

    Args:
        path: path of the file.
        run: id of the run that the file must name.
        index: number of the step that the file must name.
        space: name of the latent space that the file must name.
        root: folder that the file is in, as for `read_manifest`; None for the file's own folder.

    Raises:
        GoneError: the file does not exist.
        LatentsError: the file holds no latents, or those of another run, step or space.
    """
    expected = {"format": FORMAT, "run": run, "space": space or "", "step": str(index)}
    if not os.path.lexists(path):
        raise GoneError(f"{path}: no such file; it was moved or deleted")
    try:
        facts, held = open_tensors(
            path, label="a file with the latents of a step", max_bytes=MAX_LATENT_FILE_BYTES, root=root or path.parent
        )
    except DecoderFileError as error:
        raise LatentsError(str(error)) from None
    for key, value in expected.items():
        if facts.get(key) != value:
            raise LatentsError(
                f"{path.name}: expected latents of {key} {brief(value)}, found {brief(facts.get(key))}; "
                "the folder was edited"
            )
    names = set(held)
    tensors = {name: held.get(name) for name in TENSORS}
    if all(tensors[name] is None for name in ("noisy", "denoised")):
        found = ", ".join(map(brief, sorted(names)[:4])) or "none"
        raise LatentsError(f"{path.name}: expected tensors noisy or denoised, found {found}")
    if any(values is not None and not torch.is_floating_point(values) for values in tensors.values()):
        raise LatentsError(f"{path.name}: expected floating point numbers; the file was edited")
    return SavedLatents(index=index, **tensors, facts=facts)


def _mb(count: int) -> str:
    return f"{count / MB:,.1f} MB"
