"""Runs InvokeAI's own decode nodes on tiny random VAEs, and learns from them: `python decodes.py PACK WORKPLACE`.

The nodes and their contexts are InvokeAI's own; only its services are mocked. The script writes what it saw to
`seen.json` in the workplace.
"""

import itertools
import json
import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import get_args
from unittest.mock import MagicMock

PACK, PLACE = Path(sys.argv[1]), Path(sys.argv[2])
ROOT = PLACE / "root"
os.environ |= {"INVOKEAI_ROOT": str(ROOT), "INVOKEAI_DEVICE": "cpu", "INVOKEAI_PRECISION": "float32"}
(ROOT / "nodes").mkdir(parents=True)
(ROOT / "nodes" / "safelight_pack").symlink_to(PACK)
(ROOT / "safelight").mkdir()
SETTINGS = ROOT / "safelight" / "settings.json"

import invokeai.app.services.shared.graph  # noqa: E402, F401, registers the core nodes
import torch  # noqa: E402
from diffusers import AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLQwenImage, AutoencoderKLWan  # noqa: E402
from invokeai.app.invocations.baseinvocation import InvocationRegistry  # noqa: E402
from invokeai.app.invocations.fields import LatentsField  # noqa: E402
from invokeai.app.invocations.load_custom_nodes import load_custom_nodes  # noqa: E402
from invokeai.app.invocations.primitives import ImageOutput, VideoOutput  # noqa: E402
from invokeai.app.services.config.config_default import get_config  # noqa: E402
from invokeai.app.services.shared.invocation_context import (  # noqa: E402
    InvocationContextData,
    build_invocation_context,
)
from invokeai.backend.flux.modules.autoencoder import AutoEncoder, AutoEncoderParams  # noqa: E402

load_custom_nodes(ROOT / "nodes", logging.getLogger("decodes"))
import safelight_pack.nodes.invokeai as pack  # noqa: E402
from safelight_pack.decoders.latents.space_table import SPACES  # noqa: E402
from safelight_pack.fitting.online.learned_files import list_learned_files  # noqa: E402
from safelight_pack.fitting.online.state import OnlineState  # noqa: E402
from safelight_pack.hosts.invokeai import decode_nodes  # noqa: E402
from safelight_pack.hosts.vae_decode import to_vae  # noqa: E402

SIDE = 8
SEEDS = itertools.count()


def seed_next():
    """Each VAE has other weights, so that what it teaches has files of its own."""
    torch.manual_seed(next(SEEDS))


class Loaded:
    """A model as InvokeAI's cache returns it."""

    def __init__(self, model):
        self.model = model
        self.compute_device = torch.device("cpu")
        self.config = SimpleNamespace(cpu_only=True)

    @contextmanager
    def model_on_device(self, *_, **__):
        yield None, self.model


def run(kind, latents, vae, base, **fields):
    """The pixels that a node saves, or the bytes of its video."""
    field = {"key": base, "hash": "h", "name": "n", "base": base, "type": "vae"}
    node = InvocationRegistry.get_invocation_for_type(kind)(
        id="node", latents={"latents_name": "l"}, vae={"vae": field, "seamless_axes": []}, **fields
    )
    services = MagicMock()
    services.configuration = get_config()
    item = SimpleNamespace(session_id="session", workflow=None, session=None)
    data = InvocationContextData(queue_item=item, invocation=node, source_invocation_id="node")
    context = build_invocation_context(services=services, data=data, is_canceled=lambda: False)
    saved = []

    def save(image):
        saved.append(image.tobytes())
        return SimpleNamespace(image_name="i", width=image.width, height=image.height)

    def save_video(source_path, **facts):
        saved.append(source_path.read_bytes())
        return SimpleNamespace(video_name="v", **facts)

    context.models = SimpleNamespace(load=lambda *_: Loaded(vae))
    context.tensors = SimpleNamespace(load=lambda _: latents)
    context.images = SimpleNamespace(save=save)
    context.videos = SimpleNamespace(save=save_video)
    node.invoke(context)
    return saved


def learn(on):
    SETTINGS.write_text(json.dumps({"learn": on}))
    pack.heed_settings()


def states():
    found = [OnlineState.load(files.state) for files in list_learned_files(ROOT / "safelight") if files.state.exists()]
    return {(state.space.name, state.vae): state for state in found}


