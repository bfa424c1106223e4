"""Tiny pipelines with random weights: a row for each class, and the first row of each family in `FAMILIES`."""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import diffusers
import torch
from tiny_models import (
    auraflow,
    chroma,
    cogvideox,
    cogview4,
    flux1,
    flux2,
    hunyuan_video,
    hunyuandit,
    kandinsky5,
    ltx,
    lumina2,
    mochi,
    noise,
    ones,
    pixart,
    qwen,
    sana,
    sd1,
    sd3,
    sdxl,
    wan,
    zimage,
)

STEPS = 4  # divides 1000
Parts = Mapping[str, Any]


@dataclass(frozen=True)
class Tiny:
    """A tiny pipeline of a class.

    Args:
        kind: name of its class.
        parts: function that returns its models, its scheduler and its settings by name. All others are None.
        call: function that returns the arguments of its call that the class knows; others are left out.
        space: name of its latent space.
        latents: shape `[C, T, H, W]` of one item of the shown latents, unpacked.
        output: attribute of its result.
        unpack: the pipeline's own conversion from the scheduler's latents to those of the VAE, without the scale.
        more: further arguments of its call.
        steps: number of steps of each of its runs.
        notes: beginnings of the notes of its last run.
        attributes: attributes of the pipeline or of a part of it that replace its own, such as functions for encoders
            that are left out.
        variables: variables of the class's module that replace its own, such as functions that choose a large size.
        decodes_x0: whether its VAE decodes the x0 of the last step, all of it and in one call.
        can_stop: whether its loop can be stopped.
        show: what the pictures show.
    """

    kind: str
    parts: Callable[[], Parts]
    call: Callable[[], dict[str, Any]]
    space: str
    latents: tuple[int, int, int, int]
    output: str = "images"
    unpack: Callable[[Any, torch.Tensor], torch.Tensor] = lambda pipe, latents: latents
    more: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[int, ...] = (STEPS,)
    notes: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    decodes_x0: bool = True
    can_stop: bool = True
    show: str = "denoised"

    def like(self, kind, more=None, parts=None, **fields):
        """Returns the row of a related class.

        Args:
            kind: name of the class.
            more: further arguments of its call.
            parts: function that returns the parts that differ, for the parts of this row.
            fields: other fields that differ.
        """

        def changed():
            own = self.parts()
            return {**own, **({} if parts is None else parts(own))}

        return replace(self, kind=kind, parts=changed, more={**self.more, **(more or {})}, **fields)

    def create(self):
        """Returns the pipeline."""
        torch.manual_seed(0)
        kind, parts = getattr(diffusers, self.kind), self.parts()
        parameters = dict(list(inspect.signature(kind.__init__).parameters.items())[1:])
        given = {
            name: parts.get(name)
            for name, parameter in parameters.items()
            if name in parts or parameter.default is inspect.Parameter.empty
        }
        for part in given.values():
            if isinstance(part, torch.nn.Module):
                part.eval()  # as loaded models are
        pipe = kind(**given)
        for path, value in self.attributes.items():
            *parts, name = path.split(".")
            setattr(functools.reduce(getattr, parts, pipe), name, value)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def run(self, pipe, **more):
        """Returns the final images or frames, as an array."""
        torch.manual_seed(0)  # some pipelines draw without the generator
        settings = {
            "num_inference_steps": STEPS,
            "generator": torch.Generator().manual_seed(3),
            "output_type": "np",
            **self.call(),
        }
        known = inspect.signature(pipe.__call__).parameters
        call = {name: value for name, value in settings.items() if name in known}
        with mock.patch.dict(vars(sys.modules[type(pipe).__module__]), self.variables):
            output = pipe(**{**call, **self.more, **more})
        return output[0] if isinstance(output, tuple) else getattr(output, self.output)


def tokens_of_pixels(height, width):
    return lambda pipe, latents: pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)


def flux2_tokens(pipe, latents):
    ids = pipe._prepare_latent_ids(torch.zeros(1, 128, 8, 12))
    return pipe._unpatchify_latents(pipe._unpack_latents_with_ids(latents, ids))


def frames_first(pipe, latents):
    return latents.permute(0, 2, 1, 3, 4)


def channels_last(pipe, latents):
    return latents.permute(0, 4, 1, 2, 3)


PROMPT = {"prompt_embeds": (1, 6, 8)}


def arguments(height=32, width=48, **more):
    """Arguments of most pipelines. The picture is wider than high, so that swapped sides fail a test."""
    return lambda: {
        "height": height,
        "width": width,
        **{name: noise(*shape) if type(shape) is tuple else shape for name, shape in {**PROMPT, **more}.items()},
    }


