"""Shows previews of every node, so also on the Generate and Canvas tabs. Off by default.

These tabs build their graphs from InvokeAI's own nodes, so the step callbacks of InvokeAI's class `UtilInterface` are
replaced, for the whole process. Each replacement stores the original: `remove` puts it back, and a second `install`
does not wrap it twice.
"""

import copy
import functools
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .options import InvokeOptions
from .preferences import InvokePreferences, is_on
from .watch import CALLBACK, ORIGINAL, WatchedNode

VARIABLE = "SAFELIGHT_INVOKEAI_EVERYWHERE"
WATCH = "safelight_watch"
LAST_PICTURE_S = 5.0  # longest time that InvokeAI waits for the last picture

log = logging.getLogger("safelight.invokeai")


def is_wanted(root: Path) -> bool:
    """Whether the user switched it on: with the variable, else with `{"everywhere": true}` in the settings file.

    Args:
        root: InvokeAI's root folder.
    """
    return is_on(VARIABLE, InvokePreferences.of(root).everywhere)


def install(interface: type, config: Callable[[], Any]) -> None:
    """Replaces all step callbacks of `interface`.

    Args:
        interface: InvokeAI's class `UtilInterface`.
        config: function that returns InvokeAI's settings.
    """
    for name in [name for name in vars(interface) if name.endswith(CALLBACK)]:
        method = vars(interface)[name]
        setattr(interface, name, _replacement(getattr(method, ORIGINAL, method), name, config))
    log.info("Safelight shows the previews of all nodes")


def remove(interface: type) -> None:
    """Puts InvokeAI's own callbacks back."""
    for name, method in list(vars(interface).items()):
        if original := getattr(method, ORIGINAL, None):
            setattr(interface, name, original)


def _replacement(original: Callable[..., None], name: str, config: Callable[[], Any]) -> Callable[..., None]:
    @functools.wraps(original)
    def callback(self: Any, state: Any, *args: Any, **kwargs: Any) -> None:
        own = functools.partial(original, self)
        watch = vars(self).get(WATCH) or _begin(self, config)
        if watch is None:
            own(state, *args, **kwargs)
            return
        watch.tap(own, name.removesuffix(CALLBACK), state, *args, **kwargs)
        if state.step >= state.total_steps:  # InvokeAI does not report the end of a node: the last picture comes before
            watch.close("finished", LAST_PICTURE_S)

    setattr(callback, ORIGINAL, original)
    return callback


def _begin(util: Any, config: Callable[[], Any]) -> WatchedNode | None:
    """Creates a watch for the node that owns `util`. The watch ends when `util` is garbage collected."""
    try:
        # A copy: if the worker held `util` itself, it would not be garbage collected when the node ends.
        data = getattr(util, "_data", None)
        context = SimpleNamespace(util=copy.copy(util), config=SimpleNamespace(get=config), _data=data)
        node = getattr(data, "invocation", None) or SimpleNamespace(id=None)
        watch = WatchedNode(InvokeOptions(), context, node)
    except Exception:
        log.debug("not watched", exc_info=True)
        return None
    setattr(util, WATCH, watch)
    weakref.finalize(util, watch.close, "finished", LAST_PICTURE_S)
    return watch
