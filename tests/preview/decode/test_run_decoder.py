"""Latents become pixels, also where a device has no memory left for them."""

import pytest
import torch
from safelight.decoders.catalogue import Candidate
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.base import Net
from safelight.decoders.ranking import LIGHT
from safelight.preview.decode.run_decoder import REST_STEPS, RunDecoder
from safelight.preview.step import StepInfo

LATENTS = torch.zeros(1, 4, 1, 2, 3)


class Level(Net):
    """A grey picture; fails in the calls it is told to."""

    def __init__(self, level, fails_at=(), error="out of memory"):
        super().__init__()
        self.calls, self._level, self._fails_at, self._error = 0, level, fails_at, error

    def forward(self, latents):
        self.calls += 1
        if self.calls in self._fails_at:
            raise RuntimeError(self._error)
        return torch.full((len(latents), 3, *latents.shape[2:]), self._level)


def candidate(name, net, cost):
    card = Card(name=name, space="sd1", kind="test", cost=cost)
    return Candidate(card, lambda: Decoder(card, net))


def levels(developer, count):
    return [int(developer.decode(LATENTS, StepInfo(index=1, total=1)).pixels[0, 0, 0, 0, 0]) for _ in range(count)]


@pytest.fixture
def told():
    return []


def test_when_memory_runs_out_a_light_decoder_takes_over_for_some_steps_and_the_heavy_one_tries_again(told):
    heavy, light = Level(1.0, fails_at=(2,)), Level(0.0)
    candidates = [candidate("heavy", heavy, LIGHT + 1), candidate("light", light, LIGHT)]
    developer = RunDecoder(SPACES["sd1"], lambda: candidates, told.append)
    assert levels(developer, 1 + 1 + REST_STEPS + 2) == [255] + [0] * (1 + REST_STEPS) + [255, 255]
    assert (heavy.calls, light.calls) == (4, 1 + REST_STEPS)
    assert len(told) == 1


def test_it_is_told_once_however_often_it_happens(told):
    heavy = Level(1.0, fails_at=range(1000))
    candidates = [candidate("heavy", heavy, LIGHT + 1), candidate("light", Level(0.0), 1)]
    developer = RunDecoder(SPACES["sd1"], lambda: candidates, told.append)
    assert set(levels(developer, 5 * REST_STEPS)) == {0}
    assert heavy.calls == 5
    assert len(told) == 1
    assert "no memory" in told[0]


def test_a_decoder_that_fails_for_another_reason_is_not_tried_again(told):
    broken = candidate("broken", Level(1.0, fails_at=(1,), error="shapes differ"), LIGHT + 1)
    developer = RunDecoder(SPACES["sd1"], lambda: [broken, candidate("light", Level(0.0), 1)], told.append)
    with pytest.raises(RuntimeError, match="shapes differ"):
        developer.decode(LATENTS, StepInfo(index=1, total=1))
    assert developer.drop() == "decoder broken"
    assert levels(developer, 1) == [0]
    assert told == []


def test_where_even_the_lightest_has_no_memory_it_is_given_up(told):
    developer = RunDecoder(SPACES["sd1"], lambda: [candidate("light", Level(0.0, fails_at=(1,)), 1)], told.append)
    with pytest.raises(RuntimeError, match="out of memory"):
        developer.decode(LATENTS, StepInfo(index=1, total=1))
    assert developer.drop() == "decoder light"
    assert not developer.has_decoder


def test_what_is_given_up_while_the_heavy_one_rests_is_the_light_one(told):
    heavy, light = Level(1.0, fails_at=(1,)), Level(0.0, fails_at=(2,), error="broken")
    candidates = [candidate("heavy", heavy, LIGHT + 1), candidate("light", light, 1)]
    developer = RunDecoder(SPACES["sd1"], lambda: candidates, told.append)
    assert levels(developer, 1) == [0]
    with pytest.raises(RuntimeError, match="broken"):
        developer.decode(LATENTS, StepInfo(index=1, total=1))
    assert developer.drop() == "decoder light"
    assert developer.decode(LATENTS, StepInfo(index=1, total=1)).decoder == "heavy"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_that_is_full_the_cpu_takes_over(told):
    developer = RunDecoder(SPACES["sd1"], lambda: [candidate("light", Level(0.5), 1)], told.append)
    torch.cuda.set_per_process_memory_fraction(1e-9)
    try:
        pixels = developer.decode(LATENTS.cuda(), StepInfo(index=1, total=1)).pixels
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (pixels == 128).all()


def test_while_decoders_are_looked_up_there_may_be_one():
    there = []

    def ask():
        there.append(developer.has_decoder)
        return [candidate("grey", Level(0.5), 1)]

    developer = RunDecoder(SPACES["sd1"], ask)
    developer.decode(LATENTS, StepInfo(index=1, total=1))
    assert (there, developer.has_decoder) == ([True], True)
