"""The mailbox between the sampler's thread and the worker, tested with real threads that never sleep."""

import itertools
import random
import threading
from typing import NamedTuple

import pytest
from safelight.preview.mailbox import FIRST_IDLE_S, Mailbox


class Item(NamedTuple):
    text: object
    keep: bool = False


def texts(items):
    return [item.text for item in items]


def delivered(mailbox):
    """The texts that are delivered after closing, in order."""
    mailbox.close()
    return texts(iter(mailbox.get, None))


class Threads:
    """Runs each function in its own thread; `join` fails if one of them hangs or raised."""

    def __init__(self, wait_s):
        self._wait_s, self._threads, self._errors = wait_s, [], []

    def start(self, action):
        def run():
            try:
                action()
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def join(self):
        for thread in self._threads:
            thread.join(self._wait_s)
            assert not thread.is_alive(), "a thread hangs"
        assert not self._errors, self._errors


@pytest.fixture
def threads(wait_s):
    return Threads(wait_s)


def test_only_the_newest_replaceable_item_waits():
    mailbox = Mailbox()
    for number in range(5):
        assert mailbox.put(Item(number))
    assert delivered(mailbox) == [4]


def test_items_to_keep_arrive_in_order():
    mailbox = Mailbox()
    for number in range(5):
        assert mailbox.put(Item(number, keep=True))
    assert delivered(mailbox) == [0, 1, 2, 3, 4]


def test_an_item_to_keep_replaces_a_replaceable_item_that_waits():
    mailbox = Mailbox()
    for item in (Item(1, keep=True), Item(2), Item(3), Item(4, keep=True), Item(5)):
        assert mailbox.put(item)
    assert delivered(mailbox) == [1, 4, 5]


def test_a_closed_mailbox_accepts_nothing_and_delivers_what_waits():
    mailbox = Mailbox()
    mailbox.put(Item(1, keep=True))
    mailbox.put(Item(2))
    mailbox.close()
    assert not mailbox.put(Item(3))
    assert not mailbox.put(Item(4, keep=True))
    assert delivered(mailbox) == [1, 2]
    assert mailbox.get() is None


def test_a_full_mailbox_without_patience_refuses_items_and_keeps_the_others():
    mailbox = Mailbox(capacity=2, patience_s=0.0)
    assert mailbox.put(Item(1, keep=True))
    assert mailbox.put(Item(2, keep=True))
    assert mailbox.put(Item(3))
    assert not mailbox.put(Item(4, keep=True))
    assert delivered(mailbox) == [1, 2, 3]


def test_a_replaceable_item_takes_no_room_from_items_to_keep():
    mailbox = Mailbox(capacity=1, patience_s=0.0)
    assert mailbox.put(Item(1))
    assert mailbox.put(Item(2, keep=True))
    assert delivered(mailbox) == [2]


def test_the_sender_of_a_replaceable_item_never_waits():
    mailbox = Mailbox(capacity=1, patience_s=1e9)
    mailbox.put(Item(1, keep=True))
    for number in range(2, 50):
        assert mailbox.put(Item(number))
    assert delivered(mailbox) == [1, 49]


def test_the_sender_waits_until_a_full_mailbox_has_room(threads, wait_s):
    waiting = threading.Event()

    def clock():
        waiting.set()  # the mailbox reads the clock when a sender begins to wait
        return 0.0

    mailbox = Mailbox(capacity=1, patience_s=wait_s, clock=clock)
    waiting.clear()
    mailbox.put(Item(1, keep=True))
    assert not waiting.is_set()
    answers = []
    threads.start(lambda: answers.append(mailbox.put(Item(2, keep=True))))
    assert waiting.wait(wait_s)
    assert answers == []
    assert mailbox.get().text == 1
    threads.join()
    assert answers == [True]
    assert delivered(mailbox) == [2]


def test_closing_ends_the_wait_of_a_sender(threads, wait_s):
    waiting = threading.Event()

    def clock():
        waiting.set()
        return 0.0

    mailbox = Mailbox(capacity=1, patience_s=wait_s, clock=clock)
    waiting.clear()
    mailbox.put(Item(1, keep=True))
    answers = []
    threads.start(lambda: answers.append(mailbox.put(Item(2, keep=True))))
    assert waiting.wait(wait_s)
    mailbox.close()
    threads.join()
    assert answers == [False]
    assert delivered(mailbox) == [1]


def test_all_waits_of_senders_together_are_limited(threads, wait_s):
    """Each wait takes 600 seconds by this clock and the limit is 1000, so the third sender is refused immediately."""
    now, waiting = [0.0], threading.Event()

    def clock():
        now[0] += 600.0
        waiting.set()
        return now[0]

    mailbox = Mailbox(capacity=1, patience_s=1000.0, clock=clock)
    assert mailbox.put(Item(0, keep=True))
    for number in (1, 2):
        waiting.clear()
        answers = []
        threads.start(lambda number=number, answers=answers: answers.append(mailbox.put(Item(number, keep=True))))
        assert waiting.wait(wait_s)
        assert mailbox.get().text == number - 1
        threads.join()
        assert answers == [True]
    answers = []
    threads.start(lambda: answers.append(mailbox.put(Item(3, keep=True))))
    threads.join()
    assert answers == [False]
    assert mailbox.get().text == 2
    assert mailbox.put(Item(4, keep=True)), "an item that does not wait needs no patience"


