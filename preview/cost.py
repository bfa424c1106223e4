"""Sums up what the preview of a run costs."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from .decode.memory_budget import MB


@dataclass
class PreviewCost:
    """The sampler's time and the memory that a run's preview takes.

    Attributes:
        offering_s: seconds in which the sampler's thread copied and queued steps.
        vae_ms: milliseconds in which the host's VAE decoded steps on the sampler's thread.
        ended_s: time at which the sampler's thread began to wait for the end of the run, on `perf_counter`; None: it
            does not wait.
    """

    offering_s: float = 0.0
    vae_ms: float = 0.0
    ended_s: float | None = None
    _end_ms: float = field(default=0.0, init=False)

    def settle(self) -> None:
        """Notes that the end of the run has waited long enough. The worker calls it."""
        if self.ended_s is not None:
            self._end_ms = 1000 * (perf_counter() - self.ended_s)

    def facts(self, copies_bytes: int, decoding_bytes: int, device: str | None) -> dict[str, Any]:
        """The cost so far, as in `run.json`.

        Args:
            copies_bytes: size of the copied latents in memory.
            decoding_bytes: estimated memory of a decode, with the decoder.
            device: device that decodes; None before the first decode.
        """
        return {
            "sampler_ms": round(1000 * self.offering_s + self.vae_ms, 3),
            "end_ms": round(self._end_ms, 3),
            "memory_mb": round((copies_bytes + decoding_bytes) / MB, 2),
            "device": device,
        }
