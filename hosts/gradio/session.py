"""Runs a pipeline for the sessions of a page: the form, the view of a run, the files."""

import inspect
import io
import random
from collections.abc import Generator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple, final

import torch
from PIL import Image

from ...decoders.files.contained_file import write_below
from ...errors import RunError
from ...preview.picture import DecodedPicture
from ..diffusers.options import WatchOptions
from .background_call import BackgroundCall, enlarged, first_image

RESULT_NAME = "result.png"
LARGEST_SEED = 2**32 - 1
FILE_OPTIONS = {"enlarge": "lanczos", "file_format": "webp"}  # all steps have the size of the final image


class FormField(NamedTuple):
    """A field of the form, for pipelines whose call has this parameter.

    Args:
        parameter: name of the parameter.
        component: name of the gradio component.
        settings: arguments of the component.
        value: initial value, unless the parameter has a number as its default. None: the field begins empty, and an
            empty or zero field is not passed to the pipeline.
    """

    parameter: str
    component: str
    settings: Mapping[str, Any]
    value: Any


FIELDS = (
    FormField("prompt", "Textbox", {"label": "Prompt", "lines": 3, "autofocus": True}, ""),
    FormField("negative_prompt", "Textbox", {"label": "Negative prompt", "lines": 1}, None),
    FormField("num_inference_steps", "Slider", {"label": "Steps", "minimum": 1, "maximum": 100, "step": 1}, 20),
    FormField("guidance_scale", "Slider", {"label": "Guidance", "minimum": 0, "maximum": 20, "step": 0.1}, 5.0),
    FormField("width", "Number", {"label": "Width (0: the model's default)", "precision": 0, "minimum": 0}, None),
    FormField("height", "Number", {"label": "Height", "precision": 0, "minimum": 0}, None),
)


def fields_of(pipeline: Any) -> list[FormField]:
    """Returns the fields that the pipeline has parameters for, with the pipeline's defaults if they are numbers."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    fields = []
    for field in FIELDS:
        if field.parameter in parameters:
            default = parameters[field.parameter].default
            is_number = isinstance(default, int | float) and not isinstance(default, bool)
            fields.append(field._replace(value=default) if is_number and field.value is not None else field)
    return fields


def call_arguments_of(fields: list[FormField], values: tuple[Any, ...]) -> dict[str, Any]:
    """Returns the arguments of the pipeline's call for the values of the form."""
    pairs = zip(fields, values, strict=True)
    return {
        field.parameter: field.value if value is None else value
        for field, value in pairs
        if value or field.value is not None
    }


class SessionView(NamedTuple):
    """What the page shows of a run.

    Args:
        picture: newest picture; None if there is none.
        status: text below it.
        steps: name and caption of each picture in the folder; None while the run is running.
        folder: folder of the run once it has ended; None if no files are written.
    """

    picture: Image.Image | None
    status: str
    steps: list[tuple[str, str]] | None = None
    folder: Path | None = None


@final
class Session:
    """Runs one pipeline for all browsers that have the page open, one run at a time.

    Args:
        pipeline: pipeline of diffusers.
        out: folder of runs.
        options: options of `watch`.

    Raises:
        TypeError, OptionError, SinkError: as for `watch`, before the page is served.
    """

    def __init__(self, pipeline: Any, out: Path, options: Mapping[str, Any]) -> None:
        self._pipeline, self._options = pipeline, {"out": out, **FILE_OPTIONS, **options}
        WatchOptions.of(**self._options)  # a wrong option must not wait for the first run
        self._calls: dict[str, BackgroundCall] = {}

    def run(self, browser: str, seed: int | None, arguments: Mapping[str, Any]) -> Generator[SessionView, None, None]:
        """Runs the pipeline and yields what the page shows, until the run has ended.

        Args:
            browser: id of the browser's session.
            seed: random seed of the noise; None or negative for a random one.
            arguments: arguments of the pipeline's call.

        Raises:
            Exception: any exception that the pipeline raises.
        """
        seed = random.randint(0, LARGEST_SEED) if seed is None or seed < 0 else int(seed)  # noqa: S311 - not a secret
        generator = torch.Generator().manual_seed(seed)
        call = BackgroundCall(self._pipeline, (), {**arguments, "generator": generator}, self._options)
        self._calls[browser] = call
        try:
            last = None
            for picture in call.pictures():
                last = picture
                yield SessionView(enlarged(picture), step_text(picture.index, picture.sigma, picture.total))
            yield final_view(call, last, seed)
        finally:
            if self._calls.get(browser) is call:  # else the browser has begun another run
                del self._calls[browser]
            call.close()

    def stop(self, browser: str) -> str:
        """Ends the run of a browser before its next step. Returns a message, empty if there is no run."""
        call = self._calls.get(browser)
        if call is None:
            return ""
        try:
            call.stop()
        except RunError as error:
            return str(error)
        return "stopping"


def final_view(call: BackgroundCall, last: DecodedPicture | None, seed: int) -> SessionView:
    """Returns what the page shows of a run that has ended. A stopped run shows its last step, and has no final image.

    Args:
        call: call of the pipeline.
        last: picture of the last step; None if there is none.
        seed: random seed of the noise.
    """
    result = call.result()
    image = None if call.stopped else first_image(result)
    folder, manifest = call.watched.folder, call.watched.manifest()
    if image is not None and folder is not None:
        image.save(file := io.BytesIO(), "PNG")  # of any mode
        write_below(folder, PurePath(RESULT_NAME), file.getvalue())
    shown = image or (None if last is None else enlarged(last))
    state = "finished"
    if call.stopped and last is not None:
        state = f"stopped at {step_text(last.index, last.sigma, last.total)}"
    status = " · ".join([state, f"seed {seed}", *call.watched.notes])
    steps = [] if folder is None or manifest is None else pictures_of(folder, manifest)
    return SessionView(shown, status, steps, folder)


def step_text(index: int, sigma: float | None, total: int | None = None) -> str:
    """Names a step, with its sigma if it is known."""
    step = f"step {index}" if total is None else f"step {index} / {total}"
    return step if sigma is None else f"{step} · σ {sigma:.3g}"


def pictures_of(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns name and caption of each picture of a run, the final image last."""
    steps = [
        (name, step_text(step["index"], step["sigma"])) for step in manifest["steps"] for name in step["files"][:1]
    ]
    return [*steps, (RESULT_NAME, "finished")] if (folder / RESULT_NAME).exists() else steps
