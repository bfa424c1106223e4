"""The pipeline delivers every step that a file needs, and no error of a preview reaches the sampler."""

import logging
import threading
import weakref
from time import perf_counter

import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import describe
from safelight.preview.decode import run_decoder
from safelight.preview.mailbox import Mailbox
from safelight.preview.missing_steps import name_steps
from safelight.preview.pipeline import Pipeline, finite
from safelight.preview.run import Run
from safelight.preview.sinks.base import NoSink
from safelight.preview.step import Step
from safelight.preview.vae_picture import ready_picture, vae_picture


@pytest.fixture(autouse=True)
def no_thread_and_no_exception_is_left(monkeypatch):
    """Fails a test in which a worker raises, or that leaves a worker behind."""
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
    assert not set(threading.enumerate()) - before
    assert raised == []


def level(picture):
    """The gray level of a picture; by default it is the index of the step."""
    return int(picture.first[0, 0, 0])


# Delivery to the sinks


def test_a_step_is_decoded_once_for_all_sinks(pipeline, recorder, first_channels, step):
    net, sinks = first_channels(), [recorder(), recorder(), recorder(every_step=False)]
    with pipeline(*sinks, net=net) as pipe:
        for index in range(1, 6):
            assert pipe.offer(step(index, 5))
    assert net.calls == 5
    assert [sink.steps for sink in sinks[:2]] == [[1, 2, 3, 4, 5]] * 2
    assert sinks[0].pictures[2] is sinks[1].pictures[2]


@pytest.mark.parametrize(("value", "expected"), [(0.125, 0.125), (float("nan"), None), (float("inf"), None)])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_the_worker_reads_a_noise_level_that_is_a_tensor(pipeline, recorder, step, shape, value, expected):
    sink, sigma = recorder(), torch.full(shape, value)
    sink.gate.shut()
    with pipeline(sink) as pipe:
        for index in (1, 2):
            pipe.offer(step(index, 2, sigma=sigma))
        sigma.fill_(7.0)  # the sampler uses its memory again
    assert [picture.sigma for picture in sink.pictures] == [expected] * 2


def test_a_picture_carries_the_facts_of_its_step(pipeline, recorder, step, clock):
    sink, run = recorder(), Run(clock=clock)
    with pipeline(sink, run=run) as pipe:
        clock.now = 2.5
        pipe.offer(step(3, 7, sigma=0.125))
    (picture,) = sink.pictures
    assert (picture.index, picture.total, picture.sigma, picture.at_s) == (3, 7, 0.125, 2.5)
    assert (picture.show, picture.decoder, picture.shown) == ("denoised", "first-channels", (24, 16))
    assert picture.pixels.shape == (1, 1, 2, 3, 3)
    assert level(picture) == 3
    assert run.decoder == {"name": "first-channels", "kind": "test", "scale": 1, "source": "a test"}
    assert (run.picture["width"], run.picture["shown_height"], run.picture["items"]) == (3, 16, 1)


def test_noise_of_unknown_level_is_shown_with_the_spread_of_clean_latents(pipeline, recorder):
    sink = recorder()
    with pipeline(sink, show="noisy") as pipe:
        pipe.offer(Step(index=1, total=1, noisy=torch.full((1, 4, 2, 3), 10.0), noisy_gain=None))
        pipe.offer(Step(index=2, total=2, noisy=torch.full((1, 4, 2, 3), 0.2), noisy_gain=None))
    assert [level(picture) for picture in sink.pictures] == [255, 51]


def test_a_step_after_the_last_raises_the_number_of_steps(pipeline, recorder, step):
    sink = recorder()
    with pipeline(sink) as pipe:
        pipe.offer(step(5, 4))
    assert (sink.pictures[0].index, sink.pictures[0].total) == (5, 5)


def test_sinks_are_opened_and_closed_once_with_the_state_of_the_run(pipeline, recorder):
    sink = recorder()
    with pipeline(sink, state="interrupted"):
        pass
    assert (sink.opened, sink.states) == (1, ["interrupted"])


def test_files_are_closed_in_their_order_and_before_screens(pipeline, recorder):
    closed = []

    class Closing(recorder):
        def close(self, state):
            closed.append(self.name)

    with pipeline(Closing(name="screen", every_step=False), Closing(name="first"), Closing(name="second")):
        pass
    assert closed == ["first", "second", "screen"]


