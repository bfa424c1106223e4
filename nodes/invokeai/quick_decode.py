"""The node Quick Decode (Safelight): decodes latents without a VAE."""

from functools import partial
from pathlib import Path
from typing import Any, Literal, Optional

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation
from invokeai.app.invocations.fields import Input, InputField, LatentsField, WithBoard, WithMetadata
from invokeai.app.invocations.model import TransformerField, UNetField, VAEField
from invokeai.app.invocations.primitives import ImageOutput
from invokeai.app.services.config.config_default import get_config
from invokeai.app.services.shared.invocation_context import InvocationContext
from pydantic import field_validator

from ...decoders.catalogue import AUTO
from ...decoders.descriptions import decoder_labels
from ...hosts.invokeai.preferences import catalogue
from ...hosts.invokeai.quick_decode import FROM_MODEL, base_of, opened, quick_decode
from ...hosts.invokeai.saved_inputs import choice_or

CATALOGUE = catalogue(Path(get_config().root_path))
DECODER_NAMES = tuple(CATALOGUE.names())
SPACES = (FROM_MODEL, *(space.name for space in CATALOGUE.spaces()))
decoder_or_auto = choice_or(AUTO, DECODER_NAMES, "decoder")
space_or_model = choice_or(FROM_MODEL, SPACES, "latent space")


@invocation(
    "safelight_quick_decode",
    title="Quick Decode (Safelight)",
    tags=["latents", "image", "decode", "draft", "safelight"],
    category="latents",
    version="1.0.0",
    use_cache=False,  # another decoder file may give another image
    classification=Classification.Beta,
)
class SafelightQuickDecode(BaseInvocation, WithMetadata, WithBoard):
    """Decodes latents to an image with a preview decoder: in milliseconds, without a VAE. For drafts."""

    latents: LatentsField = InputField(description="Finished latents.", input=Input.Connection)
    # Optional as InvokeAI's own nodes write it: the type check of its older versions does not know `| None`.
    unet: Optional[UNetField] = InputField(  # noqa: UP045
        default=None, description="Model of the latents, which selects their latent space.", input=Input.Connection
    )
    transformer: Optional[TransformerField] = InputField(  # noqa: UP045
        default=None, description="Model of the latents, which selects their latent space.", input=Input.Connection
    )
    vae: Optional[VAEField] = InputField(  # noqa: UP045
        default=None,
        description="VAE of FLUX.2 latents, whose numbers are needed to decode them. Other latents need none.",
        input=Input.Connection,
    )
    space: Literal[SPACES] = InputField(  # type: ignore[valid-type]
        default=FROM_MODEL, description="Latent space, if no model is connected. The shape of latents does not say it."
    )
    decoder: Literal[DECODER_NAMES] = InputField(  # type: ignore[valid-type]
        default=AUTO,
        ui_choice_labels=decoder_labels(DECODER_NAMES),
        description="Decoder that turns latents into the image. auto: the best one for the latent space. "
        "fast: the best one that a CPU decodes quickly. fine: the most truthful one.",
    )
    enlarge: Literal["off", "nearest", "bicubic", "lanczos"] = InputField(
        default="off",
        description="Size of the image. off: as decoded. Otherwise the filter that enlarges it to full size.",
    )

    @field_validator("decoder", mode="before")
    @classmethod
    def replace_missing_decoder(cls, name: Any) -> Any:
        """Replaces a decoder that was removed since the workflow was saved."""
        return decoder_or_auto(name)

    @field_validator("space", mode="before")
    @classmethod
    def replace_missing_space(cls, name: Any) -> Any:
        """Replaces a latent space whose decoder file was removed since the workflow was saved."""
        return space_or_model(name)

    def invoke(self, context: InvocationContext) -> ImageOutput:
        """Runs the node; InvokeAI calls it."""
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
