"""The node that fits decoders to a VAE."""

from pathlib import Path
from typing import Any, Literal

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation, invocation_output
from invokeai.app.invocations.fields import ImageField, Input, InputField, OutputField, WithBoard, WithMetadata
from invokeai.app.invocations.model import VAEField
from invokeai.app.invocations.primitives import ImageOutput
from invokeai.app.services.config.config_default import get_config
from invokeai.app.services.session_processor.session_processor_common import CanceledException
from invokeai.app.services.shared.invocation_context import InvocationContext
from invokeai.backend.util.devices import TorchDevice
from pydantic import field_validator

from ...decoders.catalogue import AUTO
from ...fitting.fit import CPU, TRAIN_ON, TRAIN_ON_HELP, FitOptions
from ...fitting.presets import PRESETS
from ...hosts.invokeai.fitting import FROM_VAE, FitHost, fit_decoder
from ...hosts.invokeai.preferences import catalogue
from ...hosts.invokeai.saved_inputs import choice_or

SPACES = (FROM_VAE, *(space.name for space in catalogue(Path(get_config().root_path)).spaces()))
KINDS = (AUTO, *PRESETS)
space_or_vae = choice_or(FROM_VAE, SPACES, "latent space")


@invocation_output("safelight_fit_output")
class SafelightFitOutput(ImageOutput):
    """The report of a fit."""

    summary: str = OutputField(description="Scores of each decoder, whether auto uses it, and its file.")


@invocation(
    "safelight_fit",
    title="Fit Preview Decoder (Safelight)",
    tags=["vae", "preview", "decoder", "fit", "train", "latent2rgb", "taesd", "safelight"],
    category="latents",
    version="1.1.0",
    use_cache=False,  # the result is a file on disk
    classification=Classification.Beta,
)
class SafelightFitInvocation(BaseInvocation, WithMetadata, WithBoard):
    """Fits a preview decoder to a VAE on images; auto uses it from the next run on if it is better."""

    vae: VAEField = InputField(
        description="VAE that decodes the model's images. Its base model determines the latent space.",
        input=Input.Connection,
    )
    images: list[ImageField] = InputField(
        default=[],
        description=(
            "Color images to fit on, best a few dozen photographs. At least three, because some are used only for "
            "validation and test. Without any, images are generated."
        ),
    )
    space: Literal[SPACES] = InputField(  # type: ignore[valid-type]
        default=FROM_VAE, description="Latent space of the VAE. Choose it by name if the VAE has no base model."
    )
    kind: Literal[KINDS] = InputField(  # type: ignore[valid-type]
        default=AUTO,
        description=(
            "Kind of decoder. auto saves three files: the best closed form, a closed form in sub-pixels, and small "
            "convolutions. Closed forms take seconds, conv about a minute, conv-full minutes."
        ),
    )
    name: str = InputField(
        default="",
        description=(
            "Name for a latent space that Safelight does not know, in lower case letters, digits and _. "
            "If empty, InvokeAI's name of the base model is used."
        ),
    )
    seed: int = InputField(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="Random seed for crops, generated images and training.",
    )

    train_on: Literal[TRAIN_ON] = InputField(default=CPU, description=TRAIN_ON_HELP)  # type: ignore[valid-type]

    @field_validator("space", mode="before")
    @classmethod
    def replace_missing_space(cls, name: Any) -> Any:
        """Replaces a latent space whose decoder file was removed since the workflow was saved."""
        return space_or_vae(name)

    def invoke(self, context: InvocationContext) -> SafelightFitOutput:
        """Fits the decoder; InvokeAI calls this method."""
        report, summary = fit_decoder(
            context,
            self.vae.vae,
            [image.image_name for image in self.images],
            FitOptions(space=self.space, kind=self.kind, name=self.name, seed=self.seed, train_on=self.train_on),
            FitHost(device=TorchDevice.choose_torch_device, cancelled=CanceledException),
        )
        context.logger.info(summary)
        image = context.images.save(image=report)
        return SafelightFitOutput(
            image=ImageField(image_name=image.image_name), width=image.width, height=image.height, summary=summary
        )
