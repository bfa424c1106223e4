"""Names of InvokeAI 6.14 that Safelight uses."""

from typing import Any

def get_config() -> Any: ...
