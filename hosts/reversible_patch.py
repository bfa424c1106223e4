"""Replaces a function of another module, and puts it back."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, final

Function = Callable[..., Any]


@final
class ReversiblePatch:
    """Replaces a function and puts it back. Other packs may replace the same function, before or after.

    The replaced function is the `__wrapped__` of ours. If another pack replaced ours, it may still call ours after
    `remove`; ours then only calls the replaced function.

    Args:
        module: module of the function.
        name: name of the function.
        instead: function that is called as `instead(before, *args, **kwargs)`; `before` is the replaced function.
    """

    def __init__(self, module: Any, name: str, instead: Function) -> None:
        self._module, self._name, self._instead = module, name, instead
        self._ours: Function | None = None

    def install(self) -> None:
        """Replaces the function, unless it is already replaced, even if another pack replaced ours since."""
        before = getattr(self._module, self._name)
        if self._ours is not None and any(function is self._ours for function in _layers(before)):
            return

        @wraps(before)
        def ours(*args: Any, **kwargs: Any) -> Any:
            # Other code may still call a replacement from an earlier `install`: that one is inactive.
            return self._instead(before, *args, **kwargs) if self._ours is ours else before(*args, **kwargs)

        self._ours = ours
        setattr(self._module, self._name, ours)

    def remove(self) -> None:
        """Puts the replaced function back. If another pack replaced ours since, ours stays and only forwards calls."""
        ours, self._ours = self._ours, None
        if ours is not None and getattr(self._module, self._name) is ours:
            setattr(self._module, self._name, ours.__wrapped__)  # type: ignore[attr-defined]


def _layers(function: Any) -> Iterator[Any]:
    """A function and the functions that it wraps, from the outside in."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)
