"""Pictures that somebody else makes of a step, in their own time, take the place of those developed here."""

import numpy as np
from safelight.decoders.decoder import Card
from safelight.preview.run import FULL, Run
from safelight.preview.vae_picture import DecodedPicture, PendingPicture, ready_picture


def made(value=7):
    pixels = np.full((1, 1, 16, 24, 3), value, np.uint8)
    return DecodedPicture(pixels, (24, 16), None, Card(name=FULL, space="sd1", kind=FULL, scale=8), 12.0)


def test_a_promised_picture_is_shown_in_its_turn(pipeline, recorder, step):
    sink, run, promise = recorder(), Run(), PendingPicture()
    with pipeline(sink, run=run) as pipe:
        assert pipe.offer(step(1, 3))
        assert pipe.offer(step(2, 3), promise)
        assert pipe.offer(step(3, 3))
        promise.set_result(made())
    assert sink.steps == [1, 2, 3]
    assert [picture.decoder == FULL for picture in sink.pictures] == [False, True, False]
    assert (sink.pictures[1].first == 7).all()
    assert run.decoder["name"] != FULL


def test_a_promise_kept_with_nothing_has_the_step_developed(pipeline, recorder, step):
    sink = recorder()
    with pipeline(sink) as pipe:
        pipe.offer(step(1, 1), ready_picture(None))
    assert [picture.decoder == FULL for picture in sink.pictures] == [False]


def test_the_sampler_does_not_wait_for_a_promise(pipeline, recorder, step):
    sink, promise = recorder(), PendingPicture()
    with pipeline(sink) as pipe:
        pipe.offer(step(1, 2), promise)
        assert not promise.done()
        pipe.offer(step(2, 2))
        promise.set_result(None)
    assert sink.steps == [1, 2]


def test_what_a_vae_made_all_of_is_the_vaes(pipeline, recorder, step):
    run = Run()
    with pipeline(recorder(), run=run) as pipe:
        pipe.offer(step(1, 1), ready_picture(made()))
    assert (run.decoder["name"], run.picture["width"]) == (FULL, 24)
