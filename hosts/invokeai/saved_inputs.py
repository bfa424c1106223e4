"""Values that a workflow was saved with and that are no choices any more.

InvokeAI refuses a whole graph with HTTP 422 if one value is no choice of its input.
"""

import logging
from collections.abc import Callable, Container
from typing import Any

from ...errors import brief

log = logging.getLogger("safelight.invokeai")


def choice_or(
    fallback: str, choices: Container[str], what: str, notify: Callable[[str], object] = log.warning
) -> Callable[[Any], Any]:
    """A function that returns its argument, or `fallback` for a name that is none of the choices.

    Args:
        fallback: value in place of a missing one.
        choices: names that exist.
        what: what the names are of, such as `decoder`.
        notify: function that receives a message about a missing name.
    """

    def replaced(name: Any) -> Any:
        if not isinstance(name, str) or name in choices:
            return name
        notify(f"there is no {what} {brief(name)}, perhaps it was removed; Safelight uses {fallback!r} instead")
        return fallback

    return replaced
