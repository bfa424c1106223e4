"""A small app around a pipeline of diffusers: what it is making while it makes it, then every step on a slider.

previews(pipe, ...)         a generator, for an app of one's own
launch(pipe, out="runs")    this one; `safelight gradio --pipeline DIR` from the command line
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
from .background_call import previews
from .session import FormField, Session, call_arguments_of, fields_of, pack

__all__ = ["app", "launch", "previews"]

LOCAL_ADDRESS = "127.0.0.1"
CACHE_S = 3600  # that gradio keeps pictures that nobody looks at
CSS = """
.safelight-words { min-height: 1.8em; font-variant-numeric: tabular-nums; color: var(--body-text-color-subdued); }
footer { display: none !important; }
"""
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # none that is fetched


def launch(
    pipeline: Any, out: str | Path = "runs", *, port: int | None = None, open_browser: bool = False, **options: Any
) -> Any:
    """Serves the app to this machine, on a thread of its own: a `gradio.Blocks` with a `local_url`.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        out: the folder of runs: what is shown and taken away is read from there.
        port: to serve at; None: gradio's, or a free one.
        open_browser: whether to.
        options: of `safelight.hosts.diffusers.watch`.

    Raises:
        PageError: gradio is not installed.
    """
    gradio = import_gradio()
    page = app(pipeline, out, **options)
    page.launch(
        server_name=LOCAL_ADDRESS,
        server_port=port,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
        allowed_paths=[str(Path(out).resolve())],
        css=CSS,
        theme=gradio.themes.Default(primary_hue="orange", **FONTS),
        footer_links=[],
        ssr_mode=False,
    )
    return page


def app(pipeline: Any, out: str | Path = "runs", **options: Any) -> Any:
    """The page as a `gradio.Blocks`, to be put among others or launched: let it have `out` in its `allowed_paths`.

    Raises:
        PageError: gradio is not installed.
    """
    gradio = import_gradio()
    studio, fields = Session(pipeline, Path(out).resolve(), options), fields_of(pipeline)
    with gradio.Blocks(title="Safelight", analytics_enabled=False, delete_cache=(CACHE_S, CACHE_S)) as blocks:
        AppPage(gradio, studio, fields).lay_out(blocks)
    return blocks


class AppPage:
    """What is on the page, and what happens when it is used."""

    def __init__(self, gradio: Any, studio: Session, fields: list[FormField]) -> None:
        self._gradio, self._studio, self._fields = gradio, studio, fields

    def lay_out(self, blocks: Any) -> None:
        """Puts everything in its place, in the blocks, which are open."""
        gr = self._gradio
        steps = gr.State([])
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                asked = [self._component(field) for field in self._fields]
                seed = gr.Number(label="Seed (-1: any)", precision=0, minimum=-1, value=-1)
                with gr.Row():
                    begin = gr.Button("Generate", variant="primary")
                    stop = gr.Button("Stop", variant="stop", interactive=False)
            with gr.Column(scale=2, min_width=320):
                picture = gr.Image(
                    show_label=False, format="jpeg", interactive=False, height=560, buttons=["download", "fullscreen"]
                )
                words = gr.Markdown("", elem_classes="safelight-words")
                slider = gr.Slider(1, 2, 1, step=1, label="Step", visible=False)
        with gr.Row():
            gallery = gr.Gallery(label="All steps", columns=8, height="auto", visible=False, allow_preview=False)
        away = gr.DownloadButton("Download this run", visible=False)
        shown = [picture, words, slider, gallery, away, steps, begin, stop]
        quiet = {"show_progress": "hidden", "api_visibility": "private"}

        # What a parameter is annotated as, gradio gives; so they are made here, where it is known.
        def make(request: gr.Request, seed: float | None, *asked: Any) -> Iterator[tuple[Any, ...]]:
            yield from self._make(request.session_hash, seed, asked)

        def end(request: gr.Request) -> Any:
            return self._studio.stop(request.session_hash) or gr.skip()

        def leave(request: gr.Request) -> None:
            self._studio.stop(request.session_hash)

        def choose(steps: list[tuple[str, str]], event: gr.SelectData) -> tuple[Any, ...]:
            return *_at(event.index + 1, steps), event.index + 1

        for trigger in (begin.click, *[box.submit for box in asked[:1] if hasattr(box, "submit")]):
            trigger(make, [seed, *asked], shown, concurrency_limit=1, concurrency_id="pipeline", **quiet)
        stop.click(end, None, words, queue=False, **quiet)
        blocks.unload(leave)
        slider.input(_at, [slider, steps], [picture, words], trigger_mode="always_last", **quiet)
        gallery.select(choose, [steps], [picture, words, slider], **quiet)

    def _component(self, field: FormField) -> Any:
        return getattr(self._gradio, field.kind)(value=field.value, **field.facts)

    def _make(self, who: str, seed: float | None, asked: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        gr = self._gradio
        same, hidden = gr.skip(), gr.update(visible=False)
        busy = gr.update(interactive=False), gr.update(interactive=True)
        yield same, "preparing", hidden, hidden, hidden, [], *busy
        run = self._studio.make(who, None if seed is None else int(seed), call_arguments_of(self._fields, asked))
        try:
            with tempfile.TemporaryDirectory(prefix="safelight-") as place, closing(run):
                for seen in run:
                    if seen.steps is None:
                        yield seen.picture, seen.words, same, same, same, same, *busy
                    else:
                        yield seen.picture, seen.words, *self._afterwards(seen.steps, seen.folder, Path(place))
        except Exception as error:
            yield same, describe(error), hidden, hidden, hidden, [], *self._idle()
            raise gr.Error(describe(error)) from error

    def _afterwards(self, steps: list[tuple[str, str]], folder: Path | None, place: Path) -> tuple[Any, ...]:
        gr, count = self._gradio, len(steps)
        several = count > 1
        return (
            gr.update(maximum=max(2, count), value=max(1, count), visible=several),
            gr.update(value=steps, visible=bool(steps)),
            gr.update(value=None if folder is None else str(pack(folder, place)), visible=folder is not None),
            steps,
            *self._idle(),
        )

    def _idle(self) -> tuple[Any, Any]:
        return self._gradio.update(interactive=True), self._gradio.update(interactive=False)


def _at(position: int, steps: list[tuple[str, str]]) -> tuple[Any, str]:
    """The picture at a place of the slider, and what it is."""
    file, caption = steps[min(max(1, int(position)), len(steps)) - 1]
    return file, caption


def import_gradio() -> Any:
    """The module.

    Raises:
        PageError: it is not installed.
    """
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise PageError(f"expected gradio, it cannot be imported ({error}): pip install gradio") from None


def load(folder: Path, device: str | None, dtype: str | None, *, offload: bool) -> Any:
    """The pipeline in a folder of this machine; nothing is fetched.

    Raises:
        PageError: diffusers is not installed, or this is no pipeline that it can open.
    """
    if not (folder / "model_index.json").is_file():
        raise PageError(
            f"{folder}: expected the folder of a pipeline, with a model_index.json; pipe.save_pretrained(DIR) makes one"
        )
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise PageError(
            f"expected diffusers, it cannot be imported ({error}): pip install diffusers transformers"
        ) from None
    device = device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    wanted = getattr(torch, dtype or ("bfloat16" if device.startswith("cuda") else "float32"))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch_dtype`")  # what diffusers before 0.42 knows it by
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                str(folder), torch_dtype=wanted, local_files_only=True
            )
    except (OSError, LookupError, ValueError, ImportError, AttributeError, TypeError, RuntimeError) as error:
        raise PageError(f"{folder}: diffusers cannot open it: {describe(error)}") from error
    if offload:
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)
