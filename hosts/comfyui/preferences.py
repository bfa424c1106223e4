"""The user's choices for Safelight in ComfyUI's settings panel."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args as cli

from ...decoders.catalogue import AUTO
from ...fitting.online.pair_store import DEFAULT_STORE_BYTES
from ...preview.decode.memory_budget import DEVICE_BYTES, bytes_of
from ...preview.sinks.live_runs import DEFAULT_BUDGET_BYTES

BUDGET, DECODER, EVERYWHERE = "Safelight.BudgetMB", "Safelight.Decoder", "Safelight.Everywhere"
DEVICE = "Safelight.DeviceMB"
LEARN, LEARN_IDLE, LEARN_STORE = "Safelight.Learn", "Safelight.LearnIdle", "Safelight.LearnMB"
REMOTE = "Safelight.Remote"
MAX_SETTINGS_FILE_BYTES = 4 << 20


@dataclass(frozen=True)
class ComfyPreferences:
    """Settings of the whole server.

    Args:
        budget_bytes: size of all runs that the viewer can show; with 0, only the newest run.
        decoder: decoder that `auto` prefers.
        everywhere: whether Safelight replaces the ordinary preview of every sampler.
        device_bytes: part of a device's memory that the preview of a run may use.
        learn: whether Safelight learns from every VAE decode.
        learn_idle: whether it trains a net while nothing is queued.
        learn_bytes: size of the pictures that are saved for that, for each latent space and VAE.
        remote: address of a store to which saved runs are copied, as the user typed it; empty for none.
    """

    budget_bytes: int = DEFAULT_BUDGET_BYTES
    decoder: str = AUTO
    everywhere: bool = False
    device_bytes: int = DEVICE_BYTES
    learn: bool = False
    learn_idle: bool = True
    learn_bytes: int = DEFAULT_STORE_BYTES
    remote: str = ""

    @classmethod
    def current(cls) -> "ComfyPreferences":
        """The saved settings; never raises. It reads a file: the sampler's thread calls it at most once a run.

        With `--multi-user`, ComfyUI does not say whose prompt runs, so all users have the defaults.
        """
        return cls() if cli.multi_user else cls.of(_read_settings())

    @classmethod
    def of(cls, settings: Any) -> "ComfyPreferences":
        """Safelight's settings among all settings of a user. Invalid values become the defaults."""
        if not isinstance(settings, dict):
            return cls()
        decoder, remote = settings.get(DECODER), settings.get(REMOTE)
        return cls(
            bytes_of(settings.get(BUDGET), DEFAULT_BUDGET_BYTES),
            decoder.strip() or AUTO if isinstance(decoder, str) else AUTO,
            settings.get(EVERYWHERE) is True,
            bytes_of(settings.get(DEVICE), DEVICE_BYTES),
            settings.get(LEARN) is True,
            settings.get(LEARN_IDLE) is not False,
            bytes_of(settings.get(LEARN_STORE), DEFAULT_STORE_BYTES),
            remote if isinstance(remote, str) else "",
        )


def device_bytes() -> int:
    """The part of a device's memory that the preview of a run may use, as last saved."""
    return ComfyPreferences.current().device_bytes


def _read_settings() -> Any:
    """Source: ComfyUI 0.33 `app/app_settings.py`, `app/user_manager.py`."""
    path = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
    try:
        return json.loads(path.read_text("utf-8")) if path.stat().st_size <= MAX_SETTINGS_FILE_BYTES else None
    except (OSError, ValueError, RecursionError):  # never saved, or ComfyUI is saving them now
        return None
