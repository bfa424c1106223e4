"""Nodes that read tensors from files into a graph, and write them, bit for bit."""

from pathlib import Path

import folder_paths
from safetensors.torch import load_file, save_file


class Nested:
    """Nested latents, as ComfyUI's own for video with audio; older versions have none."""

    is_nested = True

    def __init__(self, tensors):
        self.tensors = tensors

    def unbind(self):
        return self.tensors


class LabLatent:
    """Reads `samples` of a safetensors file in the output folder as LATENT, nested with `sound` if it has that."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION, CATEGORY = "read", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"file": ("STRING", {})}}

    def read(self, file):
        tensors = load_file(Path(folder_paths.get_output_directory(), file))
        samples = tensors["samples"]
        return ({"samples": Nested([samples, tensors["sound"]]) if "sound" in tensors else samples},)


class LabScores:
    """Outputs numbers as one list, as a node that rates images does."""

    RETURN_TYPES = ("SCORES",)
    FUNCTION, CATEGORY = "read", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"text": ("STRING", {})}}

    def read(self, text):
        return ([float(number) for number in text.split(",")],)


class LabKeep:
    """Writes an IMAGE to `<output>/<file>`, and as `processed` a LATENT in model space."""

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
