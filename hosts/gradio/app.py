"""A gradio page for a diffusers pipeline: the newest step while it samples, then all steps on a slider.

previews(pipe, ...)         a generator, for an app of your own
launch(pipe, out="runs")    this page; `safelight gradio --pipeline DIR` on the command line
"""

import importlib
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from ...errors import PageError, describe
from ...preview.output_folder import absolute_path
from .background_call import previews
from .session import FormField, Session, call_arguments_of, fields_of, pack

__all__ = ["app", "launch", "previews"]

LOCAL_ADDRESS = "127.0.0.1"
CACHE_S = 3600  # lifetime of gradio's copies of pictures
CSS = """
.safelight-status { min-height: 1.8em; font-variant-numeric: tabular-nums; color: var(--body-text-color-subdued); }
footer { display: none !important; }
"""
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # no fonts from the network


def launch(
    pipeline: Any,
    out: str | Path = "runs",
    *,
    host: str = LOCAL_ADDRESS,
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
    **options: Any,
) -> Any:
    """Serves the page from a background thread. Returns the `gradio.Blocks`, with a `local_url` and a `share_url`.

    The page has no password: anyone who can open it can run the pipeline, and see the runs in `out`.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        out: folder of runs. The page shows files from this folder.
        host: address to listen on; by default only this machine can open the page. `0.0.0.0`: all of its networks.
        share: whether gradio's servers give the page a public address for some days.
        port: port of the server; None for gradio's default, or a free one.
        open_browser: whether to open a browser.
        options: options of `safelight.watch`.

    Raises:
        PageError: gradio is not installed.
    """
    gradio = import_gradio()
    page = app(pipeline, out, **options)
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
        allowed_paths=[str(absolute_path(out).resolve())],
        css=CSS,
        theme=gradio.themes.Default(primary_hue="orange", **FONTS),
        footer_links=[],
        ssr_mode=False,
    )
    return page


def app(pipeline: Any, out: str | Path = "runs", **options: Any) -> Any:
    """Returns the page as a `gradio.Blocks`, to launch or to embed it. Its `allowed_paths` must contain `out`.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        out: folder of runs.
        options: options of `safelight.watch`.

    Raises:
        PageError: gradio is not installed.
    """
    gradio = import_gradio()
    session = Session(pipeline, absolute_path(out).resolve(), options)
    with gradio.Blocks(title="Safelight", analytics_enabled=False, delete_cache=(CACHE_S, CACHE_S)) as blocks:
        AppPage(gradio, session, fields_of(pipeline)).lay_out(blocks)
    return blocks


