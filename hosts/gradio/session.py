"""The runs of a page: what people may ask of a pipeline, and what is to be seen of a run."""

import inspect
import random
import threading
import zipfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from PIL import Image

from ...errors import RunError
from ...preview.picture import DecodedPicture
from .background_call import BackgroundCall, enlarged, image_of

RESULT = "result.png"
LARGEST_SEED = 2**32 - 1
FINAL_SIZE = {"enlarge": "lanczos", "file_format": "webp"}  # of step files, so that a slider through them stands still


class FormField(NamedTuple):
    """Something that a person may say, if the pipeline's call has a parameter for it.

    `kind` is a component of gradio, `facts` what it is made with. `value` is said first, unless the parameter has a
    number of its own; None: nothing, and then nothing is what an empty or zero field says, too.
    """

    parameter: str
    kind: str
    facts: Mapping[str, Any]
    value: Any


FIELDS = (
    FormField("prompt", "Textbox", {"label": "Prompt", "lines": 3, "autofocus": True}, ""),
    FormField("negative_prompt", "Textbox", {"label": "Negative prompt", "lines": 1}, None),
    FormField("num_inference_steps", "Slider", {"label": "Steps", "minimum": 1, "maximum": 100, "step": 1}, 20),
    FormField("guidance_scale", "Slider", {"label": "Guidance", "minimum": 0, "maximum": 20, "step": 0.1}, 5.0),
    FormField("width", "Number", {"label": "Width (0: the model's own)", "precision": 0, "minimum": 0}, None),
    FormField("height", "Number", {"label": "Height", "precision": 0, "minimum": 0}, None),
)


def fields_of(pipeline: Any) -> list[FormField]:
    """Those that the pipeline takes, with its own defaults where they are numbers."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    found = []
    for field in FIELDS:
        if field.parameter in parameters:
            default = parameters[field.parameter].default
            is_number = isinstance(default, int | float) and not isinstance(default, bool)
            found.append(field._replace(value=default) if is_number and field.value is not None else field)
    return found


def call_arguments_of(fields: list[FormField], values: tuple[Any, ...]) -> dict[str, Any]:
    """What the pipeline is called with."""
    pairs = zip(fields, values, strict=True)
    return {
        field.parameter: field.value if value is None else value
        for field, value in pairs
        if value or field.value is not None
    }


class SessionView(NamedTuple):
    """What is to be seen of a run: a picture, words below it, and once it has ended every step of it, in files."""

    picture: Image.Image | None
    words: str
    steps: list[tuple[str, str]] | None = None
    folder: Path | None = None


@final
class Session:
    """The runs of everybody who has the page open.

    Args:
        pipeline: of diffusers; one run at a time.
        out: the folder of runs.
        options: of `watch`.
    """

    def __init__(self, pipeline: Any, out: Path, options: Mapping[str, Any]) -> None:
        self._pipeline, self._options = pipeline, {"out": out, **FINAL_SIZE, **options}
        self._one_by_one = threading.Lock()
        self._under_way: dict[str, BackgroundCall] = {}

    def make(self, who: str, seed: int | None, asked: Mapping[str, Any]) -> Generator[SessionView, None, None]:
        """Runs the pipeline, and tells what is to be seen, until it has ended.

        Args:
            who: wants it.
            seed: None or negative: any.
            asked: what the pipeline is called with.

        Raises:
            Exception: what the pipeline raises.
        """
        seed = random.randint(0, LARGEST_SEED) if seed is None or seed < 0 else int(seed)  # noqa: S311 - no secret
        with self._one_by_one:
            generator = torch.Generator().manual_seed(seed)
            call = BackgroundCall(self._pipeline, (), {**asked, "generator": generator}, self._options)
            self._under_way[who] = call
            try:
                last = None
                for picture in call.pictures():
                    last = picture
                    yield SessionView(enlarged(picture), words_of(picture))
                yield ended(call, last, seed)
            finally:
                del self._under_way[who]
                call.close()

    def stop(self, who: str) -> str:
        """Ends the run of `who` early; what there is to say of it."""
        call = self._under_way.get(who)
        if call is None:
            return ""
        try:
            call.stop()
        except RunError as error:
            return str(error)
        return "stopping"


def ended(call: BackgroundCall, last: DecodedPicture | None, seed: int) -> SessionView:
    """What is seen of a run that has ended, `last` its last step. One that was stopped keeps what was there."""
    result = call.result()
    image = None if call.stopped else image_of(result)
    folder, manifest = call.watching.folder, call.watching.manifest()
    if image is not None and folder is not None:
        image.save(folder / RESULT)
    shown = image or (None if last is None else enlarged(last))
    state = f"stopped at {words_of(last)}" if call.stopped and last is not None else "finished"
    words = " · ".join([state, f"seed {seed}", *call.watching.notes])
    steps = [] if folder is None or manifest is None else pictures_of(folder, manifest)
    return SessionView(shown, words, steps, folder)


def words_of(picture: DecodedPicture) -> str:
    """Which step it is."""
    return f"step {picture.index} / {picture.total}" + ("" if picture.sigma is None else f" · σ {picture.sigma:.3g}")


def pictures_of(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pictures of a run in its folder, each with its caption, the finished image last."""
    found = [
        (str(folder / name), f"step {step['index']}" + ("" if step["sigma"] is None else f" · σ {step['sigma']:.3g}"))
        for step in manifest["steps"]
        for name in step["files"][:1]
    ]
    return [*found, (str(folder / RESULT), "finished")] if (folder / RESULT).exists() else found


def pack(folder: Path, place: Path) -> Path:
    """All files of a run in one, for taking away: `<folder>.zip` in `place`."""
    packed = place / f"{folder.name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, Path(folder.name) / path.relative_to(folder))
    return packed
