"""How InvokeAI's denoise nodes begin in the middle of a schedule, by base model.

Source of all rows: InvokeAI 6.14 `app/invocations/*_denoise.py`, `denoise_latents.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...errors import LatentsError

TRAINED_TIMESTEPS = 1000  # of Stable Diffusion; its node counts `denoising_start` in them
BEGINS, LEVELS = "timesteps", "levels"  # facts of a file of latents, see `NodeSchedule`

# What a node does with noise when it gets latents. "none": it adds the noise that it gets, so its input stays empty.
# "mixed": it always mixes noise and latents. "switch": it does so unless `add_noise` is off.
NoiseUse = Literal["none", "mixed", "switch"]


@dataclass(frozen=True, kw_only=True)
class NodeSchedule:
    """The schedule of a denoise node that has run.

    Args:
        begins: of each step, the timestep or the level that the node counts `denoising_start` in; empty if it counts in
            steps.
        levels: of each step, the noise level at which the node mixes noise and latents; empty if it does not.
        steps: value of its input for the number of steps.
        start: value of its input `denoising_start`.
        scheduler: value of its input `scheduler`; None if it has none.
    """

    begins: Sequence[float] = ()
    levels: Sequence[float] = ()
    steps: int
    start: float
    scheduler: str | None = None


def _between_timesteps(schedule: NodeSchedule, first: int) -> float:
    """Stable Diffusion leaves out the timesteps that are at least `round(1000 * (1 - denoising_start))`."""
    before, timestep = schedule.begins[first - 1], schedule.begins[first]
    limit = math.floor(before)
    if not timestep < limit <= TRAINED_TIMESTEPS:
        raise LatentsError(
            f"InvokeAI cannot begin between the timesteps {before:g} and {timestep:g}, because it counts in whole "
            "timesteps; choose another step, or sample with fewer steps"
        )
    return 1 - limit / TRAINED_TIMESTEPS


def _at_level(schedule: NodeSchedule, first: int) -> float:
    """FLUX, SD3 and CogView4 begin at the level `1 - denoising_start`."""
    return 1 - schedule.begins[first]


def _after_steps(schedule: NodeSchedule, first: int) -> float:
    """The others leave out `int(steps * denoising_start)` steps. Half a step more is safe from rounding."""
    left_out = int(schedule.steps * schedule.start) + first
    if left_out >= schedule.steps:
        raise LatentsError(f"the run has {schedule.steps} steps; the folder was edited")
    return (left_out + 0.5) / schedule.steps


@dataclass(frozen=True, kw_only=True)
class ContinuedModel:
    """How the denoise node of a base model continues.

    Args:
        start: function that returns `denoising_start` for a step of a schedule, which is counted from 0 and not 0.
            It raises `LatentsError` if there is no such value.
        noise: what the node does with noise.
        needs: facts that `start` and the mixing read.
        schedulers: schedulers whose schedule the node can begin in the middle; empty for all.
        is_patched: whether the node takes latents in 2x2 patches, and reports them without.
    """

    start: Callable[[NodeSchedule, int], float]
    noise: NoiseUse
    needs: tuple[str, ...] = ()
    schedulers: tuple[str, ...] = ()
    is_patched: bool = False


STABLE_DIFFUSION = ContinuedModel(start=_between_timesteps, noise="none", needs=(BEGINS,))
CONTINUED_MODELS: Mapping[str, ContinuedModel] = {
    "sd-1": STABLE_DIFFUSION,
    "sd-2": STABLE_DIFFUSION,
    "sdxl": STABLE_DIFFUSION,
    "sdxl-refiner": STABLE_DIFFUSION,
    # FLUX has `add_noise` too, but in InvokeAI 6.14 its node fails if it is off.
    "flux": ContinuedModel(start=_at_level, noise="mixed", needs=(BEGINS, LEVELS), schedulers=("euler",)),
    "sd-3": ContinuedModel(start=_at_level, noise="mixed", needs=(BEGINS, LEVELS)),
    "cogview4": ContinuedModel(start=_at_level, noise="mixed", needs=(BEGINS, LEVELS)),
    "z-image": ContinuedModel(start=_after_steps, noise="switch", schedulers=("euler",)),
    "wan": ContinuedModel(start=_after_steps, noise="switch"),
    "anima": ContinuedModel(
        start=_after_steps, noise="switch", schedulers=("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "er_sde")
    ),
    "ernie-image": ContinuedModel(start=_after_steps, noise="switch", schedulers=("euler", "lcm"), is_patched=True),
}
_OWN_NOISE = "its node mixes noise of its seed with the latents that it begins with, and no input switches that off"
WHY_NOT: Mapping[str, str] = {
    "flux2": "its node spaces the remaining steps in another way, and rounds the latents that it begins with",
    "qwen-image": _OWN_NOISE,
    "krea-2": _OWN_NOISE,
    "ideogram-4": "its node has no input for latents",
}
