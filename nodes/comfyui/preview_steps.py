"""The node that watches a sampler."""

from typing import Any

from comfy_api.latest import io

from ...decoders.catalogue import AUTO
from ...hosts.comfyui.decoder_folders import catalogue
from ...hosts.comfyui.options import NodeOptions
from ...hosts.comfyui.run_handle import RunHandle
from ...hosts.comfyui.watch import attach
from ...preview.run import FULL
from ...preview.sinks.animation import MAX_FPS
from .schema import STEPS, advanced, schema


class SafelightPreview(io.ComfyNode):
    """Shows every step of whatever samples with the model that goes through it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightPreview",
            display_name="Preview Steps",
            category="Safelight",
            description=(
                "Shows every step of the sampler that this model goes to, and on request writes each one to disk. "
                "The result is the same with and without."
            ),
            search_aliases=["preview", "live preview", "latent preview", "intermediates", "steps", "safelight"],
            has_intermediate_output=True,
            # Else the host's cache gives one node what another with the same inputs made, with that one's id in it:
            # its cache looks for the hidden id where V1 nodes have it.
            not_idempotent=True,
            inputs=[
                io.Model.Input("model", tooltip="Put this node on the model line of any sampler."),
                io.Combo.Input(
                    "decoder",
                    options=[*catalogue().names(), FULL],
                    default=AUTO,
                    tooltip=(
                        "What turns latents into pictures. auto takes the best at hand for the model's latent space; "
                        "a kind, such as tiny, the best of its kind; full the VAE connected to vae. Decoder files in "
                        "models/vae_approx and models/safelight are found by their content."
                    ),
                ),
                io.Combo.Input(
                    "show",
                    options=["denoised", "noisy"],
                    default="denoised",
                    tooltip="denoised: what the model believes the image will be. noisy: what the sampler works on.",
                ),
                io.Int.Input(
                    "every_n_steps",
                    default=1,
                    min=1,
                    max=10000,
                    tooltip="A picture of every n-th step, beginning with the first. The last step is always shown.",
                ),
                io.Int.Input(
                    "max_side_px",
                    default=1024,
                    min=0,
                    max=16384,
                    tooltip=(
                        "A decoded picture whose longer side has more pixels is made smaller. 0: as decoded. "
                        "Enlarging comes after."
                    ),
                ),
                io.Boolean.Input(
                    "write_intermediates",
                    default=False,
                    tooltip="Writes a picture file for every step, each run into a folder of its own.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="safelight/steps",
                    tooltip=(
                        "Where in the output folder: safelight/steps becomes safelight/steps_00001/step_0001.png "
                        "and so on. Tokens work as in Save Image: %date:yyyy-MM-dd%, %KSampler.seed%, %width%."
                    ),
                ),
                io.Combo.Input(
                    "file_format",
                    options=["png", "webp", "jpg"],
                    default="png",
                    tooltip="Of the files. A PNG or WebP dropped on the canvas brings its workflow back.",
                ),
                io.Combo.Input(
                    "enlarge",
                    options=["off", "nearest", "bicubic", "lanczos"],
                    default="off",
                    tooltip="off: files are as large as the decoder makes them. Else: as large as the final image.",
                ),
                # Optional: prompts that were saved before there were these inputs go on working.
                io.Combo.Input(
                    "batch",
                    options=["grid", "first", "all files"],
                    default="grid",
                    optional=True,
                    tooltip=(
                        "grid: all pictures of the batch, in files side by side. all files: each in a file of its own, "
                        "step_0001_item_01.png and so on. first: only the first, the cheapest."
                    ),
                ),
                io.Combo.Input(
                    "frames",
                    options=["first", "middle", "animated", "all files"],
                    default="first",
                    optional=True,
                    tooltip=(
                        "Of a video. first or middle: one frame, as cheap as an image. animated: all of them, "
                        "as an animated WebP for each step that plays at the model's speed. all files: the same, and "
                        "in files each frame on its own besides, step_0001/frame_0001.png and so on."
                    ),
                ),
                io.Boolean.Input(
                    "keep_latents",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Keeps each step's latents as a safetensors file beside its picture, as the sampler had them, "
                        "so that Continue from Step can go on from any of them."
                    ),
                ),
                io.Boolean.Input(
                    "sheet",
                    default=False,
                    optional=True,
                    tooltip=(
                        "With write_intermediates: a contact sheet of the run, sheet.png, each step with its number "
                        "and sigma below. Of more than 48 steps every other one, as often as needed."
                    ),
                ),
                io.Combo.Input(
                    "animation",
                    options=["off", "webp", "gif", "mp4"],
                    default="off",
                    optional=True,
                    tooltip=(
                        "With write_intermediates: the run as a moving picture, steps.webp and so on, a frame for each "
                        "step. webp has all colours, gif 256 and plays anywhere, mp4 is for video programs."
                    ),
                ),
                advanced(
                    io.Float.Input,
                    "animation_fps",
                    default=8.0,
                    min=0.1,
                    max=MAX_FPS,
                    step=0.1,
                    optional=True,
                    tooltip="Steps a second in the animation.",
                ),
                advanced(
                    io.Float.Input,
                    "animation_hold_s",
                    default=1.5,
                    min=0.0,
                    max=60.0,
                    step=0.1,
                    optional=True,
                    tooltip="Seconds that the last frame of the animation is held.",
                ),
                advanced(
                    io.Int.Input,
                    "animation_from_step",
                    default=0,
                    min=0,
                    max=10000,
                    optional=True,
                    tooltip="The first step in the animation. 0: the run's first.",
                ),
                advanced(
                    io.Int.Input,
                    "animation_to_step",
                    default=0,
                    min=0,
                    max=10000,
                    optional=True,
                    tooltip="The last step in the animation. 0: the run's last.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip=(
                        "For decoder full: the model's own VAE. It decodes the last step, if it fits into memory with "
                        "the model where it is; auto makes the other steps, and this one if it does not."
                    ),
                ),
                advanced(
                    io.Int.Input,
                    "full_every_n_steps",
                    default=0,
                    min=0,
                    max=10000,
                    optional=True,
                    tooltip=(
                        "For decoder full: the VAE makes every n-th picture too, and the sampler waits for each. Only "
                        "while it is loaded beside the model: on a GPU once something was decoded with it. 0: the last "
                        "step only."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The same model, watched."),
                STEPS.Output(
                    display_name="steps",
                    tooltip="The steps of the samplers that this model goes to, for the nodes that work with them.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, decoder: str) -> bool:
        """Takes any decoder: one that is gone costs a note on the node, never the run."""
        return isinstance(decoder, str)

    @classmethod
    def execute(cls, model: Any, **settings: Any) -> io.NodeOutput:
        steps = RunHandle(model)
        return io.NodeOutput(attach(model, NodeOptions(**settings), cls.hidden.unique_id, steps), steps)
