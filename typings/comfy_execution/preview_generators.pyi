"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

def get_preview_generator(*args: Any, **kwargs: Any) -> Any: ...
