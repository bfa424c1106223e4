"""A run's latents, a file for each step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, final

import torch
from safetensors.torch import save
from torch import Tensor

from ...decoders.files.tensor_file import open_tensors
from ...errors import DecoderFileError, GoneError, LatentsError, brief
from ..picture import Picture
from ..run import State
from .base import Sink
from .run_folder import RunFolder

FORMAT = "safelight.latents/1"
MB = 1_000_000
MAX_BYTES = 8_000 * MB  # of a file that is read
TENSORS = ("noisy", "denoised", "sigmas")


class Room(NamedTuple):
    """How many bytes a place has left for latents, with its name for people."""

    free_bytes: int
    place: str


class Need(NamedTuple):
    """What a run's latents will take: files, bytes of each."""

    files: int
    bytes_each: int

    @property
    def total_bytes(self) -> int:
        return self.files * self.bytes_each


@final
class LatentFiles(Sink):
    """Writes `step_0001.safetensors` and so on: what the model believed and what the sampler worked on, as it was.

    The values and the dtype are the sampler's, to the last bit, in model space, laid out as the sampler has them:
    `noisy` when the step began, `denoised` what the model made of it, `sigmas` the whole schedule. What does not fit is
    refused before the first byte is written, for the whole run.

    Args:
        folder: of the run.
        need: what it will take.
        room: asked for when the run begins, by the worker.
        sigmas: `[steps + 1]`, of the run; None where the host does not say.
        facts: about the latents, by name; written into each file.

    Attributes:
        refused: whether there is no room for them. Any thread may ask.
    """

    name = "latents"

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
        self._sigmas = {} if sigmas is None else {"sigmas": sigmas.detach().cpu().contiguous()}
        self._facts = dict(facts or {})
        self.refused = False

    def open(self) -> None:
        free, place = self._room()
        if self.need.total_bytes > free:
            self.refused = True
            self._folder.run.note(
                f"no latents are kept: {self.need.files} steps of {_mb(self.need.bytes_each)} are "
                f"{_mb(self.need.total_bytes)}, {place} has room for {_mb(max(0, free))}; "
                "keep fewer with every_n_steps"
            )

    def show(self, picture: Picture) -> None:
        pass

    def keep(self, index: int, sigma: float | None, at_s: float, latents: Mapping[str, Tensor]) -> None:
        """Writes one step's `noisy` and `denoised`, those that there are."""
        if self.refused:
            return
        tensors = {name: values.cpu().contiguous() for name, values in latents.items()} | self._sigmas
        told = {"format": FORMAT, "run": self._folder.run.id, "space": self._folder.run.space or "", "step": str(index)}
        name = f"step_{index:04d}.safetensors"
        self._folder.write(name, save(tensors, {**self._facts, **told}))
        self._folder.record_latent(index, sigma, at_s, name)

    def close(self, state: State) -> None:
        pass


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedLatents:
    """One step's latents, as `LatentFiles` wrote them.

    Args:
        index: of the step.
        noisy, denoised: in model space, laid out as the sampler had them; None where it did not hand one over.
        sigmas: `[steps + 1]`, of the run.
        facts: what else the file says, by name.
    """

    index: int
    noisy: Tensor | None
    denoised: Tensor | None
    sigmas: Tensor | None
    facts: Mapping[str, str] = field(default_factory=dict)


def read_latents(path: Path, *, run: str, index: int, space: str | None) -> SavedLatents:
    """The latents of step `index` of a run.

    Args:
        path: of the file.
        run: the run's id, which the file must say too.
        index: of the step; so must this,
        space: and the name of the run's latent space.

    Raises:
        GoneError: there is no such file (any more).
        LatentsError: it holds no latents, or those of another run, step or space.
    """
    expected = {"format": FORMAT, "run": run, "space": space or "", "step": str(index)}
    if not path.exists():
        raise GoneError(f"{path}: is gone or was moved")
    try:
        facts, held = open_tensors(path, what="a file with the latents of a step", max_bytes=MAX_BYTES)
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
