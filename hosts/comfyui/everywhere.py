"""Every sampler's ordinary preview made by Safelight, without a node, while a person has that switched on.

This is the one place where something of ComfyUI is replaced: `latent_preview.get_previewer`, whose own function is the
`__wrapped__` of ours. The setting is asked whenever a prompt is queued, and with it off the function is the host's.

    sampler's thread    the host asks for a previewer, then hands it every step: a copy is left in the mailbox
    worker              decodes, and sends the message that the host itself would have sent

The host is given no picture to send: its own would be made while the sampler waits.
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
from ...preview.cadence import Cadence
from ...preview.decode.run_decoder import DecodeWorker
from ...preview.mailbox import Mailbox
from ...preview.picture import Picture
from ...preview.pipeline import Pipeline, QueuedStep, SinkSchedule
from ...preview.run import Run, State
from ...preview.sinks.base import Sink
from ...preview.snapshot import Selection
from ...preview.step import Step
from .decoder_folders import candidates, catalogue
from .facts import Prompt, format_evidence
from .preferences import ComfyPreferences, device_bytes
from .reversible_patch import ReversiblePatch

FIRST = Selection(items=1, frames="first")
LAST_S = 0.5  # that the end of a sampler waits for its last picture
# A workflow that VideoHelperSuite is to animate: by itself, from what is in the host's own previewers.
ANIMATED, ANIMATOR = "VHS_latentpreview", "VHS_VideoCombine"

log = logging.getLogger("safelight.comfyui")


def register(server: Any) -> None:
    """Has the setting asked whenever a prompt is queued; of two copies of this pack, by one."""
    if hasattr(server, "safelight_everywhere"):
        return
    server.safelight_everywhere = replacement = ReversiblePatch(latent_preview, "get_previewer", get_previewer)

    def ask(prompt: Any) -> Any:
        if ComfyPreferences.current().everywhere:
            replacement.install()
        else:
            replacement.remove()
        return prompt

    server.add_on_prompt_handler(ask)


def get_previewer(before: Callable[..., Any], device: Any, latent_format: Any, *args: Any, **kwargs: Any) -> Any:
    """Our previewer where it is better than what was there `before`, else that one's; the host asks once a sampler."""
    own = before(device, latent_format, *args, **kwargs)
    try:
        return _better(own, torch.device(device), latent_format) or own
    except Exception:
        log.exception("this sampler keeps its own preview")
        return own


@dataclass(frozen=True, kw_only=True)
class PreviewTarget:
    """Where the preview of a sampler is shown.

    Args:
        client: who queued the prompt.
        ids: the metadata of a preview, as `comfy_execution.progress.WebUIProgressHandler` puts it together.
        executing: the node that the server believes to be executing, as long as the sampler is.
    """

    client: str
    ids: Mapping[str, Any]
    executing: str | None

    @classmethod
    def current(cls, prompt: Prompt, client: str) -> "PreviewTarget":
        """That of the calling thread."""
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
        """Sends a picture as the host sends its own, each kind of client what it understands."""
        server = PromptServer.instance
        preview = ("JPEG", image, None)  # None: it has its size already
        if feature_flags.supports_feature(server.sockets_metadata, self.client, "supports_preview_metadata"):
            server.send_sync(BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, (preview, dict(self.ids)), self.client)
        elif server.last_node_id == self.executing:  # without ids it is taken for that of the node that is executing
            server.send_sync(BinaryEventTypes.UNENCODED_PREVIEW_IMAGE, preview, self.client)


@final
class SamplerNodePreview(Sink):
    """The preview on the sampler's own node."""

    name = "the preview on the sampler's node"
    keeps = False

    def __init__(self, place: PreviewTarget) -> None:
        self._place = place

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        side = latent_preview.MAX_PREVIEW_RESOLUTION
        self._place.send(ImageOps.contain(Image.fromarray(picture.first), (side, side), Image.Resampling.BILINEAR))

    def close(self, state: State) -> None:
        pass


