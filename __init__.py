"""Safelight: live, truthful previews of a diffusion run, and a record of every step, without touching the run.

Each host looks here for what it knows by name. Nothing of ours is imported until a host asks for it.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """ComfyUI's V3 entry point."""
    from .nodes.comfyui import SafelightExtension

    return SafelightExtension()
