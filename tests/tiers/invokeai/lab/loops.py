"""Runs InvokeAI's own denoise nodes of SD3 and FLUX on tiny random transformers: `python loops.py PACK WORKPLACE`.

The nodes, their contexts and loops are InvokeAI's own; only its services are mocked. The script writes what it saw
to `seen.json` in the workplace.
"""

import json
import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

PACK, PLACE = Path(sys.argv[1]), Path(sys.argv[2])
os.environ |= {"INVOKEAI_ROOT": str(PLACE / "root"), "INVOKEAI_DEVICE": "cpu", "INVOKEAI_PRECISION": "float32"}
(PLACE / "root" / "nodes").mkdir(parents=True)
(PLACE / "root" / "nodes" / "safelight_pack").symlink_to(PACK)

import invokeai.app.services.shared.graph  # noqa: E402, F401, registers the core nodes
import torch  # noqa: E402
from diffusers import SD3Transformer2DModel  # noqa: E402
from invokeai.app.invocations.baseinvocation import InvocationRegistry  # noqa: E402
from invokeai.app.invocations.load_custom_nodes import load_custom_nodes  # noqa: E402
from invokeai.app.services.config.config_default import get_config  # noqa: E402
from invokeai.app.services.shared.invocation_context import (  # noqa: E402
    InvocationContextData,
    build_invocation_context,
)
from invokeai.backend.flux.model import Flux, FluxParams  # noqa: E402
from invokeai.backend.model_manager.taxonomy import BaseModelType, ModelFormat, ModelType  # noqa: E402
from invokeai.backend.stable_diffusion.diffusion.conditioning_data import (  # noqa: E402
    FLUXConditioningInfo,
    SD3ConditioningInfo,
)
from invokeai.version import __version__  # noqa: E402
from PIL import Image  # noqa: E402

load_custom_nodes(PLACE / "root" / "nodes", logging.getLogger("loops"))
STEPS, CFG = 4, 3.0


class Loaded:
    """A model as InvokeAI's cache returns it."""

    def __init__(self, model):
        self.model = model

    @contextmanager
    def model_on_device(self, *_, **__):
        yield None, self.model

    def __enter__(self):
        return self.model

    def __exit__(self, *_):
        pass


def run(kind, model, conditioning, config, **fields):
    """Returns the latents of a node, and its progress events."""
    tensors = {}
    output, events = output_of(kind, tensors, model, conditioning, config, **fields)
    return tensors[output.latents.latents_name], events


def output_of(kind, tensors, model=None, conditioning=None, config=None, **fields):
    """Returns the output of a node, and its progress events. Its tensors are loaded from a dict, and saved there."""
    node = InvocationRegistry.get_invocation_for_type(kind)(id="node", **fields)
    services = MagicMock()
    services.configuration = get_config()
    item = SimpleNamespace(session_id="session", workflow=None, session=None)
    data = InvocationContextData(queue_item=item, invocation=node, source_invocation_id="node")
    context = build_invocation_context(services=services, data=data, is_canceled=lambda: False)
    nowhere = PLACE / "nowhere"
    context.models = SimpleNamespace(
        load=lambda *_: Loaded(model), get_config=lambda _: config, get_absolute_path=lambda _: nowhere
    )
    context.conditioning = SimpleNamespace(load=lambda _: SimpleNamespace(conditionings=[conditioning()]))

    def save(tensor):
        tensors[f"tensor{len(tensors)}"] = tensor
        return f"tensor{len(tensors) - 1}"

    context.tensors = SimpleNamespace(save=save, load=tensors.__getitem__)
    torch.manual_seed(5)  # FLUX's LCM takes its noise from the global generator
    output = node.invoke(context)
    signals = [call.kwargs for call in services.events.emit_invocation_progress.call_args_list]
    return output, signals


def identity(base, submodel=None):
    return {"key": "k", "hash": "h", "name": "n", "base": base, "type": "main", "submodel_type": submodel}


def both(kind, *args, **fields):
    core, _ = run(kind, *args, **fields)
    twin, signals = run(f"safelight_{kind}", *args, write_intermediates=True, filename_prefix=f"{kind}/run", **fields)
    return {
        "same": torch.equal(core, twin),
        "percentages": [signal["percentage"] for signal in signals],
        "shown": [[signal["image"].width, signal["image"].height] if signal["image"] else None for signal in signals],
    }


