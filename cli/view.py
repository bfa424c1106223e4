"""`safelight view`: the runs in a folder, in the browser of whoever sits at this machine."""

import argparse
import json
import logging
import os
import re
import shutil
import sys
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, cast, final
from urllib.parse import unquote

from ..errors import PageError
from ..preview.html.bundle import bundle
from ..preview.html.document import Document, document
from ..preview.manifest import MANIFEST_NAME
from ..preview.run_library import DEPTH, TYPES, RunLibrary

LOOPBACK = "127.0.0.1"
# Another site may give its own name our address, and then be us for a browser: only these names are ours.
OUR_NAMES = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
PORT = 8765
IDLE_LIMIT_S = 60

NOTHING = "default-src 'none'; frame-ancestors 'none'"
NOT_AT_ALL = "no-store"
FOR_GOOD = "private, max-age=31536000, immutable"  # an id is never used twice, and a picture's time is in its address

log = logging.getLogger("safelight.view")


@final
class Server(ThreadingHTTPServer):
    """Serves a shelf on this machine, to this machine.

    Args:
        shelf: what is served.
        port: 0 for any that is free.

    Raises:
        OSError: the port is taken.
    """

    allow_reuse_address = os.name != "nt"  # on Windows that would let two servers share a port

    def __init__(self, shelf: RunLibrary, port: int) -> None:
        self.shelf = shelf
        self.page: Document = document(
            {"folder": shelf.name}, bundle("page"), connect_src="'self'", img_src="'self' data: blob:"
        )
        super().__init__((LOOPBACK, port), Handler)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no fault."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


@final
class Handler(BaseHTTPRequestHandler):
    """Answers one browser: a page, the list of runs, a run's manifest, a run's pictures."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "safelight", ""
    timeout = IDLE_LIMIT_S

    @property
    def _ours(self) -> Server:
        return cast("Server", self.server)

    def do_GET(self) -> None:
        if self._is_for_us():
            self._route(self.path.partition("?")[0])

    def do_HEAD(self) -> None:
        self.do_GET()

    def _is_for_us(self) -> bool:
        """Whether whoever asks means this server, and no page of somebody else's had the browser ask."""
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        named = len(hosts) == 1 and OUR_NAMES.fullmatch(hosts[0].strip()) is not None
        within = self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
        followed = self.path == "/" and self.headers.get("Sec-Fetch-Mode") == "navigate"  # a link to the page
        ours = named and (within or followed) and all(origin == f"http://{hosts[0].strip()}" for origin in origins)
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # what it brings along is no second question
        if not ours:
            self._refuse(HTTPStatus.FORBIDDEN, f"ask for {self._ours.url}")
        return ours

    def _route(self, path: str) -> None:
        match [unquote(part) for part in path.split("/")]:
            case ["", ""]:
                policy = f"{self._ours.page.policy}; frame-ancestors 'none'"
                self._answer(self._ours.page.html.encode(), "text/html; charset=utf-8", policy=policy)
            case ["", "runs"]:
                self._tell([kept.summary() for kept in self._ours.shelf.runs().values()])
            case ["", "runs", run] if run in (runs := self._ours.shelf.runs()):
                self._tell(runs[run].manifest)
            case ["", "runs", run, name] if picture := self._ours.shelf.open(run, name):
                self._show(*picture, TYPES[Path(name).suffix])
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "there is no such page, run or picture")

    def _tell(self, facts: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._answer(json.dumps(facts).encode(), "application/json", status)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True  # what else the request brought along is not read
        self._tell({"error": why}, status)

    def _show(self, file: BinaryIO, size: int, kind: str) -> None:
        with file:
            self._head(HTTPStatus.OK, kind, size, FOR_GOOD)
            if self.command == "GET":
                shutil.copyfileobj(file, self.wfile)

    def _answer(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, policy: str = NOTHING) -> None:
        self._head(status, kind, len(body), NOT_AT_ALL, policy)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, size: int, cache: str, policy: str = NOTHING) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(size),
            "Cache-Control": cache,
            "Content-Security-Policy": policy,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        headers |= {"Connection": "close"} if self.close_connection else {}
        headers |= {"Allow": "GET, HEAD"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: other methods, and what is no HTTP."""
        known = code != HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus(code) if known else HTTPStatus.METHOD_NOT_ALLOWED
        self._refuse(status, message if known and message else "only GET and HEAD: nothing here can be changed")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug(format, *args)


def add_command(commands: Any) -> None:
    """Adds `view` to the command line."""
    view = commands.add_parser("view", help="look at a folder of runs in a browser")
    view.add_argument("folder", type=Path, metavar="DIR", help="with runs, or folders of runs, in it; or a run's own")
    view.add_argument("--port", type=_port, help=f"to serve at ({PORT}, or a free one if that is taken)")
    view.add_argument("--open", action=argparse.BooleanOptionalAction, default=None, help="open a browser")
    view.set_defaults(run=_view)


def _port(text: str) -> int:
    if not 0 <= (port := int(text)) < 1 << 16:
        raise ValueError
    return port


def _view(arguments: argparse.Namespace) -> int:
    logging.basicConfig(format="%(message)s")
    with serve(arguments.folder, arguments.port) as server:
        count = len(server.shelf.runs())
        try:
            print(f"{count} run{'s' * (count != 1)} in {arguments.folder}: {server.url} (Ctrl-C ends it)", flush=True)
            if sys.stdout.isatty() if arguments.open is None else arguments.open:
                webbrowser.open(server.url)
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def serve(folder: Path, port: int | None = None) -> Server:
    """A server of the runs in `folder`, listening, not yet answering.

    Args:
        folder: with a run, or runs, in it.
        port: None for the usual one, or a free one if that is taken.

    Raises:
        PageError: there is no run in it, or the port cannot be had.
    """
    shelf = RunLibrary(folder)
    if not shelf.runs():
        there = "no run" if folder.is_dir() else "no folder"
        raise PageError(f"{folder}: expected runs (folders with a {NAME}, at most {DEPTH} levels down), found {there}")
    try:
        return Server(shelf, PORT if port is None else port)
    except OSError as error:
        if port is None:
            return Server(shelf, 0)
        raise PageError(f"port {port} cannot be had ({error.strerror}); choose another, or 0 for a free one") from None
