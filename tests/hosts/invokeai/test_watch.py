"""Runs of InvokeAI's denoise nodes, in loops and contexts that look like InvokeAI's."""

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.errors import DecoderFileError, SinkError
from safelight.hosts.invokeai import sinks
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.quick_decode import quick_decode
from safelight.hosts.invokeai.watch import watched
from safelight.preview.manifest import read_manifest
from safelight.preview.sinks.latent_files import Room, read_latents

from .fake_host import LEVELS, CancelledError, State, euler, flux, velocity

SAVED = InvokeOptions(write_intermediates=True, filename_prefix="saved/run")


@pytest.mark.parametrize(
    "options", [InvokeOptions(), InvokeOptions(write_intermediates=True, sheet=True, animation="webp")]
)
def test_the_latents_are_those_of_the_core_node(host, node, noise, options):
    context = host()
    plain = euler(host(), noise)
    assert torch.equal(watched(lambda c: euler(c, noise), context, node, options), plain)


def test_the_progress_picture_shows_every_step_in_order_except_the_noise(host, node, noise):
    context = host()
    watched(lambda c: euler(c, noise), context, node, InvokeOptions(write_intermediates=True))
    assert context.util.own == []  # it would show noise
    assert context.util.signals[0] == ("Denoising", 0.0, None, None)
    shown = context.util.pictures
    assert [round(signal[1], 3) for signal in shown] == [round(i / 6, 3) for i in range(1, 7)]
    assert {signal[3] for signal in shown} == {(64, 48)}
    assert all(signal[2].mode == "RGB" for signal in shown)


def test_an_error_of_ours_after_the_node_costs_a_note_and_not_the_result(host, node, noise, tmp_path, monkeypatch):
    def fail(watch, steps):
        raise RuntimeError("no room")

    plain = euler(host(), noise)
    monkeypatch.setattr("safelight.hosts.invokeai.watch.WatchedNode._record_loop", fail)
    assert torch.equal(watched(lambda c: euler(c, noise), host(), node, SAVED), plain)
    manifest = read_manifest(tmp_path / "outputs" / "saved" / "run_00001")
    assert manifest["state"] == "finished"
    assert any("the last step is not shown" in note and "no room" in note for note in manifest["notes"])


@pytest.mark.parametrize("place", ["host_facts", "WatchedUtil", "run_prefix", "with_sheet"])
def test_an_error_of_ours_before_the_node_costs_only_previews(host, node, noise, monkeypatch, caplog, place):
    plain = euler(host(), noise)
    if place == "with_sheet":  # it has a guard of its own
        place = "leads_to_sheet"
    monkeypatch.setattr(f"safelight.hosts.invokeai.watch.{place}", lambda *_: 1 / 0)
    context = host()
    assert torch.equal(watched(lambda c: euler(c, noise), context, node, SAVED), plain)
    if place == "leads_to_sheet":
        assert context.util.own == []
    else:
        assert "this node runs without Safelight" in caplog.text
        assert len(context.util.own) == 7  # InvokeAI's own previews


def test_an_unreadable_graph_costs_only_previews(host, node, noise):
    context = host()
    session = SimpleNamespace(prepared_source_mapping=None, execution_graph=None, graph=None)
    context._data = SimpleNamespace(queue_item=SimpleNamespace(session=session, session_id="s", workflow=None))
    assert torch.equal(watched(lambda c: euler(c, noise), context, node, SAVED), euler(host(), noise))


def test_files_are_those_of_other_hosts(host, node, noise, tmp_path):
    options = InvokeOptions(
        write_intermediates=True, filename_prefix="a/b", every_n_steps=4, sheet=True, animation="webp"
    )
    watched(lambda c: euler(c, noise), host(), node, options)
    folder = tmp_path / "outputs" / "a" / "b_00001"
    manifest = read_manifest(folder)
    assert [step["index"] for step in manifest["steps"]] == [1, 5, 6]
    assert [step["show"] for step in manifest["steps"]] == ["denoised"] * 3
    assert [step["sigma"] for step in manifest["steps"]] == [1.0, 0.3, 0.1]
    assert (manifest["state"], manifest["space"], manifest["host"]["name"]) == ("finished", "sd3", "invokeai")
    assert manifest["sampler"] | {"seed": 3, "cfg": 4.0, "name": "euler"} == manifest["sampler"]
    files = {path.name for path in folder.iterdir()}
    steps = {"step_0001.png", "step_0005.png", "step_0006.png"}
    assert files == steps | {"run.json", "index.html", "sheet.png", "steps.webp"}