def sd3_model():
    """A tiny SD3, its conditioning, its configuration, and the inputs of its node."""
    torch.manual_seed(0)
    model = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=16,
        pos_embed_max_size=32,
    ).eval()
    generator = torch.Generator().manual_seed(1)
    clip_l, clip_g = torch.randn(1, 16, generator=generator), torch.randn(1, 16, generator=generator)
    embeds = torch.randn(1, 4, 32, generator=generator)

    def conditioning():
        return SD3ConditioningInfo(clip_l, embeds, clip_g, embeds, None)

    config = SimpleNamespace(
        base=BaseModelType.StableDiffusion3, type=ModelType.Main, format=ModelFormat.Diffusers, variant=None
    )
    fields = {
        "transformer": {"transformer": identity("sd-3", "transformer"), "loras": []},
        "positive_conditioning": {"conditioning_name": "p"},
        "negative_conditioning": {"conditioning_name": "p"},
        "width": 64,
        "height": 64,
        "steps": STEPS,
        "seed": 1,
        "cfg_scale": CFG,
    }
    return model, conditioning, config, fields


def sd3():
    model, conditioning, config, fields = sd3_model()
    found = both("sd3_denoise", model, conditioning, config, **fields)
    outputs, states, estimates = overheard("sd3_denoise", model, conditioning, config, **fields)
    levels = torch.linspace(1, 0, STEPS + 1).tolist()
    found["errors"] = []
    for i, output in enumerate(outputs):
        without, given = output.chunk(2)
        truth = states[i] - levels[i] * (without + CFG * (given - without))
        found["errors"].append(float((estimates[i + 1].x0 - truth).abs().max()))
    found["sigmas"] = [estimate.sigma for estimate in estimates[1:]]
    return found


def overheard(kind, model, conditioning, config, **fields):
    """Returns the model's outputs, the states, and the estimate at each, in InvokeAI's own loop."""
    import safelight_pack.hosts.invokeai.watch as watching

    outputs, states, estimates = [], [], []
    hook = model.register_forward_hook(lambda _, __, output: outputs.append(output[0].clone()))
    real = watching.X0Estimates.of

    def of(self, state, frame):
        estimates.append(real(self, state, frame))
        states.append(state.latents.clone())
        return estimates[-1]

    watching.X0Estimates.of = of
    run(f"safelight_{kind}", model, conditioning, config, **fields)
    watching.X0Estimates.of = real
    hook.remove()
    return outputs, states, estimates


def cogview4_model():
    """A tiny CogView4, its conditioning, its configuration, and the inputs of its node.

    It samples in half precision, whatever InvokeAI's settings are.
    """
    from diffusers import CogView4Transformer2DModel
    from invokeai.backend.stable_diffusion.diffusion.conditioning_data import CogView4ConditioningInfo

    torch.manual_seed(0)
    model = CogView4Transformer2DModel(
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=32,
        time_embed_dim=16,
        condition_dim=8,
    )
    model = model.to(torch.bfloat16).eval()
    embeds = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(1))
    config = SimpleNamespace(base=BaseModelType.CogView4, type=ModelType.Main, format=ModelFormat.Diffusers)
    fields = {
        "transformer": {"transformer": identity("cogview4", "transformer"), "loras": []},
        "positive_conditioning": {"conditioning_name": "p"},
        "negative_conditioning": {"conditioning_name": "p"},
        "width": 64,
        "height": 64,
        "steps": 20,
        "seed": 1,
        "cfg_scale": CFG,
    }
    return model, lambda: CogView4ConditioningInfo(glm_embeds=embeds), config, fields


def cogview4():
    *arguments, fields = cogview4_model()
    found = both("cogview4_denoise", *arguments, **fields)
    outputs, states, estimates = overheard("cogview4_denoise", *arguments, **fields)
    found["errors"] = []
    for i, (given, without) in enumerate(zip(outputs[::2], outputs[1::2], strict=True)):
        velocity = without + CFG * (given - without)
        truth = states[i].float() - estimates[i + 1].sigma * velocity.float()
        found["errors"].append(float((estimates[i + 1].x0.float() - truth).pow(2).mean().sqrt()))
    return found


def flux_model():
    """A tiny FLUX, its conditioning, its configuration, and the inputs of its node."""
    try:
        from invokeai.backend.model_manager.taxonomy import FluxVariantType

        variant = FluxVariantType.Dev
    except ImportError:  # InvokeAI 5
        variant = None
    torch.manual_seed(0)
    parameters = FluxParams(
        in_channels=64,
        vec_in_dim=16,
        context_in_dim=32,
        hidden_size=48,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[8, 8, 8],
        theta=10000,
        qkv_bias=True,
        guidance_embed=False,
    )
    model = Flux(parameters).to(torch.bfloat16).eval()
    generator = torch.Generator().manual_seed(1)
    clip, t5 = torch.randn(1, 16, generator=generator), torch.randn(1, 5, 32, generator=generator)
    config = SimpleNamespace(
        base=BaseModelType.Flux,
        type=ModelType.Main,
        format=ModelFormat.Checkpoint,
        variant=variant,
        config_path="flux-dev",
    )
    fields = {
        "transformer": {"transformer": identity("flux", "transformer"), "loras": []},
        "positive_text_conditioning": {"conditioning_name": "p"},
        "width": 64,
        "height": 96,
        "num_steps": STEPS,
        "seed": 1,
    }
    return model, lambda: FLUXConditioningInfo(clip_embeds=clip, t5_embeds=t5), config, fields


