"""Adds the page with all runs to InvokeAI's server: `/safelight/`."""

import logging
import sys
from pathlib import Path
from typing import Any

from ..library_app import LibraryApp
from ..library_site import LibrarySite
from ..local_server import ALL_NETWORKS, LOOPBACK, AccessRules, in_url
from ..saved_library import SavedLibrary
from .preferences import InvokePreferences, is_on

SWITCH = "SAFELIGHT_INVOKEAI_LIBRARY"
PREFIX = "/safelight"
SERVER_MODULE = "invokeai.app.api_app"  # importing it creates the server, so it is only looked up

log = logging.getLogger("safelight.invokeai")


def apply_settings(config: Any) -> None:
    """Adds the page to the running server, or removes it, as the user's settings say.

    Args:
        config: InvokeAI's settings.
    """
    server = running_server()
    if server is None:
        return
    try:
        if is_wanted(config):
            install(server, config)
        else:
            remove(server)
    except Exception:  # of a version whose server has another form: InvokeAI must start
        log.warning("InvokeAI's server has no page with all runs; safelight view shows them", exc_info=True)


def running_server() -> Any | None:
    """InvokeAI's FastAPI application; None if there is none, as in a test or in an older InvokeAI that starts."""
    return getattr(sys.modules.get(SERVER_MODULE), "app", None)


def is_wanted(config: Any) -> bool:
    """Whether the server gets the page: unless the user switched it off, or InvokeAI has accounts.

    The page lists the runs of everyone. With accounts, InvokeAI isolates images by user, and a browser that opens a
    page does not say who its user is.

    Args:
        config: InvokeAI's settings.
    """
    if getattr(config, "multiuser", False) is True:
        return False
    return is_on(SWITCH, InvokePreferences.of(Path(config.root_path)).library)


def install(server: Any, config: Any) -> None:
    """Adds the page to the server, in place of an earlier one of ours.

    Args:
        server: InvokeAI's FastAPI application.
        config: InvokeAI's settings.
    """
    remove(server)
    site = LibrarySite(SavedLibrary(Path(config.outputs_path)), {"program": "InvokeAI"})
    page = LibraryApp(site, AccessRules(str(config.host)), PREFIX)
    routes = server.router.routes
    before = list(routes)
    server.mount(PREFIX, page, name=PREFIX)
    server.add_route(PREFIX, page, name=PREFIX, include_in_schema=False)
    added = [route for route in routes if route not in before]
    routes[:] = [*added, *before]  # InvokeAI's last route answers every path
    log.info("the library of all runs: %s", address(config))


def remove(server: Any) -> None:
    """Removes the page from the server."""
    server.router.routes[:] = [route for route in server.router.routes if getattr(route, "name", None) != PREFIX]


def address(config: Any) -> str:
    """The address of the page on this machine."""
    host = LOOPBACK if config.host in ALL_NETWORKS else in_url(str(config.host))
    scheme = "https" if getattr(config, "ssl_certfile", None) else "http"
    base = (getattr(config, "base_url", None) or "").strip("/")
    return f"{scheme}://{host}:{config.port}/{base}{'/' if base else ''}{PREFIX.strip('/')}/"