def test_each_file_sink_gets_the_steps_that_it_wants_and_a_screen_gets_every_picture(pipeline, recorder, step):
    all_steps, some, screen = recorder(), recorder(), recorder(every_step=False)
    with pipeline(all_steps, some, screen, every={all_steps: 2, some: 3, screen: 5}) as pipe:
        wanted = [index for index in range(1, 9) if pipe.offer(step(index, 8))]
    assert all_steps.steps == [1, 3, 5, 7, 8]
    assert some.steps == [1, 4, 7, 8]
    assert screen.steps[-1] == 8
    assert {*all_steps.steps, *some.steps} <= set(screen.steps) <= set(wanted)
    assert wanted == [1, 3, 4, 5, 6, 7, 8]


def test_a_step_that_no_sink_wants_is_not_copied(pipeline, recorder, step):
    selected, sink = [], recorder()

    def select(latents):
        selected.append(latents)
        return latents

    with pipeline(sink, every={sink: 4}, select=select) as pipe:
        assert [pipe.offer(step(index, 8)) for index in (1, 2, 3, 4)] == [True, False, False, False]
    assert len(selected) == 1


def test_a_picture_shows_the_values_that_the_tensor_had_when_it_was_offered(pipeline, recorder, first_channels, step):
    net, sink = first_channels(), recorder()
    net.gate.shut()
    with pipeline(sink, net=net) as pipe:
        latents = torch.full((1, 4, 2, 3), 10 / 255)
        pipe.offer(step(1, denoised=latents))
        net.gate.wait_until_reached()
        pipe.offer(step(2, denoised=latents))
        latents.fill_(1.0)
    assert level(sink.pictures[1]) == 10


def test_the_pipeline_keeps_no_reference_to_the_sampler_s_tensors(pipeline, recorder, first_channels):
    net, sink = first_channels(), recorder()
    net.gate.shut()
    with pipeline(sink, net=net) as pipe:
        denoised, noisy = torch.zeros(1, 4, 2, 3), torch.zeros(1, 4, 2, 3)
        gone = weakref.ref(denoised), weakref.ref(noisy)
        pipe.offer(Step(index=1, total=2, denoised=denoised, noisy=noisy))
        pipe.offer(Step(index=2, total=2, denoised=denoised, noisy=noisy))
        del denoised, noisy
        assert [ref() for ref in gone] == [None, None]


def test_noisy_latents_are_shown_with_their_gain(pipeline, recorder):
    sink = recorder()
    noisy = torch.full((1, 4, 2, 3), 200 / 255)
    with pipeline(sink, show="noisy") as pipe:
        pipe.offer(Step(index=1, total=1, denoised=torch.zeros(1, 4, 2, 3), noisy=noisy, noisy_gain=0.5))
    assert (level(sink.pictures[0]), sink.pictures[0].show) == (100, "noisy")


def test_without_denoised_latents_the_noisy_ones_are_shown_and_recorded_as_noisy(pipeline, recorder):
    sink, run = recorder(), Run(sampler={"name": "OddScheduler"})
    noisy = torch.full((1, 4, 2, 3), 200 / 255)
    with pipeline(sink, show="denoised", run=run) as pipe:
        for index in (1, 2):
            pipe.offer(Step(index=index, total=2, noisy=noisy, noisy_gain=0.5))
    assert (level(sink.pictures[0]), sink.pictures[0].show) == (100, "noisy")
    (note,) = run.notes
    assert note.startswith("noisy latents are shown: OddScheduler gives no estimate")


def test_a_step_without_latents_is_not_accepted(pipeline, recorder):
    sink, run = recorder(), Run()
    with pipeline(sink, run=run) as pipe:
        assert not pipe.offer(Step(index=1, total=1))
    assert (sink.pictures, run.notes) == ([], [])


def test_latents_of_inference_mode_are_shown(pipeline, recorder):
    sink = recorder()
    with pipeline(sink) as pipe, torch.inference_mode():
        pipe.offer(Step(index=1, total=1, denoised=torch.full((2, 4, 2, 3), 9 / 255)))
    assert level(sink.pictures[0]) == 9


def test_the_first_frame_of_a_video_is_shown(pipeline, recorder):
    sink = recorder()
    video = torch.arange(5).view(1, 1, 5, 1, 1).expand(2, 16, 5, 2, 3) / 255 + 20 / 255
    with pipeline(sink, space="wan21") as pipe:
        pipe.offer(Step(index=1, total=1, denoised=video))
    assert sink.pictures[0].pixels.shape == (1, 1, 2, 3, 3)
    assert level(sink.pictures[0]) == 20


def test_all_frames_of_a_video_are_shown_if_they_are_selected(pipeline, recorder):
    sink = recorder()
    video = (torch.arange(10) / 255).view(2, 1, 5, 1, 1).expand(2, 16, 5, 2, 3)
    with pipeline(sink, space="wan21", select=lambda latents: latents) as pipe:
        pipe.offer(Step(index=1, total=1, denoised=video))
    assert sink.pictures[0].pixels[:, :, 0, 0, 0].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


