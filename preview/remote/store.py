"""A store of runs: a folder behind an address, opened by fsspec."""

import importlib
import mimetypes
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, final
from urllib.parse import quote

from ...errors import StoreError, describe

INSTALL = "pip install fsspec s3fs"  # the extra `remote`; another store needs the package that fsspec names
# A store that does not answer costs seconds, not the minutes of botocore's defaults.
S3_LIMITS: Mapping[str, Any] = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 1}}
S3 = ("s3", "s3a")
# Here a file cannot be written into a folder that does not exist. In object stores there are no folders, and to create
# one could create a bucket.
WITH_FOLDERS = ("file", "local", "memory", "sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs", "dbfs")
VERSION_KEYS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "md5Hash", "created")
# The same happens at the next try. All other errors may be gone in a minute.
LASTING: tuple[type[Exception], ...] = (PermissionError, FileNotFoundError, NotADirectoryError, ImportError, ValueError)
LASTING_NAMES = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "NoSuchBucket")
SECRET_NAME = re.compile(r"key|secret|token|passw|credential|auth|sas|connection_string", re.IGNORECASE)
MIN_SECRET_CHARS = 6
PASSWORD = re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)")  # of any address, such as that of a proxy
TEXT_BLOCK_BYTES = 1 << 18


class StoredFile(NamedTuple):
    """A file of a store: its size in bytes, None if unknown, and a text that changes whenever the file changes."""

    size: int | None
    version: str


@final
class Store:
    """A folder of a store. Every method asks the store and may wait for it; any thread may call them.

    Args:
        files: file system of fsspec.
        root: path of the folder in it.
        address: address of the folder, for the user.
    """

    def __init__(self, files: Any, root: str, address: str) -> None:
        self._files, self._root, self.address = files, root.rstrip("/"), address
        protocol = files.protocol
        protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)
        self._has_folders = not {*protocols}.isdisjoint(WITH_FOLDERS)
        self._has_types = not {*protocols}.isdisjoint(S3)

    @classmethod
    def open(cls, address: str) -> "Store":
        """The store at an address from `checked_address`. Credentials are those that fsspec finds.

        Raises:
            StoreError: fsspec, or its package for this kind of address, is not installed or cannot be used.
        """
        scheme = expect_packages(address)
        limits = {"config_kwargs": S3_LIMITS} if scheme in S3 else {}
        with _reasons(address):
            kind = importlib.import_module("fsspec").get_filesystem_class(scheme)
            # Not `url_to_fs`: it takes a `::` in the name of a run's folder for the begin of a second address.
            files = kind(**{**kind._get_kwargs_from_urls(address), **limits})  # noqa: SLF001
            return cls(files, files._strip_protocol(address), address)  # noqa: SLF001

    def write(self, name: str, content: bytes) -> None:
        """Writes a file. In an object store it appears when it is complete.

        Args:
            name: path of the file in the folder, with slashes.
            content: content of the file.

        Raises:
            StoreError: it cannot be written.
        """
        path = self._path(name)
        kind = mimetypes.guess_type(name)[0] if self._has_types else None
        with _reasons(self.address, self._files):
            if self._has_folders:
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, content, **({"ContentType": kind} if kind else {}))

    def read(self, name: str, max_bytes: int) -> bytes:
        """Reads a file.

        Raises:
            StoreError: it cannot be read, or has more than `max_bytes`.
        """
        with _reasons(self.address, self._files):
            content = self._files.cat_file(self._path(name), start=0, end=max_bytes + 1)
            if len(content) > max_bytes:
                raise ValueError(f"{name} has more than {max_bytes:,} bytes")
            return content

    def open_file(self, name: str) -> BinaryIO:
        """Opens a file whose parts are read when they are asked for.

        Raises:
            StoreError: it cannot be opened.
        """
        with _reasons(self.address, self._files):
            return self._files.open(self._path(name), "rb", block_size=TEXT_BLOCK_BYTES)

    def list(self) -> dict[str, StoredFile]:
        """All files in the folder and in the folders below it, by their path in it.

        Raises:
            StoreError: the store does not answer.
        """
        with _reasons(self.address, self._files):
            self._files.invalidate_cache()
            found = self._files.find(self._root, detail=True)
        before = len(self._root) + 1
        inside = ((path, facts) for path, facts in found.items() if path.startswith(f"{self._root}/"))
        return {path[before:]: _stored_file(facts) for path, facts in inside}

    def is_empty(self) -> bool:
        """Whether there is no file in the folder, as far as one listing shows.

        Raises:
            StoreError: the store does not answer.
        """
        with _reasons(self.address, self._files):
            self._files.invalidate_cache()
            try:
                return not self._files.ls(self._root, detail=False)
            except FileNotFoundError:
                return True

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def expect_packages(address: str) -> str:
    """Imports the packages that an address needs. Returns its scheme.

    Raises:
        StoreError: one is not installed, or no package knows the scheme.
    """
    scheme = address.partition("://")[0].lower()
    try:
        importlib.import_module("fsspec").get_filesystem_class(scheme)
    except ImportError as error:
        raise StoreError(
            f"{scheme}:// addresses need a package that is not installed ({describe(error)}); run: {INSTALL}",
            is_lasting=True,
        ) from None
    except ValueError:
        raise StoreError(
            f"{scheme}:// is no address that fsspec knows; expected such as s3://bucket/runs", is_lasting=True
        ) from None
    return scheme


def _stored_file(facts: Mapping[str, Any]) -> StoredFile:
    size = facts.get("size")
    versions = [str(facts[key]) for key in VERSION_KEYS if facts.get(key) is not None]
    return StoredFile(size if type(size) is int else None, " ".join([*versions, str(size)]))


@contextmanager
def _reasons(address: str, files: Any = None) -> Iterator[None]:
    """Turns every error of fsspec and of the packages below it into a `StoreError` without credentials."""
    try:
        yield
    except Exception as error:  # each package has its own classes of errors
        is_lasting = isinstance(error, LASTING) or type(error).__name__ in LASTING_NAMES
        reason = without_secrets(describe(error), files)
        raise StoreError(f"{address}: {reason}", is_lasting=is_lasting) from None


def without_secrets(text: str, files: Any = None) -> str:
    """A text without the values of credentials that this process knows, and without passwords of addresses."""
    settings = getattr(sys.modules.get("fsspec.config"), "conf", {})
    known = {*_secrets({**os.environ, **settings, "options": getattr(files, "storage_options", {})})}
    for secret in sorted(
        {*known, *(quote(secret, safe="", errors="replace") for secret in known)}, key=len, reverse=True
    ):
        text = text.replace(secret, "***")
    return PASSWORD.sub("***", text)


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and len(value) >= MIN_SECRET_CHARS and SECRET_NAME.search(str(name)):
            yield value
