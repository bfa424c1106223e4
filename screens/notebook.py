"""A run in the cell of a notebook: the newest step while it goes on, the viewer with all of them when it has ended.

while the cell runs     an ipywidgets.Image with a Stop button below; without ipywidgets, plain updates of one display
afterwards              in the same place the viewer, which needs no kernel, and beside it the last picture as JPEG, for
                        whatever shows a saved notebook without scripts
"""

import base64
import importlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, final

from ..errors import PageError, SinkError
from ..preview.html.embed import embedded_page, page_in_frame, pictures_that_fit
from ..preview.images.encode import ImageEncoding, shrink
from ..preview.images.grid import still_image
from ..preview.picture import DecodedPicture
from ..preview.run import Run, State
from ..preview.sinks.base import Delivery, RunScreen
from ..preview.sinks.run_folder import RunFolder
from ..preview.sinks.step_files import StepFiles

MAX_SIDE_PX = 512
MIN_INTERVAL_S = 0.1
MAX_BYTES = 6 << 20  # of pictures in one cell; of a long run or a large video, steps are left out
KEPT = ImageEncoding(file_format="jpg", max_side_px=MAX_SIDE_PX)
Stop = Callable[[], object]

JPEG, HTML, TEXT = "image/jpeg", "text/html", "text/plain"


@dataclass(frozen=True)
class NotebookPicture:
    """What a cell shows of one step.

    Args:
        jpeg: a picture file.
        size: width and height to show it at.
        words: which step it is.
        index, total: of the step.
    """

    jpeg: bytes
    size: tuple[int, int]
    words: str
    index: int
    total: int

    @property
    def bundle(self) -> dict[str, Any]:
        """By MIME type."""
        return {TEXT: self.words, JPEG: base64.b64encode(self.jpeg).decode()}


class Cell(Protocol):
    """How a cell is shown something while it runs."""

    def show(self, shown: NotebookPicture) -> None:
        """Shows a step in place of the one before."""
        ...

    def end(self, bundle: Mapping[str, Any], size: tuple[int, int] | None) -> None:
        """Shows what stays, by MIME type; `size` is that of the picture in it."""
        ...


