"""Stands for the pipeline of a loop that has none: the user's own loop over a scheduler."""

import inspect
from typing import Any, final

from ..x0 import MODEL_OUTPUT, SAMPLE, step_method


@final
class OwnLoop:
    """The scheduler of a loop that the user wrote, with the attributes by which a pipeline is watched.

    Args:
        scheduler: scheduler of diffusers, or an object with the same `step`.
        vae: autoencoder of its latents; None if it is unknown.
    """

    def __init__(self, scheduler: Any, vae: Any = None) -> None:
        self.scheduler, self.vae = scheduler, vae


def name_of_pipeline(pipeline: Any) -> str:
    """Returns the name of a pipeline's class; of a loop of the user, that of its scheduler's class.

    Args:
        pipeline: pipeline, what stands for one, or several pipelines in a tuple.
    """
    if isinstance(pipeline, tuple):
        return " and ".join(map(name_of_pipeline, pipeline))
    return type(pipeline.scheduler if isinstance(pipeline, OwnLoop) else pipeline).__name__


def is_scheduler(watched: Any) -> bool:
    """Returns whether `watched` has a method that takes a step from a model's output and a sample.

    The `step` of optimizers and of schedulers of learning rates takes neither.
    """
    if isinstance(watched, type) or (method := step_method(watched)) is None:
        return False
    names = parameters_of(watched, method)
    return any(name in names for name in MODEL_OUTPUT) and any(name in names for name in SAMPLE)


def parameters_of(watched: Any, method: str) -> list[str]:
    """Returns the names of a method's parameters; none if Python does not know them."""
    try:
        return list(inspect.signature(getattr(watched, method)).parameters)
    except (TypeError, ValueError):  # of a class that is written in C
        return []
