"""`safelight view`: a server that shows the runs in a folder in a browser on this machine."""

import argparse
import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, cast, final

from ..errors import PageError
from ..hosts.library_site import BLOCK_BYTES, JSON_TYPE, STORE_FOREVER, LibrarySite, SiteAnswer, refusal
from ..hosts.local_server import (
    ALL_NETWORKS,
    LOOPBACK,
    SAFE_HEADERS,
    AccessRules,
    address_family,
    byte_range,
    in_url,
)
from ..hosts.saved_library import MAX_BODY_BYTES, SavedLibrary, saved_library
from ..preview.manifest import MANIFEST_NAME
from ..preview.run_library import MAX_FOLDER_DEPTH
from .runs_folder import add_runs_folder, runs_folder
from .server_options import add_server_options, port_error, who_can_open
from .table import print_lines

DEFAULT_PORT = 8765
IDLE_LIMIT_S = 60
LINGER_S, MAX_UNREAD_BYTES = 2.0, 1 << 20  # what is still read of a request that was refused before its end

MAX_CONNECTIONS = 64  # a browser opens six
READ_ONLY = "only GET and HEAD are supported here"
NO_HEADERS: Mapping[str, str] = {}

log = logging.getLogger("safelight.view")


@final
class ViewServer(ThreadingHTTPServer):
    """Serves a library of runs.

    Args:
        saved: the runs.
        port: 0 for any free port.
        host: address or name on which it listens.

    Raises:
        OSError: the port is in use.
    """

    allow_reuse_address = os.name != "nt"  # on Windows this would let two servers share a port

    def __init__(self, saved: SavedLibrary, port: int, host: str = LOOPBACK) -> None:
        self.site, self.library = LibrarySite(saved), saved.runs
        self.rules = AccessRules(host)
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = address_family(host)
        super().__init__((host.strip("[]"), port), ViewRequestHandler)

    @property
    def url(self) -> str:
        """The address to open, with the key that other accounts of this machine do not have."""
        return self.rules.with_key(self.address)

    @property
    def address(self) -> str:
        """The address without the key."""
        host = self.rules.listens_on
        return f"http://{LOOPBACK if host in ALL_NETWORKS else in_url(host)}:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection; closes it if there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Runs on a connection's own thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores browsers that close a connection during an answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


