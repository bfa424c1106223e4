"""Names of ComfyUI 0.33 that Safelight uses."""

from typing import Any

NODE_CLASS_MAPPINGS: dict[str, type]

class VAEDecode:
    def decode(self, vae: Any, samples: Any) -> tuple[Any]: ...

class VAEDecodeTiled:
    def decode(self, *args: Any, **kwargs: Any) -> tuple[Any]: ...