def taught(kind, space, vae, base, latents=None, plain=None, **fields):
    """What a node teaches.

    Args:
        kind: type of the node.
        space: name of the latent space.
        vae: VAE.
        base: base model of the VAE.
        latents: latents as InvokeAI passes them on; None for model space latents.
        plain: the same in model space, `[C, h, w]`.
        fields: further inputs.
    """
    if latents is None:
        latents = torch.randn(1, SPACES[space].channels, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    plain = latents[0] if plain is None else plain
    learn(False)
    own = run(kind, latents, vae, base, **fields)
    learn(True)
    before = states()
    ours = run(kind, latents, vae, base, **fields)
    pack.LEARNING.learner.wait()
    new = [state for key, state in states().items() if key not in before]
    found = {"same": own == ours, "spaces": [state.space.name for state in new]}
    if new:
        sums, rows = new[0].sums[1], plain.double().flatten(1)
        found["pictures"] = new[0].pictures
        moments, learned = rows @ rows.T, sums.xx[: len(plain), : len(plain)]
        found["latents_error"] = float((learned - moments).abs().max() / moments.abs().max())
        pixels = torch.frombuffer(bytearray(own[0]), dtype=torch.uint8)
        if len(pixels) == (8 * SIDE) ** 2 * 3:  # an image; a video is compressed
            mean = pixels.view(-1, 3).double().mean(0) / 255
            found["color_error"] = float((sums.xy[-1] / sums.rows - mean).abs().max())
    return found


def kl(channels, **more):
    seed_next()
    vae = AutoencoderKL(
        latent_channels=channels,
        layers_per_block=1,
        norm_num_groups=8,
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **more,
    )
    return vae.eval()


def flux():
    seed_next()
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
    return AutoEncoder(parameters).eval()


def flux2():
    seed_next()
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=8,
    ).eval()
    vae.bn.running_mean.uniform_(-1, 1)
    vae.bn.running_var.uniform_(0.5, 4)
    return vae


def of_flux2(kind, base):
    """Both nodes of the VAE of FLUX.2: one gets latents without its batch norm, the other packed ones with it."""
    vae = flux2()
    model = torch.randn(1, 32, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    packed = torch.nn.functional.pixel_unshuffle(model, 2)
    latents = to_vae(vae, model[:, :, None])[:, :, 0] if base == "flux2" else packed
    return taught(kind, "flux2", vae, base, latents, model[0])


def wan():
    seed_next()
    return AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()


def qwen():
    seed_next()
    return AutoencoderKLQwenImage(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()


def frames_of_wan(count):
    return torch.randn(1, 16, count, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def decode_nodes_of_the_host():
    """Core nodes that get latents and return an image or a video."""
    found = []
    for kind in InvocationRegistry.get_invocation_classes():
        field = kind.model_fields.get("latents")
        takes_latents = field is not None and LatentsField in (field.annotation, *get_args(field.annotation))
        if takes_latents and issubclass(kind.get_output_annotation(), (ImageOutput, VideoOutput)):
            found.append(kind.__name__)
    return sorted(name for name in found if not name.startswith("Safelight"))


def main():
    sd3 = {"scaling_factor": 1.5305, "shift_factor": 0.0609}
    flux1 = {"scaling_factor": 0.3611, "shift_factor": 0.1159}
    one, clip = frames_of_wan(1), frames_of_wan(3)
    seen = {
        "host": decode_nodes_of_the_host(),
        "taught": [node.name for node in decode_nodes.DECODE_NODES],
        "silent": sorted(decode_nodes.NODES_THAT_TEACH_NOTHING),
        "nodes": {
            "l2i": taught("l2i", "sd1", kl(4), "sd-1", fp32=True),
            "l2i, tiled": taught("l2i", "sd1", kl(4, sample_size=16), "sd-1", fp32=True, tiled=True, tile_size=32),
            "l2i of SDXL": taught("l2i", "sdxl", kl(4, scaling_factor=0.13025), "sdxl", fp32=True),
            "flux_vae_decode": taught("flux_vae_decode", "flux1", flux(), "flux"),
            "flux_vae_decode of diffusers": taught("flux_vae_decode", "flux1", kl(16, **flux1), "flux"),
            "flux2_vae_decode": of_flux2("flux2_vae_decode", "flux2"),
            "sd3_l2i": taught("sd3_l2i", "sd3", kl(16, **sd3), "sd-3"),
            "cogview4_l2i": taught("cogview4_l2i", "cogview4", kl(16, scaling_factor=1.0), "cogview4"),
            "z_image_l2i": taught("z_image_l2i", "flux1", kl(16, **flux1), "any"),
            "qwen_image_l2i": taught("qwen_image_l2i", "wan21", qwen(), "qwen-image", one, one[0, :, 0]),
            "wan_l2i": taught("wan_l2i", "wan21", wan(), "wan", one, one[0, :, 0]),
            "wan_l2v": taught("wan_l2v", "wan21", wan(), "wan", clip, clip[0, :, 0]),
            "anima_l2i": taught("anima_l2i", "wan21", wan(), "anima"),
            "ernie_image_vae_decode": of_flux2("ernie_image_vae_decode", "ernie-image"),
        },
    }
    (PLACE / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
