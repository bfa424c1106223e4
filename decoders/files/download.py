"""Downloads one published file: resumed after a broken connection, and refused if its content is another one.

Proxies are those of `urllib`: the environment variables `https_proxy` and `no_proxy`, and the system's settings.
"""

import hashlib
import http.client
import os
import re
import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ...errors import AlteredFileError, DownloadError, describe
from ..published_decoders import PublishedDecoder
from .regular_file import NO_FOLLOW, NON_BLOCKING, open_regular_file

RAW_FILES = "https://raw.githubusercontent.com"
SERVER_VARIABLE = "SAFELIGHT_DECODER_SERVER"  # a mirror in its place
MAX_DOWNLOAD_BYTES = 128 << 20
BLOCK_BYTES = 1 << 16
TIMEOUT_S = 30  # without a byte
MAX_ATTEMPTS = 4  # each goes on where the one before stopped
PARTIAL_CONTENT, BAD_RANGE = 206, 416
LENGTH = re.compile(r"[0-9]{1,18}")

Progress = Callable[[int, int | None], None]  # bytes so far, and in all if the server says it


class BrokenConnectionError(Exception):
    """The server stopped in the middle of the file."""


def raw_files() -> str:
    """The server of raw files: GitHub's, or the mirror that the environment names."""
    return (os.environ.get(SERVER_VARIABLE) or RAW_FILES).rstrip("/")


def download(
    decoder: PublishedDecoder, folder: Path, *, server: str | None = None, progress: Progress = lambda *_: None
) -> Path:
    """Downloads a decoder into a folder and returns the path of the file.

    It is written beside its place and renamed, so that the file is complete or absent. What a broken connection leaves
    is used by the next call.

    Args:
        decoder: decoder to download.
        folder: folder with the user's decoders; it is created.
        server: address of a server of raw files; None for `raw_files()`.
        progress: function that is called after each block.

    Raises:
        DownloadError: the file cannot be downloaded or written; the message says what to do.
        AlteredFileError: the content is not the published one.
    """
    path, part = folder / decoder.file_name, folder / f".{decoder.file_name}.{decoder.blob[:12]}.part"
    address = f"{server or raw_files()}/{decoder.place}"
    by_hand = f"or download {address} with a browser and put the file into {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _expect_content(path, decoder, f"move this {path.name} away, or keep it")
            return path
        resumed = part.exists()
        _fill(part, address, by_hand, progress)
        if resumed and blob_id(part) != decoder.blob:  # the part was of something else
            part.unlink()
            _fill(part, address, by_hand, progress)
        try:
            _expect_content(part, decoder, f"try again later, {by_hand}")
        except AlteredFileError:
            part.unlink()
            raise
        part.replace(path)
    except OSError as error:
        raise DownloadError(
            f"{error.filename or path}: cannot be written: {error.strerror or error}; free some space, choose another "
            f"folder, {by_hand}"
        ) from None
    return path


def blob_id(path: Path) -> str:
    r"""Returns git's id of a file's content: sha1 of `blob <size>\0` and the bytes.

    Source: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular_file(path, links=False) as file:
        # Git's ids are sha1. No second file with the sha1 of a given one is known.
        digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size)  # noqa: S324
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _expect_content(path: Path, decoder: PublishedDecoder, advice: str) -> None:
    if (found := blob_id(path)) != decoder.blob:
        raise AlteredFileError(
            f"{path}: is not the file that was published: expected git's id {decoder.blob}, got {found} "
            f"({path.stat().st_size:,} bytes); {advice}"
        )


def _fill(part: Path, address: str, by_hand: str, progress: Progress) -> None:
    """Reads the rest of the file into `part`, in several attempts if the connection breaks."""
    for attempt in range(MAX_ATTEMPTS):
        try:
            with _open_part(part) as file:
                _append(file, address, progress)
            return
        except urllib.error.HTTPError as error:
            raise DownloadError(
                f"{address}: the server answered {error.code} {error.reason}; try again later, {by_hand}"
            ) from None
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or error.reason
            raise DownloadError(
                f"{address}: cannot be reached: {reason}; check the network, and https_proxy if there is a proxy, "
                f"{by_hand}"
            ) from None
        except ValueError as error:  # from `urllib`: an address, a redirection or a length that it cannot read
            raise DownloadError(
                f"{address}: cannot be read: {describe(error)}; check the address of the server, {by_hand}"
            ) from None
        except BrokenConnectionError as error:
            if attempt == MAX_ATTEMPTS - 1:
                raise DownloadError(
                    f"{address}: the connection broke {MAX_ATTEMPTS} times: {error}; try again, which goes on where it "
                    f"stopped, {by_hand}"
                ) from None


def _append(file: BinaryIO, address: str, progress: Progress) -> None:
    """Appends what `file` lacks."""
    have = os.fstat(file.fileno()).st_size
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        # Not `urlopen`: its opener is shared by all packs, and has the proxies of its first use.
        response = urllib.request.build_opener().open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == BAD_RANGE and have:  # it is complete or too long: its content decides
            return
        raise
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise BrokenConnectionError(describe(error)) from None
    with response:
        if response.status != PARTIAL_CONTENT:  # the server sends the whole file
            file.truncate(0)
            have = 0
        length = response.headers.get("Content-Length") or ""
        total = have + int(length) if LENGTH.fullmatch(length) else None
        while block := _read(response):
            have += len(block)
            if have > MAX_DOWNLOAD_BYTES:
                raise DownloadError(f"{address}: the server sends more than {MAX_DOWNLOAD_BYTES:,} bytes")
            file.write(block)
            progress(have, total)
    if total is not None and have < total:
        raise BrokenConnectionError(f"{have:,} of {total:,} bytes arrived")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise BrokenConnectionError(describe(error)) from None


def _open_part(part: Path) -> BinaryIO:
    """Opens a part for appending. A link, a file with a second name, or a device of its name is never written to."""
    if part.is_symlink() or (part.is_file() and part.lstat().st_nlink > 1):
        part.unlink()
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_FOLLOW | NON_BLOCKING, 0o666)
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        os.close(handle)
        raise OSError(0, "expected a file of its own, got a link, a folder or a device", str(part))
    return os.fdopen(handle, "ab")
