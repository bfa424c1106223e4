"""A method of one object, heard of for a while: its class, and every other object of it, stay as they are."""

from collections.abc import Callable
from types import MethodType
from typing import Any, final


@final
class Hook:
    """Stands in for the method `name` of `owner` until it is ended.

    Args:
        owner: the object.
        name: of its method.
        around: what is called instead: with the method as it is, and with what it is called with.

    Attributes:
        before: what stood in for it already, or None.
        ended: whether this one does no longer.
    """

    def __init__(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        self._owner, self._name, self._around = owner, name, around
        self.__wrapped__ = getattr(owner, name)  # where `inspect.signature` and others look
        self.before = vars(owner).get(name)  # somebody's stand-in, or nothing
        self.ended = False
        vars(owner)[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.ended:
            return self.__wrapped__(*args, **kwargs)
        return self._around(self.__wrapped__, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the owner, a scheduler for another stream for one, has its own method, and is not heard of."""
        copied = memo.get(id(self._owner))
        return self if copied is None else MethodType(getattr(type(copied), self._name), copied)

    def end(self) -> None:
        """Puts back what was there. Where another hook stands before it, it is left out when that one ends."""
        self.ended = True
        if vars(self._owner).get(self._name) is not self:
            return
        before = self.before
        while isinstance(before, Hook) and before.ended:
            before = before.before
        if before is None:
            del vars(self._owner)[self._name]
        else:
            vars(self._owner)[self._name] = before
