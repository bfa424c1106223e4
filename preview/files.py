"""A picture file for each step."""

import json
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import final

from .encode import Encoding
from .folder import RunFolder
from .picture import Picture
from .run import State
from .sink import Sink


@final
class Files(Sink):
    """Writes `step_0001.png` and so on into a run's folder, numbered by sampler step from 1.

    Args:
        folder: of the run.
        encoding: how.
        texts: what is stored in every picture besides its own facts, by name, as JSON; asked for once, by the worker.
        facts: whether a picture also says which step of which run it is, as `safelight`.
    """

    name = "files"

    def __init__(
        self,
        folder: RunFolder,
        encoding: Encoding,
        *,
        texts: Callable[[], Mapping[str, str]] = dict,
        facts: bool = True,
    ) -> None:
        self.folder, self.encoding = folder, encoding
        self._ask_texts, self._facts = texts, facts
        self._texts: Mapping[str, str] = {}

    def open(self) -> None:
        self._texts = self._ask_texts()
        if not self.encoding.holds(self._texts):
            self.folder.run.note("the workflow is too large for the metadata of a JPEG: choose png or webp to keep it")

    def show(self, picture: Picture) -> None:
        began = perf_counter()
        texts = {**self._texts, "safelight": json.dumps(self._describe(picture))} if self._facts else self._texts
        name = f"step_{picture.index:04d}.{self.encoding.file_format}"
        self.folder.write(name, self.encoding.encode(picture.first, picture.shown, texts))
        self.folder.record(picture, name, write_ms=round((perf_counter() - began) * 1000, 3))

    def close(self, state: State) -> None:
        pass

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
