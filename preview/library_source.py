"""Where the files of a library come from: its own folder, or a store that the folder is a part of."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import final

from .images.metadata import picture_texts


class LibrarySource(ABC):
    """Brings files into the folder of a library. Paths are those in the folder. Any thread may call the methods.

    Attributes:
        title: name of the library for people.
        place: where it is, for people: a path or an address.
        can_delete: whether runs can be moved to the trash.
    """

    title: str
    place: str
    can_delete: bool

    @abstractmethod
    def refresh(self) -> None:
        """Brings the records and marks of all runs up to date."""

    @abstractmethod
    def renew(self, record: PurePath) -> None:
        """Brings one record up to date."""

    @abstractmethod
    def fetch(self, picture: PurePath) -> None:
        """Brings a picture into the folder, if it can be had."""

    @abstractmethod
    def texts(self, picture: PurePath) -> Mapping[str, str]:
        """The texts in a picture, see `picture_texts`."""

    @abstractmethod
    def publish(self, file: PurePath, content: bytes) -> None:
        """Takes over a file before it is changed in the folder.

        Raises:
            StoreError: it cannot be taken over.
        """


@final
class OwnFolder(LibrarySource):
    """All files are in the folder.

    Args:
        root: the folder.
    """

    can_delete = True

    def __init__(self, root: Path) -> None:
        self._root, self.title, self.place = root, root.name, str(root)

    def refresh(self) -> None:
        pass

    def renew(self, record: PurePath) -> None:
        pass

    def fetch(self, picture: PurePath) -> None:
        pass

    def texts(self, picture: PurePath) -> Mapping[str, str]:
        return picture_texts(self._root, picture)

    def publish(self, file: PurePath, content: bytes) -> None:
        pass
