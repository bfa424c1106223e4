"""A node with the prompt text of a sampler."""


class LabConditioned:
    """Adds a number to conditioning, as SVD_img2vid_Conditioning does."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION, CATEGORY = "go", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"conditioning": ("CONDITIONING",), "fps": ("INT", {"default": 6})}}

    def go(self, conditioning, fps):
        return ([[tensor, {**facts, "fps": fps}] for tensor, facts in conditioning],)


class LabWords:
    """Passes a CONDITIONING on. Its text does not affect the model; readers of the graph see it as the prompt."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION, CATEGORY = "say", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"conditioning": ("CONDITIONING",), "text": ("STRING", {"default": "", "multiline": True})}}

    def say(self, conditioning, text):
        return (conditioning,)
