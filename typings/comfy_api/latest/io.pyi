"""Names of ComfyUI 0.33 that Safelight uses."""

from dataclasses import dataclass
from typing import Any

# ComfyUI checks the arguments of these classes when it loads the nodes.
@dataclass
class Schema:
    def __init__(self, **facts: Any) -> None: ...

class NodeOutput:
    def __init__(self, *outputs: Any, **facts: Any) -> None: ...

class ComfyNode:
    hidden: Any

def __getattr__(name: str) -> Any: ...
