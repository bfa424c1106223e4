"""The rules of every web server that Safelight starts itself: who may ask, and what is answered."""

import hmac
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Mapping
from typing import final
from urllib.parse import parse_qs

LOOPBACK = "127.0.0.1"
# Another site may give its own host name our address, so that a browser takes the two for one site (DNS rebinding):
# only these names are answered.
LOOPBACK_HOSTS = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
ALL_NETWORKS = ("0.0.0.0", "::")  # noqa: S104 - only if the user says so with --host
KEY = "key"  # name of the query parameter and of the cookie

# Headers of every answer. Pictures and JSON run no script, whatever they contain.
SAFE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@final
class AccessRules:
    """Decides whether a request is meant for this server and comes from the person who started it.

    Other accounts of the same machine can reach the port, so the address that is printed contains a key, as Jupyter's
    does. The first page sets it as a cookie.

    Args:
        listens_on: address or name on which the server listens. If other machines can reach it, it also answers to
            this machine's name and to any IP address: no site can give itself those.

    Attributes:
        key: the key. Anyone who has it can do everything that the server can do.
    """

    def __init__(self, listens_on: str = LOOPBACK) -> None:
        self.key = secrets.token_urlsafe(24)
        self.listens_on = listens_on
        self._names = set() if self.is_local else {listens_on.lower(), *_names_of_this_machine()}

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return LOOPBACK_HOSTS.fullmatch(in_url(self.listens_on)) is not None

    def answer_to(self, name: str) -> None:
        """Adds a host name under which the server can be reached."""
        self._names.add(name.lower())

    def with_key(self, address: str) -> str:
        """An address of the server, such as `http://127.0.0.1:8765/`, as the user needs it."""
        return f"{address}?{KEY}={self.key}"

    def refusal(self, path: str, headers: Mapping[str, list[str]], *, needs_key: bool = True) -> str | None:
        """Why a request is refused, for the user; None if it is allowed.

        Args:
            path: path and query of the request.
            headers: values of each header, by lower-case name.
            needs_key: whether only requests with the key are allowed.
        """
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0].strip()):
            return "this server answers only under the address that it printed"
        same_site = headers.get("sec-fetch-site", ["none"])[0] in ("none", "same-origin")
        is_link = path.partition("?")[0] == "/" and headers.get("sec-fetch-mode") == ["navigate"]
        own = {f"{scheme}://{hosts[0].strip()}" for scheme in ("http", "https")}
        if not (same_site or is_link) or not own.issuperset(origins):
            return "a page of another site asked for this"
        if needs_key and not self._has_key(path, headers.get("cookie", [])):
            return "the key is missing: open the address that was printed when the server started"
        return None

    def cookie(self, port: int) -> str:
        """The value of the `Set-Cookie` header that lets the page ask for more."""
        return f"{KEY}{port}={self.key}; Path=/; HttpOnly; SameSite=Strict"

    def _is_ours(self, host: str) -> bool:
        if LOOPBACK_HOSTS.fullmatch(host):
            return True
        name = re.sub(r":\d+\Z", "", host.lower()).strip("[]")
        return name in self._names or (not self.is_local and _is_ip_address(name))

    def _has_key(self, path: str, cookies: list[str]) -> bool:
        keys = parse_qs(path.partition("?")[2]).get(KEY, [])
        # Not by `SimpleCookie`, which drops all cookies if another server of this machine set one that it cannot read.
        pairs = (cookie.strip().partition("=") for line in cookies for cookie in line.split(";"))
        keys += [value for name, _, value in pairs if name.startswith(KEY)]
        return any(hmac.compare_digest(key.encode(), self.key.encode()) for key in keys)


def in_url(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address has brackets there."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def address_family(host: str) -> socket.AddressFamily:
    """The address family of an address or name.

    Raises:
        OSError: the name is unknown.
    """
    return socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0][0]


def usable_port(host: str, port: int) -> int:
    """Returns `port`, on which a server can listen now, or any free port for 0.

    Raises:
        OSError: `host` is no address or name of this machine, or the port is in use.
    """
    with socket.socket(address_family(host), socket.SOCK_STREAM) as trial:
        if os.name != "nt":  # there it would allow a port that is in use
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host.strip("[]"), port))
        return trial.getsockname()[1]


def _names_of_this_machine() -> set[str]:
    name = socket.gethostname().lower()
    label = name.partition(".")[0]
    return {name, label, f"{label}.local"}  # the last one is how the machines of a home network find each other


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the byte after the last one of a `Range` header; None for the whole file.

    Source: https://www.rfc-editor.org/rfc/rfc9110#name-range; a request for several ranges gets the whole file.

    Raises:
        ValueError: the range is outside the file.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or not any(match.groups()):
        return None
    first, last = match[1], match[2]
    if not first:  # the last so many bytes
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= end:
        raise ValueError(f"the range {header} is outside a file of {size:,} bytes")
    return start, end