# Slow decoders and sinks


def test_screen_only_steps_are_replaced_by_newer_ones_and_the_last_is_shown(pipeline, recorder, first_channels, step):
    net, screen = first_channels(), recorder(every_step=False)
    net.gate.shut()
    with pipeline(screen, net=net) as pipe:
        pipe.offer(step(1, 20))
        net.gate.wait_until_reached()
        for index in range(2, 21):
            pipe.offer(step(index, 20))
    assert screen.steps == [1, 20]
    assert net.calls == 2


def test_the_newest_step_of_an_interrupted_run_is_shown(pipeline, recorder, first_channels, step):
    net, screen = first_channels(), recorder(every_step=False)
    net.gate.shut()
    with pipeline(screen, net=net, state="interrupted") as pipe:
        pipe.offer(step(1, 20))
        net.gate.wait_until_reached()
        pipe.offer(step(2, 20))
        pipe.offer(step(3, 20))
    assert screen.steps == [1, 3]


def test_a_slow_decoder_does_not_lose_or_reorder_steps_for_files(pipeline, recorder, first_channels, step):
    net, files, screen = first_channels(), recorder(), recorder(every_step=False)
    net.gate.shut()
    with pipeline(files, screen, net=net, every={files: 3}) as pipe:
        for index in range(1, 21):
            pipe.offer(step(index, 20))
        assert files.steps == []
    assert files.steps == [1, 4, 7, 10, 13, 16, 19, 20]
    assert screen.steps == sorted(screen.steps)
    assert set(files.steps) <= set(screen.steps)


def test_a_slow_disk_does_not_lose_or_reorder_steps_for_files(pipeline, recorder, step):
    files, run = recorder(), Run()
    files.gate.shut()
    with pipeline(files, run=run) as pipe:
        for index in range(1, 31):
            pipe.offer(step(index, 30))
        files.gate.wait_until_reached()
    assert files.steps == list(range(1, 31))
    assert run.notes == []


def test_queued_steps_of_an_interrupted_run_are_delivered(pipeline, recorder, first_channels, step):
    net, files = first_channels(), recorder()
    net.gate.shut()
    with pipeline(files, net=net, state="interrupted") as pipe:
        for index in range(1, 8):
            pipe.offer(step(index, 100))
    assert (files.steps, files.states) == ([1, 2, 3, 4, 5, 6, 7], ["interrupted"])


def test_steps_that_a_full_queue_refuses_are_noted_and_the_last_step_still_reaches_the_screen(
    pipeline, recorder, first_channels, step
):
    net, files, screen, run = first_channels(), recorder(), recorder(every_step=False), Run()
    net.gate.shut()
    mailbox = Mailbox(capacity=2, patience_s=0.0)
    with pipeline(files, screen, net=net, run=run, mailbox=mailbox) as pipe:
        pipe.offer(step(1, 9))
        net.gate.wait_until_reached()
        for index in range(2, 10):
            assert pipe.offer(step(index, 9))
    assert files.steps == [1, 2, 3]
    assert screen.steps == [1, 2, 3, 9]
    assert run.notes == ["steps 4-9 not saved: writing could not keep up with the sampler"]


def test_the_queue_stays_within_its_capacity_over_a_thousand_steps(pipeline, recorder, step, wait_s):
    mailbox = Mailbox(capacity=4, patience_s=wait_s, clock=lambda: 0.0)
    longest = []

    class Counting(recorder):
        def show(self, picture):
            longest.append(len(mailbox._waiting))
            self.seen.append(picture.index)

    files, screen = Counting(), Counting(every_step=False)
    with pipeline(files, screen, mailbox=mailbox) as pipe:
        for index in range(1, 1001):
            pipe.offer(step(index, 1000))
    assert files.seen == screen.seen == list(range(1, 1001))
    assert max(longest) <= 4


def test_after_the_time_limit_a_hanging_sink_is_named_in_a_note(recorder, first_channels, pipeline, step):
    files, run = recorder(name="files"), Run()
    files.gate.shut()
    with pipeline(files, run=run) as pipe:
        for index in range(1, 5):
            pipe.offer(step(index, 9))
        files.gate.wait_until_reached()
        pipe.close("finished", timeout_s=0.01)
        assert run.notes == [
            "files did not finish within 0.01 s after the run ended; step 1 may be missing; steps 2-4 not shown"
        ]
        assert files.abandoned_with == ["finished"], "the end of the run must be reported"
    assert files.steps == [1]
    assert files.states == ["finished"]


