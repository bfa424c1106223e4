"""Watches a denoise node of InvokeAI: the node runs with a context whose step callbacks are Safelight's.

No class of InvokeAI is patched. While a node runs, Safelight listens to `step` of its scheduler object.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

from torch import Tensor

from ...decoders.latents.identify import Evidence, identify_or_unknown
from ...errors import SinkError, describe
from ...preview.decode.decoder_trial import DecoderTrial
from ...preview.pipeline import CLOSE_TIMEOUT_S, Pipeline, Wanted
from ...preview.run import FULL, Run, State
from ...preview.sinks.truth import TruthMeter
from ...preview.snapshot import GivenFrames
from ...preview.start import start
from ...preview.step import Step
from ...preview.vae_picture import VaeSchedule
from .continue_from_step import schedule_facts
from .denoise_nodes import DENOISED
from .facts import base_name, host_facts, sampler_facts
from .graph import leads_to_sheet
from .ideogram import IDEOGRAM, SignaledEstimates, signaled_state
from .kept_estimate import EndedByRule, as_output, output_of, why_not_kept
from .learning import remember_run, vae_of_run
from .options import InvokeOptions
from .output_paths import run_prefix
from .preferences import InvokePreferences, catalogue
from .progress import MESSAGE, ProgressPicture, share_done
from .sinks import outputs
from .step_count import StepCount
from .vae_preview import InvokeVaePreview
from .x0 import CallerFacts, StepEstimate, X0Estimates, caller, meta_tensor, with_batch

CALLBACK = "_step_callback"  # end of the names of InvokeAI's step callbacks, such as `flux_step_callback`
SIGNAL = "signal_progress"  # Ideogram 4 calls it in place of a step callback
ORIGINAL = "safelight_original"  # attribute with InvokeAI's own callback, on those of whole-host previews

log = logging.getLogger("safelight.invokeai")


def watched(
    invoke: Callable[[Any], Any], context: Any, node: Any, options: InvokeOptions, output_type: Any = None
) -> Any:
    """Returns `invoke(context)`, while its steps are shown and saved. What it raises is raised.

    If the user's rule ends the run, it returns the same kind of output with the estimate of a step.

    Args:
        invoke: method of the core node, bound.
        context: InvokeAI's `InvocationContext`; not changed.
        node: the invocation.
        options: the user's options.
        output_type: class of what `invoke` returns; None if no estimate may take its place.

    Raises:
        SinkError: no folder can be created at the path of the prefix.
    """
    options = with_sheet(options, context, node)
    begun = _begin(options, context, node, output_type)
    if begun is None:
        return invoke(context)
    watch, watched_context = begun
    state: State = "failed"
    try:
        output = invoke(watched_context)
        watch.finish()
        state = "finished"
        return output
    except EndedByRule as kept:
        output = output_of(output_type, context, kept.latents)
        watch.finish()
        state = "stopped"
        return output
    except Exception as error:
        watch.note_failure(error)
        raise
    finally:
        watch.close("interrupted" if state == "failed" and context.util.is_canceled() else state)


def _begin(options: InvokeOptions, context: Any, node: Any, output_type: Any) -> "tuple[WatchedNode, Any] | None":
    """A watch, and a copy of `context` whose steps it gets; None if an error of ours would cost the user's image.

    Raises:
        SinkError: no folder can be created at the path of the prefix.
    """
    try:
        if options.writes_folder:
            run_prefix(context, options.filename_prefix, sampler_facts(context, node))
        watch = WatchedNode(options, context, node, output_type)
        watched_context = copy.copy(context)
        watched_context.util = WatchedUtil(context.util, watch)
    except SinkError:
        raise
    except Exception:
        log.warning("this node runs without Safelight", exc_info=True)
        return None
    return watch, watched_context


def with_sheet(options: InvokeOptions, context: Any, node: Any) -> InvokeOptions:
    """The user's options, with a contact sheet if a Steps Sheet node gets the latents of `node`."""
    try:
        return replace(options, sheet=options.sheet or leads_to_sheet(context, node))
    except Exception:
        log.debug("the graph could not be read", exc_info=True)
        return options


@final
class WatchedUtil:
    """InvokeAI's `UtilInterface`, with step callbacks that a watch receives.

    Args:
        util: InvokeAI's.
        watch: receives each step.
    """

    def __init__(self, util: Any, watch: "WatchedNode") -> None:
        self._util, self._watch = util, watch

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._util, name)
        if name == SIGNAL:
            return partial(self._watch.tap_signal, value)
        if not name.endswith(CALLBACK):
            return value
        if original := getattr(value, ORIGINAL, None):  # whole-host previews would show each step a second time
            value = partial(original, self._util)
        return partial(self._watch.tap, value, name.removesuffix(CALLBACK))