@final
class NotebookScreen(RunScreen):
    """Shows a run in the cell that runs it.

    Args:
        viewer: whether the cell holds the viewer afterwards, with all steps that it was shown. Without, it holds the
            last picture, and with ipywidgets a slider for as long as the kernel lives.
        widgets: whether to use ipywidgets while the cell runs; None: if they are installed.
        max_bytes: of pictures that stay in the notebook.
        clock: seconds, monotonic.
    """

    name: ClassVar[str] = "notebook"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(
        self,
        *,
        viewer: bool = True,
        widgets: bool | None = None,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._viewer, self._widgets, self._max_bytes, self._clock = viewer, widgets, max_bytes, clock
        self._forget()

    def follow(self, run: Run, stop: Stop | None = None) -> None:
        """Says whose pictures the next ones are, before they come.

        Args:
            run: the viewer then knows its seed, sampler and notes.
            stop: ends it early and keeps what is there; with it there is a Stop button.
        """
        self._run, self._stop = run, stop

    def _forget(self) -> None:
        self._run, self._stop = Run(), None
        self._begin()

    def _begin(self) -> None:
        self._cell: Cell | None = None
        self._last: DecodedPicture | None = None
        self._next_s = float("-inf")
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._files: StepFiles | None = None

    def open(self) -> None:
        self._begin()
        if self._viewer:
            self._place = tempfile.TemporaryDirectory(prefix="safelight-", ignore_cleanup_errors=True)
            folder = RunFolder(Path(self._place.name), self._run)
            self._files = StepFiles(folder, KEPT, facts=False, batch="all files", max_pixels=MAX_SIDE_PX**2 * 64)
            self._files.open()

    def show(self, picture: DecodedPicture) -> None:
        if self._files is not None:
            self._files.show(picture)
        if self._cell is None:
            self._cell = cell_here(self._stop, widgets=self._widgets, slider=not self._viewer)
        self._last = picture
        now = self._clock()
        if now >= self._next_s:
            self._next_s = now + MIN_INTERVAL_S
            self._cell.show(shown_of(picture))

    def close(self, state: State) -> None:
        try:
            if self._cell is not None and self._last is not None:
                shown = shown_of(self._last)
                self._cell.show(shown)
                self._cell.end(self._bundle(shown, state), shown.size)
        finally:
            if self._place is not None:
                self._place.cleanup()
            self._forget()

    def _bundle(self, shown: NotebookPicture, state: State) -> dict[str, Any]:
        words = shown.words if state == "finished" else f"{state} at {shown.words}"
        bundle = shown.bundle | {TEXT: words}
        if self._files is None or self._last is None:
            return bundle
        folder = self._files.folder
        manifest: dict[str, Any] = folder.manifest()
        sampler = manifest["sampler"]
        manifest |= {"state": state, "sampler": sampler | {"steps": sampler["steps"] or self._last.total}}
        pictures, every = pictures_that_fit(folder.path, manifest, self._max_bytes)
        if every > 1:
            most = f"{self._max_bytes / (1 << 20):g} MB"
            note = f"one step of {every} is in this notebook: all of them would take more than {most}"
            manifest["notes"] = [*manifest["notes"], note]
        try:
            page = embedded_page(manifest, pictures)
        except PageError:  # an incomplete folder of Safelight; the last picture is there all the same
            return bundle
        return bundle | {HTML: page_in_frame(page, self._last.shown, f"data:{JPEG};base64,{bundle[JPEG]}", words)}


def shown_of(picture: DecodedPicture) -> NotebookPicture:
    """A step as a cell shows it."""
    image = still_image(picture)
    sigma = "" if picture.sigma is None else f" · σ {picture.sigma:.3g}"
    words = f"step {picture.index} / {picture.total}{sigma} · {picture.decoder}"
    width, height = image.size
    longer = max(picture.shown) * max(image.size) / max(picture.pixels.shape[2:4])  # of a batch, as it will be
    scale = min(MAX_SIDE_PX, longer) / max(image.size)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return NotebookPicture(KEPT.save([shrink(image, MAX_SIDE_PX)]), size, words, picture.index, picture.total)


def cell_here(stop: Stop | None, *, widgets: bool | None = None, slider: bool = False) -> Cell:
    """The cell that runs now.

    Args:
        stop: what a Stop button does.
        widgets: whether it is made of ipywidgets; None: if they are installed.
        slider: whether there is one afterwards, where it is.
    """
    if widgets or widgets is None:
        try:
            return WidgetCell(importlib.import_module("ipywidgets"), stop, slider=slider)
        except ImportError:
            if widgets:
                raise SinkError("expected ipywidgets, it is not installed: pip install ipywidgets") from None
    return PlainCell()


class Display:
    """One display of a cell, which is changed in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def put(self, bundle: Mapping[str, Any], size: tuple[int, int] | None = None) -> None:
        display = importlib.import_module("IPython.display").display
        metadata = {JPEG: {"width": size[0], "height": size[1]}} if size and JPEG in bundle else {}
        if self._handle is None:
            self._handle = display(dict(bundle), raw=True, metadata=metadata, display_id=True)
        else:
            self._handle.update(dict(bundle), raw=True, metadata=metadata)


@final
class PlainCell:
    """A display that is changed in place. The kernel's own interrupt stops the run."""

    def __init__(self) -> None:
        self._display = Display()

    def show(self, shown: NotebookPicture) -> None:
        self._display.put(shown.bundle, shown.size)

    def end(self, bundle: Mapping[str, Any], size: tuple[int, int] | None) -> None:
        self._display.put(bundle, size)


@final
class WidgetCell:
    """An Image of ipywidgets, with words and a Stop button below.

    A click comes through while the cell runs where the kernel has subshells (ipykernel 7) and the notebook uses them
    (JupyterLab 4.4). For other kernels there is no button, since it would do nothing until the cell has ended; the
    kernel's interrupt stops the run there.

    Args:
        ipywidgets: the module.
        stop: what the button does.
        slider: whether the widget stays afterwards, with a slider through all steps.
    """

    def __init__(self, ipywidgets: Any, stop: Stop | None, *, slider: bool) -> None:
        self._widgets, self._slider = ipywidgets, slider
        self._steps: list[NotebookPicture] = []
        self._display = Display()
        self._image = ipywidgets.Image(format="jpeg", layout={"max_width": "100%", "object_fit": "contain"})
        self._bar = ipywidgets.IntProgress(min=0, layout={"width": "160px"}, style={"bar_color": "#ff8a3d"})
        self._words = ipywidgets.Label()
        below = [self._bar, self._words]
        if stop is not None and hears_while_busy():
            button = ipywidgets.Button(description="Stop", tooltip="End here and keep what is there", icon="stop")
            button.on_click(lambda _: _end_early(button, stop))
            _hear_beside_the_cell(button)
            below.append(button)
        self._row = ipywidgets.HBox(below, layout={"align_items": "center", "flex_flow": "row wrap"})
        self._box = ipywidgets.VBox([self._image, self._row])

    def show(self, shown: NotebookPicture) -> None:
        self._paint(shown)
        self._bar.max, self._bar.value = max(1, shown.total), shown.index
        if not self._steps:
            # Beside a picture: a notebook that is saved while the cell runs has one.
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
        slider.observe(lambda change: self._paint(steps[change["new"]]), "value")
        self._row.children = [slider, self._words]
        self._display.put({**self._box._repr_mimebundle_(), **bundle}, size)

    def _paint(self, shown: NotebookPicture) -> None:
        self._image.value = shown.jpeg
        self._image.width, self._image.height = map(str, shown.size)
        self._words.value = shown.words


def _hear_beside_the_cell(widget: Any) -> None:
    """Has what the widget hears taken by the subshell that it was sent to, not by the cell that made it, which is busy.

    Source: ipykernel 7.4, comm/comm.py, `_reply_subshell_for`; kernels without it do so anyway.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)


def _end_early(button: Any, stop: Stop) -> None:
    button.disabled, button.description = True, "Stopping"
    stop()


def hears_while_busy() -> bool:
    """Whether the kernel can take a click while a cell runs."""
    kernel = getattr(importlib.import_module("IPython").get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_supports_kernel_subshells", False))
