"""`run.json`: the record of a run that every host, sink and page reads."""

import json
from pathlib import Path
from typing import Any

from ..decoders.errors import ManifestError
from .run import Run, State

NAME = "run.json"
FORMAT = "safelight.run/1"
MAX_BYTES = 64 << 20

HOST = dict.fromkeys(("name", "version", "prompt_id", "workflow_id", "node", "sampler_node", "client"))
SAMPLER = dict.fromkeys(("steps", "sigmas", "seed", "cfg", "name", "scheduler"))


def compose(
    run: Run, state: State, seconds: float, steps: list[dict[str, Any]], products: dict[str, str]
) -> dict[str, Any]:
    """The manifest of a run, ready for JSON. `products` are `sheet`, `animation` and `page`, where they exist."""
    return {
        "format": FORMAT,
        "id": run.id,
        "state": state,
        "started": run.started.isoformat(timespec="milliseconds"),
        "seconds": round(seconds, 3),
        "host": HOST | dict(run.host),
        "space": run.space,
        "decoder": run.decoder,
        "sampler": SAMPLER | dict(run.sampler),
        "picture": run.picture,
        "steps": steps,
        "sheet": None,
        "animation": None,
        "page": None,
        **products,
        "notes": list(run.notes),
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in a run's folder.

    Raises:
        ManifestError: it is missing, broken, too large, or of a newer major version.
    """
    path = folder / NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ManifestError(f"{path}: larger than {MAX_BYTES:,} bytes; not the record of a run")
        manifest = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}; expected the folder of a run") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: is not JSON: {error}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise ManifestError(f"{path}: expected format {FORMAT}, found {found!r}; a newer run needs a newer Safelight")
    return manifest
