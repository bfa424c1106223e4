"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

class PromptServer:
    instance: Any
