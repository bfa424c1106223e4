"""The steps of watched samplers, for the nodes that go on working with them."""

import json
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from ...errors import GoneError, LatentsError
from ...preview.images.thumbnails import StepImage
from ...preview.pipeline import CLOSE_TIMEOUT_S
from ...preview.run import Run
from ...preview.saved_run import SavedRun
from ...preview.sinks.latent_files import SavedLatents
from ...preview.sinks.run_folder import RunFolder
from .continue_from_step import continuing_model
from .facts import Prompt
from .graph import upstream
from .latent_dict import unpacked
from .sampler_schedule import SamplerSchedule

MAX_RECORDS = 64  # of one node: an upscaler samples every tile
# What these hand to the callback is not what the next sampler would begin with.
# Source: ComfyUI 0.33 `comfy/k_diffusion/sampling.py`, `comfy/extra_samplers/uni_pc.py`.
OWN_STEPS = (
    *("uni_pc", "uni_pc_bh2", "dpm_fast", "dpm_adaptive", "ipndm", "ipndm_v", "deis"),
    *("unipc", "unipc_bh2", "dpm_fast_function", "dpm_adaptive_function"),  # where a node has no name for them
)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedRun:
    """One run of a watched sampler.

    Args:
        run: it.
        folders: with its pictures, the best first.
        latents: the folder with its latents; None where none are kept.
        schedule: where its steps stand; None where that is still to be found.
        shapes: of the latents; several, where they are packed into one tensor.
        model: that was sampled with, as long as somebody else keeps it.
        sampling: the host's `model_sampling` of it.
        latent_format: the host's.
    """

    run: Run
    folders: Sequence[RunFolder]
    latents: RunFolder | None
    schedule: SamplerSchedule | None
    shapes: Sequence[Sequence[int]]
    model: "weakref.ref[Any]"
    sampling: Any
    latent_format: Any

    @classmethod
    def of(
        cls,
        run: Run,
        folders: Sequence[RunFolder],
        latents: RunFolder | None,
        prompt: Prompt,
        model: Any,
        sigmas: Tensor,
        shapes: Sequence[Sequence[int]],
    ) -> "RecordedRun":
        """A record of the run that begins; `model` is the ModelPatcher that is sampled with."""
        return cls(
            run=run,
            folders=folders,
            latents=latents,
            schedule=SamplerSchedule.of(prompt, len(sigmas) - 1),
            shapes=tuple(tuple(shape) for shape in shapes),
            model=weakref.ref(model),
            sampling=model.get_model_object("model_sampling"),
            latent_format=model.get_model_object("latent_format"),
        )

    def facts(self) -> dict[str, str]:
        """What a file with its latents should say of them."""
        return {"format_name": type(self.latent_format).__name__, "shapes": json.dumps(self.shapes)}


