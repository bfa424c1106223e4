"""Remembers for whom saved runs were sampled, over a restart of a server with users."""

import json
import logging
import os
import secrets
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from ...errors import describe

SECRET_NAME, OWNERS_NAME = "owners.key", "owners.json"
SECRET_BYTES = 32
FORMAT = "safelight.owners/1"
MAX_OWNERS = 20_000
MAX_OWNERS_BYTES = 10_000_000

log = logging.getLogger("safelight.comfyui")


def stored_secret(folder: Path) -> bytes:
    """The secret of this server, from which owners are derived; it is created when it is first needed.

    With the same secret, a key stands for the same owner after a restart. If it cannot be stored, the server lists no
    saved runs of earlier starts.

    Args:
        folder: private folder, which no route of the server serves.
    """
    secret = _read_secret(folder)
    if secret is None:
        try:
            _write_private(folder / SECRET_NAME, secrets.token_bytes(SECRET_BYTES))
        except OSError as error:
            log.warning("saved runs of earlier starts are not listed: no secret can be stored: %s", describe(error))
        secret = _read_secret(folder)  # if another process wrote one in this moment, both have the same
    return secrets.token_bytes(SECRET_BYTES) if secret is None else secret


@final
class SavedOwners:
    """The owners of saved runs, by the run's id. Any thread may use it.

    Args:
        folder: private folder of the file, which no route of the server serves.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owners: dict[str, str] | None = None  # not read yet
        self._changing = threading.Lock()

    def of(self, run_id: str) -> str | None:
        """The owner of a run; None if it is not known."""
        with self._changing:
            if self._owners is None:
                self._owners = _read_owners(self._folder)
            return self._owners.get(run_id)

    def add(self, run_id: str, owner: str) -> None:
        """Remembers the owner of a run. Of more than `MAX_OWNERS` runs, the oldest ones are forgotten."""
        with self._changing:
            owners = {**_read_owners(self._folder), **(self._owners or {}), run_id: owner}
            self._owners = dict(list(owners.items())[-MAX_OWNERS:])
            content = json.dumps({"format": FORMAT, "owners": self._owners})
            try:
                _write_private(self._folder / OWNERS_NAME, content.encode())
            except OSError as error:
                log.warning("after a restart, this run is not listed for its user: %s", describe(error))


def _read_secret(folder: Path) -> bytes | None:
    try:
        secret = (folder / SECRET_NAME).read_bytes()
    except OSError:
        return None
    return secret if len(secret) == SECRET_BYTES else None


def _read_owners(folder: Path) -> dict[str, str]:
    """The owners in the file; none if there is no such file, or if it is damaged."""
    try:
        file = folder / OWNERS_NAME
        found: Any = json.loads(file.read_text("utf-8")) if file.stat().st_size <= MAX_OWNERS_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    owners = found.get("owners") if isinstance(found, dict) and found.get("format") == FORMAT else None
    if not isinstance(owners, dict):
        return {}
    return {run_id: owner for run_id, owner in owners.items() if isinstance(owner, str)}


def _write_private(path: Path, content: bytes) -> None:
    """Writes a file that no other account of the machine can read, so that it is complete or as before."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # readable for this account only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(partial).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise
