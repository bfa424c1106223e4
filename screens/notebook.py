"""Shows a run in the cell of a notebook: the newest step while it runs, and afterwards the viewer with all steps.

while the cell runs     an ipywidgets.Image with a Stop button; without ipywidgets, one display that is updated
afterwards              the viewer in the same display, which needs no kernel, and the last picture as JPEG, for
                        programs that show a saved notebook without scripts
"""

import base64
import importlib
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Protocol, final

from ..errors import PageError, SinkError, printable
from ..preview.decode.memory_budget import MB
from ..preview.html.embed import embedded_page, page_in_frame, pictures_that_fit
from ..preview.images.encode import ImageEncoding, shrink
from ..preview.images.grid import still_image
from ..preview.picture import DecodedPicture
from ..preview.run import Run, State
from ..preview.sinks.base import Delivery, RunScreen
from ..preview.sinks.run_folder import RunFolder
from ..preview.sinks.step_files import StepFiles
from .colors import ACCENT

CELL_SIDE_PX = 512
MIN_UPDATE_S = 0.1
MAX_CELL_BYTES = 6 * MB  # pictures in one cell; steps of a long run or a large video are skipped
MIN_VIEWER_BYTES = 400_000  # below this, a later run of a cell gets its last picture only: the viewer takes 100 kB
CELL_ENCODING = ImageEncoding(file_format="jpg", max_side_px=CELL_SIDE_PX)
Stop = Callable[[], object]

NO_FORMULAS = "tex2jax_ignore mathjax_ignore"  # MathJax, which notebooks load, leaves elements of these classes alone
JPEG_TYPE, HTML_TYPE, TEXT_TYPE = "image/jpeg", "text/html", "text/plain"


@dataclass(frozen=True)
class NotebookPicture:
    """What a cell shows of one step.

    Args:
        jpeg: JPEG file.
        size: width and height on the screen, in pixels.
        caption: text below the picture.
        index: number of the step, from 1.
        total: number of steps.
    """

    jpeg: bytes
    size: tuple[int, int]
    caption: str
    index: int
    total: int

    @property
    def bundle(self) -> dict[str, Any]:
        """The content of the display by MIME type."""
        return {TEXT_TYPE: self.caption, JPEG_TYPE: base64.b64encode(self.jpeg).decode()}


