"""A person ends a sampler early and keeps a step, or lets it wait, on a real server."""

import json
import shutil

import pytest

from .conftest import FOLDER, KEY, serving

MODEL, PREVIEW, SAMPLER, DIGEST = "1", "2", "4", "5"
PICK, ESTIMATE = "pick", "estimate"
LONG = {"steps": 40, "step_ms": 100.0}
MODELS = {
    "eps": {"latent_format": "SD15"},
    "flow with a shift": {"latent_format": "Flux", "flow": True},
    "flow, video with means": {"latent_format": "Wan21", "flow": True, "frames": 3, "batch": 2},
}


def with_estimate(graph, step):
    """The same graph, also with the digest of the estimate of one step, converted by ComfyUI for the VAE."""
    graph = json.loads(json.dumps(graph))
    inputs = {"steps": [PREVIEW, 1], "after_sampling": [SAMPLER, 0], "step": step}
    graph[PICK] = {"class_type": "SafelightPickStep", "inputs": inputs}
    graph[ESTIMATE] = {"class_type": "LabDigest", "inputs": {"samples": [PICK, 1]}}
    return graph


def digest(played, node=DIGEST):
    assert played.ends == ["execution_success"], played.named("execution_error")
    return played.histories[0]["outputs"][node]["digest"][0]


@pytest.fixture
def asking(server, wire):
    """Plays a graph, and once step `at` is announced, asks its run for the given requests, in turn."""

    def play(graph, *requests, at=2, key=None):
        answers, manifests = [], []

        def on_event(event):
            if event.name == "safelight.step" and event.data["index"] >= at and not answers:
                for request in requests:
                    path = f"/safelight/runs/{event.data['run']}"
                    answers.append(server.post(f"{path}/control/{request}", {}, key or KEY))
                    manifests.append(server.get(path).json())

        played = server.play(graph, on_event=on_event)
        run = played.named("safelight.run")[0].data["run"]
        return played, server.get(f"/safelight/runs/{run}").json(), answers, manifests

    return play


@pytest.mark.parametrize("model", MODELS)
def test_the_kept_estimate_is_the_result_bit_for_bit(asking, server, wire, model):
    graph = wire(**MODELS[model], **LONG, preview={"keep_latents": True})
    played, manifest, [answer], _ = asking(graph, "stop")
    assert answer.status == 200
    kept = manifest["sampler"]["kept_step"]
    assert 2 <= kept == len(manifest["steps"]) < 40
    assert (manifest["state"], manifest["sampler"]["steps"], manifest["notes"]) == ("stopped", 40, [])
    again = server.play(with_estimate(graph, kept))
    assert digest(played) == digest(again) == digest(again, ESTIMATE)


def met_at(changes, below, steps):
    """The step at which a rule is met for these changes, by step."""
    moved_at = None
    for index, change in sorted(changes.items()):
        moved_at = index if change >= below else moved_at
        if moved_at is not None and index - moved_at >= steps:
            return index
    return None


def changes_of(manifest):
    return {step["index"]: step["change"] for step in manifest["steps"] if "change" in step}


def limit_of(changes):
    """A limit in percent, which at least one early step of a run moves the picture by."""
    return round(99 * max(change for index, change in changes.items() if index <= 30), 3)


@pytest.mark.parametrize("model", MODELS)
def test_the_users_rule_keeps_a_step_bit_for_bit(server, wire, model):
    def play(**preview):
        graph = wire(**MODELS[model], **LONG, seed=7, preview={"keep_latents": True, **preview})
        played = server.play(graph)
        run = played.named("safelight.run")[0].data["run"]
        return graph, played, server.get(f"/safelight/runs/{run}").json()

    changes = changes_of(play()[-1])
    below = limit_of(changes)
    rule = {"stop_below_percent": below, "stop_after_steps": 2}
    assert met_at(changes, below / 100, 2) < 37
    graph, played, manifest = play(**rule)
    kept = manifest["sampler"]["kept_step"]
    assert manifest["state"] == "stopped"
    assert met_at(changes_of(manifest), below / 100, 2) < kept == len(manifest["steps"]) < 40
    assert manifest["sampler"]["stop_rule"] == {"below_percent": below, "steps": 2, "step": kept}
    assert f"stopped by your rule at step {kept}: moved less than {below:g} % for 2 steps" in manifest["notes"]
    assert played.named("safelight.run")[-1].data["state"] == "stopped"
    again = server.play(with_estimate(graph, kept))
    assert digest(played) == digest(again) == digest(again, ESTIMATE)


