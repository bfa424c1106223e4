"""Learns from every VAE decode, without a node, if the user switched that on.

It replaces functions of ComfyUI, each reversibly and with ComfyUI's own as `__wrapped__`:

* `comfy.sd.VAE.decode` and `decode_tiled`, through which all decodes with ComfyUI's own VAEs go;
* `nodes.VAEDecode.decode` and `VAEDecodeTiled.decode`, for VAE objects that other packs define;
* `latent_preview.get_previewer`, which each sampler calls with its model's latent format: the format says which latent
  space the decoded latents are of. The prompt's graph says which sampler they are from.

The setting is read when a prompt is queued; if it is off, ComfyUI's functions are put back.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import comfy.sd
import latent_preview
from server import PromptServer
from torch import Tensor

import nodes

from ...decoders.latents.identify import UNKNOWN, new_row
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import SafelightError, SpaceError
from ...fitting.encode_images import require_image_latents
from ...fitting.online.learned_files import LearnedFiles
from ...fitting.online.progress_text import progress_text
from ...fitting.online.update import learn_from_decode
from ...preview.sinks.truth import TruthMeter, vae_pixels
from ..battery import on_battery
from ..known_vaes import KnownVaes
from ..online_learning import IdleWork, OnlineLearner, copy_decode, fingerprint_of, next_training
from ..reversible_patch import ReversiblePatch
from .decoder_folders import catalogue, own_folder
from .facts import Prompt
from .graph import inputs_of, linked_node, mapping, nearest, signature
from .latent_dict import Origin, origin, origin_of_format, picture_of
from .node_text import node_text
from .preferences import ComfyPreferences

MAX_SAMPLERS, MAX_WATCHED = 256, 16  # the pictures of a watched run take up to 12 MB

log = logging.getLogger("safelight.comfyui")

# Latent formats by the signature of the sampler that used them: its result may come from ComfyUI's cache later.
SAMPLED: "OrderedDict[str, Any]" = OrderedDict()
# The newest watched runs, likewise: the VAE's picture says how true their previews were.
WATCHED: "OrderedDict[str, TruthMeter]" = OrderedDict()


def idle_work() -> IdleWork:
    """Trains nets while no prompt is queued, if the user switched both on, and never on battery."""

    def is_idle() -> bool:
        return PromptServer.instance.prompt_queue.get_tasks_remaining() == 0

    def may_train() -> bool:
        preferences = ComfyPreferences.current()
        return preferences.learn and preferences.learn_idle and not on_battery()

    return IdleWork(is_idle, may_train, lambda: next_training(own_folder(), catalogue))


# An attribute of the server, not of this module: two copies of this pack share one thread.
LEARNER: OnlineLearner = vars(PromptServer.instance).setdefault(
    "safelight_learner", OnlineLearner(idle_work=idle_work())
)


def register(server: Any) -> None:
    """Reads the setting whenever a prompt is queued. If the pack is installed twice, only one copy does."""
    if hasattr(server, "safelight_learns"):
        return
    server.safelight_learns = patches = [
        ReversiblePatch(comfy.sd.VAE, "decode", _decode_with_vae),
        ReversiblePatch(comfy.sd.VAE, "decode_tiled", _decode_with_vae),
        ReversiblePatch(nodes.VAEDecode, "decode", _decode_in_node),
        ReversiblePatch(nodes.VAEDecodeTiled, "decode", _decode_in_node),
        ReversiblePatch(latent_preview, "get_previewer", _get_previewer),
    ]

    def apply_setting(prompt: Any) -> Any:
        learns = ComfyPreferences.current().learn
        for patch in patches:
            patch.install() if learns else patch.remove()
        if learns:
            LEARNER.start()
        return prompt

    server.add_on_prompt_handler(apply_setting)


def _decode_with_vae(before: Callable[..., Any], vae: Any, *args: Any, **kwargs: Any) -> Any:
    images = before(vae, *args, **kwargs)
    _offer(vae, next(iter((*args, *kwargs.values())), None), images)
    return images


def _decode_in_node(before: Callable[..., Any], node: Any, *args: Any, **kwargs: Any) -> Any:
    """Learns from VAEs that are not ComfyUI's own; with its own, `_decode_with_vae` does."""
    result = before(node, *args, **kwargs)
    named = dict(zip(("vae", "samples"), args, strict=False)) | kwargs
    if not isinstance(named.get("vae"), comfy.sd.VAE) and isinstance(result, tuple) and result:
        _offer(named.get("vae"), mapping(named.get("samples")).get("samples"), result[0])
    return result


