"""Reads the arguments of a pipeline's call from its local variables, when its sampling loop begins."""

import math
import sys
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import FrameType
from typing import Any

import torch

from .own_loop import OwnLoop
from .pipeline_families import family_of

# Callers that are searched for a pipeline's call. Up to 12 are our own functions. In diffusers 0.42.1, the call is at
# most 4 above its progress bar or its scheduler's step: helper functions, decorators, comprehensions. The rest is for
# subclasses and wrappers of users.
MAX_CALL_DEPTH = 24
HEIGHT_NAMES = ("height", "calculated_height")
WIDTH_NAMES = ("width", "calculated_width")
FRAMES_NAMES = ("canvas_frames", "num_frames", "video_length")
GUIDANCE_NAMES = ("guidance_scale", "true_cfg_scale", "cfg_scale")
FPS_NAMES = ("frame_rate", "fps")
LATENT_FRAMES_NAMES = ("latent_num_frames", "num_latent_frames")
# Of JoyImageEditPlus: the frames, height and width in tokens of each picture of each item.
GRIDS_OF_ITEMS = "shape_list"
LATENTS_NAMES = ("latents",)
X0_NAMES = ("predicted_video_x0",)  # of loops without a scheduler, which compute the estimate themselves
# A block of a modular pipeline has the parameters `self` and `components`, and a block of blocks calls it `pipeline`.
COMPONENTS = ("components", "pipeline")
BLOCK_STATES = ("block_state", "state")  # variables of blocks with the values of the call, the nearest first
# Modules between a scheduler's step and the function that calls it: ours, and those of torch's compiler.
BETWEEN = (__name__.removesuffix(".diffusers.call_arguments"), "torch")


@dataclass(frozen=True, kw_only=True)
class CallArguments:
    """Arguments of a pipeline's call; None for what it does not state.

    Args:
        height, width: size of the final image, in pixels.
        frames: number of frames of the final video.
        fps: frames per second of the final video.
        latent_height, latent_width, latent_frames: size of the latents in tokens, if the pipeline computes it.
        layers: number of layers of an image in layers.
        timesteps: number of timesteps in the loop.
        sigmas: noise levels of the loop, as the user gave them.
        seed: seed of the generator, or of the first of several.
        cfg: guidance scale.
        prompt: prompt.
        denoising_start: part of the noise levels that another pipeline has sampled before, in 0..1.
        denoising_end: part of the noise levels after which the call ends, in 0..1.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None
    fps: float | None = None
    latent_height: int | None = None
    latent_width: int | None = None
    latent_frames: int | None = None
    layers: int | None = None
    timesteps: int | None = None
    sigmas: tuple[float, ...] | None = None
    seed: int | None = None
    cfg: float | None = None
    prompt: str | None = None
    denoising_start: float | None = None
    denoising_end: float | None = None


def call_arguments(pipeline: Any) -> CallArguments:
    """Returns the arguments of the call of `pipeline` that is running; empty ones if it is not found.

    The call's variables are read, never written. A method that the call has called counts first.
    """
    found = _with_token_grid(_read(ChainMap(*(dict(variables) for variables in _variables_of(pipeline)))), pipeline)
    # In a function of the user, `timesteps` may be anything, such as those of a training's batch.
    return replace(found, timesteps=None) if isinstance(pipeline, OwnLoop) else found


def _with_token_grid(found: CallArguments, pipeline: Any) -> CallArguments:
    """Adds the size in tokens, if the pipeline has the attributes for it and does not compute it in its call."""
    sides = [getattr(pipeline, name, 0) for name in family_of(type(pipeline)).token_sides]
    pixels = math.prod(sides) if sides else 0
    if not pixels or found.latent_height or not found.height or not found.width:
        return found
    return replace(found, latent_height=found.height // pixels, latent_width=found.width // pixels)


def is_in_call(pipeline: Any) -> bool:
    """Returns whether a method of `pipeline`, or a block of a modular pipeline in its call, has called this."""
    return next(_variables_of(pipeline), None) is not None


def latents_of_loop(pipeline: Any) -> torch.Tensor | None:
    """Returns the variable `latents` of the call of `pipeline` that is running; None if there is none."""
    return _tensor_named(LATENTS_NAMES, pipeline)


def x0_of_loop(pipeline: Any) -> torch.Tensor | None:
    """Returns the variable with the estimate of the call of `pipeline` that is running; None if there is none."""
    return _tensor_named(X0_NAMES, pipeline)


def listed_with(pipeline: Any, name: str) -> list[Any]:
    """Returns the objects whose class has the attribute `name` in the first list of them in the call of `pipeline`."""
    lists = (value for variables in _variables_of(pipeline) for value in variables.values() if isinstance(value, list))
    return next((found for found in lists if found and all(hasattr(type(each), name) for each in found)), [])


def caller_with(name: str, method: Any) -> Any:
    """Returns the object among the callers' variables that has `method` as its attribute `name`; None if not found."""
    for frame in _callers():
        variables = frame.f_locals
        for value in (variables.get("self"), *variables.values()):
            if getattr(value, "__dict__", {}).get(name) is method:
                return value
    return None


