"""The runs of one prompt in one folder, with one page that opens all of them."""

import threading
from collections.abc import Mapping
from typing import Any, final

from ..html.document import document_of, script_safe_json
from ..output_folder import create_inner_folder
from ..run import Run
from .run_folder import RunFolder

PAGE_NAME = "index.html"


@final
class RunGroup:
    """The runs of one prompt, or of a base and its refiners.

    The first has the folder itself; each other run has a folder inside it.

    Args:
        first: folder of the first run.

    Attributes:
        first: the same.
        page_written_s: when the page was last written, by the clock of the sinks that write it.
    """

    def __init__(self, first: RunFolder) -> None:
        self.first = first
        self.page_written_s = float("-inf")
        self._manifests: dict[RunFolder, str] = {}  # as JSON, in the order of the runs
        self._writing = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether the folder exists; a first run without steps has removed it."""
        return self.first.path.is_dir()

    @property
    def folders(self) -> list[RunFolder]:
        """The folders of all runs that are on the page."""
        return list(self._manifests)

    def add(self, run: Run) -> RunFolder:
        """Creates the folder of another run: `run_002`, `run_003` and so on."""
        path = create_inner_folder(self.first.path)
        return RunFolder(path, run, f"{self.first.title}/{path.name}")

    def write_page(self, folder: RunFolder, manifest: Mapping[str, Any], script: str) -> None:
        """Writes the page with all runs so far into the folder of the first run.

        Args:
            folder: folder of the run that has changed.
            manifest: its manifest.
            script: script of the page.
        """
        place = {"page": PAGE_NAME} if folder is self.first else {"folder": folder.path.name}
        with self._writing:  # runs may overlap, and the page that is written last must have all of them
            self._manifests[folder] = script_safe_json({**manifest, **place})
            self.first.write(PAGE_NAME, document_of(self._data(), script).html.encode())

    def _data(self) -> str:
        """The manifest of the first run, if it is the only one; else the manifests of all runs."""
        manifests = list(self._manifests.values())
        is_alone = list(self._manifests) == [self.first]
        return manifests[0] if is_alone else f'{{"runs": [{", ".join(manifests)}]}}'