def _get_previewer(before: Callable[..., Any], device: Any, latent_format: Any, *args: Any, **kwargs: Any) -> Any:
    """Remembers the latent format of the sampler that executes. Once for each sampler."""
    try:
        prompt = Prompt.current()
        if prompt.node is not None:
            _remember(SAMPLED, signature(prompt.graph, prompt.node), latent_format, MAX_SAMPLERS)
    except Exception:
        log.debug("the latent format of this sampler is not remembered", exc_info=True)
    return before(device, latent_format, *args, **kwargs)


def remember_run(prompt: Prompt, truth: TruthMeter) -> None:
    """Remembers the run of the executing sampler until its latents are decoded."""
    if prompt.node is not None:
        _remember(WATCHED, signature(prompt.graph, prompt.node), truth, MAX_WATCHED)


def _remember(memory: "OrderedDict[str, Any]", key: str, value: Any, most: int) -> None:
    memory.pop(key, None)
    memory[key] = value
    while len(memory) > most:
        memory.popitem(last=False)


def _nearest_of(memory: Mapping[str, Any], prompt: Prompt) -> Any | None:
    """The value of the nearest sampler before the executing node, or None."""
    for node in (prompt.node, *nearest(prompt.graph, prompt.node)):
        if node is not None and (found := memory.get(signature(prompt.graph, node))) is not None:
            return found
    return None


def _offer(vae: Any, samples: Any, images: Any) -> None:
    """Queues a decode for learning. Raises nothing, waits for nothing, changes none of its arguments."""
    try:
        if not isinstance(images, Tensor) or getattr(samples, "ndim", 0) < 4:
            return  # sound, or a form that only other packs know
        prompt = Prompt.current()
        if prompt.id is None:
            return
        if images.ndim == 5:  # batches of a video, as in ComfyUI's own node
            images = images.reshape(-1, *images.shape[-3:])
        _judge(prompt, images)
        source = _origin_in(prompt, vae, samples)
        offer_pair(source, samples, images, vae, _vae_key(prompt, prompt.node))
    except SafelightError as error:
        LEARNER.log_once(str(error))
    except Exception as error:
        LEARNER.log_once(f"{type(error).__name__}: {error}", logging.ERROR)
        log.debug("this decode is not used for learning", exc_info=True)


def offer_decode(samples: Mapping[str, Any], images: Tensor, vae: Any, model: Any | None, space: str) -> None:
    """Queues the decode of a node for learning. Raises nothing, waits for nothing, changes none of its arguments.

    Args:
        samples: ComfyUI's LATENT.
        images: decoded images `[N, H, W, 3]`.
        vae: VAE that decoded them.
        model: ComfyUI's ModelPatcher that the latents are from, or None.
        space: name of the latent space, or `FROM_MODEL`.
    """
    show_text = node_text()
    try:
        prompt = Prompt.current()
        _judge(prompt, images)
        source = origin(model, space, catalogue().spaces())
        if not offer_pair(source, picture_of(samples), images, vae, _vae_key(prompt, prompt.node), show_text):
            show_text("Learning is behind: this decode taught nothing")
    except SafelightError as error:
        LEARNER.log_once(str(error))
        show_text(str(error))
    except Exception as error:
        LEARNER.log_once(f"{type(error).__name__}: {error}", logging.ERROR)
        log.debug("this decode is not used for learning", exc_info=True)


