"""`run.json`: the record of a run that every host, sink and page reads."""

import json
import math
from pathlib import Path
from typing import Any

from ..decoders.files.regular_file import TooLargeError, read_regular_file
from ..errors import ManifestError, brief
from .run import Run, State

MANIFEST_NAME = "run.json"
RUN_FORMAT = "safelight.run/1"
MAX_MANIFEST_BYTES = 32 << 20  # a thousand steps of 64 pictures each take 3 MB
MAX_NESTING = 16  # of a manifest: whoever walks through it need not fear for the stack
MAX_DIGITS = 18  # of a whole number: what is more than 64 bits is no number for many

HOST = dict.fromkeys(("name", "version", "prompt_id", "workflow_id", "node", "sampler_node", "client"))
SAMPLER = dict.fromkeys(("steps", "sigmas", "seed", "cfg", "name", "scheduler"))


def compose(
    run: Run, state: State, seconds: float, steps: list[dict[str, Any]], products: dict[str, str]
) -> dict[str, Any]:
    """The manifest of a run, ready for JSON. `products` are `sheet`, `animation` and `page`, where they exist."""
    return {
        "format": RUN_FORMAT,
        "id": run.id,
        "state": state,
        "started": run.started.isoformat(timespec="milliseconds"),
        "seconds": round(seconds, 3),
        "host": HOST | speakable(dict(run.host)),
        "space": run.space,
        "decoder": run.decoder,
        "sampler": SAMPLER | speakable(dict(run.sampler)),
        "picture": run.picture,
        "steps": steps,
        "sheet": None,
        "animation": None,
        "page": None,
        **products,
        "notes": list(run.notes),
    }


def speakable(value: Any) -> Any:
    """The same with None for what is not a finite number: JSON has no word for it, and a browser would read nothing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: speakable(one) for key, one in value.items()}
    return [speakable(one) for one in value] if isinstance(value, list | tuple) else value


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in a run's folder; a plain file there, no link to one elsewhere.

    Raises:
        ManifestError: it is missing, broken, too large, or of a newer major version.
    """
    path = folder / MANIFEST_NAME
    try:
        content = read_regular_file(path, MAX_MANIFEST_BYTES, links=False)
        manifest = json.loads(content.decode(), parse_int=_whole)
    except TooLargeError:
        raise ManifestError(f"{path}: larger than {MAX_BYTES:,} bytes; not the record of a run") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}; expected the folder of a run") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: is not JSON: {brief(error)}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != RUN_FORMAT:
        raise ManifestError(
            f"{path}: expected format {FORMAT}, found {brief(found)}; a newer run needs a newer Safelight"
        )
    if not _is_shallow(manifest, MAX_NESTING):
        raise ManifestError(f"{path}: expected at most {MAX_NESTING} levels; not the record of a run")
    return manifest


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    return levels > 0 and all(
        _is_shallow(one, levels - 1) for one in (value.values() if isinstance(value, dict) else value)
    )