def test_after_the_time_limit_a_hanging_decoder_is_named_in_a_note(recorder, first_channels, pipeline, step):
    net, screen, run = first_channels(), recorder(every_step=False), Run()
    net.gate.shut()
    with pipeline(screen, net=net, run=run) as pipe:
        pipe.offer(step(1))
        net.gate.wait_until_reached()
        pipe.offer(step(2))
        pipe.close("finished", timeout_s=0.01)
        assert run.notes == ["decoding did not finish within 0.01 s after the run ended"]


# Failing decoders and sinks


def test_a_screen_that_fails_costs_one_note_and_nothing_else(pipeline, recorder, step):
    screen, files, run = recorder(every_step=False, name="screen", fails_at=(2, 3)), recorder(), Run()
    with pipeline(screen, files, run=run) as pipe:
        for index in range(1, 7):
            pipe.offer(step(index, 6))
    assert run.notes == ["screen failed: OSError: disk full at 2"]
    assert screen.seen == [1, 2], "it gets no more pictures"
    assert files.steps == [1, 2, 3, 4, 5, 6]


def test_a_file_sink_that_fails_has_a_final_note_with_its_missing_steps(pipeline, recorder, step):
    failing, other, run = recorder(name="files", fails_at=(2, 4, 5, 6)), recorder(), Run()
    with pipeline(failing, other, run=run) as pipe:
        for index in range(1, 8):
            pipe.offer(step(index, 7))
    # Each step has its own reason here; the note has the first.
    assert run.notes == ["files: nothing was saved of steps 2, 4-6: OSError: disk full at 2"]
    assert failing.steps == [1, 3, 7], "each step is tried: the disk may have room later"
    assert other.steps == [1, 2, 3, 4, 5, 6, 7]


def test_a_disk_that_is_full_for_a_thousand_steps_costs_only_a_few_notes(pipeline, recorder, step):
    failing, run = recorder(name="files", fails_at=range(2, 2000)), Run()
    with pipeline(failing, run=run) as pipe:
        for index in range(1, 1001):
            pipe.offer(step(index, 1000))
    assert run.notes == ["files: nothing was saved of steps 2-1000: OSError: disk full at 2"]


def test_a_sink_that_cannot_be_opened_gets_no_pictures_and_a_note(pipeline, recorder, step):
    shut, other, run = recorder(name="files", fails_to_open=True), recorder(), Run()
    with pipeline(shut, other, run=run) as pipe:
        pipe.offer(step(1, 1))
    assert run.notes == ["files could not be opened: PermissionError: no way in"]
    assert (shut.seen, shut.states) == ([], [])
    assert other.steps == [1]


def test_after_a_sink_that_cannot_be_closed_the_others_are_closed(pipeline, recorder):
    first, second, run = recorder(), recorder(name="sheet", fails_to_close=True), Run()
    with pipeline(first, second, run=run):
        pass
    assert run.notes == ["sheet could not be finished: OSError: no way out"]
    assert first.states == ["finished"]


def test_after_a_decoder_that_raises_the_next_one_is_used_and_one_note_is_added(
    pipeline, recorder, first_channels, candidate, step
):
    sink, run, good = recorder(), Run(), first_channels()
    candidates = [candidate(first_channels(fails_at=(2,)), "bad"), candidate(good, "good")]
    with pipeline(sink, candidates=candidates, run=run) as pipe:
        for index in range(1, 5):
            pipe.offer(step(index, 4))
    assert run.notes == ["step 2: stopped using decoder bad: RuntimeError: out of memory"]
    assert [picture.decoder for picture in sink.pictures] == ["bad", "good", "good", "good"]
    assert [level(picture) for picture in sink.pictures] == [1, 2, 3, 4]
    assert run.decoder["name"] == "good"


def test_after_a_decoder_that_cannot_be_opened_the_next_one_is_used(
    pipeline, recorder, first_channels, candidate, step
):
    sink, run = recorder(), Run()

    def no_file():
        raise FileNotFoundError("gone")

    broken = candidate(first_channels(), "broken")._replace(open=no_file)
    with pipeline(sink, candidates=[broken, candidate(first_channels(), "good")], run=run) as pipe:
        pipe.offer(step(1))
    assert run.notes == ["step 1: stopped using decoder broken: FileNotFoundError: gone"]
    assert sink.steps == [1]


