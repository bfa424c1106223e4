"""Replaces the ordinary preview of every sampler, without a node, if the user switched that on.

Only this module replaces a function in a module of ComfyUI: `latent_preview.get_previewer`. ComfyUI's own function is
the `__wrapped__` of ours. The setting is read when a prompt is queued; if it is off, ComfyUI's function is put back.
"""

import logging
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, final

import latent_preview
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy.cli_args import args as cli
from PIL import Image
from torch import Tensor

import nodes

from ...decoders.catalogue import Candidate
from ...decoders.latents.identify import identify
from ...decoders.latents.space import LatentSpace
from ...errors import SafelightError, describe
from ...preview.decode.decoder_trial import DecoderTrial
from ...preview.decode.run_decoder import RunDecoder
from ...preview.options import RunOptions
from ...preview.pipeline import Pipeline
from ...preview.run import Run
from ...preview.snapshot import Selection
from ...preview.start import Outputs, start
from ...preview.step import Step, StepInfo
from ..reversible_patch import ReversiblePatch
from .decoder_folders import candidates, catalogue
from .facts import Prompt, format_evidence
from .learning import vae_of_sampler
from .preferences import ComfyPreferences, device_bytes
from .preview_messages import PreviewTarget

FIRST_FRAME = Selection(items=1, frames="first")
MAX_END_WAIT_S = 0.5  # the end of a sampler waits for its last picture
# A workflow whose previews VideoHelperSuite animates, with data from ComfyUI's own previewers.
VHS_OPTION, VHS_NODE = "VHS_latentpreview", "VHS_VideoCombine"

log = logging.getLogger("safelight.comfyui")


def register(server: Any) -> None:
    """Reads the setting whenever a prompt is queued. If the pack is installed twice, only one copy does."""
    if hasattr(server, "safelight_everywhere"):
        return
    server.safelight_everywhere = patch = ReversiblePatch(latent_preview, "get_previewer", get_previewer)

    def apply_setting(prompt: Any) -> Any:
        if ComfyPreferences.current().everywhere:
            patch.install()
        else:
            patch.remove()
        return prompt

    server.add_on_prompt_handler(apply_setting)


