"""Watching a sampler of ComfyUI: a wrapper on a cloned MODEL, nothing patched."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, final

from comfy.model_management import InterruptProcessingException
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...decoders.latents.identify import Evidence, identify, unknown
from ...decoders.latents.space import LatentSpace
from ...errors import SafelightError, describe
from ...preview.cadence import Cadence
from ...preview.decode.memory_budget import selected_bytes, waiting_steps
from ...preview.decode.run_decoder import DecodeWorker
from ...preview.mailbox import Mailbox
from ...preview.pipeline import Pipeline, SinkSchedule
from ...preview.run import FULL, Run, State
from ...preview.sinks.animation import check
from ...preview.step import Step
from ...preview.vae_picture import ready_picture
from . import vae_preview
from .decoder_folders import candidates, catalogue
from .facts import Prompt, frame_rate, latent_evidence, noisy_gains, sampler_facts
from .options import ANIMATIONS, NodeOptions
from .preferences import device_bytes
from .prompt_text import guiding_words
from .run_handle import RecordedRun, RunHandle
from .selection import final_size, picture_bytes, select_of_pack, selection
from .sinks import check_prefix, latent_files, places

KEY = "safelight"
PARAMETERS = (  # of the host's `CFGGuider.outer_sample`; newer hosts pass `latent_shapes` by name
    "noise",
    "latent_image",
    "sampler",
    "sigmas",
    "denoise_mask",
    "callback",
    "disable_pbar",
    "seed",
    "latent_shapes",
)

log = logging.getLogger("safelight.comfyui")


def attach(model: Any, settings: NodeOptions, node: str | None, steps: RunHandle | None = None) -> Any:
    """A clone of the ModelPatcher `model` whose sampling is watched for the node with id `node`.

    `steps` is told of every run.

    Raises:
        SinkError: the prefix leads to where no folder can be, or the animation would have no frames.
        UnknownDecoderError: decoder full has no VAE, or is to show noise.
        Exception: the host's own, for one that leads out of its output folder.
    """
    if settings.decoder == FULL:
        vae_preview.check(settings.vae, settings.show)
    if settings.write_intermediates:
        check_prefix(settings.filename_prefix, Prompt.current())
    if settings.animates:
        check(settings.animation, settings.animation_from_step, settings.animation_to_step, ANIMATIONS)
    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, SamplerWrapper(settings, node, steps))
    return watched


@final
class SamplerWrapper:
    """Wraps a sampler call: every call is a run.

    Args:
        settings: the user's.
        node: id of the node that shows the run.
        steps: is told of every run.
    """

    def __init__(self, settings: NodeOptions, node: str | None, steps: RunHandle | None = None) -> None:
        self._settings, self._node, self._steps = settings, node, steps

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            named = dict(zip(PARAMETERS, args, strict=False)) | kwargs
            watch = WatchedSampler(self._settings, self._node, executor.class_obj, named, self._steps)
            watched_args, watched_kwargs = _with_callback(args, kwargs, watch.chain)
        except Exception:
            log.exception("this run goes on without previews")
            return executor(*args, **kwargs)
        state: State = "failed"
        try:
            samples = executor(*watched_args, **watched_kwargs)
            watch.finish(samples)
            state = "finished"
            return samples
        except InterruptProcessingException:
            state = "interrupted"
            raise
        except Exception as error:
            watch.blame(error)
            raise
        finally:
            watch.close(state)


@final
class WatchedSampler:
    """One run being watched.

    Nothing it owns refers back to it: it goes when the sampler returns, and the model with it. Older hosts take a model
    that the garbage collector has to find for a leak, then and at every later load.

    Args:
        settings: the user's.
        node: id of the node that shows the run.
        guider: the host's `CFGGuider`.
        named: the arguments of its `outer_sample` by name.
        steps: is told of the run.
    """

    def __init__(
        self,
        settings: NodeOptions,
        node: str | None,
        guider: Any,
        named: Mapping[str, Any],
        steps: RunHandle | None = None,
    ) -> None:
        model = self._model = guider.model_patcher
        sigmas: list[float] = named["sigmas"].detach().float().cpu().tolist()
        self._sigmas, self._gains = sigmas, noisy_gains(model, named["sigmas"])
        prompt = Prompt.current()
        evidence = latent_evidence(model)
        self._run = Run(
            host=prompt.host(node),
            sampler=sampler_facts(prompt, guider, named["sampler"], sigmas, named.get("seed")),
            prompt=guiding_words(prompt.graph, prompt.node),
        )
        accelerated = model.load_device.type != "cpu"
        space = self._identify(evidence)
        self._run.space = space.name
        shapes = named.get("latent_shapes") or [named["noise"].shape]
        select = selection(settings, space)
        folders, outlets = places(self._run, settings, prompt, final_size(space, shapes[0]), shapes[0][0])
        latents = folders[0] if settings.keep_latents and folders else None
        record = RecordedRun.of(self._run, folders, latents, prompt, model, named["sigmas"], shapes)
        step_bytes = selected_bytes(select, shapes[0])
        if latents is not None:
            files = latent_files(settings, latents, named, record.facts())
            step_bytes += files.need.bytes_each
            outlets.append(SinkSchedule(files, Cadence(settings.every_n_steps)))
        self._cadence, self._full = Cadence(settings.every_n_steps), None
        if settings.decoder == FULL and outlets:
            self._full = vae_preview.ComfyVaePreview(
                settings.vae,
                model,
                space,
                settings.full_every_n_steps,
                select,
                shapes,
                self._run.note,
                frame_rate(guider),
            )
            step_bytes += picture_bytes(space, select, shapes[0])
        if steps is not None:
            steps.add(record)
        self._pipeline = Pipeline(
            self._run,
            DecodeWorker(
                space,
                partial(candidates, space, evidence, accelerated, settings.cheap, self._run.note),
                self._run.note,
                fps=frame_rate(guider),
                device_bytes=device_bytes,
            ),
            outlets,
            show=settings.show,
            select=select if len(shapes) == 1 else partial(select_of_pack, select, shapes[0]),
            mailbox=Mailbox(capacity=waiting_steps(step_bytes, model.load_device, device_bytes)),
        )
        self._last: tuple[int, bool] = (0, True)

    def finish(self, samples: Tensor) -> None:
        """Sees to it that the last step is shown: some samplers end before or after the step they call the last."""
        index, taken = self._last
        made = self._full.finish(samples, index) if self._full and (self._full.owes or not taken) else None
        if taken:
            if self._full and not self._full.answered:
                self._run.note("the VAE was left out: the sampler ended before the step that it calls its last")
            return
        try:
            latents = self._model.model.process_latent_in(samples)
            last = Step(index=index, total=index, sigma=self._sigmas[-1], denoised=latents)
            self._pipeline.offer(last, made and ready_picture(made))
        except Exception as error:
            self._run.note(f"the last step was not taken: {error}")

    def blame(self, error: Exception) -> None:
        """Says in the record of the run why the sampler failed."""
        self._run.note(f"the sampler failed: {describe(error)}")

    def close(self, state: State) -> None:
        """Ends the run; waits, for a bounded time, until its files are there."""
        if self._full:
            self._full.close()
        self._pipeline.close(state)

    def chain(self, callback: Callable[..., None] | None) -> Callable[..., None]:
        """The host's own callback first, always; then ours, which never raises but for the host: for its Cancel."""

        def watched(step: int, denoised: Tensor, noisy: Tensor, total: int) -> None:
            if callback is not None:
                callback(step, denoised, noisy, total)
            self._take(step, denoised, noisy, total)

        return watched

    def _take(self, step: int, denoised: Tensor, noisy: Tensor, total: int) -> None:
        try:
            if self._cadence.skips(step + 1, total):
                self._last = step + 1, False
                return
            at = min(step, len(self._sigmas) - 1)
            offered = Step(
                index=step + 1,
                total=total,
                sigma=self._sigmas[at],
                denoised=denoised,
                noisy=noisy,
                noisy_gain=self._gains[at],
            )
        except Exception as error:  # a sampler from elsewhere may call anything a step
            self._run.note(f"the sampler's step {step!r} was not taken: {error}")
        else:
            promise = None
            if self._full and self._cadence.wants(offered.index, offered.total):
                promise = self._full.promise(offered)
            self._last = offered.index, self._pipeline.offer(offered, promise)

    def _identify(self, evidence: Evidence) -> LatentSpace:
        try:
            return identify(evidence, catalogue().spaces())
        except SafelightError as error:
            self._run.note(str(error))
            return unknown(evidence)


def _with_callback(
    args: Sequence[Any], kwargs: Mapping[str, Any], chain: Callable[[Any], Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of `outer_sample` with another callback, wherever it stands among them."""
    at = PARAMETERS.index("callback")
    if len(args) > at:
        return (*args[:at], chain(args[at]), *args[at + 1 :]), kwargs
    return args, {**kwargs, "callback": chain(kwargs.get("callback"))}
