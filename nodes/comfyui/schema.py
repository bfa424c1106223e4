"""ComfyUI's node schema, for all its versions, and checks of values that ComfyUI does not check."""

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from ...preview.options import OptionRow, checked_value

STEPS = io.Custom("SAFELIGHT_STEPS")  # a handle to the runs of a watched model


def after_sampling() -> Any:
    """An input whose value is not used: ComfyUI executes the node after the sampler that the value comes from.

    It is optional, because a run from disk has no sampler.
    """
    return io.AnyType.Input(
        "after_sampling",
        optional=True,
        tooltip=(
            "The sampler's LATENT, or anything computed from it. It makes this node run after the sampler. A run from "
            "Load Run does not need it."
        ),
    )


def max_images_input(*, optional: bool = False) -> Any:
    """An input for the number of images that a node outputs of a run."""
    return io.Int.Input(
        "max_images",
        default=200,
        min=1,
        max=10000,
        optional=optional,
        tooltip="Maximum number of images. Of a longer run, evenly spread steps are used, with the last.",
    )


def schema(**facts: Any) -> io.Schema:
    """A schema without the fields that this version of ComfyUI does not know: it refuses unknown fields."""
    known = {field.name for field in fields(io.Schema)}
    return io.Schema(**{name: fact for name, fact in facts.items() if name in known})


def checked_input(field: Any, value: Any) -> Any:
    """Returns the value of an input after a check. ComfyUI checks typed values, but not those from a link.

    Args:
        field: input of the schema: an `io.Int.Input` or `io.String.Input`, or an `io.Combo.Input`, whose options are
            checked.
        value: value that the node got.

    Raises:
        OptionError: the value has another type, is out of range, or is not one of the options.
    """
    kind = int if isinstance(field, io.Int.Input) else str
    row = OptionRow(
        name=field.id,
        type=kind,
        default=None,
        help="",
        choices=tuple(getattr(field, "options", None) or ()),
        minimum=getattr(field, "min", None),
        maximum=getattr(field, "max", None),
    )
    return checked_value(row, value)


def is_name(name: str, value: Any) -> bool | str:
    """Whether a node accepts the value of an input with any name, for `validate_inputs`; else the reason why not.

    ComfyUI passes None for a value from a link, which is not known yet, and for a missing input, which it reports.
    """
    return True if value is None or isinstance(value, str) else f"{name}: expected a name, got {value!r}"
