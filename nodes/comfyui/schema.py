"""The host's node schema, in all the versions of it."""

from dataclasses import fields
from inspect import signature
from typing import Any

from comfy_api.latest import io

STEPS = io.Custom("SAFELIGHT_STEPS")  # a handle to the runs that a watched model made


def after_sampling() -> Any:
    """An input that is not looked at: whoever has it is executed after the sampler that it comes from."""
    return io.AnyType.Input(
        "after_sampling",
        tooltip="The sampler's LATENT, or anything made of it: so this node comes after the sampler.",
    )


def schema(**facts: Any) -> io.Schema:
    """A schema with what this version of the host knows of it: older ones refuse newer fields."""
    known = {field.name for field in fields(io.Schema)}
    return io.Schema(**{name: fact for name, fact in facts.items() if name in known})


def advanced(make: Any, *args: Any, **facts: Any) -> Any:
    """An input that is folded away until it is asked for, where this version of the host can do that."""
    folded = {"advanced": True} if "advanced" in signature(make).parameters else {}
    return make(*args, **facts, **folded)
