"""Decoders are opened once in a process, whichever run asks."""

import os
import threading

import pytest
import torch
from safelight.decoders.catalogue import Candidate, Catalogue
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.preview.decode.decoder_cache import DecoderCache
from safelight.preview.decode.run_decoder import RunDecoder
from safelight.preview.step import StepInfo

CPU = torch.device("cpu")
LONG_AGO_NS = 10**18
CARD = Card(name="mine", space="sd1", kind="test")


class Shelf:
    """A decoder file, and how often it was opened."""

    def __init__(self, path):
        self.path, self.opened = path, 0
        self.write("one")

    def write(self, content, at_ns=LONG_AGO_NS):
        self.path.write_text(content)
        os.utime(self.path, ns=(at_ns, at_ns))

    def candidate(self):
        return Candidate(CARD, self.open, self.path)

    def open(self):
        self.opened += 1
        return Decoder(CARD, Catalogue().candidates(SPACES["sd1"])[0].open().net)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "safelight.decoders.files.read_cache.SETTLED_NS", 0
    )  # its inode was changed just now, and that tells, too
    return Shelf(tmp_path / "mine.safetensors")


def test_two_runs_share_one_decoder(shelf):
    opened = DecoderCache()
    assert opened.take(shelf.candidate(), CPU) is opened.take(shelf.candidate(), CPU)
    assert shelf.opened == 1


def test_two_runs_that_begin_together_open_it_once(shelf):
    opened, got = DecoderCache(), []
    threads = [threading.Thread(target=lambda: got.append(opened.take(shelf.candidate(), CPU))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (shelf.opened, len({id(decoder) for decoder in got})) == (1, 1)


def test_a_file_that_was_replaced_is_opened_anew(shelf):
    opened = DecoderCache()
    first = opened.take(shelf.candidate(), CPU)
    shelf.write("another")
    assert opened.take(shelf.candidate(), CPU) is not first


def test_a_file_that_may_still_change_is_never_shared(shelf, monkeypatch):
    monkeypatch.setattr("safelight.decoders.files.read_cache.SETTLED_NS", 10**30)
    opened = DecoderCache()
    assert opened.take(shelf.candidate(), CPU) is not opened.take(shelf.candidate(), CPU)


def test_what_remembers_what_it_was_shown_is_never_shared():
    principal = Catalogue().candidates(SPACES["sd1"], "principal")[0]
    opened = DecoderCache()
    assert opened.take(principal, CPU) is not opened.take(principal, CPU)


def test_what_was_taken_longest_ago_is_let_go_first(shelf, tmp_path):
    opened, other, third = DecoderCache(max_open=2), Shelf(tmp_path / "b"), Shelf(tmp_path / "c")
    for one in (shelf, other, shelf, third, shelf, other):
        opened.take(one.candidate(), CPU)
    assert (shelf.opened, other.opened, third.opened) == (1, 2, 1)


def test_on_each_device_there_is_one(shelf):
    opened = DecoderCache()
    here, there = opened.take(shelf.candidate(), CPU), opened.take(shelf.candidate(), torch.device("meta"))
    assert {tensor.device.type for tensor in here.net.state_dict().values()} == {"cpu"}
    assert {tensor.device.type for tensor in there.net.state_dict().values()} == {"meta"}
    opened.release(torch.device("meta"))
    assert opened.take(shelf.candidate(), CPU) is here
    assert opened.take(shelf.candidate(), torch.device("meta")) is not there


def test_what_one_run_opened_in_inference_mode_serves_another_outside_of_it(shelf):
    opened = DecoderCache()
    with torch.inference_mode():
        decoder = opened.take(shelf.candidate(), CPU)
    assert not any(tensor.is_inference() for tensor in decoder.net.state_dict().values())


def test_the_second_run_of_a_process_opens_no_file(shelf):
    opened, latents = DecoderCache(), torch.zeros(1, 4, 1, 2, 3)
    for _ in range(3):
        developer = RunDecoder(SPACES["sd1"], lambda: [shelf.candidate()], cache=opened)
        developer.decode(latents, StepInfo(index=1, total=1))
        developer.decode(latents, StepInfo(index=1, total=1))
    assert shelf.opened == 1
