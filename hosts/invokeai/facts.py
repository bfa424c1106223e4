"""Facts about a run that InvokeAI provides."""

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from .graph import queue_item

CFG_NAMES = ("cfg_scale", "guidance_scale", "guidance")  # inputs of InvokeAI's denoise nodes


def base_name(kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The value of InvokeAI's `BaseModelType` in a call of a step callback.

    Args:
        kind: beginning of the callback's name. Only `sd` has the base model as an argument; other names contain it.
        args: positional arguments after the state.
        kwargs: named arguments.
    """
    base = args[0] if args else kwargs.get("base_model", kind)
    return str(getattr(base, "value", base))


def host_version() -> str | None:
    """Version of the installed InvokeAI."""
    try:
        return metadata.version("invokeai")
    except metadata.PackageNotFoundError:
        return None


def host_facts(context: Any, node: Any) -> dict[str, Any]:
    """InvokeAI's facts for `run.json`."""
    item = queue_item(context)
    session = getattr(item, "session_id", None)
    # The node that runs is a copy of the node on the canvas, with its own id.
    canvas = getattr(getattr(item, "session", None), "prepared_source_mapping", {}).get(node.id, node.id)
    return {
        "name": "invokeai",
        "version": host_version(),
        "prompt_id": session if isinstance(session, str) else None,
        "node": canvas,
        "sampler_node": canvas,
        "invocation": node.id,
    }


def sampler_facts(node: Any) -> dict[str, Any]:
    """The sampler's facts for `run.json`; None for inputs that the node does not have."""
    seed = getattr(node, "seed", None)
    if seed is None:
        seed = getattr(getattr(node, "noise", None), "seed", None)
    cfg = next((getattr(node, name) for name in CFG_NAMES if hasattr(node, name)), None)
    return {
        "steps": getattr(node, "steps", getattr(node, "num_steps", None)),
        "seed": seed,
        "cfg": cfg if isinstance(cfg, int | float) else None,
        "name": getattr(node, "scheduler", None),
    }
