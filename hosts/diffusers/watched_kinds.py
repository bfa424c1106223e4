"""The kinds of objects that `watch` takes, a row for each."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...errors import OptionError, brief
from ..x0 import step_method
from .copies import PROGRESS_BAR, SCHEDULER, has_scheduler
from .modular_blocks import is_modular, loop_blocks
from .options import WatchOptions
from .own_loop import OwnLoop, is_scheduler, parameters_of

EXPECTED = (
    "expected a pipeline of diffusers, such as StableDiffusionPipeline.from_pretrained(...), a list of them, a "
    "ModularPipeline, or the scheduler of a loop of your own"
)


class WatchedKind(NamedTuple):
    """A kind of objects that `watch` takes.

    Args:
        fits: function that returns whether an object is of this kind.
        advice: what is followed and what is not, for the warning about a block without a run.
        loops: function that returns the blocks of a pipeline that have a loop.
        is_loop: whether it is only the scheduler of a loop. Then any thread may take its steps, and a run ends when the
            timesteps start over.
        has_callback: whether its sampling loop can call `Previews`.
    """

    fits: Callable[[Any], bool]
    advice: str
    loops: Callable[[Any], Sequence[Any]] = lambda _pipeline: []
    is_loop: bool = False
    has_callback: bool = False


def is_pipeline(watched: Any) -> bool:
    """Returns whether `watched` is a pipeline of diffusers, with a progress bar and a scheduler."""
    return (
        not isinstance(watched, type)
        and hasattr(watched, PROGRESS_BAR)
        and (hasattr(watched, SCHEDULER) or has_scheduler(watched))
    )


def are_pipelines(watched: Any) -> bool:
    """Returns whether `watched` is a list of pipelines of diffusers, such as a base and its refiner."""
    return isinstance(watched, list | tuple) and len(watched) > 0 and all(map(is_pipeline, watched))


PIPELINE = WatchedKind(
    lambda watched: is_pipeline(watched) or are_pipelines(watched),
    "Safelight follows the pipeline, the pipelines in it, copies that are created in the block, and in its thread or "
    "task older copies. If another pipeline sampled, pass that one to watch()",
    has_callback=True,
)
MODULAR = WatchedKind(
    is_modular,
    "Safelight follows the loops of this pipeline's blocks, and in the thread or task of the block a loop over its "
    "scheduler. If another pipeline sampled, pass that one to watch()",
    loops=loop_blocks,
)
OWN_LOOP = WatchedKind(
    lambda watched: isinstance(watched, OwnLoop),
    "Safelight follows this object only, from the beginning to the end of the block. If the loop steps a copy of it or "
    "another scheduler, pass that one to watch(); if it steps outside of the block, move the loop into it",
    is_loop=True,
)
KINDS = (PIPELINE, MODULAR, OWN_LOOP)


def kind_of(pipeline: Any) -> WatchedKind:
    """Returns the kind of a pipeline, or of what stands for one."""
    return next(kind for kind in KINDS if kind.fits(pipeline))


def as_pipeline(watched: Any, options: WatchOptions) -> Any:
    """Returns a pipeline as it is, several as a tuple, and what stands for a pipeline if `watched` is a scheduler.

    Raises:
        TypeError: `watched` is neither.
        OptionError: the option `vae` is no autoencoder, or was given for a pipeline; or a loop of the user has a
            rule to stop.
    """
    if is_scheduler(watched):
        if options.vae is not None and not hasattr(options.vae, "decode"):
            raise OptionError(
                f"vae: expected an autoencoder of diffusers, such as AutoencoderKL.from_pretrained(...), got "
                f"{brief(options.vae)}"
            )
        options.run.expect_no_rule()
        return OwnLoop(watched, options.vae)
    if not (PIPELINE.fits(watched) or is_modular(watched)):
        raise TypeError(f"{EXPECTED}, got {_found(watched)}; {_advice(watched)}")
    if options.vae is not None:
        raise OptionError(
            f"vae: expected no VAE with a pipeline, which has its own, got a {type(options.vae).__name__}; leave it "
            "out, or pass the scheduler of a loop of your own"
        )
    return tuple(watched) if isinstance(watched, list) else watched


def _found(watched: Any) -> str:
    if isinstance(watched, type):
        return f"the class {watched.__name__}"
    name = type(watched).__name__
    if (method := step_method(watched)) is not None:
        return f"{name} with {method}({', '.join(parameters_of(watched, method))})"
    if hasattr(watched, SCHEDULER) or hasattr(watched, PROGRESS_BAR):
        missing = [part for part in (SCHEDULER, PROGRESS_BAR) if not hasattr(watched, part)]
        return f"{name} without {' and '.join(missing)}"
    return name


def _advice(watched: Any) -> str:
    """What to do about an object that cannot be watched."""
    if isinstance(watched, type):
        return "create an object of it first"
    if isinstance(watched, list | tuple):
        return "watch each object in a block of its own: with watch(first), watch(second)"
    if step_method(watched) is not None:
        return (
            "a scheduler of diffusers has step(model_output, timestep, sample). Schedulers of learning rates and "
            "optimizers cannot be watched"
        )
    return "if diffusers is not installed: pip install diffusers transformers. Other loops can use safelight.recording"
