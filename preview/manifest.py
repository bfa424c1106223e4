"""The record of a run, `run.json`: how it is composed, and the one set of rules by which all readers check it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from ..decoders.files.contained_file import read_below
from ..decoders.files.regular_file import TooLargeError
from ..errors import ManifestError, brief
from .decode.memory_budget import MB
from .file_names import is_file_name, picture_type
from .run import Run, State
from .strict_json import strict_json
from .untrusted_json import read_json

MANIFEST_NAME = "run.json"
RUN_FORMAT = "safelight.run/1"
MAX_MANIFEST_BYTES = 16 * MB  # a thousand steps with 64 pictures each take 3 MB
MAX_STEPS, MAX_READ_NOTES = 20_000, 200  # ComfyUI's samplers do at most 10,000 steps
MAX_VALUES = 1_000_000  # of a manifest
MAX_NESTING = 16  # levels of objects and lists: recursive code cannot overflow the stack

HOST_DEFAULTS = dict.fromkeys(("name", "version", "prompt_id", "workflow_id", "node", "sampler_node"))
SAMPLER_DEFAULTS = dict.fromkeys(("steps", "sigmas", "seed", "cfg", "name", "scheduler"))
PRODUCT_DEFAULTS = dict.fromkeys(("sheet", "animation", "page"))  # files of a whole run
PICTURE_LISTS = ("files", "noisy_files")  # keys of a step, the second only where both latents are shown
UNKNOWN_STATE: State = "failed"  # for a state that only a newer version knows, as in the viewer


def compose(
    run: Run, state: State, seconds: float, steps: list[dict[str, Any]], products: dict[str, str]
) -> dict[str, Any]:
    """The manifest of a run, ready for strict JSON. A fact that JSON cannot express is None, and the run has a note.

    Args:
        run: run to describe.
        state: current state of the run.
        seconds: duration of the run so far.
        steps: entries with the keys of `steps` in `run.json`, in order.
        products: names of the files `sheet`, `animation` and `page`, where they exist.
    """
    return {
        "format": RUN_FORMAT,
        "id": run.id,
        "state": state,
        "started": run.started.isoformat(timespec="milliseconds"),
        "seconds": round(seconds, 3),
        "host": HOST_DEFAULTS | _facts(run, "host"),
        "space": run.space,
        "decoder": run.decoder and _facts(run, "decoder"),
        "sampler": SAMPLER_DEFAULTS | _facts(run, "sampler"),
        "picture": run.picture and _facts(run, "picture"),
        "steps": steps,
        **PRODUCT_DEFAULTS,
        **products,
        **({} if run.truth is None else {"truth": _facts(run, "truth")}),
        **({} if run.cost is None else {"cost": _facts(run, "cost")}),
        "notes": list(run.notes),
    }


def picture_files(step: Mapping[str, Any]) -> list[str]:
    """The names of all pictures of a step, also of its noisy latents. The manifest was composed or validated."""
    return [name for key in PICTURE_LISTS for name in step.get(key, ())]


def _facts(run: Run, name: str) -> dict[str, Any]:
    return strict_json(dict(getattr(run, name)), run.note, name)


def read_manifest(folder: Path, root: Path | None = None) -> dict[str, Any]:
    """The validated manifest in a run's folder. The file may come from anywhere; it must be a regular file, no link.

    Args:
        folder: folder of the run.
        root: folder that `folder` is in. No folder between them may be a link, also one that was replaced meanwhile.
            None for `folder` itself, which may be reached over links.

    Raises:
        ManifestError: the file is missing, broken, too large or of a newer major version, has too many values, or
            breaks the rules of `validate_manifest`.
    """
    path = folder / MANIFEST_NAME
    try:
        content = read_below(root or folder, path.relative_to(root or folder), MAX_MANIFEST_BYTES)
        manifest = read_json(content, MAX_VALUES)
    except TooLargeError:
        raise ManifestError(f"{path}: larger than {MAX_MANIFEST_BYTES:,} bytes; not the record of a run") from None
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}; expected the folder of a run") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: is not JSON, or too large: {brief(error)}") from None
    try:
        return validate_manifest(manifest)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def validate_manifest(manifest: Any) -> dict[str, Any]:
    """Checks a manifest that was read from JSON.

    Returns:
        The manifest with the types that `compose` gives to each key. A wrong value that is only shown to people is
        replaced by None or an empty value. Steps are sorted by index; their `files` are names of pictures. Unknown
        keys stay. A manifest that `compose` made is returned as it is.

    Raises:
        ManifestError: the format is another one, there are too many levels, there is no state or no list of steps,
            a step has no index or no list of files, or a name could lead out of the folder.
    """
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != RUN_FORMAT:
        raise ManifestError(f"expected format {RUN_FORMAT}, found {brief(found)}; a newer run needs a newer Safelight")
    if not _is_shallow(manifest, MAX_NESTING):
        raise ManifestError(f"expected at most {MAX_NESTING} levels; not the record of a run")
    state, steps = manifest.get("state"), manifest.get("steps")
    if not isinstance(state, str):
        raise ManifestError(f"expected state as a text, found {brief(state)}")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ManifestError(f"expected steps as a list of objects, found {brief(steps)}")
    if len(steps) > MAX_STEPS:
        raise ManifestError(f"expected at most {MAX_STEPS:,} steps, found {len(steps):,}")
    manifest = PRODUCT_DEFAULTS | manifest
    sampler = SAMPLER_DEFAULTS | (_dict(manifest.get("sampler")) or {})
    notes = manifest.get("notes")
    return manifest | {
        "id": _text(manifest.get("id")) or "",
        "state": state if state in get_args(State) else UNKNOWN_STATE,
        "started": _text(manifest.get("started")),
        "seconds": _number(manifest.get("seconds")),
        "host": HOST_DEFAULTS | (_dict(manifest.get("host")) or {}),
        "space": _text(manifest.get("space")),
        "decoder": _dict(manifest.get("decoder")),
        "sampler": sampler | {"steps": sampler["steps"] if type(sampler["steps"]) is int else None},
        "picture": _dict(manifest.get("picture")),
        "steps": sorted(map(_validate_step, steps), key=lambda step: step["index"]),
        **{key: _picture(_optional_file(manifest.get(key))) for key in ("sheet", "animation")},
        **{key: _optional_file(manifest[key]) for key in ("page", "csv") if key in manifest},
        **({"truth": _validate_truth(manifest["truth"])} if "truth" in manifest else {}),
        **({"cost": _validate_cost(manifest["cost"])} if "cost" in manifest else {}),
        "notes": [note for note in notes if isinstance(note, str)][:MAX_READ_NOTES] if isinstance(notes, list) else [],
    }


def _validate_step(step: dict[str, Any]) -> dict[str, Any]:
    index, files = step.get("index"), step.get("files")
    if type(index) is not int or index < 0 or not isinstance(files, list):
        raise ManifestError(f"expected an index and files of each step, found {brief(index)} and {brief(files)}")
    noisy = step.get("noisy_files", [])
    if not isinstance(noisy, list):
        raise ManifestError(f"expected noisy_files as a list, found {brief(noisy)}")
    return step | {
        "index": index,
        "files": [name for name in map(_file_name, files) if _picture(name)],
        **({"noisy_files": [name for name in map(_file_name, noisy) if _picture(name)]} if noisy else {}),
        "latent": _optional_file(step.get("latent")),
        **{key: _number(step.get(key)) for key in ("sigma", "at", "decode_ms")},
        **({"change": _number(step["change"])} if "change" in step else {}),
    }


def _validate_truth(truth: Any) -> dict[str, Any] | None:
    """How true the pictures are; None if it is no object. What is wrong in it is left out."""
    if not isinstance(truth, dict):
        return None
    steps = truth.get("to_last_db")
    return truth | {
        "psnr_db": _number(truth.get("psnr_db")),
        "decoder": _text(truth.get("decoder")),
        "to_last_db": [
            [entry[0], entry[1]]
            for entry in (steps if isinstance(steps, list) else [])
            if isinstance(entry, list) and len(entry) == 2 and type(entry[0]) is int and _number(entry[1]) is not None
        ],
    }


def _validate_cost(cost: Any) -> dict[str, Any] | None:
    """What the preview costs; None if it is no object."""
    if not isinstance(cost, dict):
        return None
    numbers = {key: _number(cost.get(key)) for key in ("sampler_ms", "end_ms", "memory_mb")}
    return cost | numbers | {"device": _text(cost.get("device"))}


def _file_name(name: Any) -> str:
    """The name of a file in the folder. It is compared with other names; a path outside can never be made of it."""
    if not isinstance(name, str) or not is_file_name(name):
        raise ManifestError(f"{brief(name)} is not the name of a file in the folder")
    return name


def _optional_file(name: Any) -> str | None:
    return _file_name(name) if isinstance(name, str) else None


def _picture(name: str | None) -> str | None:
    return name if name is not None and picture_type(name) else None


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in items)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _dict(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
