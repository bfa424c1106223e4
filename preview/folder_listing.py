"""Lists folders of runs, and reads only those again that have changed."""

import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

from .manifest import MANIFEST_NAME
from .output_folder import is_inner_folder

# A file system may give two changes the same time, FAT within two seconds. A folder that changed shortly before it was
# listed may have changed again since.
SETTLED_NS = 3_000_000_000


class FolderContent(NamedTuple):
    """Whether a folder holds a manifest, and the folders in it."""

    has_run: bool
    folders: tuple[str, ...]


@dataclass(frozen=True)
class ListedFolder:
    """A folder as it was listed.

    Args:
        changed_ns: time of its last change, in nanoseconds since 1970.
        listed_ns: time at which it was listed.
        content: what was found.
    """

    changed_ns: int
    listed_ns: int
    content: FolderContent

    @property
    def is_settled(self) -> bool:
        """Whether a later change would have another time."""
        return self.listed_ns - self.changed_ns > SETTLED_NS


NOTHING = FolderContent(False, ())


def list_folder(folder: Path) -> FolderContent:
    """Reads a folder. Links and hidden folders are left out; a folder that cannot be read is empty."""
    has_run, folders = False, list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == MANIFEST_NAME:
                    has_run = entry.is_file(follow_symlinks=False)
                elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
    except OSError:  # it was deleted since, or this user may not read it
        pass
    return FolderContent(has_run, tuple(sorted(folders)))


@final
class FolderListing:
    """Lists folders, and remembers them. A folder with the same time of change is not read again.

    Args:
        root: folder of runs.
        known: folders by their path in it, as they were listed before.
        now_ns: function that returns nanoseconds since 1970.
    """

    def __init__(self, root: Path, known: Mapping[str, ListedFolder], now_ns: Callable[[], int] = time.time_ns) -> None:
        self._root, self._known, self._now_ns = root, known, now_ns
        self._start = len(os.fspath(root / "x")) - 1  # where the path in it begins
        self.listed: dict[str, ListedFolder] = {}

    def __call__(self, folder: Path) -> FolderContent:
        text = os.fspath(folder)  # plain texts and calls: a library looks at thousands of folders every few seconds
        try:
            stats = os.lstat(text)
        except OSError:
            return NOTHING
        if not stat.S_ISDIR(stats.st_mode):  # a link in its place, or what a damaged index says
            return NOTHING
        path = text[self._start :].replace(os.sep, "/") or "."
        known = self._known.get(path)
        if known is None or known.changed_ns != stats.st_mtime_ns or not known.is_settled:
            now_ns = self._now_ns()
            known = ListedFolder(stats.st_mtime_ns, now_ns, self._relevant(folder, list_folder(folder)))
        self.listed[path] = known
        return known.content

    def _relevant(self, folder: Path, content: FolderContent) -> FolderContent:
        """Without folders that are not searched: the frames of a video have one for each step."""
        if not content.has_run or folder == self._root:
            return content
        return FolderContent(True, tuple(name for name in content.folders if is_inner_folder(name)))
