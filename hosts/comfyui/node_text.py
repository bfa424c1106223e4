"""Shows a line of text on a node while and after it executes."""

from collections.abc import Callable

from comfy_execution.utils import get_executing_context
from server import PromptServer


def node_text() -> Callable[[str], object]:
    """A function that shows a text on the node that executes now. Any thread may call it, also later.

    Without an executing node, and in a ComfyUI without such texts, it does nothing.
    """
    context = get_executing_context()
    send = getattr(PromptServer.instance, "send_progress_text", None)
    if send is None or context is None:
        return lambda _: None
    return lambda text: send(text, context.node_id)
