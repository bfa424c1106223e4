"""A picture file for each step."""

import json
import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import NamedTuple, final

from ..decoders.errors import StepError
from .encode import Encoding
from .folder import RunFolder
from .picture import Picture
from .run import State
from .sink import Sink

ENCODERS = max(1, min(4, (os.cpu_count() or 1) // 2))  # what a machine has to spare beside a sampler


class Encoded(NamedTuple):
    """A picture file's bytes, with the seconds they took."""

    content: bytes
    seconds: float


@final
class Files(Sink):
    """Writes `step_0001.png` and so on into a run's folder, numbered by sampler step from 1.

    Args:
        folder: of the run.
        encoding: how.
        texts: what is stored in every picture besides its own facts, by name, as JSON; asked for once, by the worker.
        facts: whether a picture also says which step of which run it is, as `safelight`.
        encoders: threads that encode, each of them a picture ahead; files are written and listed in order all the
            same. With none, a picture is there when `show` returns.
    """

    name = "files"

    def __init__(
        self,
        folder: RunFolder,
        encoding: Encoding,
        *,
        texts: Callable[[], Mapping[str, str]] = dict,
        facts: bool = True,
        encoders: int = 0,
    ) -> None:
        self.folder, self.encoding = folder, encoding
        self._ask_texts, self._facts = texts, facts
        self._texts: Mapping[str, str] = {}
        self._encoders = encoders
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: deque[tuple[Picture, Future[Encoded]]] = deque()

    def open(self) -> None:
        self._texts = self._ask_texts()
        if not self.encoding.holds(self._texts):
            self.folder.run.note("the workflow is too large for the metadata of a JPEG: choose png or webp to keep it")
        if self._encoders:
            self._pool = ThreadPoolExecutor(self._encoders, f"safelight-{self.folder.run.id[:8]}-encoder")

    def show(self, picture: Picture) -> None:
        if self._pool is None:
            self._write(picture, self._encode(picture))
            return
        self._under_way.append((picture, self._pool.submit(self._encode, picture)))
        if len(self._under_way) > 2 * self._encoders:
            self._write_oldest()

    def flush(self) -> None:
        while self._under_way:
            self._write_oldest()

    def close(self, state: State) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _encode(self, picture: Picture) -> "Encoded":
        began = perf_counter()
        texts = {**self._texts, "safelight": json.dumps(self._describe(picture))} if self._facts else self._texts
        content = self.encoding.encode(picture.first, picture.shown, texts)
        return Encoded(content, perf_counter() - began)

    def _write_oldest(self) -> None:
        picture, encoded = self._under_way.popleft()
        try:
            self._write(picture, encoded.result())
        except Exception as error:
            raise StepError(picture.index, str(error)) from error

    def _write(self, picture: Picture, encoded: "Encoded") -> None:
        began = perf_counter()
        name = f"step_{picture.index:04d}.{self.encoding.file_format}"
        self.folder.write(name, encoded.content)
        seconds = encoded.seconds + perf_counter() - began
        self.folder.record(picture, name, write_ms=round(seconds * 1000, 3))

    def _describe(self, picture: Picture) -> dict[str, object]:
        run = self.folder.run
        return {
            "run": run.id,
            "step": picture.index,
            "steps": picture.total,
            "sigma": picture.sigma,
            "show": picture.show,
            "space": run.space,
            "decoder": picture.decoder,
        }
