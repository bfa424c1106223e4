"""Names of InvokeAI 6.14 that Safelight uses."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

T = TypeVar("T")

class Classification:
    Beta: Any

class BaseInvocation(BaseModel):
    id: str
    @classmethod
    def get_type(cls) -> str: ...
    @classmethod
    def get_output_annotation(cls) -> type[BaseInvocationOutput]: ...
    UIConfig: Any
    def invoke(self, context: Any) -> Any: ...

class BaseInvocationOutput(BaseModel):
    @classmethod
    def get_type(cls) -> str: ...

class InvocationRegistry:
    def __getattr__(self, name: str) -> Any: ...

def invocation(invocation_type: str, **facts: Any) -> Callable[[type[T]], type[T]]: ...
def invocation_output(output_type: str) -> Callable[[type[T]], type[T]]: ...