def flux():
    model, conditioning, config, fields = flux_model()
    has_schedulers = "scheduler" in InvocationRegistry.get_invocation_for_type("flux_denoise").model_fields
    return {
        name: both(
            "flux_denoise", model, conditioning, config, **fields, **({"scheduler": name} if has_schedulers else {})
        )
        for name in (("euler", "heun", "lcm") if has_schedulers else ("euler",))
    }


def fit():
    """Fits a decoder to InvokeAI's own autoencoder of FLUX.1."""
    from invokeai.backend.flux.modules.autoencoder import AutoEncoder, AutoEncoderParams

    torch.manual_seed(0)
    parameters = AutoEncoderParams(
        resolution=64,
        in_channels=3,
        ch=32,
        out_ch=3,
        ch_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        z_channels=16,
        scale_factor=0.3611,
        shift_factor=0.1159,
    )
    model = AutoEncoder(parameters).to(torch.bfloat16).eval()
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(6, 3, 6, 6, generator=generator)
    large = torch.nn.functional.interpolate(pixels, size=(96, 128), mode="bicubic").clamp(0, 1).mul(255).byte()
    pictures = {f"{i}": Image.fromarray(pixels.movedim(0, -1).numpy()) for i, pixels in enumerate(large)}
    saved = []

    def save(image):
        saved.append(image)
        return SimpleNamespace(image_name="report", width=image.width, height=image.height)

    node = InvocationRegistry.get_invocation_for_type("safelight_fit")(
        id="fit",
        vae={"vae": identity("flux", "vae")},
        images=[{"image_name": name} for name in pictures],
        kind="affine",
    )
    services = MagicMock()
    services.configuration = get_config()
    data = InvocationContextData(
        queue_item=SimpleNamespace(session_id="session", workflow=None), invocation=node, source_invocation_id="fit"
    )
    context = build_invocation_context(services=services, data=data, is_canceled=lambda: False)
    context.models = SimpleNamespace(load=lambda _: Loaded(model))
    context.images = SimpleNamespace(get_dto=pictures.get, get_pil=pictures.get, save=save)
    output = node.invoke(context)
    shares = [call.kwargs["percentage"] for call in services.events.emit_invocation_progress.call_args_list]
    return {"summary": output.summary, "image": output.image.image_name, "saved": len(saved), "shares": shares}


def encodings():
    """Largest difference between our latents and those of InvokeAI's own nodes that draw no random numbers."""
    from safelight_pack.decoders.latents.space_table import SPACES
    from safelight_pack.hosts.vae_encode import encode_with_vae

    rgb = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(3))
    found = {}
    try:
        from diffusers import AutoencoderKLQwenImage
        from invokeai.app.invocations.qwen_image_image_to_latents import QwenImageImageToLatentsInvocation
    except ImportError:  # InvokeAI 5
        return found
    torch.manual_seed(0)
    vae = AutoencoderKLQwenImage(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()
    theirs = QwenImageImageToLatentsInvocation.vae_encode(Loaded(vae), rgb * 2 - 1)[:, :, 0]
    with torch.no_grad():
        found["wan21"] = float((encode_with_vae(vae, SPACES["wan21"], rgb) - theirs).abs().max())
    return found


def er_sde():
    """Largest difference between our x0 and the one that InvokeAI's own scheduler computes."""
    try:
        from invokeai.backend.rectified_flow.er_sde_scheduler import ERSDEScheduler
    except ImportError:  # InvokeAI 5
        return None
    from safelight_pack.hosts import noise_levels, x0

    scheduler, calls, errors = ERSDEScheduler(), [], []
    scheduler.set_timesteps(6)
    x0.listen(scheduler, calls.append)
    latents = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(6))
    for timestep in scheduler.timesteps:
        latents = scheduler.step((latents * 3).sin(), timestep, latents).prev_sample
        estimate = x0.estimate_x0(scheduler, calls[-1], noise_levels.Tables())
        errors.append(float((estimate.x0 - scheduler.model_outputs[-1]).abs().max()))
    return max(errors)


if __name__ == "__main__":
    seen = {
        "sd3": sd3(),
        "cogview4": cogview4(),
        "flux": flux(),
        "fit": fit(),
        "encodings": encodings(),
        "er_sde": er_sde(),
    }
    seen["version"] = __version__
    seen["twins"] = sorted(
        kind.get_type()
        for kind in InvocationRegistry.get_invocation_classes()
        if kind.get_type().startswith("safelight_")
    )
    (PLACE / "seen.json").write_text(json.dumps(seen))
