"""How much the pictures of a run change from step to step."""

import numpy as np
import pytest
from safelight.decoders.decoder import Card
from safelight.preview.change import MAX_PICTURES, ChangeMeter
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import FULL
from safelight.preview.step import StepInfo


def shown(index, level, *, shape=(1, 1, 8, 12), kind="conv", name="tiny", scale=1, show="denoised", not_finite=0.0):
    """A gray picture, or the pixels `level`."""
    pixels = np.full((*shape, 3), level, np.uint8) if isinstance(level, int) else level
    card = Card(name=FULL if kind == FULL else name, space="sd1", kind=kind, scale=scale)
    info = StepInfo(index=index, total=20, show=show)
    return DecodedPicture(step=info, pixels=pixels, shown=(96, 64), card=card, decode_ms=1.0, not_finite=not_finite)


def measured(*pictures):
    meter = ChangeMeter()
    return [meter.measure(picture) for picture in pictures]


def test_the_change_is_the_rms_difference_to_the_picture_before():
    noise = np.random.default_rng(1).integers(0, 256, (2, 1, 1, 8, 12, 3), dtype=np.uint8)
    expected = np.sqrt(np.square((noise[0].astype(float) - noise[1]) / 255).mean())
    assert measured(shown(1, noise[0]), shown(3, noise[1])) == [None, pytest.approx(expected)]
    assert measured(shown(1, 0), shown(2, 255), shown(3, 255)) == [None, 1.0, 0.0]


def test_pictures_are_compared_at_latent_size():
    """What is finer than a latent pixel is invented by the decoder, and differs between decoders."""
    checks = np.indices((1, 1, 16, 16, 3)).sum(0) % 2 * 255
    fine, other = checks.astype(np.uint8), (255 - checks).astype(np.uint8)
    assert measured(shown(1, fine, scale=8), shown(2, other, scale=8)) == [None, pytest.approx(0, abs=0.005)]
    assert measured(shown(1, fine), shown(2, other)) == [None, 1.0]


@pytest.mark.parametrize("shape", [(4, 1, 8, 12), (1, 81, 8, 12), (3, 40, 8, 12)])
def test_all_of_a_batch_and_of_a_video_counts(shape):
    before = np.full((*shape, 3), 100, np.uint8)
    after = before.copy()
    after[-1, shape[1] // 2 :] += 51
    change = measured(shown(1, before), shown(2, after))[1]
    share = (after != before).mean()
    assert change == pytest.approx(0.2 * np.sqrt(share), rel=0.2)
    assert shape[0] * shape[1] < MAX_PICTURES or change > 0


def test_pictures_by_different_decoders_are_not_compared():
    assert measured(shown(1, 10), shown(2, 90, name="other"), shown(3, 90, name="other")) == [None, None, 0.0]
    assert measured(shown(1, 10, show="noisy"), shown(2, 90)) == [None, None]
    assert measured(shown(1, 10), shown(2, 90, shape=(1, 1, 4, 4))) == [None, None]


def test_a_picture_by_the_vae_among_others_is_passed_over():
    pictures = [shown(1, 0), shown(2, 255, kind=FULL), shown(3, 51), shown(4, 51, kind=FULL)]
    assert measured(*pictures) == [None, None, 0.2, None]


def test_pictures_by_the_vae_alone_are_compared():
    assert measured(shown(1, 0, kind=FULL), shown(2, 51, kind=FULL)) == [None, 0.2]


def test_broken_latents_are_passed_over():
    assert measured(shown(1, 0), shown(2, 255, not_finite=0.1), shown(3, 51)) == [None, None, 0.2]


def test_a_step_that_is_reported_twice_is_compared_with_the_step_before():
    assert measured(shown(1, 0), shown(2, 255), shown(2, 51), shown(3, 51)) == [None, 1.0, 0.2, 0.0]
