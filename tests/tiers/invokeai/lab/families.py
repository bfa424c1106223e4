"""Runs the denoise nodes of InvokeAI's families on tiny random transformers: `python families.py PACK PLACE`.

For each family it compares the node with its twin, and each file and each progress picture of the twin with the latents
of every step. The script writes what it saw to `seen.json` in the workplace.
"""

import base64
import inspect
import io
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch
from einops import rearrange
from invokeai.backend.model_manager.taxonomy import BaseModelType, ModelFormat, ModelType
from invokeai.backend.stable_diffusion.diffusion import conditioning_data
from loops import PLACE, STEPS, InvocationRegistry, __version__, flux_model, identity, run, sd3_model
from PIL import Image
from safetensors.torch import load_file

WIDTH, HEIGHT = 128, 192
ROPE = (4, 6, 6)
WORDS = {"conditioning_name": "p"}
SMALL = {"num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}


class Family(NamedTuple):
    """A denoise node, its model, and what it needs besides."""

    kind: str
    model: torch.nn.Module
    conditioning: Callable[[], Any]
    config: Any
    fields: dict[str, Any]


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def config(base, **more):
    facts = {"base": base, "type": ModelType.Main, "format": ModelFormat.Diffusers, "variant": None, "path": "nowhere"}
    return SimpleNamespace(**facts, name="tiny", **more)


def transformer(base):
    return {"transformer": {"transformer": identity(base, "transformer"), "loras": []}}


def family(kind, model, conditioning, base, *, half=False, **fields):
    """A family whose inputs have the usual names."""
    model = model.to(torch.bfloat16) if half else model
    usual = {"positive_conditioning": WORDS, "steps": STEPS}
    fields = transformer(base.value) | usual | {"width": WIDTH, "height": HEIGHT, "seed": 1} | fields
    return Family(kind, model.eval(), conditioning, config(base), fields)


def qwen_image():
    model = diffusers.QwenImageTransformer2DModel(**SMALL, joint_attention_dim=32, axes_dims_rope=ROPE)
    words = conditioning_data.QwenImageConditioningInfo(prompt_embeds=noise(1, 5, 32))
    return family("qwen_image_denoise", model, lambda: words, BaseModelType.QwenImage, half=True)


def krea2():
    text = {"text_hidden_dim": 32, "num_text_layers": 2, "text_num_attention_heads": 2, "text_intermediate_size": 32}
    text |= {"text_num_key_value_heads": 2, "num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 1}
    sizes = {"num_key_value_heads": 2, "intermediate_size": 32, "timestep_embed_dim": 32}
    model = diffusers.Krea2Transformer2DModel(**SMALL, **text, **sizes, axes_dims_rope=ROPE)
    words = conditioning_data.Krea2ConditioningInfo(prompt_embeds=noise(1, 5, 2, 32))
    return family("krea2_denoise", model, lambda: words, BaseModelType.Krea2, half=True)


def ernie_image():
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_layers": 1, "ffn_hidden_size": 32, "text_in_dim": 32}
    model = diffusers.ErnieImageTransformer2DModel(**sizes, rope_axes_dim=ROPE)
    words = conditioning_data.ErnieImageConditioningInfo(prompt_embeds=noise(5, 32))
    kind, base = "ernie_image_denoise", BaseModelType.ErnieImage
    return family(kind, model, lambda: words, base, half=True, guidance_scale=1.0)


def z_image():
    sizes = {"dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 32}
    model = diffusers.ZImageTransformer2DModel(**sizes, axes_dims=list(ROPE), axes_lens=[64, 64, 64])
    words = conditioning_data.ZImageConditioningInfo(prompt_embeds=noise(5, 32))
    return family("z_image_denoise", model, lambda: words, BaseModelType.ZImage, guidance_scale=1.0)


def flux2():
    sizes = SMALL | {"num_single_layers": 1, "joint_attention_dim": 32, "axes_dims_rope": (4, 4, 4, 4)}
    model = diffusers.Flux2Transformer2DModel(**sizes, guidance_embeds=False).to(torch.bfloat16).eval()
    words = conditioning_data.FLUXConditioningInfo(clip_embeds=noise(1, 16), t5_embeds=noise(1, 5, 32))
    fields = {"width": WIDTH, "height": HEIGHT, "seed": 1, "num_steps": STEPS, "positive_text_conditioning": WORDS}
    fields["vae"] = {"vae": identity("flux2", "vae"), "seamless_axes": []}
    fields |= transformer("flux2")
    return Family("flux2_denoise", model, lambda: words, config(BaseModelType.Flux2), fields)


def wan(kind="wan_denoise", **more):
    from invokeai.backend.model_manager.taxonomy import WanVariantType

    sizes = SMALL | {"text_dim": 32, "freq_dim": 32, "ffn_dim": 32, "rope_max_seq_len": 64}
    model = diffusers.WanTransformer3DModel(**sizes).to(torch.bfloat16)
    words = conditioning_data.WanConditioningInfo(prompt_embeds=noise(5, 32))
    found = family(kind, model, lambda: words, BaseModelType.Wan, guidance_scale=1.0, **more)
    found.config.variant = WanVariantType.T2V_A14B
    del found.fields["transformer"]["loras"]
    return found


def wan_video():
    return wan("wan_video_denoise", num_frames=9)


def anima():
    from invokeai.backend.anima.anima_transformer import AnimaTransformer, LLMAdapter

    model = AnimaTransformer(model_channels=64, num_blocks=1, num_heads=2, crossattn_emb_channels=1024)
    model.llm_adapter = LLMAdapter(vocab_size=16, num_layers=1)
    for weights in model.parameters():  # some of them are not initialized
        torch.nn.init.normal_(weights, std=0.05)
    words = conditioning_data.AnimaConditioningInfo(
        qwen3_embeds=noise(5, 1024), t5xxl_ids=torch.arange(5), t5xxl_weights=torch.ones(5)
    )
    return family("anima_denoise", model, lambda: words, BaseModelType.Anima, half=True, guidance_scale=1.0)


class Ideogram4Pair(torch.nn.Module):
    """Ideogram 4's two branches: the second one answers as the first one did, so the guidance changes nothing.

    It is called with tokens `[1, text + image, 128]`, whose channels are ordered by row, column and channel of a patch.
    """

    def __init__(self, conditional):
        torch.nn.Module.__init__(self)  # not that of InvokeAI's class, which wants two branches
        self.listened, self.last = conditional, None

    def conditional(self, **inputs):
        self.last = self.listened(**inputs)
        return self.last

    def unconditional(self, *, x, **_):
        return self.last[:, -x.shape[1] :]

    @staticmethod
    def layout(tokens):
        rows, columns = HEIGHT // 16, WIDTH // 16
        image = tokens[:, -rows * columns :].float()
        return rearrange(image, "b (h w) (ph pw c) -> b c (h ph) (w pw)", h=rows, ph=2, pw=2)


def ideogram4():
    from invokeai.backend.ideogram4.modeling_ideogram4 import Ideogram4Config, Ideogram4Transformer
    from invokeai.backend.ideogram4.transformer_pair import Ideogram4TransformerPair

    sizes = {"emb_dim": 128, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "adanln_dim": 16}
    facts = Ideogram4Config(**sizes, llm_features_dim=32, mrope_section=(12, 10, 10))
    pair = type("Pair", (Ideogram4Pair, Ideogram4TransformerPair), {})(Ideogram4Transformer(facts))
    words = conditioning_data.Ideogram4ConditioningInfo(prompt_embeds=noise(5, 32))
    return family("ideogram4_denoise", pair, lambda: words, BaseModelType.Ideogram4, seed=3)


def sd3():
    return of_the_loops("sd3_denoise", *sd3_model(), cfg_scale=1.0)


def flux():
    return of_the_loops("flux_denoise", *flux_model())


def flux_denoise_meta():
    return of_the_loops("flux_denoise_meta", *flux_model())


def of_the_loops(kind, model, conditioning, config, fields, **more):
    return Family(kind, model, conditioning, config, fields | {"width": WIDTH, "height": HEIGHT} | more)


# Each family, the inputs of its node that are not as usual, and the format of the files.
FAMILIES = (
    (flux, {}, "png"),
    (flux, {"scheduler": "lcm"}, "webp"),
    (flux2, {}, "webp"),
    (flux2, {"scheduler": "lcm"}, "jpg"),
    (sd3, {}, "jpg"),
    (z_image, {}, "png"),
    (z_image, {"scheduler": "lcm"}, "png"),
    (qwen_image, {}, "webp"),
    (krea2, {}, "jpg"),
    (wan, {}, "png"),
    (wan_video, {}, "png"),
    (anima, {}, "webp"),
    (anima, {"scheduler": "er_sde"}, "png"),
    (ernie_image, {}, "jpg"),
    (ernie_image, {"scheduler": "lcm"}, "png"),
    (ideogram4, {}, "png"),
    (flux_denoise_meta, {}, "png"),
)
STATE, LEVEL = ("img", "hidden_states", "x"), ("timesteps", "timestep", "t")  # names of a model's arguments


@contextmanager
def listened(model) -> Iterator[list[torch.Tensor]]:
    """Makes the predictions of the steps differ, as those of a random model hardly do. Yields x0 of each step.

    It is the definition of x0 for a flow model: the state minus the noise level times the prediction.
    """
    found = []
    model, layout = getattr(model, "listened", model), getattr(model, "layout", picture_layout)

    def shifted(output, number):
        if isinstance(output, torch.Tensor):
            shift = torch.randn(output.shape[-1], generator=torch.Generator().manual_seed(100 + number))
            return output + 3 * shift.to(output.dtype)
        return type(output)(shifted(part, number) for part in output)

    def hook(_, args, kwargs, output):
        values = inspect.signature(model.forward).bind(*args, **kwargs).arguments
        state, level = (next(values[name] for name in names if name in values) for names in (STATE, LEVEL))
        prediction = shifted(output.sample if hasattr(output, "sample") else output, len(found))  # a step is one call
        found.append((layout(state), float(level.flatten()[0]), layout(prediction)))
        if hasattr(output, "sample"):
            output.sample = prediction
            return output
        return prediction

    handle = model.register_forward_hook(hook, with_kwargs=True)
    estimates: list[torch.Tensor] = []
    try:
        yield estimates
    finally:
        handle.remove()
    (_, first, _), *_ = found
    for state, level, prediction in found:
        # Models count from noise to image, with the opposite sign, or from image to noise, up to 1 or 1000.
        sigma, sign = (1 - level, -1) if first < 0.01 else (level / first, 1)
        estimates.append(state - sigma * sign * prediction)


def picture_layout(latents) -> torch.Tensor:
    """Latents or a prediction of any model as `[1, C, H, W]`; of a video, its middle frame."""
    while not isinstance(latents, torch.Tensor):
        latents = latents[0]
    latents = latents.float()
    if latents.ndim == 3:
        rows = HEIGHT // 16
        return rearrange(latents, "b (h w) (c ph pw) -> b c (h ph) (w pw)", h=rows, ph=2, pw=2)
    if latents.ndim == 4 and latents.shape[1] == 1:  # Z-Image: a list of [C, T, H, W]
        latents = latents[None]
    if latents.ndim == 5:
        return latents[:, :, latents.shape[2] // 2]
    if latents.shape[1] == 128:  # ERNIE-Image
        return rearrange(latents, "b (c ph pw) h w -> b c (h ph) (w pw)", ph=2, pw=2)
    return latents


def look(found: Family, file_format: str) -> dict[str, Any]:
    """The difference of each file and each progress picture of the twin from the picture of every step."""
    arguments = (found.model, found.conditioning, found.config)
    with listened(found.model) as estimates:
        core, _ = run(found.kind, *arguments, **found.fields)
    name = f"families/{found.kind}"
    files = {"write_intermediates": True, "filename_prefix": name, "file_format": file_format}
    with listened(found.model):
        twin, signals = run(f"safelight_{found.kind}", *arguments, **files, enlarge="nearest", **found.fields)
    folder = max((PLACE / "root" / "outputs").glob(f"{name}_0*"))
    manifest = json.loads((folder / "run.json").read_text())
    is_video = twin.ndim == 5 and twin.shape[2] > 1
    expected = [decoded(manifest, latents, is_video=is_video) for latents in estimates[: len(manifest["steps"])]]
    shown = {}
    for signal in signals:
        if (progress := signal["image"]) is not None:
            step = round(signal["percentage"] * manifest["sampler"]["steps"])
            jpegs = [opened(type(progress).build(picture, None)) for picture in expected]
            shown[step] = [difference(opened(progress), jpeg) for jpeg in jpegs]
    return {
        "same": torch.equal(core, twin),
        "shape": list(twin.shape),
        "state": manifest["state"],
        "notes": manifest["notes"],
        "space": manifest["space"],
        "files": {
            step["index"]: [difference(Image.open(folder / step["files"][0]), picture) for picture in expected]
            for step in manifest["steps"]
        },
        "shown": shown,
        "ruled": ruled(found, core),
    }


def ruled(found: Family, core: torch.Tensor) -> dict[str, Any]:
    """A run of the twin whose user's rule is met at the second step: its output, compared with the saved estimate."""
    import safelight_pack.hosts.invokeai.watch as watching

    offer = watching.WatchedNode._offer

    def offer_and_ask(self, pipeline, step):
        offered = offer(self, pipeline, step)
        if step.index == 2 and "stop_rule" in self._run.sampler:
            self._run.control.stop_by_rule()
        return offered

    name = f"ruled/{found.kind}"
    files = {"keep_latents": True, "filename_prefix": name, "stop_below_percent": 100.0}  # no step moves it so much
    watching.WatchedNode._offer = offer_and_ask
    try:
        with listened(found.model):
            twin, _ = run(
                f"safelight_{found.kind}", found.model, found.conditioning, found.config, **files, **found.fields
            )
    finally:
        watching.WatchedNode._offer = offer
    folder = max((PLACE / "root" / "outputs").glob(f"{name}_0*"))
    manifest = json.loads((folder / "run.json").read_text())
    saved = load_file(folder / "step_0002.safetensors")["denoised"]
    return {
        "state": manifest["state"],
        "kept": manifest["sampler"].get("kept_step"),
        "notes": manifest["notes"],
        "is_estimate": torch.equal(twin.float().flatten(), saved.to(twin.dtype).float().flatten()),
        "as_core": (twin.shape, twin.dtype) == (core.shape, core.dtype),
    }


def decoded(manifest, latents, *, is_video) -> Image.Image:
    """The picture of latents by the decoder of a run; of a video, they are a later frame."""
    from safelight_pack.decoders.catalogue import Catalogue
    from safelight_pack.decoders.latents.space_table import SPACES
    from safelight_pack.decoders.later_frames import later_frame_as_first

    space = SPACES[manifest["space"]]
    names = {candidate.card.name: candidate for candidate in Catalogue().candidates(space)}
    decoder = names[manifest["decoder"]["name"]].open()
    latents = space.unpack(latents)
    with torch.no_grad():
        [frame, *_] = decoder.frames(later_frame_as_first(latents, space) if is_video else latents)
    return Image.fromarray((frame[0].movedim(0, -1) * 255).round().clamp(0, 255).numpy().astype(np.uint8))


def opened(progress) -> Image.Image:
    """The picture of a progress event of InvokeAI."""
    return Image.open(io.BytesIO(base64.b64decode(progress.dataURL.split(",")[1])))


def difference(picture: Image.Image, expected: Image.Image) -> float:
    """The mean difference of two pictures in brightness, in the size of the second, in levels of 255."""
    small = picture.convert("L").resize(expected.size, Image.Resampling.BOX)
    values = (np.asarray(each.convert("L"), dtype=np.float64) for each in (small, expected))
    return float(np.abs(np.subtract(*values)).mean())


if __name__ == "__main__":
    nodes = [kind.get_type() for kind in InvocationRegistry.get_invocation_classes()]
    seen: dict[str, Any] = {"version": __version__, "nodes": nodes, "families": {}}
    for make, more, file_format in FAMILIES:
        kinds = map(InvocationRegistry.get_invocation_for_type, (make.__name__, f"{make.__name__}_denoise"))
        kind = next(filter(None, kinds), None)
        if kind is None or not set(more) <= set(kind.model_fields):
            continue  # an older InvokeAI
        name = " ".join([make.__name__, *more.values()])
        torch.manual_seed(0)
        try:
            found = make()
            seen["families"][name] = look(found._replace(fields=found.fields | more), file_format)
        except Exception:
            seen["families"][name] = {"error": traceback.format_exc()[-3000:]}
    (PLACE / "seen.json").write_text(json.dumps(seen))
