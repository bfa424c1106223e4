"""All runs of a process share the open decoders."""

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


class CountedDecoder:
    """A decoder file that counts how often it is opened."""

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
def counted(tmp_path, monkeypatch):
    # The inode has just changed; without this, the file would count as one that may still change.
    monkeypatch.setattr("safelight.decoders.files.read_cache.SETTLED_NS", 0)
    return CountedDecoder(tmp_path / "mine.safetensors")


def test_two_runs_share_one_decoder(counted):
    cache = DecoderCache()
    assert cache.take(counted.candidate(), CPU) is cache.take(counted.candidate(), CPU)
    assert counted.opened == 1


def test_two_runs_that_begin_together_open_the_file_once(counted):
    cache, taken = DecoderCache(), []
    threads = [threading.Thread(target=lambda: taken.append(cache.take(counted.candidate(), CPU))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counted.opened, len({id(decoder) for decoder in taken})) == (1, 1)


def test_a_replaced_file_is_opened_again(counted):
    cache = DecoderCache()
    first = cache.take(counted.candidate(), CPU)
    counted.write("another")
    assert cache.take(counted.candidate(), CPU) is not first


def test_a_file_that_may_still_change_is_never_shared(counted, monkeypatch):
    monkeypatch.setattr("safelight.decoders.files.read_cache.SETTLED_NS", 10**30)
    cache = DecoderCache()
    assert cache.take(counted.candidate(), CPU) is not cache.take(counted.candidate(), CPU)


def test_a_decoder_that_keeps_state_is_never_shared():
    principal = Catalogue().candidates(SPACES["sd1"], "principal")[0]
    cache = DecoderCache()
    assert cache.take(principal, CPU) is not cache.take(principal, CPU)


def test_the_least_recently_used_decoder_is_closed_first(counted, tmp_path):
    cache, other, third = DecoderCache(max_open=2), CountedDecoder(tmp_path / "b"), CountedDecoder(tmp_path / "c")
    for each in (counted, other, counted, third, counted, other):
        cache.take(each.candidate(), CPU)
    assert (counted.opened, other.opened, third.opened) == (1, 2, 1)


def test_each_device_has_its_own_copy_of_a_decoder(counted):
    cache = DecoderCache()
    on_cpu, on_meta = cache.take(counted.candidate(), CPU), cache.take(counted.candidate(), torch.device("meta"))
    assert {tensor.device.type for tensor in on_cpu.net.state_dict().values()} == {"cpu"}
    assert {tensor.device.type for tensor in on_meta.net.state_dict().values()} == {"meta"}
    cache.release(torch.device("meta"))
    assert cache.take(counted.candidate(), CPU) is on_cpu
    assert cache.take(counted.candidate(), torch.device("meta")) is not on_meta


def test_a_decoder_that_was_opened_in_inference_mode_works_outside_of_it(counted):
    cache = DecoderCache()
    with torch.inference_mode():
        decoder = cache.take(counted.candidate(), CPU)
    assert not any(tensor.is_inference() for tensor in decoder.net.state_dict().values())


def test_the_second_run_of_a_process_opens_no_file(counted):
    cache, latents = DecoderCache(), torch.zeros(1, 4, 1, 2, 3)
    for _ in range(3):
        decoder = RunDecoder(SPACES["sd1"], lambda: [counted.candidate()], cache=cache)
        decoder.decode(latents, StepInfo(index=1, total=1))
        decoder.decode(latents, StepInfo(index=1, total=1))
    assert counted.opened == 1