class AppPage:
    """The components of the page and their events."""

    def __init__(self, gradio: Any, session: Session, fields: list[FormField]) -> None:
        self._gradio, self._session, self._fields = gradio, session, fields

    def lay_out(self, blocks: Any) -> None:
        """Adds all components to `blocks`, whose context is open."""
        gr = self._gradio
        steps = gr.State([])
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
        outputs = [picture, status, slider, gallery, download, steps, begin, stop]
        quiet = {"show_progress": "hidden", "api_visibility": "private"}

        # gradio passes arguments by their annotations, which exist only where gradio is imported.
        def run(request: gr.Request, seed: float | None, *values: Any) -> Iterator[tuple[Any, ...]]:
            yield from self._run(request.session_hash, seed, values)

        def stop_run(request: gr.Request) -> Any:
            return literal(self._session.stop(request.session_hash)) or gr.skip()

        def leave(request: gr.Request) -> None:
            self._session.stop(request.session_hash)

        def select(steps: list[tuple[str, str]], event: gr.SelectData) -> tuple[Any, ...]:
            return *_step_at(event.index + 1, steps), event.index + 1

        for trigger in (begin.click, *[box.submit for box in inputs[:1] if hasattr(box, "submit")]):
            trigger(run, [seed, *inputs], outputs, concurrency_limit=1, concurrency_id="pipeline", **quiet)
        stop.click(stop_run, None, status, queue=False, **quiet)
        blocks.unload(leave)
        slider.input(_step_at, [slider, steps], [picture, status], trigger_mode="always_last", **quiet)
        gallery.select(select, [steps], [picture, status, slider], **quiet)

    def _component(self, field: FormField) -> Any:
        return getattr(self._gradio, field.component)(value=field.value, **field.settings)

    def _run(self, browser: str, seed: float | None, values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        gr = self._gradio
        same, hidden = gr.skip(), gr.update(visible=False)
        busy = gr.update(interactive=False), gr.update(interactive=True)
        yield same, "preparing", hidden, hidden, hidden, [], *busy
        run = self._session.run(browser, None if seed is None else int(seed), call_arguments_of(self._fields, values))
        try:
            with tempfile.TemporaryDirectory(prefix="safelight-") as temp, closing(run):
                for view in run:
                    if view.steps is None:
                        yield view.picture, literal(view.status), same, same, same, same, *busy
                    else:
                        yield (
                            view.picture,
                            literal(view.status),
                            *self._final_outputs(view.steps, view.folder, Path(temp)),
                        )
        except Exception as error:
            message = literal(describe(error))
            yield same, message, hidden, hidden, hidden, [], *self._idle()
            raise gr.Error(message) from error

    def _final_outputs(self, steps: list[tuple[str, str]], folder: Path | None, temp: Path) -> tuple[Any, ...]:
        gr, count = self._gradio, len(steps)
        return (
            gr.update(maximum=max(2, count), value=max(1, count), visible=count > 1),
            gr.update(value=steps, visible=bool(steps)),
            gr.update(value=None if folder is None else str(pack(folder, temp)), visible=folder is not None),
            steps,
            *self._idle(),
        )

    def _idle(self) -> tuple[Any, Any]:
        return self._gradio.update(interactive=True), self._gradio.update(interactive=False)


def literal(text: str) -> str:
    """Encodes a text so that gradio's Markdown shows it as it is: names and errors may contain markup of others."""
    return "".join(char if char.isalnum() or char.isspace() else f"&#{ord(char)};" for char in text)


def _step_at(position: int, steps: list[tuple[str, str]]) -> tuple[Any, str]:
    """Returns file and caption of the step at a position of the slider."""
    file, caption = steps[min(max(1, int(position)), len(steps)) - 1]
    return file, literal(caption)


def import_gradio() -> Any:
    """Returns the module gradio.

    Raises:
        PageError: gradio is not installed.
    """
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise PageError(f"gradio is needed, but cannot be imported ({error}): pip install gradio") from None


def load(folder: Path, device: str | None, dtype: str | None, *, offload: bool) -> Any:
    """Opens the pipeline in a folder. Nothing is downloaded.

    Args:
        folder: folder with a `model_index.json`.
        device: device of the pipeline; None for cuda, mps or cpu, the first that exists.
        dtype: name of the dtype of torch; None for bfloat16 on cuda, else float32.
        offload: whether only the model that is in use is on the device.

    Raises:
        PageError: diffusers is not installed, or it cannot open the folder.
    """
    if not (folder / "model_index.json").is_file():
        raise PageError(
            f"{folder}: expected a folder of a pipeline with a model_index.json; pipe.save_pretrained(DIR) writes one"
        )
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise PageError(
            f"diffusers is needed, but cannot be imported ({error}): pip install diffusers transformers"
        ) from None
    device = device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    torch_dtype = getattr(torch, dtype or ("bfloat16" if device.startswith("cuda") else "float32"))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch_dtype`")  # diffusers before 0.42 knows only this name
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                str(folder), torch_dtype=torch_dtype, local_files_only=True
            )
    except (OSError, LookupError, ValueError, ImportError, AttributeError, TypeError, RuntimeError) as error:
        raise PageError(f"{folder}: diffusers cannot open it: {describe(error)}") from error
    if offload:
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)