def test_a_rule_that_is_not_met_changes_nothing(server, wire):
    graph = wire(preview={"stop_below_percent": 100.0})
    played = server.play(graph)
    manifest = server.get(f"/safelight/runs/{played.named('safelight.run')[0].data['run']}").json()
    assert (manifest["state"], [note for note in manifest["notes"] if "rule" in note]) == ("finished", [])
    assert manifest["sampler"]["stop_rule"] == {"below_percent": 100.0, "steps": 3}
    assert digest(played) == digest(server.play(wire.without_preview(graph)))


def test_the_rule_of_a_script_without_a_client_ends_its_run_too(server, wire):
    folder = "ruled"

    def play(number, **rule):
        preview = {"write_intermediates": True, "filename_prefix": folder, **rule}
        played = server.play(wire(**LONG, seed=8, preview=preview), key=None)
        assert played.ends == ["execution_success"]
        return json.loads((server.output / f"{folder}_{number:05d}" / "run.json").read_text())

    before = play(1)
    after = play(2, stop_below_percent=limit_of(changes_of(before)), stop_after_steps=2)
    assert (before["state"], after["state"]) == ("finished", "stopped")


def test_an_earlier_step_can_be_kept(asking, server, wire):
    graph = wire(**LONG, preview={"keep_latents": True})
    played, manifest, [answer], [before] = asking(graph, "stop?step=2", at=4)
    assert answer.status == 200
    assert 2 in before["control"]["kept"]
    assert (manifest["state"], manifest["sampler"]["kept_step"]) == ("stopped", 2)
    assert len(manifest["steps"]) >= 4
    again = server.play(with_estimate(graph, 2))
    assert digest(played) == digest(again) == digest(again, ESTIMATE)


def test_a_step_without_latents_is_refused_and_the_run_goes_on(asking, server, wire):
    graph = wire(steps=8, step_ms=60.0, preview={})
    played, manifest, [answer], _ = asking(graph, "stop?step=1", at=3)
    assert answer.status == 409
    assert "switch on keep_latents" in answer.json()["error"]
    assert (manifest["state"], len(manifest["steps"])) == ("finished", 8)
    assert digest(played) == digest(server.play(wire.without_preview(graph)))


def test_a_paused_run_waits_and_then_ends_as_without_a_pause(server, wire, asking):
    graph = wire(steps=12, step_ms=30.0, preview={})
    states = []

    def on_event(event):
        if event.name == "safelight.step" and event.data["index"] == 3:
            server.post(f"/safelight/runs/{event.data['run']}/control/pause", {}, KEY)
        if event.name == "safelight.run" and "paused" in event.data:
            states.append((event.data["paused"], server.get(f"/safelight/runs/{event.data['run']}").json()["control"]))
            if event.data["paused"]:
                server.post(f"/safelight/runs/{event.data['run']}/control/go_on", {}, KEY)

    played = server.play(graph, on_event=on_event)
    assert [(paused, control["paused"]) for paused, control in states] == [(True, True), (False, False)]
    texts = [event.data[8:].decode() for event in played.named("binary3")]
    assert [text.removeprefix(SAMPLER) for text in texts] == ["paused", "goes on"]
    assert digest(played) == digest(server.play(wire.without_preview(graph)))


def test_cancel_ends_a_paused_run(server, wire):
    def on_event(event):
        if event.name == "safelight.step" and event.data["index"] == 3:
            server.post(f"/safelight/runs/{event.data['run']}/control/pause", {}, KEY)
        if event.name == "safelight.run" and event.data.get("paused"):
            server.post("/interrupt", {})

    played = server.play(wire(**LONG, preview={}), on_event=on_event)
    assert played.ends == ["execution_interrupted"]
    assert played.named("safelight.run")[-1].data["state"] == "interrupted"


def test_stop_ends_a_paused_run(server, wire, asking):
    graph = wire(**LONG, preview={"keep_latents": True})
    played, manifest, answers, _ = asking(graph, "pause", "stop")
    assert [answer.status for answer in answers] == [200, 200]
    assert manifest["state"] == "stopped"
    assert digest(played) == digest(server.play(with_estimate(graph, manifest["sampler"]["kept_step"])), ESTIMATE)


