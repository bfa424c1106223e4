"""Facts about a run that InvokeAI provides."""

import logging
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from .graph import prompt_before, queue_item

CFG_NAMES = ("cfg_scale", "guidance_scale", "guidance")  # inputs of InvokeAI's denoise nodes
MODEL_FIELDS = ("unet", "transformer")  # inputs of these nodes, and the names of the model in their values

log = logging.getLogger("safelight.invokeai")


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


def sampler_facts(context: Any, node: Any) -> dict[str, Any]:
    """The sampler's facts for `run.json`, as far as the node has them."""
    seed = getattr(node, "seed", None)
    if seed is None:
        seed = getattr(getattr(node, "noise", None), "seed", None)
    cfg = next((getattr(node, name) for name in CFG_NAMES if hasattr(node, name)), None)
    facts = {
        "steps": getattr(node, "steps", getattr(node, "num_steps", None)),
        "seed": seed,
        "cfg": cfg if isinstance(cfg, int | float) else None,
        "name": getattr(node, "scheduler", None),
    }
    try:
        return facts | {name: value for name, value in _more_facts(context, node, cfg).items() if value is not None}
    except Exception:  # of a version whose nodes have another form
        log.debug("the node could not be read", exc_info=True)
        return facts


def _more_facts(context: Any, node: Any, cfg: Any) -> dict[str, Any]:
    start, end = (getattr(node, f"denoising_{name}", None) for name in ("start", "end"))
    guidance = getattr(node, "guidance", None) if hasattr(node, "cfg_scale") else None  # FLUX has both
    field = next((found for name in MODEL_FIELDS if (found := getattr(node, name, None)) is not None), None)
    model = next((found for name in MODEL_FIELDS if (found := getattr(field, name, None)) is not None), None)
    loras = [_model_facts(each.lora) | {"weight": each.weight} for each in getattr(field, "loras", None) or ()]
    return {
        "prompt": prompt_before(context, node),
        "model": None if model is None else _model_facts(model),
        "loras": loras or None,
        "strength": round(1 - start, 6) if isinstance(start, int | float) else None,
        "denoising_end": end if isinstance(end, int | float) and end != 1 else None,
        "cfg_of_steps": list(cfg) if isinstance(cfg, list) else None,
        "guidance": guidance,
    }


def _model_facts(model: Any) -> dict[str, Any]:
    return {"name": model.name, "hash": model.hash}
