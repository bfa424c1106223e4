"""A node that samples an image in parts."""

import torch

import nodes


class LabTiles:
    """Samples the quarters of a latent one after the other, as UltimateSDUpscale samples its tiles."""

    RETURN_TYPES = ("LATENT",)
    FUNCTION, CATEGORY = "sample", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {
            "required": {
                "model": ("MODEL",),
                "positive": ("CONDITIONING",),
                "negative": ("CONDITIONING",),
                "latent_image": ("LATENT",),
                "seed": ("INT", {"default": 0, "max": 2**32}),
                "steps": ("INT", {"default": 4}),
                "denoise": ("FLOAT", {"default": 0.5}),
            }
        }

    def sample(self, model, positive, negative, latent_image, seed, steps, denoise):
        told = ("euler", "normal", positive, negative)
        rows = []
        for row in latent_image["samples"].chunk(2, dim=2):
            tiles = []
            for tile in row.chunk(2, dim=3):
                (latent,) = nodes.common_ksampler(model, seed, steps, 1.0, *told, {"samples": tile}, denoise=denoise)
                tiles.append(latent["samples"])
            rows.append(torch.cat(tiles, dim=3))
        return ({"samples": torch.cat(rows, dim=2)},)
