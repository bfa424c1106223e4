"""Finds what samples in a modular pipeline of diffusers: the loops among its blocks."""

from collections.abc import Iterator
from typing import Any

BLOCKS = "_blocks"  # attribute of modular pipelines; the property `blocks` returns a copy
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


def _all_blocks(block: Any) -> Iterator[Any]:
    yield block
    for part in (getattr(block, SUB_BLOCKS, None) or {}).values():
        yield from _all_blocks(part)
