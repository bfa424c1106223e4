"""Pipelines for videos with sound: LTX-2. The sound's own steps are not shown."""

from types import SimpleNamespace

import diffusers
import tiny_modular as modular
import torch
from pictures import picture
from tiny_models import noise, ones
from tiny_pipelines import Tiny, arguments


class Connectors(torch.nn.Module):
    """Stands for the layers between the text encoder and the transformer."""

    dtype, device, config = torch.float32, torch.device("cpu"), None

    def forward(self, embeds, *_, **__):
        return noise(len(embeds), 6, 12), noise(len(embeds), 6, 12, seed=6), ones(len(embeds), 6)


class Vocoder(torch.nn.Module):
    """Stands for the layers that make sound of its spectrogram."""

    dtype, device = torch.float32, torch.device("cpu")
    config = SimpleNamespace(output_sampling_rate=16, sample_rate=16)

    def forward(self, _):
        return torch.zeros(1, 2, 8)


def ltx2(**config):
    def parts():
        vae = diffusers.AutoencoderKLLTX2Video(
            latent_channels=128,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(4, 8, 16),
            upsample_residual=(False, False, False),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1),
            spatial_compression_ratio=32,
            temporal_compression_ratio=8,
        )
        return {
            **modular.ltx2(),
            "vae": vae,
            "transformer": modular.ltx2_transformer(use_prompt_embeddings=False),
            "connectors": Connectors(),
            "vocoder": Vocoder(),
            **config,
        }

    return parts


def with_keyframes(_):
    config = {"use_prompt_embeddings": False, "use_keyframes_abs_pos_embedding": True}
    return {"transformer": modular.ltx2_transformer(**config)}


LEGACY = {
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_guidance_scale": 1.0,
    "audio_stg_scale": 0.0,
    "audio_modality_scale": 1.0,
    "spatio_temporal_guidance_blocks": None,
}
LTX2 = Tiny(
    "LTX2Pipeline",
    ltx2(),
    arguments(
        64,
        96,
        num_frames=9,
        guidance_scale=1.0,
        prompt_attention_mask=ones(1, 6),
        use_cross_timestep=False,
        **LEGACY,
    ),
    "ltx2",
    (128, 2, 2, 3),
    output="frames",
    attributes={
        "_denormalize_audio_latents": lambda latents, *_: latents,
        "audio_vae.decode": lambda *_, **__: [None],
    },
)
IMAGE = {"image": picture(64, 96), "image_crf": 0}
ROWS = (
    LTX2,
    LTX2.like("LTX2ImageToVideoPipeline", IMAGE),
    LTX2.like("LTX2ConditionPipeline"),
    LTX2.like("LTX2InContextPipeline"),
    LTX2.like("LTX2HDRPipeline"),
    LTX2.like(
        "LTX2DFRPipeline", {"num_frames": 17}, with_keyframes, latents=(128, 4, 2, 3), steps=(8,), decodes_x0=False
    ),
)
