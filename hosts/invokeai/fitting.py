"""Fits decoders to a VAE of InvokeAI."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from PIL import Image
from torch import Tensor

from ...decoders.latents.identify import UNKNOWN, Evidence, identify, new_row
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import SpaceError
from ...fitting.encode_images import ImageSet, encode_images, require_image_latents
from ...fitting.fit import FitOptions, fit_and_save
from ...fitting.image_ids import fitted_ids
from ...fitting.progress import FitProgressBar
from ...fitting.result import Baselines
from .. import vae_encode
from .facts import host_version
from .preferences import DECODERS, catalogue
from .saved_inputs import choice_or

FROM_VAE = "from VAE"
UNSPECIFIC_BASES = {"any", "unknown", "external"}  # values of InvokeAI's BaseModelType that name no model
PROBE_PX = 64  # side of the test image that a VAE encodes
BAR_TICKS = 100


@dataclass(frozen=True, kw_only=True)
class FitHost:
    """The parts of InvokeAI that a fit needs besides the context.

    Args:
        device: function that returns the device for models without a device of their own.
        cancelled: exception that ends a cancelled node.
    """

    device: Callable[[], torch.device]
    cancelled: type[Exception]


def fit_decoder(
    context: Any, vae: Any, images: Sequence[str], options: FitOptions, host: FitHost
) -> tuple[Image.Image, str]:
    """Fits decoders to `vae` and saves them in the folder `safelight` in InvokeAI's root.

    Args:
        context: InvokeAI's `InvocationContext`.
        vae: InvokeAI's `ModelIdentifierField`.
        images: InvokeAI's names of the images; none to generate some.
        options: settings of the node.
        host: other parts of InvokeAI.

    Returns:
        The report, as an image and as text.

    Raises:
        SafelightError: nothing was fitted or written.
        Exception: `host.cancelled`. What was fitted until then is saved.
    """
    root = Path(context.config.get().root_path)

    def check_cancelled() -> None:
        if context.util.is_canceled():
            raise host.cancelled

    bar = FitProgressBar(options.kind, BAR_TICKS, context.util.signal_progress, check_cancelled)
    bar.encoding(0.0)
    installed = catalogue(root)
    base = str(getattr(vae.base, "value", vae.base))
    loaded = context.models.load(vae)
    device = getattr(loaded, "compute_device", None) or host.device()
    with _on_device(loaded) as module:
        encoder = VaeEncoder(module, device, check_cancelled)
        channels, downscale = encoder.probe()
        space = _find_space(module, base, options, installed.spaces(), channels, downscale)
        require_image_latents(space)
        image_set = _image_set(context, images) if images else None
        network = type(module).__name__
        dataset = encode_images(
            partial(encoder.encode, space),
            image_set,
            space,
            downscale,
            options.seed,
            network,
            bar.encoding,
            fitted_ids(installed.all(), space.name),
        )
    return fit_and_save(
        options,
        space,
        dataset,
        Baselines.from_catalogue(installed, space, accelerated=device.type != "cpu"),
        root / DECODERS,
        host=f"InvokeAI {host_version()}",
        on_step=bar.fitting,
        check_cancelled=check_cancelled,
        device=device,
    )


@contextmanager
def _on_device(loaded: Any) -> Iterator[Any]:
    """Puts the VAE on its device; a float16 VAE runs in float32, as its values may exceed float16."""
    with loaded.model_on_device() as (_, module):
        dtype = next(module.parameters()).dtype
        if dtype != torch.float16:
            yield module
            return
        try:
            yield module.float()
        finally:
            module.to(dtype)


@final
class VaeEncoder:
    """Encodes images with a VAE of InvokeAI.

    Args:
        module: VAE module.
        device: device of the VAE.
        check_cancelled: function that raises an exception if the user cancelled.
    """

    def __init__(self, module: Any, device: torch.device, check_cancelled: Callable[[], None]) -> None:
        self._module, self._device, self._check_cancelled = module, device, check_cancelled

    @torch.no_grad()
    def probe(self) -> tuple[int, int]:
        """Measures the number of latent channels and the image pixels per latent pixel."""
        rgb = torch.zeros((1, 3, PROBE_PX, PROBE_PX))
        latents = vae_encode.vae_encoding(self._module).to_vae_latents(self._module, self._to_vae(rgb))
        return latents.shape[1], max(1, PROBE_PX // latents.shape[3])

    def encode(self, space: LatentSpace, rgb: Tensor) -> Tensor:
        """Encodes rgb `[B, 3, H, W]` in 0..1 to model space latents `[B, C, h, w]`."""
        self._check_cancelled()
        return vae_encode.encode_with_vae(self._module, space, self._to_vae(rgb)).cpu()

    def _to_vae(self, rgb: Tensor) -> Tensor:
        return rgb.to(self._device, next(self._module.parameters()).dtype)


def _find_space(
    module: Any, base: str, options: FitOptions, spaces: Spaces, channels: int, downscale: int
) -> LatentSpace:
    """Finds the latent space: the chosen one, else that of the VAE's base model; an unknown base gets a new space."""
    name = choice_or(FROM_VAE, (FROM_VAE, *(space.name for space in spaces)), "latent space")(options.space)
    if name != FROM_VAE:
        return spaces[name]
    if base in UNSPECIFIC_BASES:
        raise SpaceError(f"this VAE does not say which models it is for (its base is {base}): choose the space by name")
    evidence = Evidence(host="invokeai", format_name=base, channels=channels, dims=2)
    space = identify(evidence, spaces)
    if space.name != UNKNOWN:
        return space
    config = module.config
    scale, shift = getattr(config, "scaling_factor", None), getattr(config, "shift_factor", None)
    return new_row(replace(evidence, scale=scale, shift=shift), spaces, options.name, downscale)


def _image_set(context: Any, names: Sequence[str]) -> ImageSet:
    records = [context.images.get_dto(name) for name in names]
    return ImageSet(
        sizes=[(record.width, record.height) for record in records],
        images=(context.images.get_pil(name).convert("RGB") for name in names),
    )
