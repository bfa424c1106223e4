"""The nodes of ComfyUI."""

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from ...hosts.comfyui import everywhere
from ...hosts.comfyui.places import RUNS
from ...hosts.comfyui.routes import register
from .decode import SafelightDecode
from .fit import SafelightFit
from .learn import SafelightLearn
from .load_run import SafelightLoadRun
from .pick_step import SafelightPickStep
from .preview import SafelightPreview
from .steps import SafelightSteps

NODES: list[type[io.ComfyNode]] = [
    *(SafelightPreview, SafelightSteps, SafelightPickStep, SafelightLoadRun),
    *(SafelightDecode, SafelightFit, SafelightLearn),
]


class SafelightExtension(ComfyExtension):
    """What the host loads."""

    def __init__(self) -> None:
        # Not in `on_load`: 0.3.64 never calls it.
        register(PromptServer.instance.routes, RUNS)
        everywhere.register(PromptServer.instance)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
