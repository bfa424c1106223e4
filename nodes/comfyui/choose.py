"""The node Choose and Continue: a person chooses which items of a batch go on."""

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...hosts.comfyui.choose import ALL, WITHOUT_ANSWER, ChooseOptions, choose, selected
from ...hosts.comfyui.run_handle import RunHandle
from ...hosts.comfyui.saved_steps import SavedSteps
from .schema import STEPS, checked_input, schema

TIME_LIMIT = io.Int.Input(
    "time_limit_s",
    default=300,
    min=1,
    max=86400,
    tooltip="Longest time to wait for your choice, in seconds.",
)
WITHOUT = io.Combo.Input(
    "without_answer",
    options=list(WITHOUT_ANSWER),
    default=ALL,
    tooltip=(
        "What goes on if no answer comes in time, or if no page queued the prompt: all items, none, or the best ones "
        "by scores."
    ),
)
BEST_COUNT = io.Int.Input(
    "best_count", default=1, min=1, max=64, tooltip="Number of items that go on with without_answer best."
)


class SafelightChoose(io.ComfyNode):
    """The items of a batch that a person has chosen."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightChoose",
            display_name="Choose and Continue",
            category="Safelight",
            description=(
                "Shows the pictures of a batch after a few steps, and waits until you have chosen: only the chosen "
                "items go on to the next sampler."
            ),
            search_aliases=["choose", "select seeds", "pick images", "image chooser", "filter batch"],
            inputs=[
                io.Latent.Input(
                    "samples",
                    tooltip="Batch of a sampler that stopped early, such as KSampler (Advanced) with leftover noise.",
                ),
                STEPS.Input(
                    "steps", tooltip="Output steps of the Preview Steps on the sampler's model line: the pictures."
                ),
                TIME_LIMIT,
                WITHOUT,
                BEST_COUNT,
                io.AnyType.Input(
                    "scores",
                    optional=True,
                    tooltip="A number for each item, of which the largest is best: a list, or a tensor.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="chosen", tooltip="The chosen items. If there are none, connected nodes do not run."
                ),
                io.String.Output(display_name="numbers", tooltip="Numbers of the chosen items, from 1, such as 1, 4."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """NaN, which differs from itself: the node asks each time, also if the sampler's result is cached."""
        return float("nan")

    @classmethod
    def execute(cls, samples: Any, steps: RunHandle | SavedSteps, scores: Any = None, **options: Any) -> io.NodeOutput:
        checked = {field.id: checked_input(field, options[field.id]) for field in (TIME_LIMIT, WITHOUT, BEST_COUNT)}
        chosen = choose(samples, steps, scores, ChooseOptions(**checked))
        latent: Any = selected(samples, chosen) if chosen else ExecutionBlocker(None)
        return io.NodeOutput(latent, ", ".join(str(index + 1) for index in chosen))
