"""The summary of a run in the list that a server sends to the viewer."""

import json
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any

MAX_RUN_S = 1e9  # a longer duration must be an error: the end is unknown
# A server has the summaries of thousands of runs in memory, and their manifests may come from anywhere.
MAX_FACT_CHARS, MAX_FACTS = 1000, 32


def run_summary(manifest: Mapping[str, Any], version: str | None = None) -> dict[str, Any]:
    """What a viewer needs of a run before it asks for the manifest. Facts that are too long are left out.

    Args:
        manifest: manifest of the run, validated or composed.
        version: a text that changes whenever the manifest changes; None if the server does not keep one.
    """
    pictured = [step for step in manifest["steps"] if step["files"]]
    newest = pictured[-1] if pictured else None
    sampler = {key: short(manifest["sampler"][key]) for key in ("steps", "seed", "cfg", "name", "scheduler")}
    return {
        **{key: short(manifest[key]) for key in ("id", "state", "started", "space")},
        **{key: short_facts(manifest[key]) for key in ("decoder", "picture")},
        "version": version,
        "written": written_ms(manifest),
        "sampler": sampler,
        "steps": len(pictured),
        "index": newest and newest["index"],
        "total": sampler["steps"],
        "thumbnail": newest and newest["files"][0],
        "at": newest and newest["at"],
    }


def short(fact: Any) -> Any:
    """A fact of a manifest; None if it is long."""
    return fact if len(json.dumps(fact)) <= MAX_FACT_CHARS else None


def short_facts(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The short ones of a manifest's facts, at most `MAX_FACTS`."""
    if facts is None:
        return None
    short = ((key, fact) for key, fact in facts.items() if len(json.dumps([key, fact])) <= MAX_FACT_CHARS)
    return dict(islice(short, MAX_FACTS))


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
