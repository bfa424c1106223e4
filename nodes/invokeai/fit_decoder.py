"""The node that fits decoders to a VAE."""

from pathlib import Path
from typing import Literal

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation, invocation_output
from invokeai.app.invocations.fields import ImageField, Input, InputField, OutputField, WithBoard, WithMetadata
from invokeai.app.invocations.model import VAEField
from invokeai.app.invocations.primitives import ImageOutput
from invokeai.app.services.config.config_default import get_config
from invokeai.app.services.session_processor.session_processor_common import CanceledException
from invokeai.app.services.shared.invocation_context import InvocationContext
from invokeai.backend.util.devices import TorchDevice

from ...decoders.catalogue import AUTO
from ...fitting.presets import PRESETS
from ...hosts.invokeai.fitting import FROM_VAE, FitHost, InvokeFitOptions, fit_decoder
from ...hosts.invokeai.watch import catalogue

SPACES = (FROM_VAE, *(space.name for space in catalogue(Path(get_config().root_path)).spaces()))
KINDS = (AUTO, *PRESETS)


@invocation_output("safelight_fit_output")
class SafelightFitOutput(ImageOutput):
    """A report of what was fitted."""

    summary: str = OutputField(description="What each decoder scored, whether auto takes it, and its file.")


@invocation(
    "safelight_fit",
    title="Fit Preview Decoder (Safelight)",
    tags=["vae", "preview", "decoder", "fit", "train", "latent2rgb", "taesd", "safelight"],
    category="latents",
    version="1.0.0",
    use_cache=False,  # what is asked for is a file
    classification=Classification.Beta,
)
class SafelightFitInvocation(BaseInvocation, WithMetadata, WithBoard):
    """Makes a decoder for previews from a VAE and pictures; auto takes it from the next run on if it shows more."""

    vae: VAEField = InputField(
        description="The VAE that the model's images are made with. Its latent space is that of the model it is for.",
        input=Input.Connection,
    )
    images: list[ImageField] = InputField(
        default=[],
        description=(
            "Pictures in colour to learn from, a few dozen photographs at best. At least three: some are held back to "
            "judge by. Without any, pictures are drawn."
        ),
    )
    space: Literal[SPACES] = InputField(  # type: ignore[valid-type]
        default=FROM_VAE, description="The latent space by name, where the VAE does not say which models it is for."
    )
    kind: Literal[KINDS] = InputField(  # type: ignore[valid-type]
        default=AUTO,
        description=(
            "auto: the best closed form, a closed form in sub-pixels, and small convolutions, a file each. Or one of "
            "them. Closed forms take seconds, conv about a minute, conv-full minutes."
        ),
    )
    name: str = InputField(
        default="",
        description=(
            "For a latent space that Safelight has never seen: what to call it, in lower case letters, digits and _. "
            "Empty: as InvokeAI calls the base model."
        ),
    )
    seed: int = InputField(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Of the crops, the drawn pictures and the training. Another one gives another decoder.",
    )

    def invoke(self, context: InvocationContext) -> SafelightFitOutput:
        """The host's name for it."""
        report, summary = fit_decoder(
            context,
            self.vae.vae,
            [image.image_name for image in self.images],
            InvokeFitOptions(space=self.space, kind=self.kind, name=self.name, seed=self.seed),
            FitHost(device=TorchDevice.choose_torch_device, cancelled=CanceledException),
        )
        context.logger.info(summary)
        image = context.images.save(image=report)
        return SafelightFitOutput(
            image=ImageField(image_name=image.image_name), width=image.width, height=image.height, summary=summary
        )
