"""The nodes of ComfyUI."""

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from ...hosts.comfyui import asset_previews, everywhere, learning, owners
from ...hosts.comfyui.cached_run import CachedRuns
from ...hosts.comfyui.choice_routes import register_choices
from ...hosts.comfyui.choose import CHOICES
from ...hosts.comfyui.decoder_folders import catalogue, described
from ...hosts.comfyui.decoder_offer import get_decoder
from ...hosts.comfyui.library_routes import register_library
from ...hosts.comfyui.live_page import register_live
from ...hosts.comfyui.routes import register, register_pack
from ...hosts.comfyui.sinks import LIBRARY, RUNS, SECRET
from .choose import SafelightChoose
from .continue_from_step import SafelightPickStep
from .decode_and_learn import SafelightLearn
from .fit_decoder import SafelightFit
from .load_run import SafelightLoadRun
from .preview_steps import SafelightPreview
from .quick_decode import SafelightDecode
from .steps_to_images import SafelightSteps

NODES: list[type[io.ComfyNode]] = [
    *(SafelightPreview, SafelightSteps, SafelightPickStep, SafelightLoadRun),
    *(SafelightChoose, SafelightDecode, SafelightFit, SafelightLearn),
]


class SafelightExtension(ComfyExtension):
    """The extension that ComfyUI loads."""

    def __init__(self) -> None:
        # Not in `on_load`: ComfyUI 0.3.64 never calls it.
        found = owners.register(PromptServer.instance, SECRET)
        register(PromptServer.instance.routes, RUNS, found, get_decoder, CachedRuns(RUNS).find, described)
        register_library(PromptServer.instance.routes, LIBRARY, found)
        register_choices(PromptServer.instance.routes, CHOICES, found)
        register_live(PromptServer.instance.routes, RUNS, found)
        register_pack(PromptServer.instance.routes)
        everywhere.register(PromptServer.instance)
        learning.register(PromptServer.instance)

    async def on_load(self) -> None:
        await asset_previews.register(catalogue)  # a ComfyUI that does not call this has no asset browser

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
