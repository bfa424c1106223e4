"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

def supports_feature(sockets_metadata: Any, sid: Any, feature_name: str) -> bool: ...
