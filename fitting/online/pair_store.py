"""Stores the training pairs of one VAE, a file each, up to a total size. The oldest pairs are removed first."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, final

from ...errors import FitError
from ..pairs import Pairs

DEFAULT_STORE_BYTES = 64 << 20  # 200 pairs of 512 px in a space of 32 channels, 50 of 1024 px
MAX_PAIR_BYTES = 1 << 27  # of one pair, each number counted as four bytes
PAIRS_FOLDER = "pairs"
PAIR_NAME = re.compile(r"([0-9]{8,})-[0-9a-f]+\.safetensors")

log = logging.getLogger("safelight.fitting")


class StoredPair(NamedTuple):
    """A file with a pair. Numbers rise with time."""

    number: int
    path: Path
    size: int


@final
class PairStore:
    """The training pairs in a folder.

    Args:
        folder: folder of the files; created when needed.
        max_bytes: size of all files; with 0, nothing is saved.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_STORE_BYTES) -> None:
        self._folder, self._max_bytes = folder, max_bytes

    @property
    def added(self) -> int:
        """Number of pairs that were added so far, with those that were removed again."""
        return max((each.number for each in self.list()), default=0)

    def add(self, key: bytes, pair: Pairs) -> None:
        """Adds a pair, then removes the oldest ones that are over the limit.

        Args:
            key: key of the latents; it makes the file's name unique.
            pair: one picture with its latents.

        Raises:
            OSError: the file cannot be written.
        """
        if self._max_bytes > 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            pair.save(self._folder / f"{self.added + 1:08d}-{key.hex()}.safetensors")
        total = 0
        for each in reversed(self.list()):
            total += each.size
            if total > self._max_bytes:
                each.path.unlink(missing_ok=True)

    def list(self) -> list[StoredPair]:
        """Lists the files, oldest first. Other files in the folder are left out."""
        found = []
        for path in self._folder.glob("*-*"):
            try:
                if (match := PAIR_NAME.fullmatch(path.name)) and path.is_file() and not path.is_symlink():
                    found.append(StoredPair(int(match[1]), path, path.stat().st_size))
            except OSError:  # removed meanwhile
                continue
        return sorted(found)

    def load(self, channels: int) -> Iterator[Pairs]:
        """Loads the pairs, oldest first. A damaged file, or one of other latents, is removed.

        Args:
            channels: number of channels that the latents have.
        """
        for each in self.list():
            try:
                pair = Pairs.load(each.path, max_bytes=MAX_PAIR_BYTES, mapped=False)
                if pair.channels != channels or len(pair) != 1:
                    raise FitError(
                        f"{each.path}: expected one picture of {channels} channels, got {len(pair)} of {pair.channels}"
                    )
                yield pair
            except (FitError, OSError) as error:
                log.debug("%s; the pair is removed", error)
                each.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes all pairs and the folder, if nothing else is in it."""
        for each in self.list():
            each.path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()
