"""Lets a person choose which items of a batch go on, with a time limit."""

import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from PIL import Image
from server import PromptServer

from ...errors import LatentsError, OptionError, SafelightError, brief
from ...preview.choice import PendingChoice, PendingChoices
from ...preview.images.encode import shrink
from ...preview.saved_run import SavedRun
from ...preview.strict_json import strict_json
from .facts import Prompt
from .latent_dict import picture_of
from .quick_decode import QuickDecodeOptions, quick_decode
from .run_handle import RunHandle
from .saved_steps import SavedSteps

ALL, NONE, BEST = WITHOUT_ANSWER = ("all", "none", "best")
MAX_ITEMS = 64
OFFERED_SIDE_PX, JPEG_QUALITY = 512, 90
EVENT = "safelight.choice"

# An attribute of the server, not of this module: if the pack is installed twice, one copy serves the choices of both.
CHOICES: PendingChoices = vars(PromptServer.instance).setdefault("safelight_choices", PendingChoices())

log = logging.getLogger("safelight.comfyui")


@dataclass(frozen=True, kw_only=True)
class ChooseOptions:
    """The user's options on the node; its tooltips describe them."""

    time_limit_s: int
    without_answer: str
    best_count: int


def choose(latent: Mapping[str, Any], steps: RunHandle | SavedSteps, scores: Any, options: ChooseOptions) -> list[int]:
    """Asks the person who queued the prompt, and returns the indexes of the chosen items.

    Args:
        latent: LATENT with the batch.
        steps: run that the batch is from.
        scores: a number for each item, of which the largest is best; None without scores.
        options: the user's options.

    Raises:
        LatentsError: there are too many items.
        OptionError: scores are needed and missing, or are no numbers for the items.
        SafelightError: there are no pictures.
    """
    prompt, count = Prompt.current(), len(picture_of(latent))
    if count > MAX_ITEMS:
        raise LatentsError(f"expected at most {MAX_ITEMS} items to choose from, got a batch of {count}")
    default = _default(options, _scores(scores, count), count)
    if not _has_audience(prompt):
        log.info("no page queued this prompt, so no user can choose: %s of %d items go on", len(default), count)
        return default
    pictures = [_jpeg(picture) for picture in _pictures(latent, steps, prompt, count)]
    place = {"workflow": prompt.workflow_id, "node": prompt.display_id(str(prompt.node))}
    choice = PendingChoice(pictures, str(prompt.owner), place, options.time_limit_s)
    CHOICES.add(choice)
    try:
        _announce(prompt, place, choice, "open")
        chosen = choice.wait(throw_exception_if_processing_interrupted)
    finally:
        CHOICES.remove(choice)
        _announce(prompt, place, choice, "closed")
    if chosen is None:
        log.info("no answer came in %d s: %d of %d items go on", options.time_limit_s, len(default), count)
    return default if chosen is None else chosen


def selected(latent: Mapping[str, Any], chosen: Sequence[int]) -> dict[str, Any]:
    """The chosen items of a LATENT. Samplers give each the noise that it has in the whole batch.

    Source: ComfyUI 0.33 `nodes.py`, `LatentFromBatch`.
    """
    at, count = torch.tensor(chosen), len(picture_of(latent))
    samples, mask = latent["samples"], latent.get("noise_mask")
    if getattr(samples, "is_nested", False):
        samples = type(samples)([part[at] for part in samples.unbind()])
    else:
        samples = samples[at]
    before = latent.get("batch_index") or range(count)
    found = {**latent, "samples": samples, "batch_index": [list(before)[i] for i in chosen]}
    if mask is not None and len(mask) == count > 1:
        found["noise_mask"] = mask[at]
    return found


def _scores(scores: Any, count: int) -> list[float] | None:
    if scores is None:
        return None
    values = scores.flatten().tolist() if isinstance(scores, torch.Tensor) else scores
    values = list(values) if isinstance(values, list | tuple) else [values]
    numbers: list[float] = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if len(values) != count or len(numbers) != count:
        raise OptionError(f"scores: expected {count} numbers, one for each item, got {brief(scores)}")
    return numbers


def _default(options: ChooseOptions, scores: Sequence[float] | None, count: int) -> list[int]:
    """The items that go on without an answer."""
    if options.without_answer != BEST:
        return list(range(count)) if options.without_answer == ALL else []
    if scores is None:
        raise OptionError(
            f"without_answer is {BEST}: connect scores, a number for each item, or choose {ALL} or {NONE}"
        )
    ranked = sorted(range(count), key=lambda i: -scores[i])
    return sorted(ranked[: options.best_count])


def _has_audience(prompt: Prompt) -> bool:
    return prompt.owner is not None and prompt.client in PromptServer.instance.sockets


def _pictures(
    latent: Mapping[str, Any], steps: RunHandle | SavedSteps, prompt: Prompt, count: int
) -> Sequence[Image.Image]:
    """A picture of each item: the last step's of the run, else the decoded latents."""
    record = steps.after(prompt)
    if isinstance(record, SavedRun):
        runs: Sequence[SavedRun] = [record]
    else:
        runs = [SavedRun(folder.path, folder.manifest(), folder.title) for folder in record.folders]
    for run in runs:
        try:
            if len(items := run.items()) == count:
                return items
        except SafelightError as error:
            log.info("pictures of %s cannot be used: %s", run.title, error)
    if not isinstance(steps, RunHandle):
        raise LatentsError(f"the run has no pictures of {count} items; sample with batch set to all files or grid")
    rgb = quick_decode(latent, steps.model, QuickDecodeOptions())
    frames = len(rgb) // count
    return [Image.fromarray((image.numpy() * 255).round().astype(np.uint8)) for image in rgb[::frames]]


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    shrink(picture.convert("RGB"), OFFERED_SIDE_PX).save(content, "JPEG", quality=JPEG_QUALITY)
    return content.getvalue()


def _announce(prompt: Prompt, place: Mapping[str, Any], choice: PendingChoice, state: str) -> None:
    """Reports a choice to the page, and on the node that it waits."""
    server = PromptServer.instance
    facts = {"v": 1, **place, **choice.facts(), "state": state}
    server.send_sync(EVENT, strict_json(facts, log.warning, EVENT), prompt.client)
    text = "waits for your choice" if state == "open" else "goes on"
    server.send_progress_text(text, prompt.node, prompt.client)