def test_files_are_of_both_latents_where_invokeai_reports_them(host, node, noise, tmp_path):
    options = InvokeOptions(write_intermediates=True, filename_prefix="a/b", show="both")
    watched(lambda c: euler(c, noise), host(), node, options)
    steps = read_manifest(tmp_path / "outputs/a/b_00001")["steps"]
    assert [step["noisy_files"] for step in steps[:5]] == [[f"step_000{index}_noisy.png"] for index in range(1, 6)]


def test_the_next_run_gets_its_own_folder(host, node, noise, tmp_path):
    for _ in range(2):
        watched(lambda c: euler(c, noise), host(), node, SAVED)
    assert sorted(path.name for path in (tmp_path / "outputs" / "saved").iterdir()) == ["run_00001", "run_00002"]


def test_flux_without_a_batch_is_shown(host, node, noise):
    context = host()
    watched(lambda c: flux(c, noise), context, node, InvokeOptions(write_intermediates=True))
    assert [signal[3] for signal in context.util.pictures] == [(64, 48)] * 6


def test_the_last_step_is_saved_if_the_node_takes_fewer_steps_than_it_reported(host, node, noise, tmp_path):
    def short(context):
        for step in (1, 2, 3):
            context.util.sd_step_callback(State(step, 2, 10, 0, noise, noise), "sd-3")

    watched(short, host(), node, InvokeOptions(write_intermediates=True, every_n_steps=2))
    manifest = read_manifest(tmp_path / "outputs" / "safelight" / "steps_00001")
    assert [step["index"] for step in manifest["steps"]] == [1, 3]


def test_after_cancel_the_hosts_own_callback_ends_the_node(host, node, noise, tmp_path):
    context = host()

    def invoke(watched_context):
        for i in range(1, 10):
            context.util.canceled = i == 4
            watched_context.util.sd_step_callback(State(i, 1, 9, 0, noise, noise), "sd-3")

    with pytest.raises(CancelledError):
        watched(invoke, context, node, SAVED)
    manifest = read_manifest(tmp_path / "outputs" / "saved" / "run_00001")
    assert manifest["state"] == "interrupted"
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3]


def test_an_error_of_the_core_node_is_raised_and_recorded(host, node, noise, tmp_path):
    def invoke(context):
        context.util.sd_step_callback(State(1, 1, 3, 0, noise, noise), "sd-3")
        raise ValueError("of the core node")

    with pytest.raises(ValueError, match="of the core node"):
        watched(invoke, host(), node, SAVED)
    manifest = read_manifest(tmp_path / "outputs" / "saved" / "run_00001")
    assert manifest["state"] == "failed"
    assert "the node failed: ValueError: of the core node" in manifest["notes"]


def test_latents_that_do_not_fit_the_model_get_the_hosts_own_preview(host, node):
    context = host()
    odd = torch.randn(1, 16, 2, 2, 2, 2)
    watched(
        lambda c: c.util.sd_step_callback(State(1, 1, 2, 0, odd, odd), "sd-3"),
        context,
        node,
        InvokeOptions(),
    )
    assert context.util.own == [(1, "sd-3")]
    assert context.util.pictures == []


def test_if_the_progress_picture_fails_the_host_shows_its_own(host, node, noise):
    context = host(fails=True)

    def invoke(watched_context):
        for i in range(1, 200):  # more than the queue holds, so the worker has failed by then
            watched_context.util.sd_step_callback(State(i, 1, 200, 0, noise, noise), "sd-3")
            if context.util.own:
                return "done"
        return "never"

    result = watched(invoke, context, node, InvokeOptions(write_intermediates=True))
    assert result == "done"


def test_other_methods_of_the_util_are_the_hosts(host, node):
    assert watched(lambda c: c.util.something_else(), host(), node, InvokeOptions()) == "the host's"


def test_the_hosts_context_is_not_changed(host, node):
    context = host()
    util = context.util
    watched(lambda c: None, context, node, InvokeOptions())
    assert context.util is util


@pytest.mark.parametrize("prefix", ["../out", "/elsewhere/x", "", "a/../../x", "."])
def test_a_prefix_outside_the_outputs_folder_is_refused_before_the_node_runs(host, node, prefix):
    options = InvokeOptions(write_intermediates=True, filename_prefix=prefix)
    with pytest.raises(SinkError, match="inside the output folder"):
        watched(lambda _: pytest.fail("it ran"), host(), node, options)


def test_a_prefix_inside_a_file_is_refused(host, node, tmp_path):
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "taken").write_text("")
    options = InvokeOptions(write_intermediates=True, filename_prefix="taken/x")
    with pytest.raises(SinkError, match="is a file"):
        watched(lambda _: pytest.fail("it ran"), host(), node, options)


def test_a_missing_decoder_is_noted_and_replaced(host, node, noise, tmp_path):
    options = InvokeOptions(write_intermediates=True, decoder="gone.safetensors")
    watched(lambda c: euler(c, noise), host(), node, options)
    manifest = read_manifest(tmp_path / "outputs" / "safelight" / "steps_00001")
    assert "gone.safetensors" in manifest["notes"][0]
    assert len(manifest["steps"]) == 6