def _judge(prompt: Prompt, images: Tensor) -> None:
    """Has the run that made the latents compared with the VAE's picture."""
    if (truth := _nearest_of(WATCHED, prompt)) is None or truth.image >= len(images):
        return
    pixels = vae_pixels(images[truth.image])

    def judge() -> None:
        truth.judge(pixels)

    LEARNER.offer(judge)


def offer_pair(
    source: Origin,
    samples: Tensor,
    images: Tensor,
    vae: Any,
    vae_key: str | None,
    show_text: Callable[[str], object] = lambda _: None,
) -> bool:
    """Copies a decode and queues it for learning. Returns False if too many decodes wait.

    Args:
        source: where the latents are from.
        samples: latents in the VAE's units.
        images: decoded images `[N, H, W, 3]`.
        vae: VAE that decoded them.
        vae_key: key of the VAE in a prompt, see `KnownVaes`; None if unknown.
        show_text: function that shows what was learned.

    Raises:
        SafelightError: this decode teaches nothing; the message says why.
    """
    space, evidence = source.space, source.evidence
    require_image_latents(space)
    read, downscale = copy_decode(source.plain(samples), images, space.causal)
    if space.name == UNKNOWN and evidence is not None:
        space = new_row(evidence, catalogue().spaces(), downscale=downscale)
    folder, fingerprint = own_folder(), fingerprint_of(vae)
    store_bytes = ComfyPreferences.current().learn_bytes

    def learn() -> str | None:
        if vae_key is not None:
            KnownVaes(folder).remember(vae_key, fingerprint)
        text = learn_from_decode(folder, space, read(), catalogue(), evidence, vae=fingerprint, store_bytes=store_bytes)
        show_text(progress_text(LearnedFiles(folder, space.name, fingerprint)))
        return text

    return LEARNER.offer(learn)


def vae_of_sampler(prompt: Prompt) -> str | None:
    """The fingerprint of the VAE that will decode the latents of the executing sampler; None if unknown."""
    known = KnownVaes(own_folder())
    if prompt.node is None or not known.exist:
        return None
    for node, facts in prompt.graph.items():
        if linked_node(mapping(facts.get("inputs")).get("vae")) is None:
            continue
        if node == prompt.node or prompt.node in nearest(prompt.graph, node):
            key = _vae_key(prompt, node)
            return None if key is None else known.find(key)
    return None


def _vae_key(prompt: Prompt, node: str | None) -> str | None:
    """The key of the VAE that a node uses: the signature of the node that loads it. None if it uses none."""
    match inputs_of(prompt.graph, node).get("vae"):
        case [str() as source, int() as output]:
            return f"{signature(prompt.graph, source)}:{output}"
    return None


def _origin_in(prompt: Prompt, vae: Any, samples: Tensor) -> Origin:
    """Where decoded latents are from: the model of the nearest sampler, else what the VAE's shape allows.

    Raises:
        SpaceError: neither says it.
    """
    spaces = catalogue().spaces()
    if (latent_format := _nearest_of(SAMPLED, prompt)) is not None:
        return origin_of_format(latent_format, spaces)
    return Origin(space=_space_of_vae(vae, samples, spaces))


def _space_of_vae(vae: Any, samples: Tensor, spaces: Spaces) -> LatentSpace:
    downscale = getattr(vae, "downscale_ratio", None)
    fitting = [
        space
        for space in spaces
        if space.channels == samples.shape[1]
        and space.dims == samples.ndim - 2
        and (not isinstance(downscale, int) or space.downscale == downscale)
    ]
    if len(fitting) == 1:
        return fitting[0]
    raise SpaceError(
        f"latents of {samples.shape[1]} channels from no known sampler fit {len(fitting)} latent spaces, so this "
        "decode teaches nothing: use VAE Decode and Learn, which takes the model or the space"
    )
