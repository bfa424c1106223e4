"""What a call of a pipeline was asked for, read from its own variables once, when its loop begins."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

MAX_FRAMES = 6  # from a progress bar up to the call that shows it
GUIDANCE = ("guidance_scale", "true_cfg_scale", "cfg_scale")
FPS = ("frame_rate", "fps")


@dataclass(frozen=True, kw_only=True)
class CallArguments:
    """What a pipeline was asked for; None for what it does not say.

    Args:
        height, width: of the final image, in pixels.
        frames: of the final video.
        fps: of it, frames a second.
        latent_height, latent_width, latent_frames: of the latents, in tokens, where the pipeline has them.
        layers: of an image in layers.
        timesteps: that the loop goes through.
        seed: of its generator, or of the first one.
        cfg: how strongly it is guided.
        prompt: the words.
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
    seed: int | None = None
    cfg: float | None = None
    prompt: str | None = None


def call_arguments(pipeline: Any) -> CallArguments:
    """The call of `pipeline` that asks, however deep below it; one that says nothing if it cannot be found.

    Its variables are read, never written.
    """
    frame = getattr(sys, "_getframe", lambda _: None)(1)
    for _ in range(MAX_FRAMES):
        if frame is None:
            break
        known = frame.f_locals
        if known.get("self") is pipeline and ("height" in known or "timesteps" in known):
            return _read(known)
        frame = frame.f_back
    return CallArguments()


def _read(known: Mapping[str, Any]) -> CallArguments:
    whole = {
        "height": known.get("height"),
        "width": known.get("width"),
        "frames": known.get("num_frames"),
        "latent_height": known.get("latent_height"),
        "latent_width": known.get("latent_width"),
        "latent_frames": known.get("latent_num_frames"),
        "layers": known.get("layers"),
    }
    timesteps = known.get("timesteps")
    cfg = next((known[name] for name in GUIDANCE if isinstance(known.get(name), int | float)), None)
    return CallArguments(
        **{name: value for name, value in whole.items() if type(value) is int and value > 0},
        fps=next((float(known[name]) for name in FPS if isinstance(known.get(name), int | float)), None),
        timesteps=len(timesteps) if isinstance(timesteps, Sequence | torch.Tensor) else None,
        seed=_seed(known.get("generator")),
        cfg=cfg,
        prompt=_words(known.get("prompt")),
    )


def _seed(generator: Any) -> int | None:
    first = generator[0] if isinstance(generator, list) and generator else generator
    return first.initial_seed() if isinstance(first, torch.Generator) else None


def _words(prompt: Any) -> str | None:
    if isinstance(prompt, list | tuple) and all(isinstance(one, str) for one in prompt):
        prompt = "\n".join(prompt)
    return prompt if isinstance(prompt, str) and prompt else None
