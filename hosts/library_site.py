"""Answers the requests of the page with all runs of a folder. Each web server passes them on, and sends the answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import Any, BinaryIO, final
from urllib.parse import parse_qsl, unquote

from ..errors import GoneError, ManifestError, RunError
from ..preview.file_names import picture_type
from ..preview.html.bundle import bundle
from ..preview.html.document import Document, document
from .saved_library import MAX_BODY_BYTES, SavedLibrary, limit_of

NO_STORE = "no-store"
STORE_FOREVER = "private, max-age=31536000, immutable"  # an id is never used again; a picture's URL holds its time
JSON_TYPE, PAGE_TYPE, SMALL_TYPE = "application/json", "text/html; charset=utf-8", "image/jpeg"
OTHER_TYPE = "application/octet-stream"
BLOCK_BYTES = 1 << 16  # of a file that is sent
NOTHING_THERE = "there is no such page, run or picture"


@dataclass(frozen=True, kw_only=True)
class SiteAnswer:
    """An answer to a request.

    Args:
        mime_type: type of the content.
        body: content, if it is not that of a file.
        file: open file and its size in bytes; None if `body` is the content. The sender closes it.
        status: status of HTTP.
        cache: value of the header `Cache-Control`.
        headers: further headers.
    """

    mime_type: str
    body: bytes = b""
    file: tuple[BinaryIO, int] | None = None
    status: HTTPStatus = HTTPStatus.OK
    cache: str = NO_STORE
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_page(self) -> bool:
        return self.mime_type == PAGE_TYPE


@final
class LibrarySite:
    """The page with all runs of a folder. Any thread may use it.

    Args:
        saved: the runs.
        facts: what the page needs besides the name of the folder, such as the name of the program that serves it.
    """

    def __init__(self, saved: SavedLibrary, facts: Mapping[str, str] | None = None) -> None:
        self.saved, self._runs = saved, saved.runs
        self.page: Document = document(
            {"folder": self._runs.name, **(facts or {})},
            bundle("view-page"),
            connect_src="'self'",
            img_src="'self' data: blob:",
        )

    def get(self, path: str, query: str = "") -> SiteAnswer:
        """The answer to a request that changes nothing.

        Args:
            path: path below the address of the page, such as `/library`.
            query: what follows the question mark.
        """
        asked = dict(parse_qsl(query))
        match [unquote(part) for part in path.split("/")]:
            case ["", ""]:
                policy = {"Content-Security-Policy": f"{self.page.policy}; frame-ancestors 'none'"}
                return SiteAnswer(mime_type=PAGE_TYPE, body=self.page.html.encode(), headers=policy)
            case ["", "runs"]:
                newest = islice(self._runs.runs().values(), limit_of(asked))
                return json_answer([entry.summary() for entry in newest])
            case ["", "library"]:
                changes = self.saved.changes(asked.get("since"), limit_of(asked))
                return json_answer(changes | {"path": self._runs.place})
            case ["", "library", "trash"]:
                return json_answer(self.saved.trash())
            case ["", "library", run_id, "workflow"] if workflow := self.saved.workflow(run_id):
                return SiteAnswer(mime_type=JSON_TYPE, body=workflow.encode(errors="replace"))
            case ["", "library", run_id, "small", name] if small := self.saved.small(run_id, name):
                return SiteAnswer(mime_type=SMALL_TYPE, body=small, cache=STORE_FOREVER)
            case ["", "runs" | "library" as base, run_id] if entry := self._runs.run(run_id):
                try:
                    return json_answer(entry.described if base == "library" else entry.manifest)
                except ManifestError as error:  # deleted in this moment
                    return refusal(HTTPStatus.NOT_FOUND, str(error))
            case ["", "runs" | "library", run_id, name] if picture := self._runs.open(run_id, name):
                return SiteAnswer(mime_type=picture_type(name) or OTHER_TYPE, file=picture, cache=STORE_FOREVER)
        return refusal(HTTPStatus.NOT_FOUND, NOTHING_THERE)

    def post(self, path: str, mime_type: str | None, content: bytes) -> SiteAnswer:
        """The answer to a request that changes a run. The server has checked who asks.

        Args:
            path: path below the address of the page.
            mime_type: type of the content, which must be JSON: a browser asks before it sends JSON of a page of another
                site, and Safelight's servers refuse.
            content: content of the request, of at most `MAX_BODY_BYTES` bytes.
        """
        try:
            if mime_type != JSON_TYPE or len(content) > MAX_BODY_BYTES:
                raise ValueError(mime_type)
            return json_answer(self._change(path, json.loads(content)))
        except GoneError as error:
            return refusal(HTTPStatus.NOT_FOUND, str(error))
        except RunError as error:
            return refusal(HTTPStatus.CONFLICT, str(error))
        except (ValueError, RecursionError):
            return refusal(HTTPStatus.BAD_REQUEST, f"expected JSON of at most {MAX_BODY_BYTES:,} bytes")

    def _change(self, path: str, body: Any) -> dict[str, Any]:
        match [unquote(part) for part in path.split("/")]:
            case ["", "library", "undo"]:
                token = body.get("undo") if isinstance(body, dict) else None
                return self.saved.undo(token if isinstance(token, str) else "")
            case ["", "library", run_id, action]:
                return self.saved.act(run_id, action, body)
        raise GoneError("there is no such run")


def json_answer(value: Any, status: HTTPStatus = HTTPStatus.OK) -> SiteAnswer:
    """An answer whose content is JSON."""
    return SiteAnswer(mime_type=JSON_TYPE, body=json.dumps(value).encode(), status=status)


def refusal(status: HTTPStatus, why: str) -> SiteAnswer:
    """An answer that says why a request was refused."""
    return json_answer({"error": why}, status)
