"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

class KSampler:
    SAMPLERS: list[str]
    sigmas: Any
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    SCHEDULERS: list[str]