def test_a_png_stores_the_graph_as_the_hosts_own_images_do(host, node, noise, tmp_path):
    context = host()
    graph = SimpleNamespace(model_dump_json=lambda: json.dumps({"nodes": {}}))
    item = SimpleNamespace(session_id="s-1", session=SimpleNamespace(graph=graph), workflow=None)
    context._data = SimpleNamespace(queue_item=item)
    watched(lambda c: euler(c, noise), context, node, SAVED)
    folder = tmp_path / "outputs" / "saved" / "run_00001"
    with Image.open(folder / "step_0003.png") as picture:
        assert json.loads(picture.text["invokeai_graph"]) == {"nodes": {}}
    assert read_manifest(folder)["host"]["prompt_id"] == "s-1"


# Options that every host has.


def run_of(tmp_path):
    folder = tmp_path / "outputs" / "safelight" / "steps_00001"
    return folder, read_manifest(folder)


def test_noisy_pictures_show_the_latents_at_the_start_of_each_step(host, node, noise, tmp_path):
    watched(lambda c: euler(c, noise), host(), node, InvokeOptions(write_intermediates=True, show="noisy"))
    folder, manifest = run_of(tmp_path)
    assert [step["show"] for step in manifest["steps"]] == ["noisy"] * 6
    quick = quick_decode(noise, tmp_path / "root", base="sd-3")
    with Image.open(folder / "step_0001.png") as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(quick))


def test_no_estimate_is_computed_where_only_noise_is_shown(host, node, noise, tmp_path, monkeypatch):
    monkeypatch.setattr("safelight.hosts.invokeai.x0.of_step", lambda *_: pytest.fail("x0 was computed"))
    watched(lambda c: euler(c, noise), host(), node, InvokeOptions(write_intermediates=True, show="noisy"))
    _, manifest = run_of(tmp_path)
    assert [step["show"] for step in manifest["steps"]] == ["noisy"] * 6
    assert manifest["sampler"]["sigmas"][:-1] == LEVELS[:-1]


def test_a_node_that_reports_x0_shows_the_noisy_latents_of_its_loop(host, node, noise, tmp_path):
    watched(lambda c: flux(c, noise), host(), node, InvokeOptions(write_intermediates=True, show="both"))
    _, manifest = run_of(tmp_path)
    assert manifest["notes"] == []
    assert [len(step["noisy_files"]) for step in manifest["steps"][1:]] == [1] * 5


def test_a_loop_whose_state_is_not_found_has_no_noisy_pictures_and_a_note(host, node, noise, tmp_path):
    def sample(context):
        for i in range(6):
            context.util.flux_step_callback(State(i + 1, 1, 6, 0, noise[0]))

    watched(sample, host(), node, InvokeOptions(write_intermediates=True, show="noisy"))
    _, manifest = run_of(tmp_path)
    assert [step["show"] for step in manifest["steps"]] == ["denoised"] * 6
    assert "reports no noisy latents" in manifest["notes"][0]


def test_latents_are_saved_bit_for_bit_without_pictures(host, node, noise, tmp_path):
    truth = []
    watched(lambda c: euler(c, noise, truth=truth), host(), node, InvokeOptions(keep_latents=True, every_n_steps=2))
    folder, manifest = run_of(tmp_path)
    names = [f"step_{i:04d}.safetensors" for i in (1, 3, 5, 6)]
    assert [step["latent"] for step in manifest["steps"]] == names
    assert {path.name for path in folder.iterdir()} == {"run.json", *names}
    saved = read_latents(folder / names[0], run=manifest["id"], index=1, space="sd3")
    assert torch.equal(saved.noisy, noise)
    torch.testing.assert_close(saved.denoised, truth[0])


def test_latents_of_a_node_that_reports_x0_are_saved_with_those_of_its_loop(host, node, noise, tmp_path):
    watched(lambda c: flux(c, noise), host(), node, InvokeOptions(keep_latents=True))
    folder, manifest = run_of(tmp_path)
    saved = read_latents(folder / "step_0001.safetensors", run=manifest["id"], index=1, space="flux1")
    assert torch.equal(saved.noisy, noise)
    assert torch.equal(saved.denoised, noise - velocity(noise, LEVELS[0]))


def test_a_full_disk_costs_the_latents_only(host, node, noise, tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "disk_room", lambda _: Room(0, "the disk"))
    options = InvokeOptions(keep_latents=True, write_intermediates=True)
    watched(lambda c: euler(c, noise), host(), node, options)
    folder, manifest = run_of(tmp_path)
    assert "no latents are saved: 6 steps of" in manifest["notes"][0]
    assert len(list(folder.glob("*.png"))) == 6
    assert list(folder.glob("*.safetensors")) == []


