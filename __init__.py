"""Safelight: live, truthful previews of a diffusion run, and a record of every step, without touching the run.

Each host looks here for what it knows by name. Nothing of ours is imported until a host asks for it; InvokeAI asks by
importing this file.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """ComfyUI's V3 entry point."""
    from .nodes.comfyui import SafelightExtension

    return SafelightExtension()


def _is_in_invokeai() -> bool:
    """Whether it is InvokeAI that imports this; ComfyUI may have anything installed beside it."""
    from sys import modules

    if "comfy" in modules and "folder_paths" in modules:
        return False
    return any(name.startswith("invokeai.app.") for name in modules)


def _register() -> None:
    """Registers our nodes with InvokeAI, once, however often it imports this; the user's settings are heeded anew."""
    from .nodes.invokeai import heed_settings

    heed_settings()


if _is_in_invokeai():
    _register()
