"""Nodes that bring tensors into a graph and out of it, to the last bit."""

from pathlib import Path

import folder_paths
from safetensors.torch import load_file, save_file


class Nested:
    """Several latents in one, as the host's own for pictures with sound; older hosts have none."""

    is_nested = True

    def __init__(self, tensors):
        self.tensors = tensors

    def unbind(self):
        return self.tensors


class LabLatent:
    """`samples` of a safetensors file in the output folder as LATENT, with `sound` beside it if it has that."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION, CATEGORY = "read", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"file": ("STRING", {})}}

    def read(self, file):
        tensors = load_file(Path(folder_paths.get_output_directory(), file))
        samples = tensors["samples"]
        return ({"samples": Nested([samples, tensors["sound"]]) if "sound" in tensors else samples},)


class LabKeep:
    """Writes an IMAGE to `<output>/<file>`, beside it as `processed` what a model would sample of a LATENT."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "keep", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {
            "required": {"file": ("STRING", {}), "image": ("IMAGE",)},
            "optional": {"samples": ("LATENT",), "model": ("MODEL",)},
        }

    def keep(self, file, image, samples=None, model=None):
        tensors = {"image": image.contiguous()}
        if model is not None:
            tensors["processed"] = model.model.process_latent_in(samples["samples"]).contiguous()
        save_file(tensors, Path(folder_paths.get_output_directory(), file))
        return {}
