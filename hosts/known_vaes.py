"""Remembers the fingerprints of the VAEs that a host decodes with, in a file.

A sampler runs before its VAE decodes, and the VAE may not be loaded then. The host's graph says which VAE will decode.
"""

import json
from pathlib import Path, PurePath
from typing import final

from ..decoders.files.contained_file import write_below
from ..decoders.files.regular_file import read_regular_file
from ..decoders.measured_scores import LEARNED_FOLDER
from ..fitting.online.learned_files import FINGERPRINT, learning_locked

VAES_FILE, MAX_VAES, MAX_VAES_BYTES = "vaes.json", 256, 1 << 20


@final
class KnownVaes:
    """The fingerprints of VAEs, by a key that the host's graph gives for each.

    Args:
        folder: folder of the user's decoders.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def exist(self) -> bool:
        """Whether a fingerprint was ever saved."""
        return (self._folder / LEARNED_FOLDER / VAES_FILE).is_file()

    def remember(self, key: str, fingerprint: str) -> None:
        """Saves the fingerprint of a VAE.

        Raises:
            OSError: the file cannot be written.
        """
        if self.find(key) == fingerprint:
            return
        with learning_locked(self._folder):
            known = self._read()
            known.pop(key, None)
            known = {**known, key: fingerprint}
            newest = dict(list(known.items())[-MAX_VAES:])
            write_below(self._folder, PurePath(LEARNED_FOLDER, VAES_FILE), json.dumps(newest, indent=1).encode())

    def find(self, key: str) -> str | None:
        """The fingerprint of a VAE; None if it has not decoded yet."""
        return self._read().get(key)

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(read_regular_file(self._folder / LEARNED_FOLDER / VAES_FILE, MAX_VAES_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        known = found if isinstance(found, dict) else {}
        # A fingerprint becomes a part of a path.
        return {key: text for key, text in known.items() if isinstance(text, str) and FINGERPRINT.fullmatch(text)}
