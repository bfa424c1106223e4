"""A run's latents become pixels, also if a device runs out of memory."""

import pytest
import torch
from safelight.decoders.catalogue import Candidate
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.base import Net
from safelight.decoders.ranking import LIGHT
from safelight.preview.decode import run_decoder
from safelight.preview.decode.not_finite import not_finite_mask
from safelight.preview.decode.run_decoder import REST_STEPS, RunDecoder
from safelight.preview.step import StepInfo

LATENTS = torch.zeros(1, 4, 1, 2, 3)


class Level(Net):
    """Shows one gray level; the calls whose number is in `fails_at` raise."""

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


def levels(decoder, count):
    return [int(decoder.decode(LATENTS, StepInfo(index=1, total=1)).pixels[0, 0, 0, 0, 0]) for _ in range(count)]


@pytest.fixture
def notes():
    return []


def test_after_out_of_memory_a_light_decoder_shows_some_steps_and_the_heavy_one_is_tried_again(notes):
    heavy, light = Level(1.0, fails_at=(2,)), Level(0.0)
    candidates = [candidate("heavy", heavy, LIGHT + 1), candidate("light", light, LIGHT)]
    decoder = RunDecoder(SPACES["sd1"], lambda: candidates, notes.append)
    assert levels(decoder, 1 + 1 + REST_STEPS + 2) == [255] + [0] * (1 + REST_STEPS) + [255, 255]
    assert (heavy.calls, light.calls) == (4, 1 + REST_STEPS)
    assert len(notes) == 1


def test_out_of_memory_in_the_search_for_nan_drops_no_decoder(notes, monkeypatch):
    searches = []

    def search(latents):
        searches.append(latents)
        if len(searches) == 1:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return not_finite_mask(latents)

    monkeypatch.setattr(run_decoder, "not_finite_mask", search)
    candidates = [candidate("heavy", Level(1.0), LIGHT + 1), candidate("light", Level(0.0), LIGHT)]
    decoder = RunDecoder(SPACES["sd1"], lambda: candidates, notes.append)
    assert levels(decoder, 1 + REST_STEPS + 1) == [0] * (1 + REST_STEPS) + [255]
    assert len(notes) == 1
    assert "no memory" in notes[0]


def test_latents_with_nan_are_marked(notes):
    latents = LATENTS.clone()
    latents[..., 0, 0] = float("nan")
    decoder = RunDecoder(SPACES["sd1"], lambda: [candidate("light", Level(0.0), 1)], notes.append)
    picture = decoder.decode(latents, StepInfo(index=1, total=1))
    assert picture.not_finite == pytest.approx(1 / 6)
    assert (picture.pixels[0, 0, 0, 0] != 0).any()
    assert (picture.pixels[0, 0, 1] == 0).all()


def test_repeated_out_of_memory_adds_only_one_note(notes):
    heavy = Level(1.0, fails_at=range(1000))
    candidates = [candidate("heavy", heavy, LIGHT + 1), candidate("light", Level(0.0), 1)]
    decoder = RunDecoder(SPACES["sd1"], lambda: candidates, notes.append)
    assert set(levels(decoder, 5 * REST_STEPS)) == {0}
    assert heavy.calls == 5
    assert len(notes) == 1
    assert "no memory" in notes[0]


def test_after_another_error_a_decoder_is_not_tried_again(notes):
    broken = candidate("broken", Level(1.0, fails_at=(1,), error="shapes differ"), LIGHT + 1)
    decoder = RunDecoder(SPACES["sd1"], lambda: [broken, candidate("light", Level(0.0), 1)], notes.append)
    with pytest.raises(RuntimeError, match="shapes differ"):
        decoder.decode(LATENTS, StepInfo(index=1, total=1))
    assert decoder.drop() == "decoder broken"
    assert levels(decoder, 1) == [0]
    assert notes == []


def test_if_the_only_light_decoder_runs_out_of_memory_no_decoder_is_left(notes):
    decoder = RunDecoder(SPACES["sd1"], lambda: [candidate("light", Level(0.0, fails_at=(1,)), 1)], notes.append)
    with pytest.raises(RuntimeError, match="out of memory"):
        decoder.decode(LATENTS, StepInfo(index=1, total=1))
    assert decoder.drop() == "decoder light"
    assert not decoder.has_decoder


def test_a_light_decoder_that_fails_is_dropped_and_not_the_heavy_one(notes):
    heavy, light = Level(1.0, fails_at=(1,)), Level(0.0, fails_at=(2,), error="broken")
    candidates = [candidate("heavy", heavy, LIGHT + 1), candidate("light", light, 1)]
    decoder = RunDecoder(SPACES["sd1"], lambda: candidates, notes.append)
    assert levels(decoder, 1) == [0]
    with pytest.raises(RuntimeError, match="broken"):
        decoder.decode(LATENTS, StepInfo(index=1, total=1))
    assert decoder.drop() == "decoder light"
    assert decoder.decode(LATENTS, StepInfo(index=1, total=1)).decoder == "heavy"


@pytest.mark.gpu
def test_if_the_gpu_is_full_the_cpu_decodes(notes):
    decoder = RunDecoder(SPACES["sd1"], lambda: [candidate("light", Level(0.5), 1)], notes.append)
    torch.cuda.set_per_process_memory_fraction(1e-9)
    try:
        pixels = decoder.decode(LATENTS.cuda(), StepInfo(index=1, total=1)).pixels
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (pixels == 128).all()


def test_during_the_search_for_decoders_has_decoder_is_true():
    answers = []

    def find():
        answers.append(decoder.has_decoder)
        return [candidate("gray", Level(0.5), 1)]

    decoder = RunDecoder(SPACES["sd1"], find)
    decoder.decode(LATENTS, StepInfo(index=1, total=1))
    assert (answers, decoder.has_decoder) == ([True], True)
