"""Continues saved runs of InvokeAI's families on tiny random transformers: `python continued.py PACK PLACE`.

For each family it samples a whole run with the twin, and continues from each of its steps with the core node, whose
inputs are the outputs of Continue from Step. The script writes what it saw to `seen.json` in the workplace.
"""

import json
import shutil
import traceback
from typing import Any

import torch
from families import (
    Family,
    anima,
    ernie_image,
    flux,
    flux2,
    ideogram4,
    krea2,
    of_the_loops,
    qwen_image,
    sd3,
    wan,
    wan_video,
    z_image,
)
from loops import PLACE, InvocationRegistry, __version__, cogview4_model, output_of, run

STEPS = 5
STEP_INPUTS = ("steps", "num_steps")


def cogview4() -> Family:
    return of_the_loops("cogview4_denoise", *cogview4_model())


# Each family, and the inputs of its node that are not as usual.
CASES = (
    (flux, {}),
    (flux, {"scheduler": "heun"}),
    (flux, {"scheduler": "lcm"}),
    (flux2, {}),
    (sd3, {}),
    (sd3, {"denoising_end": 0.75}),
    (cogview4, {}),
    (z_image, {}),
    (z_image, {"scheduler": "heun"}),
    (z_image, {"scheduler": "lcm"}),
    (wan, {}),
    (wan, {"on_disk": "euler"}),
    (wan_video, {}),
    (anima, {}),
    (anima, {"scheduler": "heun"}),
    (anima, {"scheduler": "dpmpp_2m"}),
    (anima, {"scheduler": "lcm"}),
    (ernie_image, {}),
    (ernie_image, {"scheduler": "lcm"}),
    (ernie_image, {"scheduler": "heun"}),
    (qwen_image, {}),
    (krea2, {}),
    (ideogram4, {}),
)
EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


def without_zeros(found: Family) -> Family:
    """The family with weights where its model begins with zeros: without them it would predict nothing."""
    for weights in found.model.parameters():
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.05)
    return found


def whole(found: Family, prefix: str) -> tuple[torch.Tensor, str]:
    """The latents of a run whose steps are saved, and its folder."""
    saved = {"keep_latents": True, "filename_prefix": f"{prefix}/run"}
    latents, _ = run(f"safelight_{found.kind}", found.model, found.conditioning, found.config, **saved, **found.fields)
    return latents, f"{prefix}/run_00001"


def continued(found: Family, folder: str, step: int, kind: str, **more: Any) -> torch.Tensor:
    """The latents of a node that begins with a step. Its seed is another one: it must not matter."""
    tensors: dict[str, torch.Tensor] = {}
    begun, _ = output_of("safelight_continue", tensors, folder=folder, step=step)
    inputs = InvocationRegistry.get_invocation_for_type(kind).model_fields
    given = {name: getattr(begun, name) for name in ("latents", "denoising_start", "add_noise")}
    given |= {"noise": begun.noise} if begun.noise.latents_name else {}
    given |= dict.fromkeys(STEP_INPUTS, begun.steps) | {"seed": 99}
    fields = found.fields | {name: value for name, value in given.items() if name in inputs} | more
    output, _ = output_of(kind, tensors, found.model, found.conditioning, found.config, **fields)
    return tensors[output.latents.latents_name]


def distance(latents: torch.Tensor, expected: torch.Tensor) -> float:
    """0 if both are equal bit for bit; else the largest difference relative to the largest value, or more than 0."""
    if latents.dtype == expected.dtype and torch.equal(latents, expected):
        return 0.0
    return max(1e-30, float((latents.float() - expected.float()).abs().max() / expected.float().abs().max()))


def look(found: Family, prefix: str) -> dict[str, Any]:
    """How far each continued run is from the whole one, or why it is refused; by step."""
    expected, folder = whole(found, prefix)
    seen: dict[str, Any] = {"parts": {}, "errors": {}}
    manifest = json.loads((PLACE / "root" / "outputs" / folder / "run.json").read_text())
    seen["state"], seen["notes"] = manifest["state"], manifest["notes"]
    for step in [entry["index"] for entry in manifest["steps"]]:
        try:
            seen["parts"][step] = distance(continued(found, folder, step, found.kind), expected)
        except Exception as error:
            seen["errors"][step] = f"{type(error).__name__}: {error}"
    if seen["parts"]:
        last = max(seen["parts"])
        chained = {"keep_latents": True, "filename_prefix": f"{prefix}/chained"}
        continued(found, folder, last - 1, f"safelight_{found.kind}", **chained)
        latents = continued(found, f"{prefix}/chained_00001", 2, found.kind)
        seen["chained"] = distance(latents, expected)
        seen["other"] = distance(continued(found, folder, last, found.kind, denoising_start=0.5), expected)
    return seen


def flux_without_noise() -> str | None:
    """The error of FLUX's own node if `add_noise` is off; None if it has none."""
    found = flux()
    latents, _ = run(found.kind, found.model, found.conditioning, found.config, **found.fields)
    begin = {"latents": {"latents_name": "begin"}, "add_noise": False, "denoising_start": 0.5}
    arguments = (found.model, found.conditioning, found.config)
    try:
        output_of(found.kind, {"begin": latents}, *arguments, **found.fields, **begin)
    except Exception as error:
        return str(error)
    return None


def main() -> None:
    seen: dict[str, Any] = {}
    on_disk = PLACE / "nowhere" / "scheduler"
    for make, more in CASES:
        torch.manual_seed(0)
        name = " ".join([make.__name__, *map(str, more.values())])
        fields = dict(more)
        try:
            if fields.pop("on_disk", None):
                on_disk.mkdir(parents=True)
                (on_disk / "scheduler_config.json").write_text(json.dumps(EULER))
            found = without_zeros(make())
            steps = {name: STEPS for name in STEP_INPUTS if name in found.fields}
            seen[name] = look(found._replace(fields=found.fields | steps | fields), name.replace(" ", "_"))
        except Exception:
            seen[name] = {"error": traceback.format_exc()[-3000:]}
        finally:
            shutil.rmtree(on_disk, ignore_errors=True)
    facts = {"runs": seen, "version": __version__, "flux_without_noise": flux_without_noise()}
    (PLACE / "seen.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
