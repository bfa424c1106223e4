"""`safelight view`: the runs in a folder, in the browser of whoever sits at this machine."""

import argparse
import json
import logging
import math
import os
import re
import shutil
import stat
import sys
import threading
import uuid
import webbrowser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast, final
from urllib.parse import unquote

from ..decoders.errors import ManifestError, PageError
from ..decoders.plain import open_plain
from ..preview.bundle import bundle
from ..preview.manifest import NAME, read_manifest
from ..preview.names import why_not
from ..preview.page import Document, document

LOOPBACK = "127.0.0.1"
# Another site may give its own name our address, and then be us for a browser: only these names are ours.
OUR_NAMES = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
PORT = 8765
DEPTH = 2  # of folders in folders
MOST_FOLDERS = 20_000  # that are looked into
IDLE_LIMIT_S = 60
LONGEST_RUN_S = 1e9  # what says more does not know

TYPES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg", ".gif": "image/gif", ".mp4": "video/mp4"}
STATES = ("running", "finished", "interrupted", "failed")
SHAPES: Mapping[str, type | tuple[type, ...]] = {
    "started": str,
    "host": dict,
    "sampler": dict,
    "space": (str, type(None)),
    "decoder": (dict, type(None)),
    "picture": (dict, type(None)),
    "steps": list,
    "notes": list,
}

MADE = ("sheet", "animation")  # of a whole run

NOTHING = "default-src 'none'; frame-ancestors 'none'"
NOT_AT_ALL = "no-store"
FOR_GOOD = "private, max-age=31536000, immutable"  # an id is never used twice, and a picture's time is in its address

log = logging.getLogger("safelight.view")


@dataclass(frozen=True)
class Kept:
    """A run in a folder, as its manifest has it.

    Args:
        id: the manifest's; another where two folders have the same, or where it could not be an id of ours.
        folder: that holds it.
        version: is another after each change.
        manifest: of this version.
        files: that may be looked at: what the manifest lists, by name.
    """

    id: str
    folder: Path
    version: str
    manifest: Mapping[str, Any]
    files: frozenset[str]

    def written_ms(self) -> int | None:
        """When its record was written, by what it says of itself: a copy of a folder may be younger."""
        started_s, seconds = _started_s(self), self.manifest.get("seconds")
        if started_s > 0 and isinstance(seconds, int | float) and 0 <= seconds < LONGEST_RUN_S:
            return round((started_s + seconds) * 1000)
        return None

    def summary(self) -> dict[str, Any]:
        """What a list of runs says of it."""
        last = next((step for step in reversed(self.manifest["steps"]) if step["files"]), {"files": [None]})
        return {
            "id": self.id,
            "version": self.version,
            "state": self.manifest["state"],
            "started": self.manifest["started"],
            "index": last.get("index"),
            "total": self.manifest["sampler"].get("steps"),
            "file": last["files"][0],
            "at": last.get("at"),
            "written": self.written_ms(),
        }


