"""Every latent format of ComfyUI, sampled on a real server: a visible picture is shown, the result is the same."""

import json

import numpy as np
import pytest
from PIL import Image

STEPS = 4
UNKNOWN = {"NeverSeen": "principal", "TableOnly": "comfyui-table"}  # formats of the lab, and their decoders
NEVER_SAMPLED = {"Trellis2SLAT", "Trellis2ShapeSLAT", "Trellis2TexSLAT"}  # only Trellis2's own nodes sample them
WITH_SOUND = {"MiniMaxH3AV": 5, "LTXAV": 5}  # number of audio frames
VISIBLE = 8.0  # standard deviation of 255 of a picture that shows something


def what_is_wrong(server, wire, name):
    """Describes what is wrong with a run in latents of the format `name`."""
    flow = name not in ("SD15", "SDXL")
    preview = {"write_intermediates": True, "filename_prefix": f"formats/{name}/steps"}
    graph = wire(name, flow=flow, frames=3, sound=WITH_SOUND.get(name, 0), steps=STEPS, preview=preview)
    bare = server.play(wire.without_preview(graph))
    if bare.ends != ["execution_success"]:
        return [f"{name}: the host does not sample it: {bare.named('execution_error')[0].data['exception_message']}"]
    watched = server.play(graph)
    folder = server.output / "formats" / name / "steps_00001"
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    kept = [folder / step["files"][0] for step in manifest["steps"]]
    pictures = [np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in kept]
    checks = {
        "other latents than without the node": watched.digest == bare.digest,
        f"{len(kept)} pictures": len(kept) == STEPS,
        f"notes {manifest['notes']}": manifest["notes"] == [],
        f"space {manifest['space']}": (manifest["space"] == "unknown") is (name in UNKNOWN),
        f"shown by {manifest['decoder']}": UNKNOWN.get(name, "") in manifest["decoder"]["name"],
        "the manifest names no decoder": bool(manifest["decoder"]["name"]),
        f"a picture with nothing to see: {pictures[-1].std():.1f}": pictures[-1].std() > VISIBLE,
        "steps that look alike": not np.array_equal(pictures[0], pictures[-1]),
    }
    return [f"{name} ({manifest['decoder']['name']}): {words}" for words, good in checks.items() if not good]


@pytest.mark.timeout(400)  # about forty formats, twice each
def test_each_format_is_shown_and_the_result_is_bit_identical(server, wire):
    names = server.inputs_of("LabModel")["latent_format"][0]
    assert {"SD15", "Flux2", "Wan21", "ACEAudio", *UNKNOWN} <= set(names) or server.version.startswith("0.3.")
    wrong = []
    for name in sorted(set(names) - NEVER_SAMPLED):
        wrong += what_is_wrong(server, wire, name)
    assert not wrong, "\n".join(wrong)
