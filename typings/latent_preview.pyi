"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

MAX_PREVIEW_RESOLUTION: int

class LatentPreviewer:
    def decode_latent_to_preview(self, x0: Any) -> Any: ...
    def decode_latent_to_preview_image(self, preview_format: str, x0: Any) -> Any: ...

def get_previewer(device: Any, latent_format: Any) -> LatentPreviewer | None: ...
