"""Runs InvokeAI's own denoise nodes of SD3 and FLUX on tiny random transformers: `python loops.py PACK WORKPLACE`.

The nodes, their contexts and their loops are the host's own; only its services are made up. What was seen is written to
`seen.json` in the workplace.
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

load_custom_nodes(PLACE / "root" / "nodes", logging.getLogger("loops"))
STEPS, CFG = 4, 3.0


class Loaded:
    """A model as the host's cache hands it out."""

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
    """The latents that a node makes, and what its context was told."""
    node = InvocationRegistry.get_invocation_for_type(kind)(id="node", **fields)
    services = MagicMock()
    services.configuration = get_config()
    item = SimpleNamespace(session_id="session", workflow=None, session=None)
    data = InvocationContextData(queue_item=item, invocation=node, source_invocation_id="node")
    context = build_invocation_context(services=services, data=data, is_canceled=lambda: False)
    kept = {}
    context.models = SimpleNamespace(load=lambda *_: Loaded(model), get_config=lambda _: config)
    context.conditioning = SimpleNamespace(load=lambda _: SimpleNamespace(conditionings=[conditioning()]))

    def save(tensor):
        kept[f"tensor{len(kept)}"] = tensor
        return f"tensor{len(kept) - 1}"

    context.tensors = SimpleNamespace(save=save, load=kept.__getitem__)
    torch.manual_seed(5)  # FLUX's LCM takes its noise from the one generator of all
    output = node.invoke(context)
    signals = [call.kwargs for call in services.events.emit_invocation_progress.call_args_list]
    return kept[output.latents.latents_name], signals


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


def sd3():
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
    found = both("sd3_denoise", model, conditioning, config, **fields)

    # What the model says beside what is believed, at each step of the host's own loop.
    import safelight_pack.hosts.invokeai.watch as watching

    said, believed, states = [], [], []
    hook = model.register_forward_hook(lambda _, __, output: said.append(output[0]))
    real = watching.Beliefs.of

    def of(self, state, frame):
        believed.append(real(self, state, frame))
        states.append(state.latents.clone())
        return believed[-1]

    watching.Beliefs.of = of
    run("safelight_sd3_denoise", model, conditioning, config, **fields)
    watching.Beliefs.of = real
    hook.remove()
    levels = torch.linspace(1, 0, STEPS + 1).tolist()
    found["errors"] = []
    for i, output in enumerate(said):
        without, given = output.chunk(2)
        truth = states[i] - levels[i] * (without + CFG * (given - without))
        found["errors"].append(float((believed[i + 1].x0 - truth).abs().max()))
    found["sigmas"] = [one.sigma for one in believed[1:]]
    return found


def flux():
    try:
        from invokeai.backend.model_manager.taxonomy import FluxVariantType

        variant = FluxVariantType.Dev
    except ImportError:  # InvokeAI 5
        variant = None
    has_schedulers = "scheduler" in InvocationRegistry.get_invocation_for_type("flux_denoise").model_fields

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
    return {
        scheduler: both(
            "flux_denoise",
            model,
            lambda: FLUXConditioningInfo(clip_embeds=clip, t5_embeds=t5),
            config,
            transformer={"transformer": identity("flux", "transformer"), "loras": []},
            positive_text_conditioning={"conditioning_name": "p"},
            width=64,
            height=96,
            num_steps=STEPS,
            seed=1,
            **({"scheduler": scheduler} if has_schedulers else {}),
        )
        for scheduler in (("euler", "heun", "lcm") if has_schedulers else ("euler",))
    }


if __name__ == "__main__":
    seen = {"sd3": sd3(), "flux": flux()}
    seen["twins"] = sorted(
        one.get_type() for one in InvocationRegistry.get_invocation_classes() if one.get_type().startswith("safelight_")
    )
    (PLACE / "seen.json").write_text(json.dumps(seen))