@pytest.mark.parametrize(
    ("request_", "key", "status", "says"),
    [
        ("stop", "the key of somebody else", 404, "another browser queued it"),
        ("stop", "short", 403, "send a key"),
        ("explode", None, 400, "expected pause, go_on, stop"),
        ("pause?step=3", None, 400, "step: expected a number from 1, for stop"),
        ("stop?step=-1", None, 400, "step: expected a number from 1, for stop"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(asking, wire, request_, key, status, says):
    _, manifest, [answer], _ = asking(wire(steps=6, step_ms=60.0, preview={}), request_, key=key)
    assert (answer.status, manifest["state"]) == (status, "finished")
    assert says in answer.json()["error"]


def test_an_ended_run_is_not_controlled(server, wire):
    played = server.play(wire(preview={}))
    run = played.named("safelight.run")[0].data["run"]
    answer = server.post(f"/safelight/runs/{run}/control/stop", {}, KEY)
    assert (answer.status, answer.json()["error"]) == (409, "this run has ended")


def continued(graph, folder):
    """A graph that continues the run in a folder of the output folder with the model of another graph."""
    inputs = graph[SAMPLER]["inputs"]
    same = {key: inputs[key] for key in ("positive", "negative", "cfg", "sampler_name", "scheduler")}
    advanced = {"add_noise": "disable", "noise_seed": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    return {
        MODEL: graph[MODEL],
        "load": {
            "class_type": "SafelightLoadRun",
            "inputs": {"run": "none", "folder": folder, "step": 0, "max_images": 8},
        },
        PICK: {"class_type": "SafelightPickStep", "inputs": {"steps": ["load", 3], "step": 0, "model": [MODEL, 0]}},
        SAMPLER: {
            "class_type": "KSamplerAdvanced",
            "inputs": {
                **same,
                **advanced,
                "model": [PICK, 5],
                "latent_image": [PICK, 0],
                "start_at_step": [PICK, 3],
                "steps": [PICK, 4],
            },
        },
        DIGEST: {"class_type": "LabDigest", "inputs": {"samples": [SAMPLER, 0]}},
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sampler", ["euler", "heun", "ddim"])
def test_a_run_that_was_canceled_while_it_waited_is_continued_from_its_folder(server, wire, model, sampler):
    folder = f"resumed/{model} {sampler}".replace(",", "")
    preview = {"keep_latents": True, "write_intermediates": True, "filename_prefix": folder}
    graph = wire(**MODELS[model], steps=10, step_ms=30.0, sampler=sampler, preview=preview)

    def on_event(event):
        if event.name == "safelight.step" and event.data["index"] == 4:
            server.post(f"/safelight/runs/{event.data['run']}/control/pause", {}, KEY)
        if event.name == "safelight.run" and event.data.get("paused"):
            server.post("/interrupt", {})

    assert server.play(graph, on_event=on_event).ends == ["execution_interrupted"]
    whole = digest(server.play(wire.without_preview(graph)))
    assert digest(server.play(continued(graph, f"{folder}_00001"))) == whole


def test_a_killed_run_is_continued_after_a_restart(wire, tmp_path):
    preview = {"keep_latents": True, "write_intermediates": True, "filename_prefix": "killed"}
    graph = wire(steps=30, step_ms=150.0, preview=preview)
    with serving(tmp_path / "first", FOLDER) as first:

        def kill(event):
            if event.name == "safelight.step" and event.data["index"] == 15:  # run.json is written once a second
                first.process.kill()

        with pytest.raises(BaseException, match="closed the connection"):
            first.play(graph, on_event=kill)
    with serving(tmp_path / "second", FOLDER) as second:
        shutil.copytree(first.output, second.output, dirs_exist_ok=True)
        state = json.loads((second.output / "killed_00001" / "run.json").read_text())["state"]
        whole = digest(second.play(wire.without_preview(graph)))
        assert (state, digest(second.play(continued(graph, "killed_00001")))) == ("running", whole)


def test_continuing_from_disk_without_the_right_model_is_refused(server, wire):
    preview = {"keep_latents": True, "write_intermediates": True, "filename_prefix": "refused"}
    graph = wire(preview=preview)
    assert digest(server.play(graph))
    alone = continued(graph, "refused_00001")
    del alone[PICK]["inputs"]["model"]
    other = continued(wire(**MODELS["flow with a shift"], preview=preview), "refused_00001")
    for refused, says in ((alone, "connect the model that sampled it"), (other, "format SD15")):
        [error] = server.play(refused).named("execution_error")
        assert says in error.data["exception_message"]