def get_previewer(before: Callable[..., Any], device: Any, latent_format: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns our previewer, or that of the replaced function `before` if ours is not better. Once for each sampler."""
    own = before(device, latent_format, *args, **kwargs)
    try:
        return _better(own, torch.device(device), latent_format) or own
    except Exception:
        log.exception("this sampler has its ordinary preview")
        return own


@final
class SafelightPreviewer(latent_preview.LatentPreviewer):
    """Copies every step that ComfyUI's callback passes to it. Other callers get the picture of ComfyUI's own previewer.

    The run begins with the first step of ComfyUI's callback: other packs ask for a previewer and never use it, or ask
    for one at each step. After a failure, ComfyUI's own previewer shows the rest of the run. The host has no
    end-of-sampling event; we use the previewer's garbage collection.

    Args:
        own: previewer that the sampler would have had, or None.
        source: space, decoders and target of the previews.
    """

    def __init__(self, own: Any, source: "PreviewSource") -> None:
        self._own, self._source, self._steps = own, source, 0
        self._run: Run | None = None
        self._pipeline: Pipeline | None = None

    @property
    def __class__(self) -> type:  # type: ignore[override]
        """The class of ComfyUI's own previewer, for `isinstance` in other packs."""
        return SafelightPreviewer if self._own is None else type(self._own)

    def decode_latent_to_preview_image(self, preview_format: str, x0: Any) -> Any:
        """Returns None to ComfyUI's callback; to others, and after a failure, `(format, picture, size)`."""
        if sys._getframe(1).f_globals is vars(latent_preview) and self._show(x0):  # noqa: SLF001
            return None
        previewer = super() if self._own is None else self._own
        return previewer.decode_latent_to_preview_image(preview_format, x0)

    def decode_latent_to_preview(self, x0: Any) -> Any:
        """Returns the picture of ComfyUI's own previewer; ours, decoded now, if there is none: black if that fails."""
        if self._own is not None:
            return self._own.decode_latent_to_preview(x0)
        try:
            return self._source.decode(x0)
        except Exception:  # without Safelight, the sampler would have no previewer and go on
            log.warning("a step is shown in black: it could not be decoded", exc_info=True)
            return Image.new("RGB", (x0.shape[-1], x0.shape[-2]))

    def __getattr__(self, name: str) -> Any:
        """Attributes of ComfyUI's own previewer that other packs read, such as `taesd` and `latent_rgb_factors`."""
        return getattr(self.__dict__.get("_own"), name)

    def _show(self, x0: Any) -> bool:
        """Shows a step; returns False if ComfyUI's own previewer should, because ours failed."""
        run = self._begin() if self._run is None else self._run
        if self._pipeline is None or (run.notes and self._own is not None):
            return self._own is None
        self._steps += 1
        # The number of steps is unknown. A step that waits is replaced by a newer one, so the last is shown anyway.
        self._pipeline.offer(Step(index=self._steps, total=self._steps, denoised=x0))
        return True

    def _begin(self) -> Run:
        self._run = Run(host=self._source.prompt.host(self._source.prompt.node), space=self._source.space.name)
        try:
            self._pipeline = self._source.start(self._run)
            end = partial(_end, self._pipeline, self._run.ended, threading.get_ident())
            weakref.finalize(self, end).atexit = False
        except Exception as error:
            self._run.note(f"this sampler has its ordinary preview: {describe(error)}")
        return self._run


@dataclass(frozen=True, kw_only=True)
class PreviewSource:
    """What decodes the previews of a sampler, and where they go.

    Args:
        prompt: prompt that runs.
        target: client and node that show the previews.
        space: latent space of the sampler's latents.
        find_candidates: function that returns the decoders to try, best first.
    """

    prompt: Prompt
    target: PreviewTarget
    space: LatentSpace
    find_candidates: Callable[[], Sequence[Candidate]]

    def start(self, run: Run) -> Pipeline:
        """Starts `run`, when the sampler has made its first step."""
        return start(
            run,
            self.space,
            RunOptions(),
            Outputs(sinks=[self.target.sink()]),
            candidates=self.find_candidates,
            select=_first_picture,
            device_bytes=device_bytes,
            trial=DecoderTrial(catalogue(), self.space, log.warning),
            notify=log.info,
        )

    def decode(self, x0: Any) -> Image.Image:
        """Decodes a step on the calling thread."""
        with torch.inference_mode():
            picture = self._decoder.decode(self._decoder.unpack(_first_picture(x0)), StepInfo(index=1, total=1))
        return Image.fromarray(picture.first)

    @cached_property
    def _decoder(self) -> RunDecoder:
        return RunDecoder(self.space, self.find_candidates, log.info, device_bytes=device_bytes)


def _better(own: Any, device: torch.device, latent_format: Any) -> SafelightPreviewer | None:
    """Our previewer for a sampler that is about to begin; None if it has no decoder, or if it is not wanted."""
    prompt = Prompt.current()
    method = cli.preview_method  # ComfyUI sets it for each prompt
    if (
        prompt.client is None
        or method is LatentPreviewMethod.NoPreviews
        or _is_animated_by_vhs(prompt)
        or not ComfyPreferences.current().everywhere
    ):
        return None
    evidence, decoders = format_evidence(latent_format), catalogue()
    try:
        space = identify(evidence, decoders.spaces())
    except SafelightError as error:
        log.debug("%s", error)
        return None
    if not decoders.of(space):
        return None
    # Users who chose TAESD in ComfyUI accept that a preview takes time.
    accelerated = device.type != "cpu" or method is LatentPreviewMethod.TAESD
    source = PreviewSource(
        prompt=prompt,
        target=PreviewTarget.current(prompt, prompt.client),
        space=space,
        find_candidates=partial(candidates, space, evidence, accelerated, vae=vae_of_sampler(prompt)),
    )
    return SafelightPreviewer(own, source)


def _is_animated_by_vhs(prompt: Prompt) -> bool:
    extra = (prompt.workflow or {}).get("extra")
    return isinstance(extra, Mapping) and bool(extra.get(VHS_OPTION)) and VHS_NODE in nodes.NODE_CLASS_MAPPINGS


def _first_picture(x0: Any) -> Tensor:
    """The first picture of latents in the form that samplers pass to previewers; of a video its first frame.

    A video is `[B, C, T, H, W]`, or `[T, C, H, W]` from a sampler with its own loop. Of picture and sound, the picture.
    """
    return FIRST_FRAME(x0.tensors[0] if getattr(x0, "is_nested", False) else x0)


def _end(pipeline: Pipeline, ended: threading.Event, sampler: int) -> None:
    """Ends the run. Python may call this on any thread: only the sampler's own thread waits for the last picture."""
    pipeline.end("finished")
    if threading.get_ident() == sampler:
        ended.wait(MAX_END_WAIT_S)