@final
class RunHandle:
    """A handle to the runs that a watched model made: what the output `steps` of Preview Steps holds.

    It lives as long as the host's cache keeps the watched model. Pictures and latents stay on disk.

    Args:
        model: the ModelPatcher that is watched.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._records: deque[RecordedRun] = deque(maxlen=MAX_RECORDS)

    def add(self, record: RecordedRun) -> None:
        """Takes down a run that begins."""
        self._records.append(record)

    def after(self, prompt: Prompt) -> RecordedRun:
        """The newest run of the sampler that the executing node's `after_sampling` comes from, directly or not.

        That sampler may be cached, its run of an earlier prompt. Where it is not to be told, the newest run of all. Its
        end is waited for: samplers do not wait for what is only shown.

        Raises:
            GoneError: no run is known.
        """
        if not self._records:
            raise GoneError(
                "no sampler has sampled yet with the model of this Preview Steps: put it on a sampler's model line "
                "and connect the sampler's LATENT to after_sampling; if the sampler's result came from the cache, "
                "change its seed"
            )
        record = self._newest(prompt)
        record.run.ended.wait(CLOSE_TIMEOUT_S)
        return record

    def _newest(self, prompt: Prompt) -> RecordedRun:
        newest = {record.run.host["sampler_node"]: record for record in self._records}
        for node in upstream(prompt.graph, prompt.node, "after_sampling"):
            if node in newest:
                return newest[node]
        return self._records[-1]

    def pictures(self, record: RecordedRun, most: int) -> list[StepImage]:
        """At most `most` pictures of a run, evenly spread.

        Raises:
            GoneError: they are no longer there.
        """
        for folder in record.folders:
            saved = SavedRun(folder.path, folder.manifest())
            if folder.path.is_dir() and (pictures := saved.pictures(most)):
                return pictures
        if any(folder.path.is_dir() for folder in record.folders):
            raise GoneError("there is no picture of this run: its notes on the Preview Steps node say why")
        raise GoneError(
            "the pictures of this run are gone: they made room for newer runs, or their folder was deleted; "
            "sample again with another seed, or switch on write_intermediates"
        )

    def continuing(self, record: RecordedRun, step: int) -> "Continuation":
        """What a sampler needs to go on where step `step` of a run began.

        Raises:
            GoneError: there is no such step, no latents of it, or they are no longer there.
            LatentsError: another sampler cannot go on from what this one was working on.
        """
        saved = self._latents(record, step)
        sigmas, at = saved.sigmas, step - 1
        name = record.run.sampler.get("name")
        if saved.noisy is None or sigmas is None or name in OWN_STEPS or at >= len(sigmas) - 1:
            raise LatentsError(
                f"the sampler {name or 'used'} does not tell what it works on at a step of the schedule, so no other "
                "can go on from it; sample with euler, heun, dpmpp_2m or another that goes from sigma to sigma"
            )
        model = record.model() or self._model
        schedule = record.schedule or SamplerSchedule.found(model, record.run.sampler, sigmas)
        noisy = _begun_with(record.sampling, saved.noisy, sigmas[at])
        given = _process_out(model, record.latent_format, noisy)
        expected = _process_in(model, record.latent_format, given)
        return Continuation(
            noisy={"samples": unpacked(given, record.shapes)},
            denoised={"samples": unpacked(self._denoised(model, record, saved), record.shapes)},
            sigmas=sigmas[at:].clone(),
            start_at_step=schedule.start + at,
            steps=schedule.steps,
            model=continuing_model(model, saved.noisy, float(sigmas[at]), expected),
        )

    def _latents(self, record: RecordedRun, step: int) -> SavedLatents:
        folder = record.latents
        if folder is None:
            raise GoneError("no latents were kept of this run: switch on keep_latents in Preview Steps")
        if not folder.path.is_dir():
            raise GoneError(
                f"the latents of this run are gone: its folder {folder.path.name} was deleted or made room for newer "
                "runs; sample again with another seed, or switch on write_intermediates"
            )
        saved = SavedRun(folder.path, folder.manifest())
        if not any(entry.latent for entry in saved.steps) and folder.run.notes:
            raise GoneError(f"this run has no latents: {'; '.join(folder.run.notes)}")
        return saved.latents(step)

    @staticmethod
    def _denoised(model: Any, record: RecordedRun, saved: SavedLatents) -> Tensor:
        if saved.denoised is None:
            raise LatentsError(f"step {saved.index}: the sampler did not say what the model believed")
        return _process_out(model, record.latent_format, saved.denoised.float())


@dataclass(frozen=True, kw_only=True, eq=False)
class Continuation:
    """What a sampler needs to go on where a step began.

    Args:
        noisy: LATENT that the step began with; what a KSampler (Advanced) that ended here would have given.
        denoised: LATENT, what the model believed then.
        sigmas: that are left, from the step's own on.
        start_at_step: of `steps`, for a KSampler (Advanced).
        steps: of the whole schedule.
        model: a MODEL that begins with the very bits the step began with, where it is given `noisy` and no noise.
    """

    noisy: Mapping[str, Any]
    denoised: Mapping[str, Any]
    sigmas: Tensor
    start_at_step: int
    steps: int
    model: Any


def _begun_with(sampling: Any, noisy: Tensor, sigma: Tensor) -> Tensor:
    """What a sampler leaves that ends at `sigma`; at the very first step of a flow model, the noise itself."""
    left = sampling.inverse_noise_scaling(sigma, noisy.float())
    return left if bool(left.isfinite().all()) else noisy.float()


def _process_out(model: Any, latent_format: Any, latents: Tensor) -> Tensor:
    """Source: ComfyUI 0.33 `comfy/samplers.py`, `CFGGuider.inner_sample`; a patched format is not the model's own."""
    of_model = latent_format is model.model.latent_format
    return (model.model.process_latent_out if of_model else latent_format.process_out)(latents)


def _process_in(model: Any, latent_format: Any, latents: Tensor) -> Tensor:
    of_model = latent_format is model.model.latent_format
    return (model.model.process_latent_in if of_model else latent_format.process_in)(latents)
