"""Names of InvokeAI 6.14 that Safelight uses."""

from typing import Any

class InvokeAILogger:
    @classmethod
    def get_logger(cls, name: str = ..., config: Any = ...) -> Any: ...
