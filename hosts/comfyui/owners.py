"""Ties each run to the browser that queued it, so that only this browser can list it."""

import hmac
import secrets
from collections.abc import Callable, MutableMapping
from functools import cached_property
from typing import Any, final

KEY_HEADER = "Safelight-Key"  # of a request for the list of runs
KEY, OWNER = "safelight_key", "safelight_owner"  # in `extra_data` of a prompt: as sent, and as queued
KEY_CHARS = range(16, 257)  # a shorter key could be guessed
KEY_HELP = (
    f"a key of {KEY_CHARS.start} to {KEY_CHARS.stop - 1} characters as the header {KEY_HEADER}: "
    f"runs are listed for the key that the prompt had in extra_data.{KEY}"
)


def new_secret() -> bytes:
    """A secret of this process, which is in no file."""
    return secrets.token_bytes(32)


@final
class Owners:
    """Replaces the key in a queued prompt by a text that only this server can derive from the key.

    ComfyUI shows the `extra_data` of a prompt to everyone who asks for its queue or its history. The derived text is of
    no use there: the list of runs is answered only for the key itself.

    Args:
        secret: function that returns the server's secret.
    """

    def __init__(self, secret: Callable[[], bytes] = new_secret) -> None:
        self._find_secret = secret

    @cached_property
    def _secret(self) -> bytes:
        return self._find_secret()

    def of(self, key: object) -> str | None:
        """The owner that a key stands for; None if it is no key."""
        if not isinstance(key, str) or len(key) not in KEY_CHARS:
            return None
        return hmac.new(self._secret, key.encode(errors="backslashreplace"), "sha256").hexdigest()

    def mark(self, prompt: Any) -> Any:
        """Marks a prompt that is queued with its owner, and removes the key. What a client claims is not used."""
        extra = prompt.get("extra_data") if isinstance(prompt, MutableMapping) else None
        if isinstance(extra, MutableMapping):
            owner = self.of(extra.pop(KEY, None))
            extra.pop(OWNER, None)
            extra.update({OWNER: owner} if owner else {})
        return prompt


def register(server: Any, secret: Callable[[], bytes] = new_secret) -> Owners:
    """The owners of the server's runs. If the pack is installed twice, both copies use the same.

    Args:
        server: ComfyUI's server.
        secret: function that returns the server's secret.
    """
    owners: Owners | None = vars(server).get("safelight_owners")
    if owners is None:
        owners = server.safelight_owners = Owners(secret)
        server.add_on_prompt_handler(owners.mark)
    return owners
