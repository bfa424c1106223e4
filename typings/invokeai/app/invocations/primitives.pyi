"""Names of InvokeAI 6.14 that Safelight uses."""

from typing import Any

from .baseinvocation import BaseInvocationOutput

class ImageOutput(BaseInvocationOutput):
    image: Any
    width: int
    height: int
    @classmethod
    def build(cls, image_dto: Any) -> ImageOutput: ...

class LatentsOutput(BaseInvocationOutput):
    latents: Any
    width: int
    height: int
    @classmethod
    def build(cls, latents_name: str, latents: Any, seed: int | None = ...) -> LatentsOutput: ...