def test_an_animation_has_the_format_the_speed_and_the_steps_of_its_options(host, node, noise, tmp_path):
    options = InvokeOptions(
        animation="gif", animation_fps=10.0, animation_hold_s=0.5, animation_from_step=2, animation_to_step=4
    )
    watched(lambda c: euler(c, noise), host(), node, options)
    folder, _ = run_of(tmp_path)
    assert {path.name for path in folder.iterdir()} == {"run.json", "steps.gif"}
    with Image.open(folder / "steps.gif") as movie:
        assert movie.n_frames == 3
        durations = []
        for frame in range(3):
            movie.seek(frame)
            durations.append(movie.info["duration"])
    assert durations == [100, 100, 500]


def test_a_table_of_the_steps_is_written(host, node, noise, tmp_path):
    watched(lambda c: euler(c, noise), host(), node, InvokeOptions(write_intermediates=True, write_csv=True))
    folder, _ = run_of(tmp_path)
    lines = (folder / "steps.csv").read_text().splitlines()
    assert lines[0] == "index,sigma,seconds,decode_ms,file"
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("batch", "files", "shape"),
    [
        ("all files", ["step_0001_item_01.png", "step_0001_item_02.png"], (8, 6)),
        ("first", ["step_0001.png"], (8, 6)),
        ("grid", ["step_0001.png"], (17, 6)),
    ],
)
def test_pictures_of_a_batch_go_into_files_as_chosen(host, node, tmp_path, batch, files, shape):
    x = torch.randn((2, 16, 6, 8), generator=torch.Generator().manual_seed(1))
    options = InvokeOptions(write_intermediates=True, batch=batch, decoder="principal")
    watched(lambda c: euler(c, x), host(), node, options)
    folder, manifest = run_of(tmp_path)
    assert manifest["steps"][0]["files"] == files
    with Image.open(folder / files[0]) as picture:
        assert picture.size == shape


def test_pictures_are_at_least_the_interval_apart_and_the_progress_still_moves(host, node, noise, tmp_path):
    context = host()
    watched(lambda c: euler(c, noise), context, node, InvokeOptions(write_intermediates=True, min_interval_s=3600.0))
    _, manifest = run_of(tmp_path)
    assert [step["index"] for step in manifest["steps"]] == [1, 6]
    assert [round(signal[1] * 6) for signal in context.util.pictures] == [1, 6]
    assert {round(signal[1] * 6) for signal in context.util.signals} == set(range(7))


def test_an_interval_does_not_cost_the_last_step_of_a_node_that_ends_early(host, node, noise):
    context = host()

    def short(watched_context):
        for step in (1, 2, 3):
            watched_context.util.sd_step_callback(State(step, 2, 10, 0, noise, noise), "sd-3")
            assert context.util.shown.wait(20)  # the first picture is there

    watched(short, context, node, InvokeOptions(min_interval_s=3600.0))
    assert [round(signal[1], 3) for signal in context.util.pictures] == [0.1, 1.0]


def test_the_gallery_gets_every_nth_step_the_progress_picture_all(host, node, noise, monkeypatch):
    saved, context = [], host()
    monkeypatch.setattr(sinks, "save_image", lambda _, image, facts: saved.append((image.size, facts)))

    def invoke(watched_context):
        for step in range(1, 7):
            context.util.shown.clear()
            watched_context.util.sd_step_callback(State(step, 1, 6, 0, noise, noise), "sd-3")
            assert context.util.shown.wait(20)

    watched(invoke, context, node, InvokeOptions(to_gallery=True, every_n_steps=4))
    assert [size for size, _ in saved] == [(64, 48)] * 3  # that of the final image
    assert [facts["safelight_step"] for _, facts in saved] == [1, 5, 6]
    assert all(set(facts) == {"safelight_run", "safelight_step", "safelight_sigma"} for _, facts in saved)
    assert [round(signal[1] * 6) for signal in context.util.pictures] == [1, 2, 3, 4, 5, 6]


def test_mp4_without_pyav_is_refused_before_the_node_runs(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SinkError, match="choose webp or gif"):
        InvokeOptions(animation="mp4")


def test_the_user_learns_of_a_damaged_installation(host, node, noise, tmp_path, monkeypatch):
    damaged = DecoderFileError("decoder sd3-affine is damaged: install Safelight again")

    def cards(*, refused):
        refused(damaged)
        return []

    monkeypatch.setattr("safelight.decoders.catalogue.shipped_cards", cards)
    watched(lambda c: euler(c, noise), host(), node, InvokeOptions(write_intermediates=True))
    _, manifest = run_of(tmp_path)
    assert str(damaged) in manifest["notes"]
    assert len(manifest["steps"]) == 6