def test_when_all_decoders_fail_the_run_goes_on_without_pictures(pipeline, recorder, first_channels, candidate, step):
    sink, run = recorder(), Run()
    candidates = [candidate(first_channels(fails_at="always"), name) for name in ("one", "two")]
    with pipeline(sink, candidates=candidates, run=run) as pipe:
        assert all(pipe.offer(step(index, 5)) for index in range(1, 6))
    assert run.notes == [
        "step 1: stopped using decoder one: RuntimeError: out of memory",
        "step 1: stopped using decoder two: RuntimeError: out of memory",
        "steps 1-5 not shown: no decoder is left for these latents",
    ]
    assert (sink.pictures, sink.states) == ([], ["finished"])


def test_if_the_search_for_decoders_fails_it_is_not_repeated_and_the_last_resort_is_used(pipeline, recorder, step):
    sink, run, searches = recorder(), Run(), []

    def candidates():
        searches.append(threading.current_thread().name)
        raise OSError("no folder")

    with pipeline(sink, candidates=candidates, run=run) as pipe:
        for index in range(1, 4):
            pipe.offer(step(index, 3))
    assert run.notes == [
        "step 1: stopped using the search for a decoder: OSError: no folder",
    ]
    assert [picture.decoder for picture in sink.pictures] == ["principal"] * 3
    assert len(searches) == 1
    assert searches[0].startswith("safelight-"), "the sampler's thread reads no files"


def test_an_error_before_the_search_for_decoders_ends_the_step(pipeline, recorder, step, monkeypatch):
    def fail(self, latents):
        raise RuntimeError("no memory")

    monkeypatch.setattr(run_decoder.RunDecoder, "_planned", fail)
    sink, run = recorder(), Run()
    with pipeline(sink, run=run) as pipe:
        pipe.offer(step(1, 1))
    assert run.ended.is_set()
    assert run.notes == [
        "step 1: stopped using the search for a decoder: RuntimeError: no memory",
        "step 1 not shown: no decoder is left for these latents",
    ]


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(1, 3, 2, 3),
        torch.zeros(0, 4, 2, 3),
        torch.zeros(()),
        torch.zeros(4),
        torch.zeros(1, 4, 2, 3).to_sparse(),
        torch.zeros(1, 4, 2, 3, device="meta"),
        "latents",
        [1, 2, 3],
    ],
    ids=["channels", "empty", "scalar", "vector", "sparse", "meta", "text", "list"],
)
def test_an_odd_tensor_costs_its_own_picture_only(pipeline, recorder, step, odd):
    sink, run = recorder(), Run()
    with pipeline(sink, run=run) as pipe:
        pipe.offer(step(1, 4))
        pipe.offer(step(2, 4, denoised=odd))
        pipe.offer(step(3, 4, denoised=odd))
        pipe.offer(step(4, 4))
    assert sink.states == ["finished"]
    assert any(note.startswith(("step 2", "steps 2-3")) for note in run.notes) or sink.steps == [1, 2, 3, 4]
    if not any("decoder" in note for note in run.notes):
        assert {1, 4} <= set(sink.steps)
        assert run.notes[-1].startswith("steps 2-3 not shown")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_latents_of_any_float_type_are_shown(pipeline, recorder, step, dtype):
    sink = recorder()
    with pipeline(sink) as pipe:
        pipe.offer(step(1, 1, denoised=torch.full((1, 4, 2, 3), 0.5, dtype=dtype)))
    assert level(sink.pictures[0]) == 128


@pytest.mark.parametrize("sigma", [float("nan"), float("inf"), None])
def test_a_sigma_that_is_not_finite_is_none(pipeline, recorder, step, sigma):
    sink = recorder()
    with pipeline(sink) as pipe:
        pipe.offer(step(1, 1, sigma=sigma))
    assert sink.pictures[0].sigma is None


def test_a_selection_that_raises_does_not_reach_the_sampler(pipeline, recorder, step):
    sink, run = recorder(), Run()

    def select(latents):
        raise IndexError("no such frame")

    with pipeline(sink, run=run, select=select) as pipe:
        assert pipe.offer(step(1, 2))
        assert pipe.offer(step(2, 2))
    assert run.notes == ["steps 1-2 not shown: IndexError: no such frame"]


# Opening and closing


def test_a_second_close_does_nothing(pipeline, recorder):
    sink = recorder()
    with pipeline(sink) as pipe:
        pipe.close("interrupted")
        pipe.close("failed")
    assert sink.states == ["interrupted"]


def test_a_step_after_the_end_is_not_accepted(pipeline, recorder, step):
    sink, run = recorder(), Run()
    with pipeline(sink, run=run) as pipe:
        pipe.offer(step(1, 9))
        pipe.close("finished")
        assert not pipe.offer(step(2, 9))
    assert (sink.steps, run.notes) == ([1], [])


