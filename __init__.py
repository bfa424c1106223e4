"""Safelight: live, truthful previews of a diffusion run, and a record of every step, without touching the run.

    from safelight import watch

    with watch(pipe, out="runs") as run:
        image = pipe("a lighthouse").images[0]

Python scripts find these names here: `watch` and `Previews` for diffusers pipelines, `recording` for a sampler of your
own, `SPACES` for the latent spaces, and `Options` for the options of a run.

Hosts find their entry points here: ComfyUI looks them up by name, and InvokeAI only imports this file. So nothing else
of the package, nor torch, is imported until a name is used.
"""

WEB_DIRECTORY = "./web"
PUBLIC_NAMES = ("Options", "Previews", "SPACES", "recording", "watch")


def __getattr__(name: str) -> object:
    """Loads a public name when it is first used."""
    match name:
        case "watch" | "Previews":
            from .hosts import diffusers as module
        case "recording":
            from .hosts import script as module
        case "SPACES":
            from .decoders.latents import space_table as module
        case "Options":
            from .preview.options import RunOptions

            return RunOptions
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC_NAMES})


async def comfy_entrypoint():
    """Returns ComfyUI's V3 extension."""
    from .nodes.comfyui import SafelightExtension

    return SafelightExtension()


def _is_in_invokeai() -> bool:
    """Whether InvokeAI imports this file. ComfyUI may be installed next to InvokeAI, so its modules decide first."""
    from sys import modules

    if "comfy" in modules and "folder_paths" in modules:
        return False
    return any(name.startswith("invokeai.app.") for name in modules)


def _register() -> None:
    """Registers our nodes with InvokeAI, once, and applies the user's current settings at every import."""
    from .nodes.invokeai import heed_settings

    heed_settings()


if _is_in_invokeai():
    _register()
