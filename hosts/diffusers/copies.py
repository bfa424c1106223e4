"""Finds the pipelines that sample in place of a watched one: those that it consists of, and its copies."""

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from types import SimpleNamespace
from typing import Any, final

from ..x0 import step_method
from .call_arguments import caller_with, listed_with

PROGRESS_BAR = "progress_bar"  # method of pipelines
SCHEDULER = "scheduler"
SET_TIMESTEPS = "set_timesteps"  # method of schedulers
DENOISERS = ("unet", "transformer", "transformer_2", "prior", "decoder")  # attributes of pipelines


def schedulers_of(pipeline: Any) -> list[Any]:
    """Returns the schedulers of `pipeline`: the attribute `scheduler`, and others such as the one that inverts."""
    parts = (getattr(pipeline, SCHEDULER, None), *vars(pipeline).values())
    found: list[Any] = []
    for part in parts:
        is_scheduler = part is parts[0] or hasattr(type(part), SET_TIMESTEPS)
        if is_scheduler and step_method(part) is not None and all(part is not each for each in found):
            found.append(part)
    return found


def frame_schedulers(pipeline: Any) -> list[Any]:
    """Returns the copies of its scheduler, one for each frame, in the call of `pipeline` that is running."""
    return [each for each in listed_with(pipeline, SET_TIMESTEPS) if step_method(each) is not None]


def has_scheduler(pipeline: Any) -> bool:
    """Returns whether `pipeline` has a scheduler, of any name."""
    return hasattr(pipeline, "__dict__") and not isinstance(pipeline, type) and bool(schedulers_of(pipeline))


def pipelines_in(watched: Any) -> list[Any]:
    """Returns the pipelines that are watched and those in them, such as the prior and the decoder of a combined one.

    Args:
        watched: pipeline, or several in a tuple.
    """
    found = list(watched) if isinstance(watched, tuple) else [watched]
    for each in found:  # grows meanwhile
        found += [
            part
            for part in vars(each).values()
            if hasattr(type(part), PROGRESS_BAR) and has_scheduler(part) and all(part is not one for one in found)
        ]
    return found


def older_copies(pipelines: Sequence[Any]) -> list[Any]:
    """Returns the other pipelines that exist and have a denoiser of `pipelines`, as `copy.copy` and `from_pipe` do.

    Python's garbage collector knows them. That costs some hundredths of a second, and changes nothing of the user's.
    """
    denoisers = {id(module) for each in pipelines for module in _denoisers(each)}
    kinds = {id(kind) for each in pipelines for kind in _related_classes(type(each))}
    objects = gc.get_objects()
    # By id: a class may have any `__hash__`. There may be a million objects, so no Python code runs for each.
    related = compress(objects, map(kinds.__contains__, map(id, map(type, objects))))
    return [
        each
        for each in related
        if all(each is not known for known in pipelines) and any(id(module) in denoisers for module in _denoisers(each))
    ]


def _denoisers(pipeline: Any) -> Iterator[Any]:
    attributes = vars(pipeline)
    return (module for name in DENOISERS if (module := attributes.get(name)) is not None)


def _related_classes(kind: type) -> set[type]:
    """All classes of pipelines: those derived from the most general class of `kind` that has progress bars."""
    found = [next(base for base in reversed(kind.__mro__) if PROGRESS_BAR in vars(base))]
    for base in found:  # grows meanwhile
        found += base.__subclasses__()
    return set(found)


@final
class BarOfCopy:
    """The method `progress_bar` in a copy of a watched pipeline, which learns from its caller whose it is.

    It has no reference to the watch, because a copy may live longer.

    Args:
        watch_loop: bound method that gets the copy and its bar when a loop begins, and returns the watched bar.
        kind: class of the copy.
    """

    def __init__(self, watch_loop: Callable[[Any, Any], Any] | None, kind: type) -> None:
        self._watch_loop = (lambda: None) if watch_loop is None else weakref.WeakMethod(watch_loop)
        self._kind = kind

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        copied = caller_with(PROGRESS_BAR, self)
        bar = self._kind.progress_bar(SimpleNamespace() if copied is None else copied, *args, **kwargs)  # type: ignore[attr-defined]
        watch_loop = self._watch_loop()
        return bar if watch_loop is None or copied is None else watch_loop(copied, bar)

    def __deepcopy__(self, memo: dict[int, Any]) -> "BarOfCopy":
        return self

    def __reduce__(self) -> Any:
        return BarOfCopy, (None, self._kind)
