"""One step of a sampler: its tensors, and the facts that go on with its picture."""

import operator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from ..errors import OptionError, brief

Show = Literal["denoised", "noisy"]
ShowChoice = Literal[Show, "both"]  # both: the denoised latents, and the noisy ones beside them

MAX_STEP_NUMBER = 1_000_000


def step_number(value: Any) -> int:
    """A number of steps that a sampler reports, as an int: samplers count with tensors, NumPy numbers and floats too.

    Raises:
        OptionError: it is no whole number from 0 to `MAX_STEP_NUMBER`.
    """
    try:
        try:
            number = operator.index(value)
        except TypeError:
            number = int(value) if float(value).is_integer() and not isinstance(value, str | bytes) else -1
    except Exception:  # NaN, a text, a tensor of many numbers, an object of another package
        number = -1
    if not 0 <= number <= MAX_STEP_NUMBER:
        raise OptionError(f"expected a whole number of steps from 0 to {MAX_STEP_NUMBER:,}, got {brief(value)}")
    return number


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """Facts about one step.

    Args:
        index: number of the step, from 1.
        total: number of steps that the sampler reports; some samplers report it wrongly.
        sigma: noise level of the latents; None if unknown.
        show: tensor that the picture shows.
        at_s: seconds from the start of the run to the step.
    """

    index: int
    total: int
    sigma: float | None = None
    show: Show = "denoised"
    at_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step with the sampler's own tensors: copy them during the call, never store or change them.

    Args:
        index: number of the step, from 1.
        total: number of steps that the sampler reports; some samplers report it wrongly.
        sigma: noise level of the tensors; None if the host does not report it. A tensor with one number is read by the
            worker, so that the sampler does not wait for its device.
        denoised: the model's estimate of the finished latents (x0), in model space, in the sampler's layout.
        noisy: latents that the sampler works on (x_t).
        noisy_gain: factor that scales `noisy` to the spread of clean latents; 1 for flow models. None: unknown, so the
            worker measures it.

    Raises:
        OptionError: `index` or `total` is no whole number.
    """

    index: int
    total: int
    sigma: float | Tensor | None = None
    denoised: Tensor | None = None
    noisy: Tensor | None = None
    noisy_gain: float | None = 1.0

    def __post_init__(self) -> None:
        for name in ("index", "total"):
            if type(getattr(self, name)) is not int:
                object.__setattr__(self, name, step_number(getattr(self, name)))

    @property
    def known_sigma(self) -> float | None:
        """The noise level, if it is known without a wait for the sampler's device."""
        return None if isinstance(self.sigma, Tensor) else self.sigma

    @property
    def sigma_tensor(self) -> Tensor | None:
        """The noise level, if it is still on the sampler's device."""
        return self.sigma if isinstance(self.sigma, Tensor) else None

    def latents(self, show: ShowChoice) -> "ShownLatents":
        """Returns the tensor that `show` asks for first, or the other one if the sampler does not provide it."""
        if self.denoised is None or (show == "noisy" and self.noisy is not None):
            return ShownLatents(self.noisy, self.noisy_gain, "noisy")
        return ShownLatents(self.denoised, 1.0, "denoised")

    def beside(self, show: ShowChoice) -> "ShownLatents | None":
        """Returns the tensor that is shown beside that of `latents`; None if there is none."""
        if show != "both" or self.denoised is None or self.noisy is None:
            return None
        return ShownLatents(self.noisy, self.noisy_gain, "noisy")


class ShownLatents(NamedTuple):
    """One of a step's tensors, the gain to apply to it (None: to be measured), and its name."""

    values: Tensor | None
    gain: float | None
    show: Show


def measured_gain(noisy: Tensor) -> float:
    """A factor that scales noisy latents to the spread of clean ones, which is about 1; measured from them."""
    spread = noisy.float().square().mean().sqrt().item()
    return 1 / spread if 1 < spread < float("inf") else 1.0
