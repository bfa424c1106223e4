"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

class WebUIProgressHandler: ...

def get_progress_state() -> Any: ...
