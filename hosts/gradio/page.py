"""The components of the page and their events."""

# gradio is imported while the page is built, so its names are values of that function.
# pyright: reportInvalidTypeForm=false

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ...errors import describe, printable
from .served_files import ServedFiles, ServedRun
from .session import FormField, Session, call_arguments_of


class AppPage:
    """The components of the page and their events."""

    def __init__(self, gradio: Any, session: Session, fields: list[FormField], files: ServedFiles) -> None:
        self._gradio, self._session, self._fields, self._files = gradio, session, fields, files

    def lay_out(self, blocks: Any) -> None:
        """Adds all components to `blocks`, whose context is open."""
        gr = self._gradio
        shown_run = gr.State(None)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                inputs = [self._component(field) for field in self._fields]
                seed = gr.Number(label="Seed (-1: random)", precision=0, minimum=-1, value=-1)
                with gr.Row():
                    begin = gr.Button("Generate", variant="primary")
                    stop = gr.Button("Stop", variant="stop", interactive=False)
            with gr.Column(scale=2, min_width=320):
                picture = gr.Image(
                    show_label=False, format="jpeg", interactive=False, height=560, buttons=["download", "fullscreen"]
                )
                status = gr.Markdown("", elem_classes="safelight-status", latex_delimiters=[])
                slider = gr.Slider(1, 2, 1, step=1, label="Step", visible=False)
        with gr.Row():
            gallery = gr.Gallery(label="All steps", columns=8, height="auto", visible=False, allow_preview=False)
        download = gr.DownloadButton("Download this run", visible=False)
        outputs = [picture, status, slider, gallery, download, shown_run, begin, stop]
        quiet = {"show_progress": "hidden", "api_visibility": "private"}

        # gradio passes arguments by their annotations, which exist only where gradio is imported.
        def run(request: gr.Request, seed: float | None, *values: Any) -> Iterator[tuple[Any, ...]]:
            yield from self._run(request.session_hash, seed, values)

        def stop_run(request: gr.Request) -> Any:
            return literal(self._session.stop(request.session_hash)) or gr.skip()

        def leave(request: gr.Request) -> None:
            self._session.stop(request.session_hash)

        def select(run: ServedRun, event: gr.SelectData) -> tuple[Any, ...]:
            return *_step_at(event.index + 1, run), event.index + 1

        for trigger in (begin.click, *[box.submit for box in inputs[:1] if hasattr(box, "submit")]):
            trigger(run, [seed, *inputs], outputs, concurrency_limit=1, concurrency_id="pipeline", **quiet)
        stop.click(stop_run, None, status, queue=False, **quiet)
        blocks.unload(leave)
        slider.input(_step_at, [slider, shown_run], [picture, status], trigger_mode="always_last", **quiet)
        gallery.select(select, [shown_run], [picture, status, slider], **quiet)

    def _component(self, field: FormField) -> Any:
        return getattr(self._gradio, field.component)(value=field.value, **field.settings)

    def _run(self, browser: str, seed: float | None, values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        gr = self._gradio
        same, hidden = gr.skip(), gr.update(visible=False)
        busy = gr.update(interactive=False), gr.update(interactive=True)
        yield same, "preparing", hidden, hidden, hidden, None, *busy
        run = self._session.run(browser, None if seed is None else int(seed), call_arguments_of(self._fields, values))
        try:
            with closing(run):
                for view in run:
                    ended = view.steps is not None
                    rest = self._final_outputs(view.steps or [], view.folder) if ended else (*(same,) * 4, *busy)
                    yield view.picture, literal(view.status), *rest
        except Exception as error:
            message = literal(describe(error))
            yield same, message, hidden, hidden, hidden, None, *self._idle()
            raise gr.Error(message) from error

    def _final_outputs(self, pictures: Sequence[tuple[str, str]], folder: Path | None) -> tuple[Any, ...]:
        gr, count = self._gradio, len(pictures)
        if folder is None:  # it could not be created
            return *(gr.update(visible=False),) * 3, None, *self._idle()
        run = self._files.new_run(folder, pictures)
        copies = [(str(run.picture(name)), caption) for name, caption in pictures]
        return (
            gr.update(maximum=max(2, count), value=max(1, count), visible=count > 1),
            gr.update(value=copies, visible=count > 0),
            gr.update(value=str(run.archive()), visible=True),
            run,
            *self._idle(),
        )

    def _idle(self) -> tuple[Any, Any]:
        return self._gradio.update(interactive=True), self._gradio.update(interactive=False)


def literal(text: str) -> str:
    """Encodes a text so that gradio's Markdown shows it as it is: names and errors may contain markup of others."""
    return "".join(char if char.isalnum() else f"&#{ord(char)};" for char in printable(text))


def _step_at(position: int, run: ServedRun) -> tuple[Any, str]:
    """Returns file and caption of the step at a position of the slider."""
    name, caption = run.pictures[min(max(1, int(position)), len(run.pictures)) - 1]
    return str(run.picture(name)), literal(caption)
