"""ComfyUI's node schema, for all its versions."""

from dataclasses import fields
from inspect import signature
from typing import Any

from comfy_api.latest import io

STEPS = io.Custom("SAFELIGHT_STEPS")  # a handle to the runs of a watched model


def after_sampling() -> Any:
    """An input whose value is not used: ComfyUI executes the node after the sampler that the value comes from."""
    return io.AnyType.Input(
        "after_sampling",
        tooltip="The sampler's LATENT, or anything computed from it. It makes this node run after the sampler.",
    )


def schema(**facts: Any) -> io.Schema:
    """A schema without the fields that this version of ComfyUI does not know: it refuses unknown fields."""
    known = {field.name for field in fields(io.Schema)}
    return io.Schema(**{name: fact for name, fact in facts.items() if name in known})


def advanced(make: Any, *args: Any, **facts: Any) -> Any:
    """An input that is hidden by default, if this version of ComfyUI can hide it."""
    folded = {"advanced": True} if "advanced" in signature(make).parameters else {}
    return make(*args, **facts, **folded)