@final
class WatchedNode:
    """Watches one run of a denoise node.

    Args:
        options: the user's options.
        context: InvokeAI's context, unchanged.
        node: the invocation.
        output_type: class of its output; None if no estimate may take its place.
    """

    def __init__(self, options: InvokeOptions, context: Any, node: Any, output_type: Any = None) -> None:
        self._options, self._context, self._node, self._output_type = options, context, node, output_type
        self._estimates: X0Estimates | SignaledEstimates | None = None
        self._count: StepCount | None = None
        self._sigmas: list[float | None] = []  # of the steps so far
        self._folder: Path | None = None
        self._run = Run(host=host_facts(context, node), sampler=sampler_facts(context, node))
        self._screen = ProgressPicture(context.util.signal_progress)
        self._pipeline: Pipeline | None = None
        self._vae: InvokeVaePreview | None = None
        self._broken, self._kept = False, False
        self._last: Step | None = None
        self._last_wanted: Wanted = ()

    def tap(self, callback: Callable[..., None], kind: str, state: Any, *args: Any, **kwargs: Any) -> None:
        """Takes a step in place of InvokeAI's `callback(state, ...)`, which is called if Safelight cannot show it.

        Args:
            callback: InvokeAI's step callback.
            kind: beginning of its name: `sd`, `flux` and so on.
            state: InvokeAI's `PipelineIntermediateState`.
            *args: the base model, for `sd`.
            **kwargs: the same, by name.
        """
        if self._context.util.is_canceled():
            callback(state, *args, **kwargs)  # raises the error with which InvokeAI ends a node
            return
        try:
            is_taken = self._take(state, base_name(kind, args, kwargs))
        except Exception as error:
            self._broken, is_taken = True, False
            self._close_estimates()
            self._run.note(f"InvokeAI's own previews are shown for the rest of this run: {describe(error)}")
            log.debug("not watched", exc_info=True)
        if not is_taken:
            callback(state, *args, **kwargs)
        elif self._run.control.is_waiting:
            self._end_by_rule(state.latents, base_name(kind, args, kwargs))

    def _end_by_rule(self, like: Tensor, base: str) -> None:
        """Ends the node's loop, because the user's rule asks for it.

        Raises:
            EndedByRule: the step has an estimate, and is not the last one.
        """
        end, last = self._run.control.obey(0, lambda: None, lambda _: None), self._last
        if end is None or last is None or last.index >= last.total:
            return
        if last.denoised is None:
            self._run.note(
                f"your rule would end this run at step {last.index}, but it goes on: its estimate is not known"
            )
            return
        self._kept = True
        self._run.keep_step(end._replace(step=last.index))
        raise EndedByRule(as_output(last.denoised, like, base))

    def tap_signal(self, signal: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Takes a step in place of InvokeAI's `signal_progress`, if it is a step that only this function reports."""
        try:
            state = signaled_state(caller(1))
        except Exception:  # of a version whose loop has other variables
            log.debug("a step could not be read", exc_info=True)
            state = None
        if state is None:
            signal(*args, **kwargs)
        else:
            self.tap(lambda _: signal(*args, **kwargs), IDEOGRAM, state)

    def finish(self) -> None:
        """Shows the last step after the node has returned. Some nodes take fewer steps than they reported."""
        try:
            self._show_last()
        except Exception as error:
            if self._context.util.is_canceled():
                raise
            self._run.note(f"the last step is not shown: {describe(error)}")

    def _show_last(self) -> None:
        if self._last is None or self._pipeline is None:
            return
        last = self._last
        if not self._kept:
            self._record_loop(last.index)
        if last.index != last.total and (self._vae is not None or not self._was_saved()):
            last = replace(last, total=last.index)
            self._offer(self._pipeline, last)
        if self._vae is not None:
            self._vae.finish(last)

    def note_failure(self, error: Exception) -> None:
        """Records in the run why the node failed."""
        if not self._context.util.is_canceled():
            self._run.note(f"the node failed: {describe(error)}")

    def close(self, state: State, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Ends the run. Waits until its files are written, for at most `timeout_s` seconds."""
        self._close_estimates()
        if self._vae is not None:
            self._vae.close()
        if self._pipeline is not None:
            self._pipeline.close(state, timeout_s)
        if self._folder is not None and self._folder.is_dir():
            log.info("the run is in %s", self._folder)
            self._folder = None
        self._last = None  # its tensors are the sampler's

    def _take(self, state: Any, base: str) -> bool:
        """Whether Safelight shows this step."""
        if self._broken or self._screen.failed or (self._pipeline is not None and not self._pipeline.has_decoder):
            self._close_estimates()
            return False
        if self._estimates is None:
            self._estimates = self._new_estimates(base)
        estimate = self._estimates.of(state, caller(2))
        if state.step == 0:  # nothing is denoised yet: progress without a picture of noise
            self._context.util.signal_progress(MESSAGE, 0.0)
            return True
        if self._count is None:
            self._count = StepCount(base, state.order, state.total_steps, self._caller().timesteps)
        index = self._count.number(state.step)
        if index is None:  # a further call of the model in the same step
            return True
        self._sigmas.append(estimate.sigma)
        step = Step(
            index=index,
            total=self._count.total,
            sigma=estimate.sigma,
            denoised=None if estimate.x0 is None else with_batch(estimate.x0),
            noisy=None if estimate.noisy is None else with_batch(estimate.noisy),
            noisy_gain=estimate.gain,
        )
        pipeline = self._pipeline or self._open(base, with_batch(state.latents), estimate, step.total)
        return self._offer(pipeline, step)

    def _new_estimates(self, base: str) -> X0Estimates | SignaledEstimates:
        if base == IDEOGRAM:
            return SignaledEstimates()
        keeps, options = self._options.keep_latents, self._options
        return X0Estimates(
            denoised=base in DENOISED,
            needs_x0=options.needs_denoised or keeps or options.stop_below_percent > 0,
            needs_noisy=options.needs_noisy or keeps,
        )

    def _caller(self) -> CallerFacts:
        """What the node's loop knows of the run."""
        return CallerFacts() if self._estimates is None else self._estimates.caller

    def _close_estimates(self) -> None:
        """Stops listening to the node's scheduler."""
        if self._estimates is not None:
            self._estimates.close()

    def _offer(self, pipeline: Pipeline, step: Step) -> bool:
        wanted = pipeline.wants(step.index, step.total)
        self._last, self._last_wanted = step, wanted
        if not wanted:
            self._context.util.signal_progress(MESSAGE, share_done(step.index, step.total))
            return True
        return pipeline.offer(step, self._vae.picture(step) if self._vae is not None else None, wanted)

    def _record_loop(self, steps: int) -> None:
        """Records the steps and the noise levels that the loop took, which may be a part of the schedule."""
        sigmas: list[float | None] | None = None
        if len(self._sigmas) == steps and None not in self._sigmas:
            levels = self._caller().levels
            if levels is not None and len(levels) == steps + 1:
                end: float | None = levels[-1]
            else:  # all of InvokeAI's schedulers end at 0
                end = 0.0 if getattr(self._node, "denoising_end", None) == 1 else None
            sigmas = [*self._sigmas, end]
        self._run.sampler = {**self._run.sampler, "steps": steps, "sigmas": sigmas}

    def _was_saved(self) -> bool:
        """Whether the last step that was offered goes where it is wanted: into files, if there are any."""
        if self._options.writes_folder or self._options.to_gallery:
            return any(group.every_step for group in self._last_wanted)
        return bool(self._last_wanted)

    def _open(self, base: str, latents: Tensor, estimate: StepEstimate, total: int) -> Pipeline:
        options, run = self._options, self._run
        root = Path(self._context.config.get().root_path)
        decoders = catalogue(root)
        evidence = Evidence(host="invokeai", format_name=base, channels=latents.shape[1], dims=2)
        space = identify_or_unknown(evidence, decoders.spaces(), run.note)
        # Raises for another shape, so that InvokeAI shows its own preview.
        height, width = space.unpack(meta_tensor(latents.shape)).shape[-2:]
        run.space = space.name
        run.sampler = {**run.sampler, "steps": total}
        if options.needs_noisy and self._estimates is not None and not self._estimates.has_noisy:
            run.note("InvokeAI reports no noisy latents of this model: the pictures show the model's estimate")
        select = options.selection(options.max_items)
        vae_bytes = 0
        if options.decoder == FULL and options.vae is None:
            run.note("auto decodes the steps: decoder full has no VAE; connect one to preview_vae")
        elif options.decoder == FULL:
            schedule = VaeSchedule(options.full_every_n_steps, space, select, run.note)
            vae_bytes = schedule.picture_bytes(latents.shape)
            load = partial(self._context.models.load, options.vae)
            self._vae = InvokeVaePreview(load, schedule, space, middle_frame=estimate.middle_frame)
        size = (width * space.downscale, height * space.downscale)
        facts = schedule_facts(base, self._node, self._caller(), total)
        places = outputs(run, options, self._context, self._node, self._screen, latents, total, size, facts)
        self._folder = None if places.folder is None else places.folder.path
        truth = TruthMeter(run, space.downscale, [] if places.folder is None else [places.folder])
        why_not = why_not_kept(self._node, self._output_type, space, middle_frame=estimate.middle_frame)
        if not estimate.middle_frame:  # of a video, only the first image of a decode is known
            remember_run(self._node, truth)
        self._pipeline = start(
            run,
            space,
            options,
            replace(places, truth=truth),
            candidates=partial(
                decoders.candidates_or_auto,
                space,
                options.step_decoder,
                accelerated=latents.device.type != "cpu",
                evidence=evidence,
                vae=vae_of_run(self._context, self._node, root),
                notify=run.note,
            ),
            select=select,
            shape=latents.shape,
            vae_bytes=vae_bytes,
            device=latents.device,
            frames=GivenFrames.ONE_LATER if estimate.middle_frame else None,
            device_bytes=lambda: InvokePreferences.of(root).device_bytes,
            trial=DecoderTrial(decoders, space, run.note),
            stop=run.control.stop_by_rule if why_not is None else None,
            why_no_stop=why_not,
        )
        return self._pipeline
