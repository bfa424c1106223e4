"""The inputs that the nodes for saved runs share, each with one text."""

from typing import Any

from invokeai.app.invocations.fields import InputField

FOLDER = (
    "Path of a run's folder in the outputs folder, such as safelight/steps_00001, or run_folder of its denoise node."
)
ACCOUNTS = "With user accounts, only your own runs are found."
LAST_STEP = "0: the last step that has latents."
MANY = "Of a longer run, evenly spread steps are taken, with the last one."
MOST_STEPS, MOST_IMAGES, IMAGES = 10_000, 400, 48


def folder_input(needs: str = "") -> Any:
    """The input for the folder of a run.

    Args:
        needs: sentence about what the node needs of the run.
    """
    return InputField(default="", description=" ".join(filter(None, (FOLDER, needs, ACCOUNTS))))


def step_input(use: str) -> Any:
    """The input for a step with latents.

    Args:
        use: sentence about what the node does with the step.
    """
    return InputField(default=0, ge=0, le=MOST_STEPS, description=f"{use} {LAST_STEP}")


def max_images_input() -> Any:
    """The input for the number of steps whose images are loaded."""
    return InputField(default=IMAGES, ge=1, le=MOST_IMAGES, description=f"Maximum number of steps. {MANY}")
