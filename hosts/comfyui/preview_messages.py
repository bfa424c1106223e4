"""Sends pictures as ComfyUI's own preview messages, which every client of its websocket knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import latent_preview
from comfy_api import feature_flags
from comfy_execution.progress import get_progress_state
from PIL import Image
from protocol import BinaryEventTypes
from server import PromptServer

from ...preview.cadence import Cadence
from ...preview.sinks.sent_previews import SentPreviews
from .facts import Prompt


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

    def sink(self, min_interval_s: float = 0.0) -> SentPreviews:
        """A sink that sends pictures, at most one every `min_interval_s` seconds."""
        cadence = Cadence(min_interval_s=min_interval_s)
        return SentPreviews(self.send, latent_preview.MAX_PREVIEW_RESOLUTION, cadence)

    def send(self, image: Image.Image) -> None:
        """Sends a picture as ComfyUI sends its own, in the form that the client understands."""
        server = PromptServer.instance
        preview = ("JPEG", image, None)  # None: do not resize
        if feature_flags.supports_feature(server.sockets_metadata, self.client, "supports_preview_metadata"):
            server.send_sync(BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, (preview, dict(self.ids)), self.client)
        elif server.last_node_id == self.executing:  # clients show a picture without ids on the executing node
            server.send_sync(BinaryEventTypes.UNENCODED_PREVIEW_IMAGE, preview, self.client)
