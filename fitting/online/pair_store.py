"""Stores the training pairs of one VAE, a file each, up to a total size. The oldest pairs are removed first."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, final

from ...errors import FitError
from ..pairs import Pairs

DEFAULT_STORE_BYTES = 64 << 20  # 200 pairs of 512 px in a space of 32 channels, 50 of 1024 px
PAIRS_FOLDER, PAIR_SUFFIX = "pairs", ".safetensors"
MAX_NUMBER = 10**8

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
        max_bytes: size of all files. The newest pair stays, whatever its size.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_STORE_BYTES) -> None:
        self._folder, self._max_bytes = folder, max_bytes

    def add(self, key: bytes, pair: Pairs) -> None:
        """Adds a pair, then removes the oldest ones that are over the limit.

        Args:
            key: key of the latents; it makes the file's name unique.
            pair: one picture with its latents.

        Raises:
            OSError: the file cannot be written.
        """
        stored = self.list()
        number = (stored[-1].number + 1) % MAX_NUMBER if stored else 1
        self._folder.mkdir(parents=True, exist_ok=True)
        pair.save(self._folder / f"{number:08d}-{key.hex()}{PAIR_SUFFIX}")
        *older, newest = self.list()
        total = newest.size
        for each in reversed(older):
            total += each.size
            if total > self._max_bytes:
                each.path.unlink(missing_ok=True)

    def list(self) -> list[StoredPair]:
        """Lists the files, oldest first. Other files in the folder are left out."""
        found = []
        for path in self._folder.glob(f"*-*{PAIR_SUFFIX}"):
            number = path.name.split("-")[0]
            try:
                if number.isdecimal() and not path.is_symlink():
                    found.append(StoredPair(int(number), path, path.stat().st_size))
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
                pair = Pairs.load(each.path)
                if pair.channels != channels:
                    raise FitError(f"{each.path}: expected {channels} channels, got {pair.channels}")
                # Copies: Windows cannot remove a file that is mapped into memory.
                yield Pairs(pair.latents.clone(), pair.pixels.clone())
            except (FitError, OSError) as error:
                log.debug("%s; the pair is removed", error)
                each.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes all pairs and the folder, if nothing else is in it."""
        for each in self.list():
            each.path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()
