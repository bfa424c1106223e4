"""Addresses of stores, such as `s3://bucket/runs`."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import OptionError

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: on Windows, one is a drive
EXAMPLE = "s3://bucket/runs"
# Files of this machine. A host's settings can be changed by everyone who can use the host, who must not choose a path.
LOCAL_SCHEMES = ("file", "local", "memory", "dir", "asynclocal")
CHAIN = "::"  # between several addresses; fsspec takes `asyncwrapper://::file:///home/user` as a folder of this machine


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a text is an address with a scheme, and no path of this machine."""
    return isinstance(place, str) and ADDRESS.match(place) is not None


def place_of(text: str) -> Path | str:
    """What a user typed as the place of runs: a path of this machine, or an address as it is."""
    return text if is_address(text) else Path(text)


def checked_address(address: str, what: str) -> str:
    """An address without a slash at its end.

    Args:
        address: text that a user typed.
        what: name of the option or setting that it comes from.

    Raises:
        OptionError: it has no scheme or names no place, is a chain of several addresses, or contains a password or a
            query. The message has no part of it that may be secret.
    """
    scheme, separator, rest = address.strip().partition("://")
    if not separator or not is_address(f"{scheme}://"):
        raise OptionError(f"{what}: expected an address such as {EXAMPLE}, got a text without a scheme")
    if _has_password(address) or "?" in rest or "#" in rest:
        raise OptionError(
            f"{what}: expected a {scheme}:// address without a password, a ? and a #; "
            "set the credentials where fsspec reads them, such as in environment variables"
        )
    if CHAIN in rest:
        raise OptionError(f"{what}: expected one {scheme}:// address, got several with {CHAIN} between them")
    rest = rest.rstrip("/")
    if not rest and scheme != "memory":
        raise OptionError(f"{what}: expected an address such as {EXAMPLE}, got {scheme}:// alone")
    return f"{scheme}://{rest}"


def setting_address(address: str, what: str) -> str:
    """The address in a host's setting, from `checked_address`; empty if the setting is empty.

    Raises:
        OptionError: as there, or it is an address of files on this machine.
    """
    if not address.strip():
        return ""
    checked = checked_address(address, what)
    scheme = checked.partition("://")[0].lower()
    if scheme in LOCAL_SCHEMES:
        raise OptionError(f"{what}: expected the address of a store such as {EXAMPLE}, got {scheme}://")
    return checked


def _has_password(address: str) -> bool:
    try:
        user, at, _ = urlsplit(address.strip()).netloc.rpartition("@")
    except ValueError:  # brackets that are no IPv6 address
        return True
    return bool(at) and ":" in user