def test_a_run_that_is_closed_before_its_first_step_needs_no_decoder(pipeline, recorder):
    def candidates():
        raise AssertionError("decoders were looked up")

    run = Run()
    with pipeline(recorder(), candidates=candidates, run=run):
        pass
    assert run.notes == []


def test_all_files_are_complete_when_close_returns(pipeline, recorder, step):
    sink = recorder()
    with pipeline(sink) as pipe:
        for index in range(1, 21):
            pipe.offer(step(index, 20))
        pipe.close("finished")
        assert sink.steps == list(range(1, 21))
        assert sink.states == ["finished"]


def test_the_end_of_a_run_does_not_wait_for_a_screen_that_still_gets_the_last_step(
    pipeline, recorder, first_channels, step, wait_s
):
    order, net, may_end = [], first_channels(), threading.Event()

    class Ordered(recorder):
        def show(self, picture):
            if (self.name, picture.index) == ("screen", 2):
                assert may_end.wait(wait_s)
            super().show(picture)
            order.append((self.name, picture.index))

        def close(self, state):
            super().close(state)
            order.append((self.name, "closed"))

    screen, files, run = Ordered(name="screen", every_step=False, awaited=False), Ordered(name="files"), Run()
    with pipeline(screen, files, net=net, run=run) as pipe:
        net.gate.shut()
        pipe.offer(step(1, 2))
        net.gate.wait_until_reached()
        pipe.offer(step(2, 2))
        pipe.end("finished")  # the worker knows that step 2 is the last before it takes it
        net.gate.open()
        pipe.close("finished", wait_s)
        assert (files.steps, files.states, screen.states) == ([1, 2], ["finished"], [])
        assert not run.ended.is_set()
        may_end.set()
        assert run.ended.wait(wait_s)
    assert (screen.steps, screen.states, run.notes) == ([1, 2], ["finished"], [])
    assert order[-4:] == [("files", 2), ("files", "closed"), ("screen", 2), ("screen", "closed")]


def test_with_only_a_screen_the_end_of_the_run_waits_until_decoding_is_done(
    pipeline, recorder, first_channels, step, wait_s
):
    net, may_end, run = first_channels(), threading.Event(), Run()

    class Late(recorder):
        def show(self, picture):
            assert picture.index == 1 or may_end.wait(wait_s)
            super().show(picture)

    screen = Late(every_step=False, awaited=False)
    with pipeline(screen, net=net, run=run) as pipe:
        net.gate.shut()
        pipe.offer(step(1, 2))
        net.gate.wait_until_reached()
        pipe.offer(step(2, 2))
        pipe.end("interrupted")  # the worker knows that step 2 is the last before it takes it
        net.gate.open()
        pipe.close("interrupted", wait_s)
        assert (net.calls, screen.steps, screen.states, run.notes) == (2, [1], [], [])
        may_end.set()
        assert run.ended.wait(wait_s)
    assert (screen.steps, screen.states, run.notes) == ([1, 2], ["interrupted"], [])


def test_the_end_of_the_run_is_reported_if_a_screen_that_is_not_awaited_hangs(pipeline, recorder, step, wait_s):
    screen, run = recorder(name="screen", every_step=False, awaited=False), Run()
    screen.gate.shut()
    with pipeline(screen, run=run) as pipe:
        pipe.offer(step(1, 1))
        pipe.close("finished", timeout_s=1.0)
        assert screen.abandoned.wait(wait_s), "the end of the run must be reported"
        assert run.ended.wait(wait_s)
        assert (screen.abandoned_with, run.notes) == (
            ["finished"],
            ["screen did not finish within 1 s after the run ended"],
        )


def test_a_run_that_ended_is_not_abandoned_later(pipeline, recorder, step, wait_s):
    before, screen, run = set(threading.enumerate()), recorder(every_step=False, awaited=False), Run()
    with pipeline(screen, run=run) as pipe:
        pipe.offer(step(1, 1))
        pipe.close("finished", wait_s * 1000)
        assert run.ended.wait(wait_s)
        for thread in set(threading.enumerate()) - before:
            thread.join(wait_s)
            assert not thread.is_alive(), "the timer must not outlive the run"
    assert (screen.steps, screen.abandoned_with, run.notes) == ([1], [], [])


def test_a_pipeline_without_sinks_accepts_no_step(pipeline, step):
    with pipeline() as pipe:
        assert not pipe.offer(step(1, 1))


def test_a_pipeline_whose_sink_shows_nothing_accepts_steps(pipeline, step):
    with pipeline(NoSink()) as pipe:
        assert pipe.offer(step(1, 1))


