"""Choose and Continue on a real server: which items go on, for whom it waits, and that the wait ends."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from .conftest import KEY

MODEL, PREVIEW, SAMPLER, DIGEST = "1", "2", "4", "5"
CHOOSE, WORDS, REST = "choose", "words", "rest"
WORKFLOW = {"id": "the-workflow", "nodes": []}


def graph_of(wire, *, batch=4, preview=None, model=None, **options):
    """Three of eight steps of a batch, a choice, and the other five steps of the chosen items."""
    graph = wire(batch=batch, preview=preview or {}, **(model or {}))
    sampler = graph[SAMPLER]["inputs"]
    same = {key: sampler[key] for key in ("model", "positive", "negative", "cfg", "sampler_name", "scheduler")}
    same |= {"steps": 8, "noise_seed": sampler["seed"]}
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 3, "return_with_leftover_noise": "enable"}
    last = {"add_noise": "disable", "start_at_step": 3, "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    graph[SAMPLER] = {
        "class_type": "KSamplerAdvanced",
        "inputs": {**same, **first, "latent_image": [MODEL, 2]},
    }
    chosen = {
        "samples": [SAMPLER, 0],
        "steps": [PREVIEW, 1],
        "time_limit_s": 60,
        "without_answer": "all",
        "best_count": 1,
    }
    graph[CHOOSE] = {"class_type": "SafelightChoose", "inputs": {**chosen, **options}}
    graph[REST] = {"class_type": "KSamplerAdvanced", "inputs": {**same, **last, "latent_image": [CHOOSE, 0]}}
    graph[REST]["inputs"]["model"] = [MODEL, 0]
    graph[DIGEST] = {"class_type": "LabDigest", "inputs": {"samples": [REST, 0]}}
    graph[WORDS] = {"class_type": "PreviewAny", "inputs": {"source": [CHOOSE, 1]}}
    return graph


def picked(wire, graph, chosen):
    """The same without a choice: the items are picked by ComfyUI's own node, which takes items in a row."""
    graph = json.loads(json.dumps(graph))
    inputs = {"samples": [SAMPLER, 0], "batch_index": chosen, "length": 1}
    graph[CHOOSE] = {"class_type": "LatentFromBatch", "inputs": inputs}
    del graph[WORDS]
    return graph


def results(played):
    assert played.ends == ["execution_success"], played.named("execution_error")
    outputs = played.histories[0]["outputs"]
    digest = outputs[DIGEST]["digest"][0] if DIGEST in outputs else None
    return digest, outputs[WORDS]["text"][0] if WORDS in outputs else None


def difference(one, other):
    """The mean difference of two pictures in levels of 255."""
    first, second = (np.asarray(Image.open(io.BytesIO(content)), dtype=float) for content in (one, other))
    assert first.shape == second.shape
    return float(np.abs(first - second).mean())


@pytest.fixture
def choosing(server):
    """Plays a graph, and answers its choice. Also returns what the page sees of the choice."""

    def play(graph, *answers, key=KEY, workflow=WORKFLOW):
        seen = []

        def on_event(event):
            if event.name != "safelight.choice" or event.data["state"] != "open":
                return
            path = f"/safelight/choices/{event.data['choice']}"
            listed = server.get(
                f"/safelight/choices?workflow={event.data['workflow']}&node={event.data['node']}"
            ).json()
            pictures = [server.get(f"{path}/{item}.jpg").body for item in range(event.data["count"])]
            seen.append({"event": event.data, "listed": listed, "pictures": pictures, "answers": []})
            for answer in answers:
                seen[-1]["answers"].append(server.post(path, answer, key))
            if all(answer.status != 200 for answer in seen[-1]["answers"]):
                server.post("/interrupt", {})

        return server.play(graph, workflow=workflow, on_event=on_event), seen

    return play


@pytest.mark.parametrize("chosen", [0, 2])
def test_only_the_chosen_item_goes_on_bit_for_bit(choosing, server, wire, chosen):
    graph = graph_of(wire)
    played, [seen] = choosing(graph, {"chosen": [chosen]})
    digest, numbers = results(played)
    assert numbers == str(chosen + 1)
    assert digest == results(server.play(picked(wire, graph, chosen)))[0]
    assert seen["event"]["workflow"] == WORKFLOW["id"]
    assert [each["choice"] for each in seen["listed"]] == [seen["event"]["choice"]]


def test_the_pictures_are_those_of_the_last_step(choosing, server, wire):
    played, [seen] = choosing(graph_of(wire, preview={"max_side_px": 64}), {"chosen": [1, 3]})
    assert results(played)[1] == "2, 4"
    run = played.named("safelight.run")[0].data["run"]
    last = server.get(f"/safelight/runs/{run}").json()["steps"][-1]
    assert (last["index"], len(last["files"])) == (3, 4)
    files = [server.get(f"/safelight/runs/{run}/{file}").body for file in last["files"]]
    errors = [[difference(offered, shown) for shown in files] for offered in seen["pictures"]]
    for item, of_item in enumerate(errors):
        assert of_item[item] < min(6, min(of_item) + 0.5), errors  # two of the four have the same subject
        assert max(of_item) > 20, errors


def test_nothing_goes_on_if_nothing_is_chosen(choosing, wire):
    played, _ = choosing(graph_of(wire), {"chosen": []})
    assert results(played) == (None, "")


@pytest.mark.parametrize(
    ("options", "numbers"),
    [({"without_answer": "all"}, "1, 2, 3, 4"), ({"without_answer": "none"}, "")],
)
def test_after_the_limit_the_default_goes_on(server, wire, options, numbers):
    assert results(server.play(graph_of(wire, time_limit_s=1, **options)))[1] == numbers


def test_the_best_by_scores_go_on_after_the_limit(server, wire):
    graph = graph_of(wire, time_limit_s=1, without_answer="best", best_count=2, scores=["scores", 0])
    graph["scores"] = {"class_type": "LabScores", "inputs": {"text": "0.5, 3, -1, 2"}}
    assert results(server.play(graph))[1] == "2, 4"


def test_best_without_scores_is_refused_before_anybody_waits(server, wire):
    [error] = server.play(graph_of(wire, without_answer="best")).named("execution_error")
    assert "connect scores, a number for each item" in error.data["exception_message"]


def test_a_prompt_of_a_script_does_not_wait(server, wire):
    played = server.play(graph_of(wire, time_limit_s=3600), key=None)
    assert results(played)[1] == "1, 2, 3, 4"
    assert played.named("safelight.choice") == []


def test_cancel_ends_the_wait(server, wire):
    def on_event(event):
        if event.name == "safelight.choice" and event.data["state"] == "open":
            server.post("/interrupt", {})

    played = server.play(graph_of(wire), on_event=on_event)
    assert played.ends == ["execution_interrupted"]
    assert [event.data["state"] for event in played.named("safelight.choice")] == ["open", "closed"]


@pytest.mark.parametrize(
    ("answer", "key", "status"),
    [
        ({"chosen": [0]}, "the key of somebody else", 404),
        ({"chosen": [0]}, "short", 403),
        ({"chosen": [4]}, KEY, 400),
        ({"chosen": [-1]}, KEY, 400),
        ({"chosen": [True]}, KEY, 400),
        ({"chosen": "0"}, KEY, 400),
        ([0], KEY, 400),
    ],
)
def test_a_bad_answer_is_refused(choosing, wire, answer, key, status):
    played, [seen] = choosing(graph_of(wire), answer, key=key)
    assert [each.status for each in seen["answers"]] == [status]
    assert seen["answers"][0].json()["error"]
    assert played.ends == ["execution_interrupted"]
