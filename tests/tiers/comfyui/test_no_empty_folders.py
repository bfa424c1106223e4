"""A prompt that samples nothing leaves no folder behind."""

import pytest

MODEL, PREVIEW, SAMPLER, DIGEST = "1", "2", "4", "5"


def folders(server, name):
    return sorted(str(path.relative_to(server.output)) for path in server.output.glob(f"{name}*/**"))


@pytest.mark.parametrize("prefix", ["none/steps", "none/%width%x%height%/%year%/steps"])
def test_a_sampler_without_steps_leaves_no_folder(server, wire, prefix):
    graph = wire(preview={"write_intermediates": True, "filename_prefix": prefix})
    graph[SAMPLER]["inputs"]["denoise"] = 0.0
    assert server.play(graph).ends == ["execution_success"]
    assert folders(server, "none") == []


def test_a_folder_that_was_there_before_stays(server, wire):
    (server.output / "before" / "empty").mkdir(parents=True)
    graph = wire(preview={"write_intermediates": True, "filename_prefix": "before/empty/new/steps"})
    graph[SAMPLER]["inputs"]["denoise"] = 0.0
    assert server.play(graph).ends == ["execution_success"]
    assert folders(server, "before") == ["before", "before/empty"]


def test_a_sampler_that_reports_no_step_leaves_no_folder_of_a_run(server, wire):
    graph = wire(preview={"write_intermediates": True, "write_csv": True, "filename_prefix": "silent/steps"})
    same = {key: graph[SAMPLER]["inputs"][key] for key in ("model", "positive", "negative", "cfg", "latent_image")}
    graph["silent"] = {"class_type": "LabSilentSampler", "inputs": {}}
    schedule = {"model": [MODEL, 0], "scheduler": "normal", "steps": 4, "denoise": 1.0}
    graph["sigmas"] = {"class_type": "BasicScheduler", "inputs": schedule}
    sampler = {"add_noise": True, "noise_seed": 7, "sampler": ["silent", 0], "sigmas": ["sigmas", 0]}
    graph[SAMPLER] = {"class_type": "SamplerCustom", "inputs": {**same, **sampler}}
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.named("execution_error")
    assert [event.data["state"] for event in played.named("safelight.run")][-1] == "finished"
    assert folders(server, "silent/steps_") == []
