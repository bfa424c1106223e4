"""Counts the model calls of a sampling loop."""

from typing import Any, final

from torch import Tensor


@final
class ModelCalls:
    """The model calls of one loop, counted by the scheduler itself, else by its timesteps. Never waits for a device.

    Attributes:
        count: number of calls.
        position: position of the newest call in the loop, from 0; -1 before the first one.
        restarts: how often the loop has begun its schedule again.
    """

    def __init__(self) -> None:
        self.count, self.position, self.restarts = 0, -1, 0
        self._first_index: int | None = None  # the scheduler's own count at the first call
        self._first_timestep: Any = None
        self._timestep: Any = None
        self._schedule: Any = None  # the scheduler's timesteps
        self._base = 0  # position at which they began

    def add(self, scheduler: Any, timestep: Any) -> bool:
        """Counts a call of the scheduler's `step`, after it. Returns False for one more call for the same timestep."""
        self.count += 1
        if self.count == 1:
            self._first_timestep = timestep
        before, self._schedule = self._schedule, getattr(scheduler, "timesteps", None)
        next_index = getattr(scheduler, "step_index", None)
        if isinstance(next_index, int):  # a pipeline that repeats a step resets the scheduler's own count
            return self._follow(next_index - 1, is_new_schedule=before is not self._schedule)
        if self.count > 1 and _is_same(timestep, self._timestep):
            return False
        self._timestep = timestep
        self.position += 1
        return True

    def starts_over(self, scheduler: Any, timestep: Any) -> bool:
        """Whether a call of the scheduler's `step`, which is not counted yet, is the first one of another loop.

        It is if the scheduler has a new schedule, or if it takes the first step of its schedule again.
        """
        if not self.count:
            return False
        if getattr(scheduler, "timesteps", None) is not self._schedule:
            return True
        next_index = getattr(scheduler, "step_index", None)
        if isinstance(next_index, int) and self._first_index is not None:
            return self.position > self._base and next_index - 1 <= self._first_index
        return self.position > 0 and _is_equal(timestep, self._first_timestep)

    def add_whole(self, scheduler: Any, timestep: Any) -> None:
        """Counts the first of the calls for the parts of one step, each with the same timestep."""
        self.count += 1
        self._timestep = timestep
        if self.count == 1:
            self._first_timestep = timestep
            next_index = getattr(scheduler, "step_index", None)
            self._first_index = next_index - 1 if isinstance(next_index, int) else None
        self.position += 1

    def first(self, scheduler: Any) -> int | None:
        """Position of the loop's first call in the scheduler's schedule; None if unknown. May wait for a device."""
        return self._first_index if self._first_index is not None else position_of(scheduler, self._first_timestep)

    def _follow(self, index: int, *, is_new_schedule: bool) -> bool:
        if self._first_index is None:
            self._first_index = index
        position = max(0, index - self._first_index)
        if position == 0 and self.position > self._base and is_new_schedule:
            self._base = self.position + 1
            self.restarts += 1
        is_new = self._base + position != self.position
        self.position = self._base + position
        return is_new


def _is_same(timestep: Any, before: Any) -> bool:
    """Whether two timesteps are the same entry of a schedule, which may have the same number twice."""
    if isinstance(timestep, Tensor) and isinstance(before, Tensor):
        return timestep.data_ptr() == before.data_ptr()
    return isinstance(timestep, int | float) and timestep == before


def _is_equal(timestep: Any, first: Any) -> bool:
    """Whether two timesteps are the same number, as far as that is known without a wait for a device."""
    if isinstance(timestep, Tensor) and isinstance(first, Tensor):
        on_cpu = timestep.is_cpu and first.is_cpu
        return _is_same(timestep, first) or (on_cpu and timestep.flatten()[:1].tolist() == first.flatten()[:1].tolist())
    return _is_same(timestep, first)


def first_position(scheduler: Any, timestep: Any) -> int | None:
    """Returns the position of the first call of a loop, right after it; None if unknown. May wait for a device."""
    next_index = getattr(scheduler, "step_index", None)
    return next_index - 1 if isinstance(next_index, int) else position_of(scheduler, timestep)


def position_of(scheduler: Any, timestep: Any) -> int | None:
    """Returns the position of a timestep in the scheduler's schedule; None if unknown. May wait for a device."""
    timesteps = getattr(scheduler, "timesteps", None)
    if not isinstance(timesteps, Tensor) or timestep is None:
        return None
    wanted = timestep.flatten()[:1].to(timesteps) if isinstance(timestep, Tensor) else timesteps.new_tensor([timestep])
    found = (timesteps == wanted).nonzero()
    return int(found[0]) if len(found) else None