@final
class Shelf:
    """The runs in a folder, in its folders, and in theirs; links are not followed.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._read: dict[Path, tuple[str, Kept | None]] = {}
        self._runs: dict[str, Kept] = {}
        self._reading = threading.Lock()

    @property
    def name(self) -> str:
        return self._root.name

    def runs(self) -> dict[str, Kept]:
        """All runs by id, newest first, read again where something has changed."""
        with self._reading:
            folders = list(islice(_folders(self._root, DEPTH), MOST_FOLDERS))
            found = [kept for folder in folders if (kept := self._kept(folder)) is not None]
            there = set(folders)
            self._read = {folder: read for folder, read in self._read.items() if folder in there}
        runs: dict[str, Kept] = {}
        for kept in found:
            one = kept if kept.id not in runs else _renamed(kept, self._root)
            runs[one.id] = one
        self._runs = dict(sorted(runs.items(), key=lambda item: _started_s(item[1]), reverse=True))
        return self._runs

    def open(self, run_id: str, name: str) -> tuple[BinaryIO, int] | None:
        """A picture that a run lists, with its size in bytes; None if it lists none of this name or has it no more.

        `name` is compared; what is opened is the manifest's own, as long as that is a plain file in the run's folder.
        """
        for runs in (lambda: self._runs, self.runs):  # as last seen, which spares a look at every folder; then anew
            kept = runs().get(run_id)
            if kept is not None and name in kept.files:
                return _open(kept.folder / name)
        return None

    def _kept(self, folder: Path) -> Kept | None:
        path = folder / NAME
        try:
            told = path.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(told.st_mode):
            return None
        version = f"{told.st_mtime_ns:x}-{told.st_size:x}"
        known = self._read.get(folder)
        if known is None or known[0] != version:
            try:
                kept = _check(folder, version, read_manifest(folder), self._root)
            except ManifestError as error:
                log.warning("left out: %s", error)
                kept = None
            known = self._read[folder] = version, kept
        return known[1]


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """`root` and the folders in it, in theirs and so on, in order of their names."""
    yield root
    if depth:
        try:
            inside = sorted(entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
        except OSError:  # gone by now, or somebody else's
            return
        for path in inside:
            yield from _folders(Path(path), depth - 1)


def _check(folder: Path, version: str, manifest: dict[str, Any], root: Path) -> Kept:
    """The run, if its manifest is one that a viewer can rely on: it may come from anywhere."""
    wrong = [key for key, shape in SHAPES.items() if not isinstance(manifest.get(key), shape)]
    wrong += [] if manifest.get("state") in STATES else ["state"]
    wrong += [] if wrong or all(map(_is_step, manifest["steps"])) else ["steps"]
    try:
        json.dumps(manifest, allow_nan=False)
    except ValueError:
        wrong.append("a number")
    if wrong:
        raise ManifestError(f"{folder / NAME}: {', '.join(wrong)}: not as in the record of a run")
    # Nobody is told of files that nobody can have.
    steps = [{**step, "files": [name for name in step["files"] if _is_plain(name)]} for step in manifest["steps"]]
    made = {key: name for key in MADE if isinstance(name := manifest.get(key), str) and _is_plain(name)}
    manifest = manifest | {"steps": steps} | dict.fromkeys(MADE) | made
    listed = frozenset([*(name for step in steps for name in step["files"]), *made.values()])
    kept = Kept(str(manifest.get("id")), folder, version, manifest, listed)
    return kept if _is_uuid(kept.id) else _renamed(kept, root)


def _is_step(step: Any) -> bool:
    return (
        isinstance(step, dict)
        and isinstance(step.get("index"), int)
        and isinstance(step.get("files"), list)
        and all(isinstance(name, str) for name in step["files"])
        and all(_is_number(step.get(key)) for key in ("sigma", "at", "decode_ms"))
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _is_plain(name: str) -> bool:
    """Whether this is a picture's name and no path, on any system."""
    picture = not set(name) & set("/\\:") and not name.startswith(".") and Path(name).suffix in TYPES
    return picture and why_not(name) is None


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _renamed(kept: Kept, root: Path) -> Kept:
    """The run with an id made of its place, and its time: another run in this place is not taken for it."""
    place = f"{kept.folder.relative_to(root).as_posix()} {kept.manifest['started']}"
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, place.encode(errors="backslashreplace").decode()))
    return replace(kept, id=name, manifest={**kept.manifest, "id": name})


def _started_s(kept: Kept) -> float:
    try:
        return datetime.fromisoformat(kept.manifest["started"]).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _open(path: Path) -> tuple[BinaryIO, int] | None:
    """The file with its size, unless it is a link, a pipe, a folder or anything else that is no plain file."""
    try:
        file = open_plain(path, links=False)
    except OSError:
        return None
    return file, os.fstat(file.fileno()).st_size


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

    def __init__(self, shelf: Shelf, port: int) -> None:
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
    shelf = Shelf(folder)
    if not shelf.runs():
        there = "no run" if folder.is_dir() else "no folder"
        raise PageError(f"{folder}: expected runs (folders with a {NAME}, at most {DEPTH} levels down), found {there}")
    try:
        return Server(shelf, PORT if port is None else port)
    except OSError as error:
        if port is None:
            return Server(shelf, 0)
        raise PageError(f"port {port} cannot be had ({error.strerror}); choose another, or 0 for a free one") from None