@final
class CellBudget:
    """The bytes that the viewers in the running cell have used: a cell may call a pipeline many times."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._cell: object = None
        self._used = 0

    def room(self, cell: object, limit: int) -> int:
        """Returns the bytes that the next viewer of a cell may use: all for the first, then half of what is left.

        Args:
            cell: what identifies the cell; None if unknown.
            limit: bytes of the whole cell.
        """
        with self._changing:
            is_first = cell is None or cell != self._cell
            return limit if is_first else max(0, limit - self._used) // 2

    def use(self, cell: object, count: int) -> None:
        """Counts the bytes of a viewer."""
        with self._changing:
            self._used = count + (self._used if cell == self._cell else 0)
            self._cell = cell


BUDGET = CellBudget()  # a notebook has one cell that runs


class Cell(Protocol):
    """The output of a running cell."""

    def show(self, shown: NotebookPicture) -> None:
        """Replaces the step that is shown."""
        ...

    def end(self, bundle: Mapping[str, Any], size: tuple[int, int] | None) -> None:
        """Shows the final content by MIME type; `size` is the size of its picture."""
        ...


@final
class NotebookScreen(RunScreen):
    """Shows a run in the cell that runs it.

    Args:
        viewer: whether the cell ends with the viewer of all steps. Otherwise it ends with the last picture, and with
            ipywidgets a slider, which works as long as the kernel runs.
        widgets: whether to use ipywidgets while the cell runs; None to use them if they are installed.
        max_bytes: largest size of the pictures in a cell, also if it calls the pipeline several times.
        clock: monotonic clock, in seconds.
    """

    name: ClassVar[str] = "notebook"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(
        self,
        *,
        viewer: bool = True,
        widgets: bool | None = None,
        max_bytes: int = MAX_CELL_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._viewer, self._widgets, self._max_bytes, self._clock = viewer, widgets, max_bytes, clock
        self._forget()

    def follow(self, run: Run, stop: Stop | None = None) -> None:
        """Receives the run before it is opened.

        Args:
            run: run that begins; the viewer shows its seed, sampler and notes.
            stop: function that ends the sampler early; None for no Stop button.
        """
        self._run, self._stop = run, stop

    def _forget(self) -> None:
        self._run, self._stop = Run(), None
        self._begin()

    def _begin(self) -> None:
        self._cell: Cell | None = None
        self._last: DecodedPicture | None = None
        self._next_s = float("-inf")
        self._temp: tempfile.TemporaryDirectory[str] | None = None
        self._files: StepFiles | None = None

    def open(self) -> None:
        self._begin()
        if self._viewer:
            self._temp = tempfile.TemporaryDirectory(prefix="safelight-", ignore_cleanup_errors=True)
            folder = RunFolder(Path(self._temp.name), self._run)
            self._files = StepFiles(
                folder, CELL_ENCODING, facts=False, batch="all files", max_pixels=CELL_SIDE_PX**2 * 64
            )
            self._files.open()

    def show(self, picture: DecodedPicture) -> None:
        if self._files is not None:
            self._files.show(picture)
        if self._cell is None:
            self._cell = running_cell(self._stop, widgets=self._widgets, slider=not self._viewer)
        self._last = picture
        now = self._clock()
        if now >= self._next_s:
            self._next_s = now + MIN_UPDATE_S
            self._cell.show(notebook_picture(picture))

    def close(self, state: State) -> None:
        try:
            if self._cell is not None and self._last is not None:
                shown = notebook_picture(self._last)
                self._cell.show(shown)
                self._cell.end(self._bundle(shown, state), shown.size)
        finally:
            if self._temp is not None:
                self._temp.cleanup()
            self._forget()

    def _bundle(self, shown: NotebookPicture, state: State) -> dict[str, Any]:
        caption = shown.caption if state == "finished" else f"{state} at {shown.caption}"
        bundle = shown.bundle | {TEXT_TYPE: caption}
        if self._files is None or self._last is None:
            return bundle
        folder = self._files.folder
        manifest: dict[str, Any] = folder.manifest()
        sampler = manifest["sampler"]
        manifest |= {"state": state, "sampler": sampler | {"steps": sampler["steps"] or self._last.total}}
        limit, cell = f"{self._max_bytes / MB:g} MB", running_cell_id()
        room = BUDGET.room(cell, self._max_bytes)
        if room < min(self._max_bytes, MIN_VIEWER_BYTES):
            return bundle | {HTML_TYPE: _still_with_words(bundle[JPEG_TYPE], shown, limit)}
        pictures, stride = pictures_that_fit(folder.path, manifest, room)
        if stride > 1:
            note = f"one step of {stride} is in this notebook: all steps would take more than {limit}"
            note += "" if room == self._max_bytes else " for all runs of this cell"
            manifest["notes"] = [*manifest["notes"], note]
        try:
            page = embedded_page(manifest, pictures)
        except PageError:  # files of Safelight are missing; the last picture can still be shown
            return bundle
        BUDGET.use(cell, len(page) * 3 // 4)  # base64 is a third longer than the pictures
        fallback = f"data:{JPEG_TYPE};base64,{bundle[JPEG_TYPE]}"
        return bundle | {HTML_TYPE: page_in_frame(page, self._last.shown, fallback, caption)}


def running_cell_id() -> object:
    """Returns a number that only the running cell has; None if there is none."""
    ipython = importlib.import_module("IPython").get_ipython()
    return getattr(ipython, "execution_count", None)


def _still_with_words(jpeg: str, shown: NotebookPicture, limit: str) -> str:
    """The last picture of a run whose cell has no room for its viewer, and why."""
    return (
        f'<img alt="{escape(shown.caption)}" src="data:{JPEG_TYPE};base64,{jpeg}" width="{shown.size[0]}">'
        f'<p class="{NO_FORMULAS}">{escape(shown.caption)}. Only the last step is shown: the runs of this cell have '
        f"used its {limit}. To see all steps, call the pipeline in another cell, or write files with out=.</p>"
    )


def notebook_picture(picture: DecodedPicture) -> NotebookPicture:
    """Converts a step's picture to what a cell shows."""
    image = still_image(picture)
    sigma = "" if picture.sigma is None else f" · σ {picture.sigma:.3g}"
    caption = f"step {picture.index} / {picture.total}{sigma} · {printable(picture.decoder)}"
    width, height = image.size
    longer = max(picture.shown) * max(image.size) / max(picture.pixels.shape[2:4])  # of the whole grid, for a batch
    scale = min(CELL_SIDE_PX, longer) / max(image.size)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    jpeg = CELL_ENCODING.save([shrink(image, CELL_SIDE_PX)])
    return NotebookPicture(jpeg, size, caption, picture.index, picture.total)


def running_cell(stop: Stop | None, *, widgets: bool | None = None, slider: bool = False) -> Cell:
    """Returns the output of the running cell.

    Args:
        stop: function that the Stop button calls; None for no button.
        widgets: whether to use ipywidgets; None to use them if they are installed.
        slider: whether ipywidgets end with a slider.

    Raises:
        SinkError: `widgets` is True, but ipywidgets is not installed.
    """
    if widgets or widgets is None:
        try:
            return WidgetCell(importlib.import_module("ipywidgets"), stop, slider=slider)
        except ImportError:
            if widgets:
                raise SinkError("ipywidgets is needed, but not installed: pip install ipywidgets") from None
    return PlainCell()


