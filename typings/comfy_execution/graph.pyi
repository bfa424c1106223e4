"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

class DynamicPrompt:
    def __init__(self, original_prompt: dict[str, Any]) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
