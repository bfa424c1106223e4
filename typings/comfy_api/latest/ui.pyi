"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

def __getattr__(name: str) -> Any: ...
