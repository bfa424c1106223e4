"""Previews by Safelight for every node, so also on the Generate and Canvas tabs: only where the user asked for it.

Those tabs build their graphs from the host's own nodes, so the step callbacks of its class `UtilInterface` are
replaced, for the whole process. Each replacement keeps the original: `remove` puts it back, and installing again never
wraps twice.
"""

import copy
import functools
import logging
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .preferences import InvokePreferences
from .watch import CALLBACK, ORIGINAL, InvokeOptions, WatchedNode

VARIABLE = "SAFELIGHT_INVOKEAI_EVERYWHERE"
WATCH = "safelight_watch"
YES = {"1", "true", "yes", "on"}
LAST_PICTURE_S = 5.0

log = logging.getLogger("safelight.invokeai")


def is_wanted(root: Path) -> bool:
    """Whether the user asked for it: by the environment, else by `{"everywhere": true}` in `safelight/settings.json`.

    Args:
        root: InvokeAI's.
    """
    if VARIABLE in os.environ:
        return os.environ[VARIABLE].strip().lower() in YES
    return InvokePreferences.of(root).everywhere


def install(interface: type, config: Callable[[], Any]) -> None:
    """Makes all step callbacks of `interface`, the host's `UtilInterface`, ours.

    Args:
        interface: the class.
        config: gives the host's settings.
    """
    for name in [name for name in vars(interface) if name.endswith(CALLBACK)]:
        method = vars(interface)[name]
        setattr(interface, name, _replacement(getattr(method, ORIGINAL, method), name, config))
    log.info("every node's previews are made by Safelight")


def remove(interface: type) -> None:
    """Puts the host's own callbacks back."""
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
        if state.step >= state.total_steps:  # nobody tells of the end: the last picture is to be there before it
            watch.close("finished", LAST_PICTURE_S)

    setattr(callback, ORIGINAL, original)
    return callback


def _begin(util: Any, config: Callable[[], Any]) -> WatchedNode | None:
    """A watch for the node that `util` was made for; it ends when the host lets go of `util`."""
    try:
        # A copy: what the worker holds must not hold `util`, by whose end it is told that the node has ended.
        context = SimpleNamespace(util=copy.copy(util), config=SimpleNamespace(get=config))
        data = getattr(util, "_data", None)
        node = getattr(data, "invocation", None) or SimpleNamespace(id=None)
        watch = WatchedNode(InvokeOptions(), context, node)
    except Exception:
        log.debug("not watched", exc_info=True)
        return None
    setattr(util, WATCH, watch)
    weakref.finalize(util, watch.close, "finished", LAST_PICTURE_S)
    return watch
