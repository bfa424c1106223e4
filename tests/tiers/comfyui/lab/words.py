"""A node with words that guide a sampler."""


class LabWords:
    """Hands on a CONDITIONING; its text is nothing to the model, and to whoever reads the graph the prompt."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION, CATEGORY = "say", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"conditioning": ("CONDITIONING",), "text": ("STRING", {"default": "", "multiline": True})}}

    def say(self, conditioning, text):
        return (conditioning,)
