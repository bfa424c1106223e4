"""Nodes on the model line that name files as loaders do, and load nothing."""


class LabCheckpoint:
    """Names a checkpoint."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "go", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"model": ("MODEL",), "ckpt_name": ("STRING", {}), "vae_name": ("STRING", {"default": ""})}}

    def go(self, model, ckpt_name, vae_name):
        return (model,)


class LabLora:
    """Names a LoRA and its weight."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "go", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        strength = ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0})
        return {"required": {"model": ("MODEL",), "lora_name": ("STRING", {}), "strength_model": strength}}

    def go(self, model, lora_name, strength_model):
        return (model,)
