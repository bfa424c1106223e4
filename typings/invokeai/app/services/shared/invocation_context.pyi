"""Names of InvokeAI 6.14 that Safelight uses."""

from typing import Any

class InvocationContext:
    def __getattr__(self, name: str) -> Any: ...

class UtilInterface:
    def __getattr__(self, name: str) -> Any: ...
