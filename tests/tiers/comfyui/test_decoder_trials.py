"""Decoder files of any name on a real server: a run tries them on its finished latents, the next one uses them."""

import json
import time

import pytest
import torch
from safelight.decoders.files.shipped import open_shipped
from safelight.decoders.trial_records import TRIALS_FILE
from safetensors.torch import save_file

FORMAT, SPACE = "Flux", "flux1"
RIGHT, WRONG = "unknown.safetensors", "taef1_decoder.safetensors"
TINY = 1e-3  # SiLU is linear for small values: silu(x) is about x / 2
LIMIT_S = 60


def put_table(folder, name, order):
    """Writes ComfyUI's table as a file of another project, with its channels in another order."""
    net = open_shipped(f"{SPACE}-affine-comfyui").net
    state = {
        "in_proj.weight": net.weight[:, order, 0, 0].contiguous() * TINY,
        "in_proj.bias": torch.zeros(3),
        "out_proj.weight": torch.eye(3) * 4 / TINY,
        "out_proj.bias": net.bias * 2 - 1,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / name)


def run_of(server, wire):
    """The `run.json` of a run."""
    played = server.play(wire(FORMAT, preview={"decoder": "mlp"}))
    assert played.ends == ["execution_success"]
    run = played.named("safelight.step")[-1].data["run"]
    return server.get(f"/safelight/runs/{run}").json()


@pytest.fixture(scope="module")
def trials(own_server, wire):
    """A server that ran once with both files, and what it found."""
    folder = own_server.models / "vae_approx"
    put_table(folder, RIGHT, list(range(16)))
    put_table(folder, WRONG, torch.randperm(16, generator=torch.Generator().manual_seed(3)).tolist())
    (folder / "broken.safetensors").write_bytes(b"nothing")
    first, path = run_of(own_server, wire), own_server.models / "safelight" / TRIALS_FILE
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:  # the trial runs after the prompt has ended; a slow machine tries one file a run
        files = json.loads(path.read_text())["files"].values() if path.exists() else ()
        if {file["name"] for file in files} == {RIGHT, WRONG}:
            return first
        run_of(own_server, wire)
    pytest.fail(f"no trials after {LIMIT_S} s; the end of the log:\n{own_server.log[-3000:]}")


def test_a_file_that_cannot_be_used_is_noted_once(trials, own_server, wire):
    (note,) = [note for note in trials["notes"] if "is not used" in note]
    assert note.startswith("the decoder file broken.safetensors is not used. ")
    assert trials["decoder"]["name"] == WRONG  # by its name
    notes = run_of(own_server, wire)["notes"]
    assert not any("broken.safetensors" in note for note in notes)


def test_the_next_run_uses_the_file_that_agreed_and_says_why_the_other_is_not_used(trials, own_server, wire):
    run = run_of(own_server, wire)
    assert run["decoder"]["name"] == RIGHT
    assert f"{RIGHT} is used for FLUX.1: it agrees by 1.00" in own_server.log
    assert f"the decoder file {WRONG} is not used. tried on a picture of {SPACE}: it agrees by" in own_server.log