@final
class Previewer(latent_preview.LatentPreviewer):
    """Takes a copy of every step that it is handed; what goes wrong leaves the rest of the run to the host's own.

    Nothing says when a sampler is done, but that it lets go of its previewer.

    Args:
        own: the previewer that the sampler would have had, or None.
        run: is told what goes wrong.
        pipeline: makes the pictures.
        done: called when nobody has this previewer any more.
    """

    def __init__(self, own: Any, run: Run, pipeline: Pipeline, done: Callable[[], None]) -> None:
        self._own, self._run, self._pipeline, self._steps = own, run, pipeline, 0
        weakref.finalize(self, done).atexit = False

    def decode_latent_to_preview_image(self, preview_format: str, x0: Any) -> Any:
        """No picture, or the own one's; for every step, on the sampler's thread."""
        if self._run.notes and self._own is not None:
            return self._own.decode_latent_to_preview_image(preview_format, x0)
        self._steps += 1
        # Nobody says how many there will be. What waits is replaced by the newest, so the last one is shown anyway.
        self._pipeline.offer(Step(index=self._steps, total=self._steps, denoised=x0))
        return None

    def decode_latent_to_preview(self, x0: Any) -> Any:
        """The own one's picture, for whoever cannot wait for ours."""
        return None if self._own is None else self._own.decode_latent_to_preview(x0)

    def __getattr__(self, name: str) -> Any:
        """The own one's `taesd` or `latent_rgb_factors`, which other packs look for."""
        return getattr(self.__dict__.get("_own"), name)


def _better(own: Any, device: torch.device, latent_format: Any) -> Previewer | None:
    """Ours for a sampler that is about to begin; None where it has nothing to offer, or somebody wants another."""
    prompt = Prompt.current()
    method = cli.preview_method  # the host sets it anew for every prompt
    if (
        prompt.client is None
        or method is LatentPreviewMethod.NoPreviews
        or _is_animated(prompt)
        or not ComfyPreferences.current().everywhere
    ):
        return None
    evidence, at_hand = format_evidence(latent_format), catalogue()
    try:
        space = identify(evidence, at_hand.spaces())
    except SafelightError as error:
        log.debug("%s", error)
        return None
    if not at_hand.of(space):
        return None
    # Somebody who asked the host for TAESD has said that it may cost something.
    accelerated = device.type != "cpu" or method is LatentPreviewMethod.TAESD
    run, mailbox = Run(host=prompt.host(prompt.node), space=space.name), Mailbox[QueuedStep]()
    sink = SamplerNodePreview(PreviewTarget.current(prompt, prompt.client))
    pipeline = Pipeline(
        run,
        DecodeWorker(
            space,
            partial(candidates, space, evidence, accelerated),
            log.info,
            device_bytes=device_bytes,
        ),
        [SinkSchedule(sink, Cadence())],
        select=_first_picture,
        mailbox=mailbox,
    )
    return Previewer(own, run, pipeline, partial(_end, mailbox, run.ended, threading.get_ident()))


def _is_animated(prompt: Prompt) -> bool:
    extra = (prompt.workflow or {}).get("extra")
    return isinstance(extra, Mapping) and bool(extra.get(ANIMATED)) and ANIMATOR in nodes.NODE_CLASS_MAPPINGS


def _first_picture(x0: Any) -> Tensor:
    """Of latents as samplers hand them to previewers: of picture and sound the picture, of a video the first frame.

    A video comes as `[B, C, T, H, W]`, or as its frames `[T, C, H, W]` from a sampler with a loop of its own.
    """
    return FIRST(x0.tensors[0] if getattr(x0, "is_nested", False) else x0)


def _end(mailbox: Mailbox[QueuedStep], ended: threading.Event, sampler: int) -> None:
    """Lets the worker finish what waits, and end. Python may call this on any thread: only the sampler's own waits."""
    mailbox.close()
    if threading.get_ident() == sampler:
        ended.wait(LAST_S)