@final
class ViewRequestHandler(BaseHTTPRequestHandler):
    """Answers requests for the page, the list of runs, a run's manifest and pictures, and those that change a run."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "safelight", ""
    timeout = IDLE_LIMIT_S

    @property
    def _view(self) -> ViewServer:
        return cast("ViewServer", self.server)

    def finish(self) -> None:
        """Ends the connection, but first reads what the client still sends.

        The system answers bytes that nothing reads with a reset, and a reset also drops an answer that the client has
        not read yet: it would see a broken connection in place of the reason for the refusal.
        """
        super().finish()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_S)
            unread = MAX_UNREAD_BYTES
            while unread > 0 and (block := self.connection.recv(BLOCK_BYTES)):
                unread -= len(block)

    def do_GET(self) -> None:
        if self._is_allowed():
            path, _, query = self.path.partition("?")
            self._send_answer(self._view.site.get(path, query))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """Changes a run."""
        path = self.path.partition("?")[0]
        if not path.startswith("/library/"):
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, READ_ONLY)
        elif self._is_allowed():
            self._send_answer(self._view.site.post(path, self.headers.get("Content-Type"), self._body()))

    def _body(self) -> bytes:
        """The content of the request; empty if it is no JSON of an allowed length, which then stays unread."""
        length = self.headers.get("Content-Length", "")
        is_json = self.headers.get("Content-Type") == JSON_TYPE
        return (
            self.rfile.read(int(length))
            if is_json and length.isdecimal() and int(length[:9]) <= MAX_BODY_BYTES
            else b""
        )

    def _is_allowed(self) -> bool:
        has_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if has_body and (self.command != "POST" or "Transfer-Encoding" in self.headers):
            self.close_connection = True  # a body must not be read as a second request
        names = {name.lower() for name in self.headers}
        headers = {name: self.headers.get_all(name, []) for name in names}
        why = self._view.rules.refusal(self.path, headers)
        if why is not None:
            self._refuse(HTTPStatus.FORBIDDEN, f"request refused: {why}")
        return why is None

    def _send_answer(self, answer: SiteAnswer) -> None:
        if answer.status != HTTPStatus.OK:
            self.close_connection = True  # the rest of the request is not read
        if answer.file is not None:
            self._send_file(*answer.file, answer.mime_type)
            return
        headers = dict(answer.headers)
        if answer.is_page:
            headers["Set-Cookie"] = self._view.rules.cookie(self._view.server_port)
        self._send_headers(answer.status, answer.mime_type, len(answer.body), answer.cache, headers)
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send_answer(refusal(status, why))

    def _send_file(self, file: BinaryIO, size: int, mime_type: str) -> None:
        """Sends a file, or the range that the browser asks for: exactly the announced bytes, or the connection ends."""
        with file:
            try:
                # With If-Range the browser has a part of an earlier file. It gets the whole file, which may be another.
                span = byte_range(None if "If-Range" in self.headers else self.headers.get("Range"), size)
            except ValueError as error:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, str(error))
                return
            start, end = span or (0, size)
            status = HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT
            headers = {"Accept-Ranges": "bytes"}
            headers |= {} if span is None else {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
            self._send_headers(status, mime_type, end - start, STORE_FOREVER, headers)
            if self.command == "GET":
                file.seek(start)
                self._copy(file, end - start)

    def _copy(self, file: BinaryIO, count: int) -> None:
        while count and (block := file.read(min(count, BLOCK_BYTES))):
            self.wfile.write(block)
            count -= len(block)
        if count:  # the file was cut meanwhile: the browser must not take the next answer for its rest
            self.close_connection = True

    def _send_headers(
        self, status: HTTPStatus, mime_type: str, size: int, cache: str, more: Mapping[str, str] = NO_HEADERS
    ) -> None:
        self.send_response(status)
        headers = {
            **SAFE_HEADERS,
            "Content-Type": mime_type,
            "Content-Length": str(size),
            "Cache-Control": cache,
            **more,
        }
        headers |= {"Connection": "close"} if self.close_connection else {}
        headers |= {"Allow": "GET, HEAD"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what the base class refuses: other methods, and bytes that are not HTTP."""
        known = code != HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus(code) if known else HTTPStatus.METHOD_NOT_ALLOWED
        self._refuse(status, message if known and message else READ_ONLY)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug(format, *args)


def add_command(commands: Any) -> None:
    """Adds `view` to the command line."""
    view = commands.add_parser("view", help="look at a folder of runs in a browser")
    add_runs_folder(view, f"folder of a run, or a folder with runs up to {MAX_FOLDER_DEPTH} levels below it")
    add_server_options(view, f"port of the server ({DEFAULT_PORT}; a free one if it is in use)")
    view.add_argument("--open", action=argparse.BooleanOptionalAction, default=None, help="open a browser")
    view.set_defaults(run=_run_view)


def _run_view(arguments: argparse.Namespace) -> int:
    logging.basicConfig(format="%(message)s")
    folder = runs_folder(arguments)
    with serve(folder, arguments.port, arguments.host) as server:
        count = len(server.library.runs())
        try:
            print_lines(f"{count} run{'s' * (count != 1)} in {folder}: {server.url} (Ctrl-C ends it)")
            if not server.rules.is_local:
                print_lines(who_can_open(arguments.host, server.url))
            if sys.stdout.isatty() if arguments.open is None else arguments.open:
                webbrowser.open(server.url)
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def serve(folder: Path | str, port: int | None = None, host: str = LOOPBACK) -> ViewServer:
    """A server of the runs in `folder`. It listens, and answers once `serve_forever` is called.

    Args:
        folder: of a run, or with runs in it; or its address.
        port: number; None for the default port, or a free one if the default is in use.
        host: address or name on which the server listens.

    Raises:
        PageError: there is no run in the folder, or the port is in use.
        OptionError, StoreError: the address is not valid, or the store does not answer.
    """
    saved = saved_library(folder)
    if not saved.runs.runs():
        found = "no folder" if isinstance(folder, Path) and not folder.is_dir() else "no run"
        raise PageError(
            f"{folder}: expected runs (folders with a {MANIFEST_NAME}, at most {MAX_FOLDER_DEPTH} levels down, "
            f"not hidden), found {found}"
        )
    try:
        return ViewServer(saved, DEFAULT_PORT if port is None else port, host)
    except OSError as error:
        if port is None:
            return ViewServer(saved, 0, host)
        raise port_error(port, error) from None
