"""Finds what samples in a modular pipeline of diffusers: the loops among its blocks."""

from collections.abc import Iterator, Sequence
from typing import Any

BLOCKS = "_blocks"  # attribute of modular pipelines; the property `blocks` returns a copy
SPECS = "_component_specs"  # attribute of modular pipelines: the components that their blocks expect
SUB_BLOCKS = "sub_blocks"  # attribute of blocks
BAR = "progress_bar"  # method of blocks that loop
LOOP_STEP = "loop_step"  # method of blocks that loop, which runs the blocks of one step


def is_modular(watched: Any) -> bool:
    """Returns whether `watched` is a modular pipeline."""
    return not isinstance(watched, type) and hasattr(getattr(watched, BLOCKS, None), SUB_BLOCKS)


def loop_blocks(pipeline: Any) -> list[Any]:
    """Returns the blocks of a modular pipeline that have a progress bar, each once."""
    found: dict[int, Any] = {}
    for block in _all_blocks(getattr(pipeline, BLOCKS)):
        if hasattr(block, BAR):
            found.setdefault(id(block), block)
    return list(found.values())


def component_class(pipeline: Any, names: Sequence[str]) -> str | None:
    """Returns the class that the blocks of a modular pipeline expect for the first component with one of `names`.

    None if there is none. The component itself may not be loaded, as of a pipeline whose latents another one decodes.
    """
    specs = getattr(pipeline, SPECS, None) or {}
    kinds = (getattr(specs.get(name), "type_hint", None) for name in names)
    return next((kind.__name__ for kind in kinds if isinstance(kind, type)), None)


def _all_blocks(block: Any) -> Iterator[Any]:
    yield block
    for part in (getattr(block, SUB_BLOCKS, None) or {}).values():
        yield from _all_blocks(part)