def test_a_reader_waits_for_an_item(threads):
    mailbox, received = Mailbox(), []
    threads.start(lambda: received.append(mailbox.get()))
    mailbox.put(Item(1))
    threads.join()
    assert texts(received) == [1]


def test_closing_ends_the_wait_of_a_reader(threads):
    mailbox, received = Mailbox(), []
    threads.start(lambda: received.append(mailbox.get()))
    mailbox.close()
    threads.join()
    assert received == [None]


def test_emptying_returns_the_waiting_items():
    mailbox = Mailbox()
    mailbox.put(Item(1, keep=True))
    mailbox.put(Item(2))
    assert texts(mailbox.empty()) == [1, 2]
    assert mailbox.empty() == []
    assert delivered(mailbox) == []


@pytest.mark.parametrize("seed", range(3))
def test_with_many_senders_no_item_to_keep_is_lost_or_reordered(threads, wait_s, seed):
    senders, each, capacity = 4, 300, 5
    mailbox = Mailbox(capacity=capacity, patience_s=wait_s)
    begin = threading.Barrier(senders + 1)
    received, most_waiting, refused = [], [0], []

    def send(sender):
        rng = random.Random(seed * 100 + sender)
        begin.wait(wait_s)
        items = [Item((sender, number), keep=number % 7 == 0 or rng.random() < 0.3) for number in range(each)]
        refused.extend(item for item in items if not mailbox.put(item))

    def read():
        begin.wait(wait_s)
        while (item := mailbox.get()) is not None:
            received.append(item)
            most_waiting[0] = max(most_waiting[0], len(mailbox._waiting))

    sending = [threads.start(lambda sender=sender: send(sender)) for sender in range(senders)]
    threads.start(read)
    for thread in sending:
        thread.join(wait_s)
    mailbox.close()
    threads.join()

    assert refused == []
    expected = {}
    for sender in range(senders):
        rng = random.Random(seed * 100 + sender)
        expected[sender] = [n for n in range(each) if n % 7 == 0 or rng.random() < 0.3]
    for sender in range(senders):
        numbers = [item.text[1] for item in received if item.text[0] == sender]
        assert numbers == sorted(numbers)
        assert [item.text[1] for item in received if item.keep and item.text[0] == sender] == expected[sender]
    assert most_waiting[0] <= capacity + 1


def test_a_worker_that_an_item_wakes_up_waits_first_and_one_that_is_behind_does_not(threads, monkeypatch):
    now = [100.0]
    mailbox = Mailbox(max_delay_s=0.5, clock=lambda: now[0])
    delays, got, taken = [], [], threading.Semaphore(0)
    monkeypatch.setattr(mailbox.closed, "wait", delays.append)

    def work():
        while (item := mailbox.get()) is not None:
            got.append(item.text)
            taken.release()

    threads.start(work)
    for number, seconds in ((1, 0.3), (2, 0.2), (3, 9.0)):
        while not mailbox._asleep:
            pass
        now[0] += seconds
        mailbox.put(Item(number, keep=True))
        taken.acquire()
    assert got == [1, 2, 3]
    assert delays == pytest.approx([0.15, (0.15 + 0.2) / 2, 0.5])
    with mailbox._changing:  # the worker cannot take the first before the second is there
        mailbox._waiting += [Item(4, keep=True), Item(5, keep=True)]
        mailbox._wake()
    for _ in range(2):
        taken.acquire()
    mailbox.close()
    threads.join()
    assert got == [1, 2, 3, 4, 5]
    assert len(delays) <= 5  # at most one for items 4 and 5 together, and one at the end


def test_a_worker_that_was_not_idle_does_not_wait(threads, monkeypatch):
    now, mailbox = [0.0], Mailbox(max_delay_s=0.5, clock=lambda: now[0])
    delays, taken = [], threading.Semaphore(0)
    monkeypatch.setattr(mailbox.closed, "wait", delays.append)
    mailbox.give_way()
    assert delays == [FIRST_IDLE_S / 2]
    mailbox.put(Item(1, keep=True))
    assert mailbox.get().text == 1  # no delay: the item was already there

    def work():
        while mailbox.get() is not None:
            taken.release()

    threads.start(work)
    while not mailbox._asleep:
        pass
    mailbox.put(Item(2, keep=True))  # the clock stands still: the worker was idle for 0 s
    taken.acquire()
    mailbox.close()
    threads.join()
    assert delays[1] == 0.0


def test_a_worker_does_not_wait_after_closing():
    mailbox = Mailbox(max_delay_s=1e9)
    mailbox.put(Item(1, keep=True))
    assert delivered(mailbox) == [1]


def test_closing_ends_the_delay_of_a_worker(threads):
    now = itertools.count(step=1e7)
    mailbox, got = Mailbox(max_delay_s=1e6, clock=lambda: next(now)), []
    threads.start(lambda: got.extend(texts(iter(mailbox.get, None))))
    mailbox.put(Item(1, keep=True))
    mailbox.close()
    threads.join()
    assert got == [1]
