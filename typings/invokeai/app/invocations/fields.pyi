"""Names of InvokeAI 6.14 that Safelight uses."""

from typing import Any

from pydantic import BaseModel, RootModel

class Input:
    Any: Any
    Connection: Any
    Direct: Any

class UIType:
    def __getattr__(self, name: str) -> Any: ...

class FieldDescriptions:
    def __getattr__(self, name: str) -> Any: ...

class ImageField(BaseModel):
    image_name: str

class LatentsField(BaseModel):
    latents_name: str
    seed: int | None

class BoardField(BaseModel):
    board_id: str

class MetadataField(RootModel[dict[str, Any]]): ...

class WithMetadata(BaseModel):
    metadata: MetadataField | None

class WithBoard(BaseModel):
    board: BoardField | None

def InputField(default: Any = ..., **facts: Any) -> Any: ...
def OutputField(**facts: Any) -> Any: ...
