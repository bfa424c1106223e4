"""Watches a sampler of ComfyUI through a wrapper on a cloned MODEL. No module or class of ComfyUI is changed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

from comfy.model_management import InterruptProcessingException
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...decoders.catalogue import AUTO
from ...decoders.latents.identify import identify_or_unknown
from ...errors import OptionError, brief, describe
from ...preview.decode.decoder_trial import DecoderTrial
from ...preview.run import FULL, Run, State
from ...preview.sinks.truth import TruthMeter, shown_image
from ...preview.start import start
from ...preview.step import Step, step_number
from ...preview.vae_picture import ready_picture
from .continue_from_step import WATCH_KEY
from .decoder_folders import candidates, catalogue
from .decoder_offer import DecoderOffer
from .facts import Prompt, frame_rate, latent_evidence, sampler_facts
from .learning import remember_run, vae_of_sampler
from .noise_levels import NoiseLevels
from .options import ChosenOptions
from .output_paths import check_prefix
from .preferences import device_bytes
from .preview_messages import PreviewTarget
from .prompt_text import prompt_text
from .run_handle import RecordedRun, RunHandle
from .selection import final_size, note_unused_frames, select_shown, shown_part
from .shared import Shared
from .sinks import latent_files, pause_report, run_outputs
from .stop_and_keep import KeepWrapper, RequestedEnd
from .vae_preview import ComfyVaePreview
from .video_batch import is_video_batch, video_shape

PARAMETERS = (  # of ComfyUI's `CFGGuider.outer_sample`; newer versions pass `latent_shapes` by name
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

MIN_PREVIEW_INTERVAL_S = 0.2  # ComfyUI's loop encodes each preview, and a slow client gets everything else after it

log = logging.getLogger("safelight.comfyui")


def attach(model: Any, chosen: ChosenOptions, vae: Any, node: str | None, handle: RunHandle) -> Any:
    """Returns a clone of the ModelPatcher `model` whose runs are watched.

    Args:
        model: ModelPatcher to clone; it stays as it is.
        chosen: the user's options, with notes for each run.
        vae: ComfyUI's VAE for decoder full; None if none is connected.
        node: id of the node that shows the runs.
        handle: receives a record of each run.

    Raises:
        SinkError: no folder can exist at the path of the filename prefix.
        Exception: ComfyUI's own, if the filename prefix leads out of its output folder.
    """
    if chosen.options.write_intermediates:
        check_prefix(chosen.options.filename_prefix, Prompt.current())
    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, WATCH_KEY, SamplerWrapper(chosen, vae, node, handle))
    watched.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, WATCH_KEY, KeepWrapper())
    return watched


@final
class SamplerWrapper(Shared):
    """Wraps the calls of a sampler: each call is a run. Arguments as for `attach`."""

    def __init__(self, chosen: ChosenOptions, vae: Any, node: str | None, handle: RunHandle) -> None:
        self._chosen, self._vae, self._node, self._handle = chosen, vae, node, handle

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            named = dict(zip(PARAMETERS, args, strict=False)) | kwargs
            watched = WatchedSampler(self._chosen, self._vae, self._node, self._handle, executor.class_obj, named)
            watched_args, watched_kwargs = _with_callback(args, kwargs, watched.chain)
        except Exception:
            log.exception("this run has no preview")
            return executor(*args, **kwargs)
        state: State = "failed"
        try:
            with watched.levels.listening():
                samples = executor(*watched_args, **watched_kwargs)
            watched.finish(samples)
            state = "finished" if watched.kept is None else "stopped"
            return samples
        except InterruptProcessingException:
            state = "interrupted"
            raise
        except Exception as error:
            watched.note_failure(error)
            raise
        finally:
            watched.close(state)


@final
class WatchedSampler:
    """One watched run.

    Nothing that it owns refers to it, so it is freed when the sampler returns, and the model with it. Older versions of
    ComfyUI report a model that only the garbage collector frees as a leak, then and at every later load.

    Args:
        chosen, vae, node, handle: as for `attach`.
        guider: ComfyUI's `CFGGuider`.
        named: arguments of its `outer_sample`, by name.

    Attributes:
        levels: noise levels of the steps.
    """

    def __init__(
        self,
        chosen: ChosenOptions,
        vae: Any,
        node: str | None,
        handle: RunHandle,
        guider: Any,
        named: Mapping[str, Any],
    ) -> None:
        options = chosen.options
        model = self._model = guider.model_patcher
        noise, sigmas = named["noise"], named["sigmas"]
        self.levels = NoiseLevels(model, named["sampler"], sigmas)
        shapes = named.get("latent_shapes") or [noise.shape]
        is_video = is_video_batch(model, shapes)
        shape = video_shape(shapes[0]) if is_video else shapes[0]
        prompt, fps = Prompt.current(), frame_rate(guider, is_video)
        run = self._run = Run(
            host=prompt.host(node),
            sampler=sampler_facts(prompt, guider, named["sampler"], self.levels.planned, named.get("seed"), shape),
            prompt=prompt_text(prompt.graph, prompt.node),
        )
        for note in chosen.notes:
            run.note(note)
        evidence = latent_evidence(model)
        space = identify_or_unknown(evidence, catalogue().spaces(), run.note)
        run.space = space.name
        part = shown_part(options, space)
        note_unused_frames(run, options, shape)
        folders, outputs = run_outputs(run, options, prompt, final_size(space, shape), shape[0])
        latent_folder = folders[0] if options.keep_latents and folders else None
        record = RecordedRun.of(run, folders, latent_folder, prompt, model, sigmas, shapes)
        if latent_folder is not None:
            files = latent_files(options, latent_folder, noise, sigmas, record.facts())
            outputs = replace(outputs, latents=files)
        report = outputs.live.report_truth if outputs.live else lambda _: None
        image = shown_image(space, shape, middle=options.frames == "middle")
        truth = TruthMeter(run, space.downscale, folders, report, image=image)
        remember_run(prompt, truth)
        outputs = replace(outputs, truth=truth)
        if chosen.sends_previews and prompt.client is not None:
            sender = PreviewTarget.current(prompt, prompt.client).sink(MIN_PREVIEW_INTERVAL_S)
            outputs = replace(outputs, sinks=[*outputs.sinks, sender])
        self._vae_preview = None
        if options.decoder == FULL and folders:
            every = options.full_every_n_steps
            self._vae_preview = ComfyVaePreview(vae, model, space, every, part, shapes, run.note, fps, is_video)
        accelerated, vae_id = model.load_device.type != "cpu", vae_of_sampler(prompt)
        if options.decoder == AUTO and outputs.live:
            offer = DecoderOffer(run, catalogue(), space, accelerated=accelerated)
            outputs = replace(outputs, sinks=[*outputs.sinks, offer])
        self._pipeline = start(
            run,
            space,
            options,
            outputs,
            candidates=partial(candidates, space, evidence, accelerated, options.step_decoder, run.note, vae_id),
            select=select_shown(part, shapes, is_video),
            shape=noise.shape,
            vae_bytes=self._vae_preview.picture_bytes() if self._vae_preview else 0,
            device=model.load_device,
            fps=fps,
            device_bytes=device_bytes,
            trial=DecoderTrial(catalogue(), space, run.note, vae_id),
            stop=run.control.stop_by_rule,
        )
        self._truth = truth
        self._planned_steps, self._most_steps = len(self.levels.planned) - 1, 0
        self._end = RequestedEnd(run, latent_folder, self._planned_steps, pause_report(outputs.live, prompt))
        handle.add(record)  # last: a reader waits for the end of the run, which needs its worker
        self._schedule = run.sampler["sigmas"]
        self._last: tuple[int, bool] = (0, True)  # index of the last step, and whether it is shown
        self._calls, self._counts_calls = 0, False

    def finish(self, samples: Tensor) -> None:
        """Shows the sampler's result as the last step, if no step was: some samplers report a wrong number of steps."""
        index, shown = self._last
        if self._end.kept is not None:
            self._truth.keep(self._end.kept)
            if self._vae_preview:  # its picture replaces the one of the kept step
                index, shown = self._end.kept, False
        elif self._most_steps:
            self._run.know(steps=self._most_steps)
        self.levels.settle()
        self._record_schedule()
        vae_preview, picture = self._vae_preview, None
        if vae_preview and (vae_preview.is_pending or not shown):
            picture = vae_preview.finish(samples, index)
        if shown:
            if vae_preview and not vae_preview.finished:
                self._run.note("VAE preview skipped: the sampler ended before the step that it reports as the last")
            return
        try:
            latents = self._model.model.process_latent_in(samples)
            total = index if self.kept is None else max(index, self._planned_steps)
            last = Step(index=index, total=total, sigma=self.levels.end, denoised=latents)
            self._pipeline.offer(last, picture and ready_picture(picture))
        except Exception as error:
            self._run.note(f"the last step is not shown: {describe(error)}")

    @property
    def kept(self) -> int | None:
        """Number of the step that a person made the result; None if the sampler ended as planned."""
        return self._end.kept

    def note_failure(self, error: Exception) -> None:
        """Records why the sampler failed."""
        self._run.note(f"the sampler failed: {describe(error)}")

    def close(self, state: State) -> None:
        """Ends the run. Waits until its files are written, for a limited time."""
        if self._vae_preview:
            self._vae_preview.close()
        self._pipeline.close(state)

    def chain(self, callback: Callable[..., None] | None) -> Callable[..., None]:
        """Returns a callback that calls ComfyUI's own first, always, then ours, which raises only the user's Cancel."""

        def watched(step: int, denoised: Tensor, noisy: Tensor, total: int) -> None:
            if callback is not None:
                callback(step, denoised, noisy, total)
            index = self._take(step, denoised, noisy, total)
            self._end.look(index, denoised, noisy)

        return watched

    def _take(self, step: Any, denoised: Tensor, noisy: Tensor, total: Any) -> int:
        """Takes a step and returns its number. A sampler from another package may report anything."""
        index = self._number(step)
        try:
            total = self._total(total)
            wanted = self._pipeline.wants(index, total)
            if not wanted:
                self._last = index, False
                return index
            sigma, gain = self.levels.take(index - 1)
            self._record_schedule()
            offered = Step(index=index, total=total, sigma=sigma, denoised=denoised, noisy=noisy, noisy_gain=gain)
        except Exception as error:
            self._run.note(f"a step of the sampler is not shown: {describe(error)}")
        else:
            pending = self._vae_preview.picture(offered) if self._vae_preview else None
            self._last = index, self._pipeline.offer(offered, pending, wanted)
        return index

    def _record_schedule(self) -> None:
        """Records the sigmas of the schedule if the sampler follows it."""
        sigmas = None if self.levels.scheduled is None else self._schedule
        if self._run.sampler["sigmas"] is not sigmas:
            self._run.know(sigmas=sigmas)

    def _number(self, step: Any) -> int:
        """Number of a step, from 1: as the sampler reports it, or if it reports no number, the number of its call."""
        self._calls += 1
        index = self._calls
        if not self._counts_calls:
            try:
                index = step_number(step) + 1
            except OptionError:
                self._counts_calls = True
                self._run.note(
                    f"the sampler reports {brief(step)} as the number of a step: its calls are counted instead"
                )
        self._most_steps = max(self._most_steps, index)
        return index

    def _total(self, total: Any) -> int:
        try:
            return step_number(total)
        except OptionError:
            return self._planned_steps


def _with_callback(
    args: Sequence[Any], kwargs: Mapping[str, Any], chain: Callable[[Any], Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of `outer_sample` with another callback, positional or by name."""
    at = PARAMETERS.index("callback")
    if len(args) > at:
        return (*args[:at], chain(args[at]), *args[at + 1 :]), kwargs
    return args, {**kwargs, "callback": chain(kwargs.get("callback"))}
