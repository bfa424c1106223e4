"""A function of somebody else's module, replaced so that it can be put back."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, final

Function = Callable[..., Any]


@final
class ReversiblePatch:
    """Puts a function in the place of another one and takes it out again. Others may do the same, before and after.

    What was there before is the `__wrapped__` of ours. Whoever replaced ours in turn may go on calling it after
    `remove`: it then does what was done before.

    Args:
        module: whose function it is.
        name: of the function.
        instead: called as `instead(before, *args, **kwargs)`, `before` being what was there.
    """

    def __init__(self, module: Any, name: str, instead: Function) -> None:
        self._module, self._name, self._instead = module, name, instead
        self._ours: Function | None = None

    def install(self) -> None:
        """Sees to it that ours is called: it is not put in again where it is, be it beneath somebody else's."""
        before = getattr(self._module, self._name)
        if self._ours is not None and any(function is self._ours for function in _layers(before)):
            return

        @wraps(before)
        def ours(*args: Any, **kwargs: Any) -> Any:
            # One that somebody holds on to from an earlier time is not ours any more.
            return self._instead(before, *args, **kwargs) if self._ours is ours else before(*args, **kwargs)

        self._ours = ours
        setattr(self._module, self._name, ours)

    def remove(self) -> None:
        """Puts back what was there before; where somebody has replaced ours since, it stays and does nothing."""
        ours, self._ours = self._ours, None
        if ours is not None and getattr(self._module, self._name) is ours:
            setattr(self._module, self._name, ours.__wrapped__)  # type: ignore[attr-defined]


def _layers(function: Any) -> Iterator[Any]:
    """A function and what it says it wraps, from the outside in."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)
