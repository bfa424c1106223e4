"""A preview stays within the memory of a device that it may take."""

import pytest
import torch
from safelight.decoders.catalogue import Candidate, Catalogue
from safelight.decoders.decoder import Card
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.memory_estimate import estimate_memory
from safelight.decoders.nets.registry import KINDS
from safelight.preview.decode import run_decoder
from safelight.preview.decode.memory_budget import DEVICE_BYTES, decoding_bytes, queue_capacity, selected_bytes
from safelight.preview.decode.plan import CPU, plan_decode
from safelight.preview.decode.run_decoder import RunDecoder
from safelight.preview.snapshot import Selection
from safelight.preview.step import StepInfo

GPU = torch.device("cuda")  # a name: nothing is put there
SHAPE = (4, 4, 1, 128, 128)  # of four pictures of 1024 px


def shipped(name, space="sd1"):
    return next(c for c in Catalogue().of(SPACES[space]) if c.name == name)


def taesd():
    with torch.device("meta"):
        net = KINDS["tiny"](architecture="taesd", channels=4)
    settings = {"architecture": "taesd", "channels": 4}
    card = Card(name="taesd", space="sd1", kind="tiny", settings=settings, channels=4, scale=8, cost=net.cost)
    return Candidate(card, pytest.fail)


@pytest.fixture
def both():
    return [taesd(), shipped("sd1-conv-small")]


def test_what_fits_is_taken_and_as_much_at_once_as_fits(both):
    weights, work = estimate_memory(both[0].card, SHAPE)
    for pictures in (1, 2, 3):
        decided = plan_decode(both, SHAPE, GPU, weights + pictures * work)
        assert (decided.candidate.name, decided.device, decided.pictures) == ("taesd", GPU, pictures)
        assert decided.needs == weights + pictures * work
        assert decided.without is None


def test_what_does_not_fit_gives_way_to_a_light_one_on_the_same_device(both):
    weights, work = estimate_memory(both[0].card, SHAPE)
    decided = plan_decode(both, SHAPE, GPU, weights + work - 1)
    assert (decided.candidate.name, decided.device) == ("sd1-conv-small", GPU)
    assert decided.without is not None
    assert (decided.without[0].name, decided.without[1]) == ("taesd", weights + work)


def test_where_nothing_fits_the_cpu_takes_the_light_one(both):
    decided = plan_decode(both, SHAPE, GPU, 1000)
    assert (decided.candidate.name, decided.device, decided.pictures) == ("sd1-conv-small", CPU, 1)


def test_a_cpu_refuses_nothing_and_decodes_less_at_once(both):
    _, work = estimate_memory(both[0].card, SHAPE)
    assert [plan_decode(both, SHAPE, CPU, room).candidate.name for room in (1000, 1 << 40)] == ["taesd", "taesd"]
    assert plan_decode(both, SHAPE, CPU, 1000).pictures == 1
    assert plan_decode(both, SHAPE, CPU, 2 * work + 10**7).pictures == 2


def test_taesd_of_a_picture_of_1024_px_fits_as_it_comes(both):
    decided = plan_decode(both, SHAPE, GPU, decoding_bytes(DEVICE_BYTES))
    assert (decided.candidate.name, decided.pictures) == ("taesd", 1)


def test_the_user_is_told_once_what_would_take_too_much(both, monkeypatch):
    told = []
    developer = RunDecoder(SPACES["sd1"], lambda: both, told.append, device_bytes=lambda: 100 << 20)
    # A device that is not there, but for what it is told of it.
    monkeypatch.setattr(
        run_decoder,
        "plan_decode",
        lambda some, shape, _, room: plan_decode(some, shape, GPU, room)._replace(device=CPU),
    )
    for _ in range(3):
        picture = developer.decode(torch.zeros(1, 4, 1, 128, 128), StepInfo(index=1, total=1))
        assert picture.pixels.shape == (1, 1, 128, 128, 3)
    assert len(told) == 1
    assert "taesd needs 773 MB on cpu" in told[0]
    assert "more than the 87 MB that previews may use to decode: sd1-conv-small shows this run instead" in told[0]


def test_steps_that_wait_have_an_eighth_of_what_a_preview_may_take_of_a_device():
    assert queue_capacity(1 << 20, GPU, lambda: 128 << 20) == 16
    assert queue_capacity(1 << 20, GPU, lambda: 8 << 30) == 32
    assert queue_capacity(1 << 30, GPU, lambda: 0) == 2
    assert decoding_bytes(800) == 700


def test_what_waits_on_a_cpu_has_its_own_limit_and_no_setting_is_read():
    assert queue_capacity(64 << 20, CPU, pytest.fail) == 8
    assert queue_capacity(0, CPU, pytest.fail) == 32


def test_only_what_is_looked_at_waits():
    assert selected_bytes(Selection(), (8, 16, 21, 60, 104)) == 16 * 60 * 104 * 4


def test_the_room_is_asked_for_once_by_the_first_step(both):
    asked = []
    developer = RunDecoder(SPACES["sd1"], lambda: both[1:], device_bytes=lambda: asked.append(1) or DEVICE_BYTES)
    assert asked == []
    for _ in range(3):
        developer.decode(torch.zeros(1, 4, 1, 2, 2), StepInfo(index=1, total=1))
    assert asked == [1]


def test_a_plan_is_made_once_for_a_shape(both, monkeypatch):
    made = []
    monkeypatch.setattr(run_decoder, "plan_decode", lambda *given: made.append(given[1]) or plan_decode(*given))
    developer = RunDecoder(SPACES["sd1"], lambda: both[1:])
    for side in (2, 2, 3, 2, 3):
        developer.decode(torch.zeros(1, 4, 1, side, side), StepInfo(index=1, total=1))
    assert made == [(1, 4, 1, 2, 2), (1, 4, 1, 3, 3)]


def test_a_device_that_has_less_than_a_decode_takes_is_left_alone_for_some_steps(both, monkeypatch):
    told = []
    monkeypatch.setattr(run_decoder, "free_bytes", lambda device: 1000 if len(told) == 0 else 1 << 40)
    developer = RunDecoder(SPACES["sd1"], lambda: both, told.append)
    picture = developer.decode(torch.zeros(1, 4, 1, 2, 2), StepInfo(index=1, total=1))
    assert picture.decoder == "sd1-conv-small"
    assert len(told) == 1
    assert "no memory was left" in told[0]
