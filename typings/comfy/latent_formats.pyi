"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

class LatentFormat:
    latent_channels: int
    latent_rgb_factors: Any
    latent_rgb_factors_bias: Any
    scale_factor: float
    def process_in(self, latent: Any) -> Any: ...
    def process_out(self, latent: Any) -> Any: ...
