"""The rules of every web server that Safelight starts itself: who may ask, and what is answered."""

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import final
from urllib.parse import parse_qs, urlsplit

LOOPBACK = "127.0.0.1"
# Another site may give its own host name our address, so that a browser takes the two for one site (DNS rebinding):
# only these names are answered.
LOOPBACK_HOSTS = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
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
        hosts: host names that are answered, besides those of this machine; the one that the user chose with --host.
        key: the key; None for a new one.
    """

    def __init__(self, hosts: Iterable[str] = (), key: str | None = None) -> None:
        self._hosts = {host.lower() for host in hosts}
        self.key = key or secrets.token_urlsafe(24)

    def refusal(self, path: str, headers: Mapping[str, list[str]]) -> str | None:
        """Why a request is refused, for the user; None if it is allowed.

        Args:
            path: path and query of the request.
            headers: values of each header, by lower-case name.
        """
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self._is_ours(hosts[0].strip()):
            return "this server answers only under the address that it printed"
        same_site = headers.get("sec-fetch-site", ["none"])[0] in ("none", "same-origin")
        is_link = urlsplit(path).path == "/" and headers.get("sec-fetch-mode") == ["navigate"]
        own = {f"{scheme}://{hosts[0].strip()}" for scheme in ("http", "https")}
        if not (same_site or is_link) or not own.issuperset(origins):
            return "a page of another site asked for this"
        if not self._has_key(path, headers.get("cookie", [])):
            return "the key is missing: open the address that was printed when the server started"
        return None

    def cookie(self, port: int) -> str:
        """The value of the `Set-Cookie` header that lets the page ask for more."""
        return f"{KEY}{port}={self.key}; Path=/; HttpOnly; SameSite=Strict"

    def _is_ours(self, host: str) -> bool:
        return LOOPBACK_HOSTS.fullmatch(host) is not None or host.rsplit(":", 1)[0].lower() in self._hosts

    def _has_key(self, path: str, cookies: list[str]) -> bool:
        keys = parse_qs(urlsplit(path).query).get(KEY, [])
        for line in cookies:
            try:
                keys += [morsel.value for name, morsel in SimpleCookie(line).items() if name.startswith(KEY)]
            except CookieError:
                continue
        return any(hmac.compare_digest(key.encode(), self.key.encode()) for key in keys)


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
