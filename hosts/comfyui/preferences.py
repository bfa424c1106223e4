"""What a person chose for Safelight in ComfyUI's settings panel."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args as cli

from ...decoders.catalogue import AUTO
from ...preview.decode.memory_budget import DEVICE_BYTES, bytes_of
from ...preview.sinks.live_runs import DEFAULT_BUDGET_BYTES

BUDGET, DECODER, EVERYWHERE = "Safelight.BudgetMB", "Safelight.Decoder", "Safelight.Everywhere"
DEVICE = "Safelight.DeviceMB"
MAX_BYTES = 4 << 20  # of the file of all settings


@dataclass(frozen=True)
class ComfyPreferences:
    """Settings of the whole host.

    Args:
        budget_bytes: for the pictures of all runs that can be looked at; with none, only the newest run can.
        decoder: what `auto` means.
        everywhere: whether every sampler's ordinary preview is to be ours.
        device_bytes: of a device's memory that the preview of a run may take.
    """

    budget_bytes: int = DEFAULT_BUDGET_BYTES
    decoder: str = AUTO
    everywhere: bool = False
    device_bytes: int = DEVICE_BYTES

    @classmethod
    def current(cls) -> "ComfyPreferences":
        """As last saved; never raises. Reads a file, so the sampler's thread asks before its first step, if at all.

        With `--multi-user` nothing says whose prompt is running: then all have the defaults.
        """
        return cls() if cli.multi_user else cls.of(_saved())

    @classmethod
    def of(cls, settings: Any) -> "ComfyPreferences":
        """Those among all settings of a user; what makes no sense is as if it was not there."""
        if not isinstance(settings, dict):
            return cls()
        decoder = settings.get(DECODER)
        return cls(
            bytes_of(settings.get(BUDGET), DEFAULT_BUDGET_BYTES),
            decoder.strip() or AUTO if isinstance(decoder, str) else AUTO,
            settings.get(EVERYWHERE) is True,
            bytes_of(settings.get(DEVICE), DEVICE_BYTES),
        )


def device_bytes() -> int:
    """Of a device's memory that the preview of a run may take, as last saved."""
    return ComfyPreferences.current().device_bytes


def _saved() -> Any:
    """Source: ComfyUI 0.33 `app/app_settings.py`, `app/user_manager.py`."""
    path = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
    try:
        return json.loads(path.read_text("utf-8")) if path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):  # none were ever saved, or they are being saved right now
        return None