def test_the_worker_is_a_daemon_named_after_the_run(recorder, first_channels, candidate):
    run = Run()
    pipe = Pipeline(run, None, [])
    worker = next(thread for thread in threading.enumerate() if thread.name == f"safelight-{run.id[:8]}")
    assert worker.daemon
    pipe.close("finished")
    assert not worker.is_alive()


def test_after_an_error_in_the_worker_there_is_a_note_and_the_sinks_are_closed(pipeline, recorder, step, caplog):
    sink, run = recorder(), Run()
    run.describe = None
    with caplog.at_level(logging.CRITICAL), pipeline(sink, run=run) as pipe:
        pipe.offer(step(1, 1))
    assert run.notes == [
        "the rest of this run was not shown: TypeError: 'NoneType' object is not callable",
        "step 1 may be missing: the worker stopped at it",
    ]
    assert sink.states == ["finished"]


def test_a_worker_that_stopped_names_the_later_steps_and_reports_the_final_state(pipeline, recorder, step, caplog):
    files, screen, run = recorder(name="files"), recorder(every_step=False), Run()
    describe_picture = run.describe

    def fail_at_the_third(picture):
        describe_picture(picture)
        if picture.index == 3:
            raise SystemExit

    run.describe = fail_at_the_third
    with caplog.at_level(logging.CRITICAL), pipeline(files, screen, run=run, state="interrupted") as pipe:
        for index in range(1, 7):
            assert pipe.offer(step(index, 9))
    assert files.steps == [1, 2]
    assert files.states == screen.states == ["interrupted"]
    assert run.notes == [
        "the rest of this run was not shown: SystemExit:",
        "step 3 may be missing: the worker stopped at it",
        "steps 4-6 not shown: the worker had stopped",
    ]


# No side effects


def test_a_run_leaves_the_state_of_torch_alone(pipeline, recorder, step):
    device = ("cpu",) if hasattr(torch, "get_autocast_dtype") else ()  # torch 2.3 has a function for each device

    def state():
        return (
            torch.get_rng_state().tolist(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.get_num_interop_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_device(),
            torch.is_autocast_enabled(*device) if device else torch.is_autocast_cpu_enabled(),
        )

    from safelight.decoders.catalogue import Catalogue
    from safelight.decoders.latents.space_table import SPACES

    torch.manual_seed(20_201)
    torch.randn(3)
    before = state()
    for wanted in ("auto", "principal"):
        sink = recorder()
        with pipeline(sink, candidates=lambda wanted=wanted: Catalogue().candidates(SPACES["sd1"], wanted)) as pipe:
            for index in range(1, 4):
                pipe.offer(step(index, 3))
        assert sink.steps == [1, 2, 3]
    assert state() == before


def test_the_sampler_s_tensors_do_not_change(pipeline, recorder):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    before, version = latents.clone(), latents._version
    with pipeline(recorder(), show="noisy") as pipe:
        pipe.offer(Step(index=1, total=1, noisy=latents, noisy_gain=0.3))
    assert torch.equal(latents, before)
    assert latents._version == version


# Texts of notes


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([7], "step 7"),
        ([7, 7], "step 7"),
        ([3, 4, 5], "steps 3-5"),
        ([9, 3, 4, 5], "steps 3-5, 9"),
        ([1, 3, 5], "steps 1, 3, 5"),
        ([1, 2], "steps 1-2"),
    ],
)
def test_steps_are_named_in_spans(steps, expected):
    assert name_steps(steps) == expected


def test_an_error_is_described_in_one_short_line():
    assert describe(ValueError("one\ntwo")) == "ValueError: one"
    assert describe(ValueError()) == "ValueError:"
    assert len(describe(ValueError("x" * 5000))) == 300


def test_numbers_that_json_cannot_express_become_none():
    assert [finite(value) for value in (1, 0.5, float("nan"), float("-inf"), None)] == [1.0, 0.5, None, None, None]


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_on_a_gpu_offer_does_not_synchronize(pipeline, recorder, first_channels):
    net, sink = first_channels(), recorder()
    latents = torch.full((1, 4, 64, 64), 0.5, device="cuda")
    with pipeline(sink, net=net) as pipe:
        pipe.offer(Step(index=1, total=2, sigma=1.0, denoised=latents))  # the first step sets up streams and memory
        sink.gate.wait_until_reached()
        net.gate.shut()  # the worker's copy to the host may wait, but not while this test forbids it
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            assert pipe.offer(Step(index=2, total=2, sigma=0.5, denoised=latents))
            latents.zero_()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert sink.steps == [1, 2]
    assert level(sink.pictures[1]) == 128


# Trials of decoder files


