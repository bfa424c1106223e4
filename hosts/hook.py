"""Replaces a method of one object for a while; its class and all other objects stay unchanged."""

import copyreg
import sys
import threading
from collections.abc import Callable
from typing import Any, final

STATE = "__getstate__"  # attribute by which copy.copy, copy.deepcopy and pickle ask an object what to copy

_changing = threading.Lock()  # two threads may watch copies of one pipeline, which share objects


@final
class Hook:
    """Replaces the method `name` of `owner` until `end` is called.

    Args:
        owner: object.
        name: name of its method.
        wrapper: function that is called instead, with the original method and the arguments of the call.
        in_copies: function that returns what has the name in a copy of the owner; None: the original method. Pickled
            owners always have the original method.

    Attributes:
        owner: object.
        previous: what replaced the method before, or None.
        ended: whether `end` was called.
    """

    def __init__(
        self, owner: Any, name: str, wrapper: Callable[..., Any], in_copies: Callable[[], Any] | None = None
    ) -> None:
        self.owner, self._name, self._wrapper, self._in_copies = owner, name, wrapper, in_copies
        self.__wrapped__ = getattr(owner, name)  # where `inspect.signature` and others look
        self.ended = False
        with _changing:
            self.previous = vars(owner).get(name)
            vars(owner)[name] = self
            vars(owner).setdefault(STATE, _StateWithoutHooks(owner))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.ended:
            return self.__wrapped__(*args, **kwargs)
        return self._wrapper(self.__wrapped__, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Returns itself: it is in a copy of the owner's `__dict__`, with which a pipeline may reset its scheduler."""
        return self

    def of_copy(self) -> Any:
        """What has the name in a copy of the owner; None: the method of its class."""
        if self._in_copies is not None and not self.ended:
            return self._in_copies()
        return self.previous.of_copy() if isinstance(self.previous, Hook) else self.previous

    def end(self) -> None:
        """Restores the method. If a later hook replaced this one, that hook skips it when it ends."""
        self.ended = True
        with _changing:
            self._restore()
            if not any(isinstance(value, Hook) for value in list(vars(self.owner).values())):
                vars(self.owner).pop(STATE, None)

    def _restore(self) -> None:
        if vars(self.owner).get(self._name) is not self:
            return
        previous = self.previous
        while isinstance(previous, Hook) and previous.ended:
            previous = previous.previous
        if previous is None:
            del vars(self.owner)[self._name]
        else:
            vars(self.owner)[self._name] = previous


def _default_state(owner: Any) -> Any:
    """What `object.__getstate__` returns, which Python 3.10 lacks."""
    names = copyreg._slotnames(type(owner))  # type: ignore[attr-defined]  # noqa: SLF001 - Python's own use
    slots = {name: getattr(owner, name) for name in names if hasattr(owner, name)}
    return (dict(vars(owner)), slots) if slots else dict(vars(owner))


@final
class _StateWithoutHooks:
    """The `__getstate__` of an owner of hooks: a copy must not call the owner's methods."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __call__(self) -> Any:
        inherited = getattr(type(self._owner), STATE, _default_state)
        state = inherited(self._owner)
        if isinstance(state, tuple):  # of a class with __slots__
            attributes, slots = state
            return self._without_hooks(attributes), slots
        return self._without_hooks(state) if isinstance(state, dict) else state

    def _without_hooks(self, state: dict[str, Any]) -> dict[str, Any]:
        copies = sys._getframe(2).f_globals.get("__name__") == "copy"  # noqa: SLF001 - pickle must not get `in_copies`
        state = {name: value for name, value in state.items() if value is not self}
        for name, value in list(state.items()):
            if isinstance(value, Hook):
                in_copy = value.of_copy() if copies else None
                if in_copy is None:
                    del state[name]
                else:
                    state[name] = in_copy
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self
