"""Replaces the ordinary preview of every sampler, without a node, if the user switched that on.

Only this module replaces a function of ComfyUI: `latent_preview.get_previewer`. ComfyUI's own function is the
`__wrapped__` of ours. The setting is read whenever a prompt is queued; if it is off, ComfyUI's function is put back.

    sampler's thread    ComfyUI asks for a previewer, then passes it every step, which is copied into the mailbox
    worker              decodes, and sends the message that ComfyUI would have sent

Our previewer returns no picture to ComfyUI, because ComfyUI would encode it while the sampler waits.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import latent_preview
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy.cli_args import args as cli
from comfy_api import feature_flags
from comfy_execution.progress import get_progress_state
from PIL import Image, ImageOps
from protocol import BinaryEventTypes
from server import PromptServer
from torch import Tensor

import nodes

from ...decoders.latents.identify import identify
from ...errors import SafelightError
from ...preview.options import RunOptions
from ...preview.picture import DecodedPicture
from ...preview.pipeline import Pipeline
from ...preview.run import Run, State
from ...preview.sinks.base import Delivery, Sink
from ...preview.snapshot import Selection
from ...preview.start import Outputs, start
from ...preview.step import Step
from .decoder_folders import candidates, catalogue
from .facts import Prompt, format_evidence
from .preferences import ComfyPreferences, device_bytes
from .reversible_patch import ReversiblePatch

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


@dataclass(frozen=True, kw_only=True)
class PreviewTarget:
    """The client and the node that show the preview of a sampler.

    Args:
        client: id of the client that queued the prompt.
        ids: metadata of a preview, as `comfy_execution.progress.WebUIProgressHandler` composes it.
        executing: node that the server reports as executing while the sampler runs.
    """

    client: str
    ids: Mapping[str, Any]
    executing: str | None

    @classmethod
    def current(cls, prompt: Prompt, client: str) -> "PreviewTarget":
        """The target for the calling thread."""
        graph = get_progress_state().dynprompt
        ids = {
            "node_id": prompt.node,
            "prompt_id": prompt.id,
            "display_node_id": graph.get_display_node_id(prompt.node),
            "parent_node_id": graph.get_parent_node_id(prompt.node),
            "real_node_id": graph.get_real_node_id(prompt.node),
        }
        return cls(client=client, ids=ids, executing=PromptServer.instance.last_node_id)

    def send(self, image: Image.Image) -> None:
        """Sends a picture as ComfyUI sends its own, in the form that the client understands."""
        server = PromptServer.instance
        preview = ("JPEG", image, None)  # None: do not resize
        if feature_flags.supports_feature(server.sockets_metadata, self.client, "supports_preview_metadata"):
            server.send_sync(BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, (preview, dict(self.ids)), self.client)
        elif server.last_node_id == self.executing:  # clients show a picture without ids on the executing node
            server.send_sync(BinaryEventTypes.UNENCODED_PREVIEW_IMAGE, preview, self.client)


@final
class SamplerNodePreview(Sink):
    """The preview on the sampler's own node."""

    name = "the preview on the sampler's node"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, target: PreviewTarget) -> None:
        self._target = target

    def open(self) -> None:
        pass

    def show(self, picture: DecodedPicture) -> None:
        side = latent_preview.MAX_PREVIEW_RESOLUTION
        self._target.send(ImageOps.contain(Image.fromarray(picture.first), (side, side), Image.Resampling.BILINEAR))

    def close(self, state: State) -> None:
        pass


@final
class SafelightPreviewer(latent_preview.LatentPreviewer):
    """Copies every step that ComfyUI passes to it. After a failure, ComfyUI's own previewer shows the rest of the run.

    The host has no end-of-sampling event; we use the previewer's garbage collection.

    Args:
        own: previewer that the sampler would have had, or None.
        run: run that receives notes about failures.
        pipeline: pipeline that shows the steps.
        end: function that is called when this previewer is garbage collected.
    """

    def __init__(self, own: Any, run: Run, pipeline: Pipeline, end: Callable[[], None]) -> None:
        self._own, self._run, self._pipeline, self._steps = own, run, pipeline, 0
        weakref.finalize(self, end).atexit = False

    def decode_latent_to_preview_image(self, preview_format: str, x0: Any) -> Any:
        """Returns None, or the picture of ComfyUI's own previewer after a failure. On the sampler's thread."""
        if self._run.notes and self._own is not None:
            return self._own.decode_latent_to_preview_image(preview_format, x0)
        self._steps += 1
        # The number of steps is unknown. A step that waits is replaced by a newer one, so the last is shown anyway.
        self._pipeline.offer(Step(index=self._steps, total=self._steps, denoised=x0))
        return None

    def decode_latent_to_preview(self, x0: Any) -> Any:
        """Returns the picture of ComfyUI's own previewer, for callers that need it now."""
        return None if self._own is None else self._own.decode_latent_to_preview(x0)

    def __getattr__(self, name: str) -> Any:
        """Attributes of ComfyUI's own previewer that other packs read, such as `taesd` and `latent_rgb_factors`."""
        return getattr(self.__dict__.get("_own"), name)


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
    run = Run(host=prompt.host(prompt.node), space=space.name)
    pipeline = start(
        run,
        space,
        RunOptions(),
        Outputs(sinks=[SamplerNodePreview(PreviewTarget.current(prompt, prompt.client))]),
        candidates=partial(candidates, space, evidence, accelerated),
        select=_first_picture,
        device_bytes=device_bytes,
        notify=log.info,
    )
    return SafelightPreviewer(own, run, pipeline, partial(_end, pipeline, run.ended, threading.get_ident()))


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
