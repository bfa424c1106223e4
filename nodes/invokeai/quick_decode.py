"""The node that decodes latents without a VAE."""

from functools import partial
from pathlib import Path
from typing import Literal, Optional

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation
from invokeai.app.invocations.fields import Input, InputField, LatentsField, WithBoard, WithMetadata
from invokeai.app.invocations.model import TransformerField, UNetField, VAEField
from invokeai.app.invocations.primitives import ImageOutput
from invokeai.app.services.config.config_default import get_config
from invokeai.app.services.shared.invocation_context import InvocationContext

from ...decoders.catalogue import AUTO
from ...hosts.invokeai.quick_decode import FROM_MODEL, base_of, opened, quick_decode
from ...hosts.invokeai.watch import catalogue

CATALOGUE = catalogue(Path(get_config().root_path))
NAMES = tuple(CATALOGUE.names())
SPACES = (FROM_MODEL, *(space.name for space in CATALOGUE.spaces()))


@invocation(
    "safelight_quick_decode",
    title="Quick Decode (Safelight)",
    tags=["latents", "image", "decode", "draft", "safelight"],
    category="latents",
    version="1.0.0",
    use_cache=False,  # a decoder file that came or changed since may give another image
    classification=Classification.Beta,
)
class SafelightQuickDecode(BaseInvocation, WithMetadata, WithBoard):
    """Turns latents into an image with a preview decoder: in milliseconds, without a VAE. For drafts."""

    latents: LatentsField = InputField(description="Finished latents.", input=Input.Connection)
    # Optional as InvokeAI's own nodes write it: its check of types knows both forms, its older ones only this.
    unet: Optional[UNetField] = InputField(  # noqa: UP045
        default=None, description="The model that made the latents: tells what they mean.", input=Input.Connection
    )
    transformer: Optional[TransformerField] = InputField(  # noqa: UP045
        default=None, description="The model that made the latents: tells what they mean.", input=Input.Connection
    )
    vae: Optional[VAEField] = InputField(  # noqa: UP045
        default=None,
        description="For FLUX.2 alone: its VAE has numbers without which its latents cannot be read.",
        input=Input.Connection,
    )
    space: Literal[SPACES] = InputField(  # type: ignore[valid-type]
        default=FROM_MODEL, description="What the latents mean, where no model is connected. Shapes do not tell."
    )
    decoder: Literal[NAMES] = InputField(  # type: ignore[valid-type]
        default=AUTO, description="What turns latents into pictures. auto takes the best at hand."
    )
    enlarge: Literal["off", "nearest", "bicubic", "lanczos"] = InputField(
        default="off", description="off: as large as the decoder makes it. Else: as large as the final image."
    )

    def invoke(self, context: InvocationContext) -> ImageOutput:
        """The host's name for it."""
        image = quick_decode(
            context.tensors.load(self.latents.latents_name),
            Path(context.config.get().root_path),
            base=base_of(self.unet, self.transformer),
            space=self.space,
            wanted=self.decoder,
            enlarge=self.enlarge,
            vae=partial(opened, context, self.vae.vae) if self.vae else None,
        )
        return ImageOutput.build(context.images.save(image=image))
