"""Replaces a method of one object for a while; its class and all other objects stay unchanged."""

from collections.abc import Callable
from types import MethodType
from typing import Any, final


@final
class Hook:
    """Replaces the method `name` of `owner` until `end` is called.

    Args:
        owner: object.
        name: name of its method.
        wrapper: function that is called instead, with the original method and the arguments of the call.

    Attributes:
        previous: what replaced the method before, or None.
        ended: whether `end` was called.
    """

    def __init__(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        self._owner, self._name, self._wrapper = owner, name, wrapper
        self.__wrapped__ = getattr(owner, name)  # where `inspect.signature` and others look
        self.previous = vars(owner).get(name)
        self.ended = False
        vars(owner)[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.ended:
            return self.__wrapped__(*args, **kwargs)
        return self._wrapper(self.__wrapped__, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Gives a copy of the owner, such as a scheduler for another stream, its original method."""
        copied = memo.get(id(self._owner))
        return self if copied is None else MethodType(getattr(type(copied), self._name), copied)

    def end(self) -> None:
        """Restores the method. If a later hook replaced this one, that hook skips it when it ends."""
        self.ended = True
        if vars(self._owner).get(self._name) is not self:
            return
        previous = self.previous
        while isinstance(previous, Hook) and previous.ended:
            previous = previous.previous
        if previous is None:
            del vars(self._owner)[self._name]
        else:
            vars(self._owner)[self._name] = previous