class Display:
    """One display of a cell, which can be updated."""

    def __init__(self) -> None:
        self._handle: Any = None

    def put(self, bundle: Mapping[str, Any], size: tuple[int, int] | None = None) -> None:
        display = importlib.import_module("IPython.display").display
        metadata = {JPEG_TYPE: {"width": size[0], "height": size[1]}} if size and JPEG_TYPE in bundle else {}
        if self._handle is None:
            self._handle = display(dict(bundle), raw=True, metadata=metadata, display_id=True)
        else:
            self._handle.update(dict(bundle), raw=True, metadata=metadata)


@final
class PlainCell:
    """An output without widgets. The kernel's interrupt stops the run."""

    def __init__(self) -> None:
        self._display = Display()

    def show(self, shown: NotebookPicture) -> None:
        self._display.put(shown.bundle, shown.size)

    def end(self, bundle: Mapping[str, Any], size: tuple[int, int] | None) -> None:
        self._display.put(bundle, size)


@final
class WidgetCell:
    """An output with an Image of ipywidgets, and a progress bar, a caption and a Stop button below it.

    The kernel receives a click while the cell runs if it has subshells (ipykernel 7) and the notebook uses them
    (JupyterLab 4.4). Other kernels would receive it after the cell has ended, so there is no button; the kernel's
    interrupt stops the run.

    Args:
        ipywidgets: the module ipywidgets.
        stop: function that the button calls; None for no button.
        slider: whether the widget stays afterwards, with a slider through all steps.
    """

    def __init__(self, ipywidgets: Any, stop: Stop | None, *, slider: bool) -> None:
        self._widgets, self._slider = ipywidgets, slider
        self._steps: list[NotebookPicture] = []
        self._display = Display()
        self._image = ipywidgets.Image(format="jpeg", layout={"max_width": "100%", "object_fit": "contain"})
        self._bar = ipywidgets.IntProgress(
            min=0, layout={"width": "160px"}, style={"bar_color": f"#{bytes(ACCENT).hex()}"}
        )
        self._caption = ipywidgets.HTML()  # a Label would turn $ in a name into a formula
        below = [self._bar, self._caption]
        if stop is not None and has_subshells():
            button = ipywidgets.Button(description="Stop", tooltip="End the run and save the steps so far", icon="stop")
            button.on_click(lambda _: _stop_run(button, stop))
            _receive_in_subshell(button)
            below.append(button)
        self._row = ipywidgets.HBox(below, layout={"align_items": "center", "flex_flow": "row wrap"})
        self._box = ipywidgets.VBox([self._image, self._row])

    def show(self, shown: NotebookPicture) -> None:
        self._set_picture(shown)
        self._bar.max, self._bar.value = max(1, shown.total), shown.index
        if not self._steps:
            # With a picture: a notebook that is saved while the cell runs then has one.
            self._display.put({**self._box._repr_mimebundle_(), **shown.bundle}, shown.size)
        if self._slider or not self._steps:
            self._steps.append(shown)

    def end(self, bundle: Mapping[str, Any], size: tuple[int, int] | None) -> None:
        if not self._slider:
            self._display.put(bundle, size)
            for widget in (*self._row.children, self._row, self._image, self._box):
                widget.layout.close()
                widget.close()
            return
        steps = {shown.index: shown for shown in self._steps}
        slider = self._widgets.SelectionSlider(options=sorted(steps), value=max(steps), layout={"width": "60%"})
        slider.observe(lambda change: self._set_picture(steps[change["new"]]), "value")
        self._row.children = [slider, self._caption]
        self._display.put({**self._box._repr_mimebundle_(), **bundle}, size)

    def _set_picture(self, shown: NotebookPicture) -> None:
        self._image.value = shown.jpeg
        self._image.width, self._image.height = map(str, shown.size)
        self._caption.value = escape(shown.caption)


def _receive_in_subshell(widget: Any) -> None:
    """Delivers messages of the widget in the subshell that receives them, not in the busy cell that created the widget.

    Source: ipykernel 7.4, comm/comm.py, `_reply_subshell_for`. Kernels without it always do so.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)


def _stop_run(button: Any, stop: Stop) -> None:
    button.disabled, button.description = True, "Stopping"
    stop()


def has_subshells() -> bool:
    """Whether the kernel can receive a click while a cell runs."""
    kernel = getattr(importlib.import_module("IPython").get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_supports_kernel_subshells", False))
