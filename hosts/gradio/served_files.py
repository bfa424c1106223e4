"""The files that the page gives out."""

import shutil
import tempfile
import uuid
import weakref
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import final

from ...decoders.files.contained_file import open_below
from ...preview.file_names import picture_type

API = "/gradio_api/"
FILE_ROUTE = f"{API}file="
# What gradio's page asks for. The other addresses of gradio upload files, fetch pages of others, or record the screen.
USED_NAMES = ("queue/", "run/", "heartbeat/", "startup-events", "cancel", "reset")
USED_ROUTES = (FILE_ROUTE, *(f"{API}{name}" for name in USED_NAMES))
SERVED_ENDINGS = (".jpeg", ".zip")  # besides those of a run's pictures


@final
class ServedFiles:
    """A folder that only this account can read. The page gives out pictures and archives in it, and no other file.

    Only the page puts files there: copies of pictures that a run lists, and the pictures that gradio encodes.

    Attributes:
        folder: path of the folder; it is removed when this object is.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="safelight-gradio-")).resolve()
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def new_run(self, folder: Path, pictures: Sequence[tuple[str, str]]) -> "ServedRun":
        """A run that the page shows.

        Args:
            folder: folder of the run.
            pictures: name and caption of each picture in it.
        """
        return ServedRun(folder, tuple(pictures), Path(tempfile.mkdtemp(prefix="run-", dir=self.folder)))

    def refusal(self, _method: str, path: str) -> str | None:
        """Why the page must not get what it asks for at `path`; None if it may have it."""
        if not path.startswith(API):
            return None  # the page itself and gradio's scripts
        if not path.startswith(USED_ROUTES):
            return "the page has no such address"
        if path.startswith(FILE_ROUTE) and not self._is_served(path.removeprefix(FILE_ROUTE)):
            return "only pictures and archives of this page's runs are given out"
        return None

    def _is_served(self, name: str) -> bool:
        if picture_type(name) is None and not name.lower().endswith(SERVED_ENDINGS):
            return False
        try:
            return Path(name).resolve().is_relative_to(self.folder)
        except (OSError, ValueError, RuntimeError):  # a NUL character, too long, a link to itself
            return False


@final
@dataclass(frozen=True)
class ServedRun:
    """A run that has ended, with copies of its files that the page may give out.

    Args:
        folder: folder of the run.
        pictures: name and caption of each picture in it.
        copies: folder for the copies.
    """

    folder: Path
    pictures: Sequence[tuple[str, str]]
    copies: Path

    def picture(self, name: str) -> Path:
        """A copy of one of the pictures. gradio deletes old ones, so it may be a new one.

        Raises:
            OSError: there is no such file, or it is a link.
        """
        copy = self.copies / name
        if not copy.exists():
            self.copies.mkdir(exist_ok=True)
            partial = copy.with_name(f".{uuid.uuid4().hex}.part")
            with open_below(self.folder, PurePath(name)) as source, partial.open("xb") as target:
                shutil.copyfileobj(source, target)
            partial.replace(copy)
        return copy

    def archive(self) -> Path:
        """A zip file with all files in the folder of the run. Links are left out.

        Raises:
            OSError: the folder is gone, or the disk is full.
        """
        packed = self.copies / f"{self.folder.name}.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed already
            for path in sorted(self.folder.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    inside = path.relative_to(self.folder.parent).as_posix()
                    name = path.relative_to(self.folder)
                    with open_below(self.folder, name) as source, archive.open(inside, "w") as target:
                        shutil.copyfileobj(source, target)
        return packed