def components_of_block(block: Any) -> Any:
    """Returns the modular pipeline in whose call a method of `block` is running; None if there is none."""
    frames = (frame for frame in _callers() if frame.f_code.co_varnames[:1] == ("self",))
    return next((_components(frame) for frame in frames if frame.f_locals.get("self") is block), None)


def _tensor_named(names: Sequence[str], pipeline: Any) -> torch.Tensor | None:
    found = (variables.get(name) for variables in _variables_of(pipeline) for name in names)
    return next((tensor for tensor in found if isinstance(tensor, torch.Tensor)), None)


def _variables_of(pipeline: Any) -> Iterator[Mapping[str, Any]]:
    """The variables of the methods of `pipeline` among the callers, the nearest first.

    Those of a block of a modular pipeline are the values that it shares with other blocks.
    """
    if isinstance(pipeline, OwnLoop):
        yield from _variables_of_own_loop()
        return
    for frame in _callers():
        # Only methods: before Python 3.13, a frame whose variables were read holds them until it is left.
        if frame.f_code.co_varnames[:1] != ("self",):
            continue
        if (variables := frame.f_locals).get("self") is pipeline:
            yield variables
        elif _components(frame) is pipeline:
            yield from (_values_of_state(variables[name]) for name in BLOCK_STATES if name in variables)


def _variables_of_own_loop() -> Iterator[Mapping[str, Any]]:
    """The variables of the function that steps the scheduler: the nearest caller that is not between."""
    callers = (frame for frame in _callers() if not _is_between(frame.f_globals.get("__name__") or ""))
    yield from (frame.f_locals for frame in islice(callers, 1))


def _is_between(module: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in BETWEEN)


def _components(frame: FrameType) -> Any:
    """The modular pipeline that a method of a block gets as its first argument; None in other functions."""
    (name,) = frame.f_code.co_varnames[1:2] or ("",)
    return frame.f_locals.get(name) if name in COMPONENTS else None


def _values_of_state(state: Any) -> Mapping[str, Any]:
    values = getattr(state, "values", None)
    values = values if isinstance(values, dict) else getattr(state, "__dict__", {})
    return {name: value for name, value in values.items() if value is not None}


def _callers() -> Iterator[FrameType]:
    frame = getattr(sys, "_getframe", lambda _: None)(1)
    for _ in range(MAX_CALL_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _read(variables: Mapping[str, Any]) -> CallArguments:
    grid = _token_grid(variables.get(GRIDS_OF_ITEMS))
    sizes = {
        "height": _first_number(variables, HEIGHT_NAMES),
        "width": _first_number(variables, WIDTH_NAMES),
        "frames": _first_number(variables, FRAMES_NAMES),
        "latent_height": variables.get("latent_height"),
        "latent_width": variables.get("latent_width"),
        "latent_frames": _first_number(variables, LATENT_FRAMES_NAMES),
        "layers": variables.get("layers"),
        **grid,
    }
    timesteps = variables.get("timesteps")
    fps = _first_number(variables, FPS_NAMES)
    return CallArguments(
        **{name: size for name, size in sizes.items() if type(size) is int and size > 0},
        fps=None if fps is None else float(fps),
        timesteps=len(timesteps) if isinstance(timesteps, Sequence | torch.Tensor) else None,
        sigmas=_numbers(variables.get("sigmas")),
        seed=_seed(variables.get("generator")),
        cfg=_first_number(variables, GUIDANCE_NAMES),
        prompt=_prompt_text(variables.get("prompt")),
        denoising_start=_first_number(variables, ("denoising_start",)),
        denoising_end=_first_number(variables, ("denoising_end",)),
    )


def _first_number(variables: Mapping[str, Any], names: Sequence[str]) -> float | None:
    return next((variables[name] for name in names if isinstance(variables.get(name), int | float)), None)


def _token_grid(grids: Any) -> dict[str, Any]:
    """The size in tokens of the picture that is sampled, which is the first of an item; empty if it is not stated."""
    try:
        frames, height, width = grids[0][0]
    except (TypeError, ValueError, IndexError, KeyError):
        return {}
    return {"latent_frames": frames, "latent_height": height, "latent_width": width}


def _numbers(values: Any) -> tuple[float, ...] | None:
    is_list = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
    return tuple(map(float, values)) if is_list else None


def _seed(generator: Any) -> int | None:
    first = generator[0] if isinstance(generator, list) and generator else generator
    return first.initial_seed() if isinstance(first, torch.Generator) else None


def _prompt_text(prompt: Any) -> str | None:
    if isinstance(prompt, list | tuple) and all(isinstance(text, str) for text in prompt):
        prompt = "\n".join(prompt)
    return prompt if isinstance(prompt, str) and prompt else None
