"""Checks that a denoise node which continues a run gets what it needs besides the latents.

Without it, the node would sample something else and raise nothing.
"""

from typing import Any

from ...errors import LatentsError
from .continue_from_step import START, InvokeContinuation
from .graph import nodes_with
from .load_run import LATENTS

NOISE, ADD_NOISE = "noise", "add_noise"  # outputs of our node, and inputs of denoise nodes


def require_inputs(context: Any, node: Any, begun: InvokeContinuation) -> None:
    """Checks the denoise nodes that get the latents of `node`.

    Args:
        context: InvokeAI's `InvocationContext`.
        node: the invocation that continues.
        begun: what the denoise nodes need.

    Raises:
        LatentsError: one of them does not get it.
    """
    for target, connected in nodes_with(context, node, LATENTS, LATENTS):
        if begun.noise is None and NOISE in connected and begun.add_noise is None:
            raise LatentsError("leave noise of the denoise node empty: it would add noise to the latents")
        if begun.noise is not None and NOISE not in connected:
            raise LatentsError(
                "connect noise to the denoise node too: it mixes noise with the latents, otherwise that of its seed"
            )
        needed = {START: begun.denoising_start, ADD_NOISE: begun.add_noise}
        for name, value in needed.items():
            if value is not None and name not in connected and getattr(target, name, value) != value:
                raise LatentsError(
                    f"connect {name} to the denoise node too: it is {getattr(target, name)} there, and the run needs "
                    f"{value}"
                )