FAMILIES = {
    "StableDiffusion": Tiny("StableDiffusionPipeline", sd1, arguments(guidance_scale=1.0), "sd1", (4, 1, 16, 24)),
    "StableDiffusionXL": Tiny(
        "StableDiffusionXLPipeline",
        sdxl,
        arguments(guidance_scale=1.0, pooled_prompt_embeds=(1, 8)),
        "sdxl",
        (4, 1, 16, 24),
    ),
    "StableDiffusion3": Tiny(
        "StableDiffusion3Pipeline",
        sd3,
        arguments(guidance_scale=1.0, pooled_prompt_embeds=(1, 8)),
        "sd3",
        (16, 1, 16, 24),
    ),
    "Flux": Tiny(
        "FluxPipeline",
        flux1,
        arguments(pooled_prompt_embeds=(1, 8)),
        "flux1",
        (16, 1, 16, 24),
        unpack=tokens_of_pixels(32, 48),
    ),
    "Flux2": Tiny("Flux2Pipeline", flux2, arguments(), "flux2", (32, 1, 16, 24), unpack=flux2_tokens),
    "QwenImage": Tiny(
        "QwenImagePipeline",
        qwen,
        arguments(true_cfg_scale=1.0, prompt_embeds_mask=ones(1, 6)),
        "wan21",
        (16, 1, 4, 6),
        unpack=tokens_of_pixels(32, 48),
    ),
    "Wan": Tiny(
        "WanPipeline", wan, arguments(guidance_scale=1.0, num_frames=9), "wan21", (16, 3, 4, 6), output="frames"
    ),
    "LTX": Tiny(
        "LTXPipeline",
        ltx,
        arguments(64, 96, guidance_scale=1.0, num_frames=9, prompt_attention_mask=ones(1, 6)),
        "ltxv",
        (128, 3, 16, 24),
        output="frames",
        unpack=lambda pipe, latents: pipe._unpack_latents(latents, 3, 16, 24, 1, 1),
    ),
    "Sana": Tiny(
        "SanaPipeline",
        sana,
        arguments(32, 64, guidance_scale=1.0, prompt_attention_mask=ones(1, 6), use_resolution_binning=False),
        "sana",
        (32, 1, 16, 32),
    ),
    "PixArtSigma": Tiny(
        "PixArtSigmaPipeline",
        pixart,
        arguments(
            guidance_scale=1.0,
            prompt_attention_mask=ones(1, 6),
            use_resolution_binning=False,
            negative_prompt=None,
        ),
        "sdxl",
        (4, 1, 16, 24),
    ),
    "AuraFlow": Tiny(
        "AuraFlowPipeline",
        auraflow,
        arguments(guidance_scale=1.0, prompt_attention_mask=ones(1, 6)),
        "sdxl",
        (4, 1, 16, 24),
    ),
    "HunyuanDiT": Tiny(
        "HunyuanDiTPipeline",
        hunyuandit,
        arguments(
            guidance_scale=1.0,
            prompt_embeds_2=(1, 6, 8),
            prompt_attention_mask=ones(1, 6),
            prompt_attention_mask_2=ones(1, 6),
            use_resolution_binning=False,
        ),
        "sdxl",
        (4, 1, 4, 6),
    ),
    "Lumina2": Tiny(
        "Lumina2Pipeline",
        lumina2,
        arguments(guidance_scale=1.0, prompt_attention_mask=ones(1, 6)),
        "flux1",
        (16, 1, 4, 6),
    ),
    "ZImage": Tiny(
        "ZImagePipeline",
        zimage,
        lambda: {"height": 32, "width": 48, "guidance_scale": 0.0, "prompt_embeds": [noise(6, 8)]},
        "flux1",
        (16, 1, 16, 24),
    ),
    "CogView4": Tiny("CogView4Pipeline", cogview4, arguments(guidance_scale=1.0), "cogview4", (16, 1, 16, 24)),
    "Chroma": Tiny(
        "ChromaPipeline",
        chroma,
        arguments(guidance_scale=1.0, prompt_attention_mask=ones(1, 6).bool()),
        "flux1",
        (16, 1, 16, 24),
        unpack=tokens_of_pixels(32, 48),
    ),
    "HunyuanVideo": Tiny(
        "HunyuanVideoPipeline",
        hunyuan_video,
        arguments(num_frames=9, pooled_prompt_embeds=(1, 8), prompt_attention_mask=ones(1, 6)),
        "hunyuan_video",
        (16, 3, 4, 6),
        output="frames",
    ),
    "CogVideoX": Tiny(
        "CogVideoXPipeline",
        cogvideox,
        arguments(guidance_scale=1.0, num_frames=9),
        "cogvideox",
        (16, 3, 4, 6),
        output="frames",
        unpack=frames_first,
    ),
    "Mochi": Tiny(
        "MochiPipeline",
        mochi,
        arguments(guidance_scale=1.0, num_frames=7, prompt_attention_mask=ones(1, 6).bool()),
        "mochi",
        (12, 2, 4, 6),
        output="frames",
    ),
    "Kandinsky5": Tiny(
        "Kandinsky5T2IPipeline",
        kandinsky5,
        lambda: {
            "height": 32,
            "width": 48,
            "guidance_scale": 1.0,
            "prompt_embeds_qwen": noise(1, 6, 8),
            "prompt_embeds_clip": noise(1, 8),
            "prompt_cu_seqlens": torch.tensor([0, 6], dtype=torch.int32),
        },
        "flux1",
        (16, 1, 4, 6),
        output="image",
        unpack=channels_last,
        attributes={"resolutions": [(48, 32)]},
    ),
}