class Trial:
    """A trial that records its calls and waits at its gate."""

    name = "trial"

    def __init__(self, gate, fails=False):
        self.gate, self.fails = gate, fails
        self.taken, self.noted, self.ran = [], 0, threading.Event()

    def note_unusable(self):
        self.noted += 1

    def take(self, latents, by_vae=None):
        self.taken.append((round(latents.flatten()[0].item() * 255), by_vae))

    def run(self):
        self.gate.pass_through()
        self.ran.set()
        if self.fails:
            raise RuntimeError("a fault")


def test_decoder_files_are_tried_on_the_last_step_after_the_run_and_nothing_waits_for_it(
    pipeline, recorder, step, first_channels
):
    run, trial = Run(), Trial(first_channels().gate)
    trial.gate.shut()
    with pipeline(recorder(), run=run, trial=trial) as pipe:
        for index in (1, 2, 3):
            pipe.offer(step(index, 3))
        pipe.close("finished", 20)
        assert run.ended.wait(20)
        assert not trial.ran.is_set()
    trial.gate.open()
    assert trial.ran.wait(20)
    assert (trial.taken, trial.noted) == ([(3, None)], 1)


@pytest.mark.parametrize("state", ["interrupted", "failed"])
def test_a_run_that_did_not_finish_tries_nothing(pipeline, recorder, step, first_channels, state):
    trial = Trial(first_channels().gate)
    with pipeline(recorder(), trial=trial, state=state) as pipe:
        pipe.offer(step(3, 3))
    for thread in threading.enumerate():
        if thread.name.startswith("safelight-"):
            thread.join(20)
    assert not trial.ran.is_set()


def test_noisy_latents_are_not_tried(pipeline, recorder, first_channels):
    trial = Trial(first_channels().gate)
    with pipeline(recorder(), show="noisy", trial=trial) as pipe:
        pipe.offer(Step(index=1, total=1, noisy=torch.full((1, 4, 2, 3), 0.2), noisy_gain=1.0))
    assert trial.taken == []


def test_a_fault_in_a_trial_is_no_note_of_the_run(pipeline, recorder, step, first_channels):
    run, trial = Run(), Trial(first_channels().gate, fails=True)
    with pipeline(recorder(), run=run, trial=trial) as pipe:
        pipe.offer(step(1, 1))
    assert trial.ran.wait(20)
    assert run.notes == []


# What the preview costs


def test_the_change_since_the_step_before_goes_on_with_each_picture(pipeline, recorder, step):
    sink = recorder()
    with pipeline(sink) as pipe:
        for index in (1, 2, 5):
            pipe.offer(step(index, 5))
    first, *later = (picture.change for picture in sink.pictures)
    assert first is None
    assert later == [pytest.approx(1 / 255), pytest.approx(3 / 255)]


def test_a_fault_of_the_measurement_costs_no_picture(pipeline, recorder, step, monkeypatch):
    monkeypatch.setattr("safelight.preview.change.MAX_PICTURES", 0)
    sink = recorder()
    with pipeline(sink) as pipe:
        pipe.offer(step(1, 2))
        pipe.offer(step(2, 2))
    assert [picture.change for picture in sink.pictures] == [None, None]


def test_the_cost_has_the_sampler_s_time_and_the_memory(pipeline, recorder, step, monkeypatch):
    run, now = Run(), [0.0]
    monkeypatch.setattr("safelight.preview.pipeline.perf_counter", lambda: now[0])
    monkeypatch.setattr("safelight.preview.cost.perf_counter", lambda: now[0] + 0.25)
    put = Mailbox.put

    def slow_put(mailbox, item):
        now[0] += 0.5
        return put(mailbox, item)

    monkeypatch.setattr(Mailbox, "put", slow_put)
    with pipeline(recorder(), run=run) as pipe:
        pipe.offer(step(1, 2, denoised=torch.zeros(1, 4, 256, 256)))
        pipe.offer(step(2, 2, denoised=torch.zeros(1, 4, 256, 256)))
    assert (run.cost["sampler_ms"], run.cost["end_ms"], run.cost["device"]) == (1000.0, 250.0, "cpu")
    assert run.cost["memory_mb"] >= 1.0  # the copy of the latents


def test_a_decode_by_the_vae_is_the_sampler_s_time(pipeline, recorder, step):
    run = Run()
    of_step = vae_picture(torch.rand(1, 3, 1, 16, 24), SPACES["sd1"], "a VAE", None, began=perf_counter() - 7)
    with pipeline(recorder(), run=run) as pipe:
        pipe.offer(step(1, 1), ready_picture(of_step))
    assert 7000 <= run.cost["sampler_ms"] < 9000
