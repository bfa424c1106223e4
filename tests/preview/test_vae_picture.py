"""Pictures that a host's VAE decodes replace those that the worker would decode."""

import numpy as np
from safelight.decoders.decoder import Card
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import FULL, Run
from safelight.preview.vae_picture import PendingPicture, ready_picture


def vae_picture(value=7):
    pixels = np.full((1, 1, 16, 24, 3), value, np.uint8)
    card = Card(name=FULL, space="sd1", kind=FULL, scale=8)
    return lambda step: DecodedPicture(step=step, pixels=pixels, shown=(24, 16), card=card, decode_ms=12.0)


def test_a_pending_picture_is_shown_in_step_order(pipeline, recorder, step):
    sink, run, pending = recorder(), Run(), PendingPicture()
    with pipeline(sink, run=run) as pipe:
        assert pipe.offer(step(1, 3))
        assert pipe.offer(step(2, 3), pending)
        assert pipe.offer(step(3, 3))
        pending.set_result(vae_picture())
    assert sink.steps == [1, 2, 3]
    assert [picture.decoder == FULL for picture in sink.pictures] == [False, True, False]
    assert (sink.pictures[1].first == 7).all()
    assert run.decoder["name"] != FULL


def test_a_step_whose_pending_picture_is_none_is_decoded_by_the_worker(pipeline, recorder, step):
    sink = recorder()
    with pipeline(sink) as pipe:
        pipe.offer(step(1, 1), ready_picture(None))
    assert [picture.decoder == FULL for picture in sink.pictures] == [False]


def test_the_sampler_does_not_wait_for_a_pending_picture(pipeline, recorder, step):
    sink, pending = recorder(), PendingPicture()
    with pipeline(sink) as pipe:
        pipe.offer(step(1, 2), pending)
        assert not pending.done()
        pipe.offer(step(2, 2))
        pending.set_result(None)
    assert sink.steps == [1, 2]


def test_a_run_with_vae_pictures_only_names_the_vae_as_decoder(pipeline, recorder, step):
    run = Run()
    with pipeline(recorder(), run=run) as pipe:
        pipe.offer(step(1, 1), ready_picture(vae_picture()))
    assert (run.decoder["name"], run.picture["width"]) == (FULL, 24)
