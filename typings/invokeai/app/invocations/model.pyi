"""Names of InvokeAI 6.14 that Safelight uses."""

from typing import Any

from pydantic import BaseModel

class VAEField(BaseModel):
    vae: Any

class UNetField(BaseModel):
    unet: Any
    def __getattr__(self, name: str) -> Any: ...

class TransformerField(BaseModel):
    transformer: Any
    def __getattr__(self, name: str) -> Any: ...
