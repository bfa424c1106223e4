"""The summary of a run in the list that a server sends to the viewer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

MAX_RUN_S = 1e9  # a longer duration must be an error: the end is unknown


def run_summary(manifest: Mapping[str, Any], version: str | None = None) -> dict[str, Any]:
    """What a viewer needs of a run before it asks for the manifest.

    Args:
        manifest: manifest of the run, validated or composed.
        version: a text that changes whenever the manifest changes; None if the server does not keep one.
    """
    pictured = [step for step in manifest["steps"] if step["files"]]
    newest = pictured[-1] if pictured else None
    sampler = {key: manifest["sampler"][key] for key in ("steps", "seed", "cfg", "name", "scheduler")}
    return {
        **{key: manifest[key] for key in ("id", "state", "started", "space", "decoder", "picture")},
        "version": version,
        "written": written_ms(manifest),
        "sampler": sampler,
        "steps": len(pictured),
        "index": newest and newest["index"],
        "total": sampler["steps"],
        "thumbnail": newest and newest["files"][0],
        "at": newest and newest["at"],
    }


def started_s(manifest: Mapping[str, Any]) -> float | None:
    """When the run began, in seconds since 1970; None if the manifest does not say."""
    try:
        return datetime.fromisoformat(manifest["started"]).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def written_ms(manifest: Mapping[str, Any]) -> int | None:
    """When the manifest was written, in milliseconds since 1970, by its own account; None if it does not say.

    The time of the file is not used: a copy of a folder has a later one.
    """
    began_s, seconds = started_s(manifest), manifest["seconds"]
    if began_s is None or seconds is None or not 0 <= seconds < MAX_RUN_S:
        return None
    return round((began_s + seconds) * 1000)
