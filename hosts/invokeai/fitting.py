"""Fitting decoders to a VAE of InvokeAI."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from PIL import Image
from torch import Tensor

from ...decoders.catalogue import AUTO
from ...decoders.latents.identify import UNKNOWN, Evidence, identify, new_row
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import SpaceError
from ...fitting.encode_images import ImageSet, encode_images, expect_visible
from ...fitting.fit import fit_decoders
from ...fitting.presets import PRESETS
from ...fitting.progress import ProgressShares, summary
from ...fitting.result import BestAvailable
from ...fitting.train import Progress
from ..vae_encode import encode, encoding_of
from .preferences import DECODERS
from .watch import catalogue, host_version

FROM_VAE = "from VAE"
NOBODYS = {"any", "unknown", "external"}  # values of the host's BaseModelType that say nothing
PROBE_PX = 64  # a side of the picture that a VAE is asked what it makes of one
TICKS = 100  # of the progress bar


@dataclass(frozen=True, kw_only=True)
class InvokeFitOptions:
    """What the user chose on the node; see its descriptions."""

    space: str = FROM_VAE
    kind: str = AUTO
    name: str = ""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FitHost:
    """What a fit needs of InvokeAI besides a context.

    Args:
        device: where it runs models that do not say it themselves.
        cancelled: what it ends a node with.
    """

    device: Callable[[], torch.device]
    cancelled: type[Exception]


def fit_decoder(
    context: Any, vae: Any, images: Sequence[str], choices: InvokeFitOptions, host: FitHost
) -> tuple[Image.Image, str]:
    """Fits decoders to `vae` and saves them in the folder `safelight` in InvokeAI's root.

    Args:
        context: the host's `InvocationContext`.
        vae: the host's `ModelIdentifierField`.
        images: the host's names of them; none for procedural pictures.
        choices: the user's.
        host: the rest of it.

    Returns:
        The report, as a picture and as text.

    Raises:
        SafelightError: nothing was fitted, and nothing written; what was expected, what came, what to do.
        Exception: `host.cancelled`; nothing was written.
    """
    root = Path(context.config.get().root_path)
    bar = InvokeProgressBar(context.util, choices.kind, host.cancelled)
    bar.encoding(0.0)
    at_hand = catalogue(root)
    base = str(getattr(vae.base, "value", vae.base))
    loaded = context.models.load(vae)
    device = getattr(loaded, "compute_device", None) or host.device()
    with _whole(loaded) as module:
        encoder = VaeEncoder(module, device, bar)
        channels, step = encoder.probe()
        space = _space(module, base, choices, at_hand.spaces(), channels, step)
        expect_visible(space)
        pictures = _pictures(context, images) if images else None
        network = type(module).__name__
        material = encode_images(
            partial(encoder.encode, space), pictures, space, step, choices.seed, network, bar.encoding
        )
    made = fit_decoders(
        choices.kind,
        space,
        material,
        BestAvailable.of(at_hand, space, accelerated=device.type != "cpu"),
        root / DECODERS,
        source=f"Safelight: Fit Preview Decoder in InvokeAI {host_version()}, kind {choices.kind}, seed {choices.seed}",
        changes={"seed": choices.seed},
        tell=bar.fitting,
    )
    picture = made.picture()
    bar.check()
    paths = made.save(root / DECODERS)
    return picture, summary(made, space, paths)


@final
class InvokeProgressBar:
    """The host's progress bar, over encoding and fitting; a cancelled node ends here.

    Args:
        util: the host's `UtilInterface`.
        kind: of the decoder.
        cancelled: what to end with.
    """

    def __init__(self, util: Any, kind: str, cancelled: type[Exception]) -> None:
        self._util, self._cancelled = util, cancelled
        self._shares = ProgressShares(kind)
        self._ticks = -1

    def encoding(self, share: float) -> None:
        """So much of the pictures is encoded."""
        self._show("Encoding pictures", self._shares.encoding(share))

    def fitting(self, name: str, progress: Progress) -> None:
        """The rung of this name is so far."""
        self._show(f"Fitting {PRESETS[name].title}", self._shares.fitting(name, progress))

    def check(self) -> None:
        """Raises the host's own exception if the user has cancelled."""
        if self._util.is_canceled():
            raise self._cancelled

    def _show(self, message: str, share: float) -> None:
        self.check()
        if (ticks := round(share * TICKS)) != self._ticks:
            self._ticks = ticks
            self._util.signal_progress(message, ticks / TICKS)


@contextmanager
def _whole(loaded: Any) -> Iterator[Any]:
    """The VAE on its device; in float32 where float16 might not hold what it makes."""
    with loaded.model_on_device() as (_, module):
        kind = next(module.parameters()).dtype
        if kind == torch.float16:
            module.float()
        try:
            yield module
        finally:
            module.to(kind)


@final
class VaeEncoder:
    """A VAE that is asked for latents.

    Args:
        module: it.
        device: that it runs on.
        bar: where a cancelled node ends.
    """

    def __init__(self, module: Any, device: torch.device, bar: InvokeProgressBar) -> None:
        self._module, self._device, self._bar = module, device, bar

    @torch.no_grad()
    def probe(self) -> tuple[int, int]:
        """Channels of its latents, and picture pixels per latent pixel."""
        rgb = torch.zeros((1, 3, PROBE_PX, PROBE_PX))
        latents = encoding_of(self._module).plain(self._module, self._given(rgb))
        return latents.shape[1], max(1, PROBE_PX // latents.shape[3])

    def encode(self, space: LatentSpace, rgb: Tensor) -> Tensor:
        """Model space latents `[B, C, h, w]` of rgb `[B, 3, H, W]` in 0..1."""
        self._bar.check()
        return encode(self._module, space, self._given(rgb)).cpu()

    def _given(self, rgb: Tensor) -> Tensor:
        return rgb.to(self._device, next(self._module.parameters()).dtype)


def _space(module: Any, base: str, choices: InvokeFitOptions, spaces: Spaces, channels: int, step: int) -> LatentSpace:
    """The space that the user says; else the one of the models that the VAE is for, new if nobody knows it."""
    if choices.space != FROM_VAE:
        return spaces[choices.space]
    if base in NOBODYS:
        raise SpaceError(f"this VAE does not say which models it is for (its base is {base}): choose the space by name")
    evidence = Evidence(host="invokeai", format_name=base, channels=channels, dims=2)
    space = identify(evidence, spaces)
    if space.name != UNKNOWN:
        return space
    config = module.config
    scale, shift = getattr(config, "scaling_factor", None), getattr(config, "shift_factor", None)
    return new_row(replace(evidence, scale=scale, shift=shift), spaces, choices.name, step)


def _pictures(context: Any, names: Sequence[str]) -> ImageSet:
    kept = [context.images.get_dto(name) for name in names]
    return ImageSet(
        sizes=[(one.width, one.height) for one in kept],
        each=(context.images.get_pil(name).convert("RGB") for name in names),
    )
