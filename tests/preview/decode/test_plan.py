"""A preview stays within its memory budget of a device."""

import pytest
import torch
from safelight.decoders.catalogue import Candidate, Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.memory_estimate import estimate_memory
from safelight.decoders.nets.registry import KINDS
from safelight.decoders.nets.taesd import taesd
from safelight.preview.decode import run_decoder
from safelight.preview.decode.memory_budget import DEVICE_BYTES, decoding_bytes, queue_capacity, selected_bytes
from safelight.preview.decode.plan import CPU, plan_decode
from safelight.preview.decode.run_decoder import RunDecoder
from safelight.preview.snapshot import Selection
from safelight.preview.step import StepInfo

GPU = torch.device("cuda")  # only a name: no tensor is created there
SHAPE = (4, 4, 1, 128, 128)  # four pictures of 1024 px


def shipped(name, space="sd1"):
    return next(c for c in Catalogue().of(SPACES[space]) if c.name == name)


def taesd_candidate():
    with torch.device("meta"):
        net = KINDS["tiny"](taesd(4))
    settings = {"layers": taesd(4)}
    card = Card(name="taesd", space="sd1", kind="tiny", settings=settings, channels=4, scale=8, cost=net.cost)
    return Candidate(card, pytest.fail)


@pytest.fixture
def both():
    return [taesd_candidate(), shipped("sd1-conv-small")]


def test_a_decoder_that_fits_decodes_as_many_pictures_at_once_as_fit(both):
    weights, work = estimate_memory(both[0].card, SHAPE)
    for pictures in (1, 2, 3):
        plan = plan_decode(both, SHAPE, GPU, weights + pictures * work)
        assert (plan.candidate.name, plan.device, plan.pictures) == ("taesd", GPU, pictures)
        assert plan.needs == weights + pictures * work
        assert plan.too_large is None


def test_a_decoder_that_does_not_fit_is_replaced_by_a_light_one_on_the_same_device(both):
    weights, work = estimate_memory(both[0].card, SHAPE)
    plan = plan_decode(both, SHAPE, GPU, weights + work - 1)
    assert (plan.candidate.name, plan.device) == ("sd1-conv-small", GPU)
    assert plan.too_large is not None
    assert (plan.too_large[0].name, plan.too_large[1]) == ("taesd", weights + work)


def test_if_no_decoder_fits_the_light_one_decodes_on_the_cpu(both):
    plan = plan_decode(both, SHAPE, GPU, 1000)
    assert (plan.candidate.name, plan.device, plan.pictures) == ("sd1-conv-small", CPU, 1)


def test_a_cpu_refuses_no_decoder_but_decodes_fewer_pictures_at_once(both):
    _, work = estimate_memory(both[0].card, SHAPE)
    assert [plan_decode(both, SHAPE, CPU, budget).candidate.name for budget in (1000, 1 << 40)] == ["taesd", "taesd"]
    assert plan_decode(both, SHAPE, CPU, 1000).pictures == 1
    assert plan_decode(both, SHAPE, CPU, 2 * work + 10**7).pictures == 2


def test_taesd_fits_at_1024_px_with_the_default_budget(both):
    plan = plan_decode(both, SHAPE, GPU, decoding_bytes(DEVICE_BYTES))
    assert (plan.candidate.name, plan.pictures) == ("taesd", 1)


def test_one_note_names_a_decoder_that_is_too_large(both, monkeypatch):
    notes = []
    decoder = RunDecoder(SPACES["sd1"], lambda: both, notes.append, device_bytes=lambda: 100 << 20)
    # The plan is that of a GPU; the decode runs on the CPU.
    monkeypatch.setattr(
        run_decoder,
        "plan_decode",
        lambda candidates, shape, _, budget: plan_decode(candidates, shape, GPU, budget)._replace(device=CPU),
    )
    for _ in range(3):
        picture = decoder.decode(torch.zeros(1, 4, 1, 128, 128), StepInfo(index=1, total=1))
        assert picture.pixels.shape == (1, 1, 128, 128, 3)
    assert len(notes) == 1
    assert "taesd needs 773 MB on cpu" in notes[0]
    assert notes[0].startswith("sd1-conv-small shows this run: ")
    assert notes[0].endswith("more than the 87 MB that previews may use to decode")


def test_queued_steps_may_use_an_eighth_of_the_device_budget():
    assert queue_capacity(1 << 20, GPU, lambda: 128 << 20) == 16
    assert queue_capacity(1 << 20, GPU, lambda: 8 << 30) == 32
    assert queue_capacity(1 << 30, GPU, lambda: 0) == 2
    assert decoding_bytes(800) == 700


def test_queued_steps_on_a_cpu_have_a_fixed_limit():
    assert queue_capacity(64 << 20, CPU, pytest.fail) == 8
    assert queue_capacity(0, CPU, pytest.fail) == 32


def test_only_the_shown_part_counts_as_queued_bytes():
    assert selected_bytes(Selection(), (8, 16, 21, 60, 104)) == 16 * 60 * 104 * 4


def test_the_budget_is_read_once_at_the_first_step(both):
    calls = []
    decoder = RunDecoder(SPACES["sd1"], lambda: both[1:], device_bytes=lambda: calls.append(1) or DEVICE_BYTES)
    assert calls == []
    for _ in range(3):
        decoder.decode(torch.zeros(1, 4, 1, 2, 2), StepInfo(index=1, total=1))
    assert calls == [1]


def test_each_shape_is_planned_once(both, monkeypatch):
    planned = []
    monkeypatch.setattr(run_decoder, "plan_decode", lambda *args: planned.append(args[1]) or plan_decode(*args))
    decoder = RunDecoder(SPACES["sd1"], lambda: both[1:])
    for side in (2, 2, 3, 2, 3):
        decoder.decode(torch.zeros(1, 4, 1, side, side), StepInfo(index=1, total=1))
    assert planned == [(1, 4, 1, 2, 2), (1, 4, 1, 3, 3)]


def test_a_device_without_enough_free_memory_is_not_used_for_some_steps(both, monkeypatch):
    notes = []
    monkeypatch.setattr(run_decoder, "free_bytes", lambda device: 1000 if len(notes) == 0 else 1 << 40)
    decoder = RunDecoder(SPACES["sd1"], lambda: both, notes.append)
    picture = decoder.decode(torch.zeros(1, 4, 1, 2, 2), StepInfo(index=1, total=1))
    assert picture.decoder == "sd1-conv-small"
    assert len(notes) == 1
    assert "no memory was left" in notes[0]
