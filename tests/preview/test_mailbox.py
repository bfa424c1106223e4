"""The mailbox between a sampler and the worker, with real threads that never sleep."""

import itertools
import random
import threading
from typing import NamedTuple

import pytest
from safelight.preview.mailbox import FIRST_IDLE_S, Mailbox


class Note(NamedTuple):
    text: object
    keep: bool = False


def texts(letters):
    return [letter.text for letter in letters]


def delivered(mailbox):
    """What is still delivered after closing, in order."""
    mailbox.close()
    return texts(iter(mailbox.get, None))


class Together:
    """Runs functions in threads of their own; what they return or raise comes out at the end."""

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
def together(wait_s):
    return Together(wait_s)


def test_of_letters_that_need_not_be_kept_only_the_newest_waits():
    mailbox = Mailbox()
    for number in range(5):
        assert mailbox.put(Note(number))
    assert delivered(mailbox) == [4]


def test_letters_to_be_kept_arrive_in_order():
    mailbox = Mailbox()
    for number in range(5):
        assert mailbox.put(Note(number, keep=True))
    assert delivered(mailbox) == [0, 1, 2, 3, 4]


def test_a_letter_to_be_kept_replaces_a_waiting_one_that_need_not_be():
    mailbox = Mailbox()
    for note in (Note(1, keep=True), Note(2), Note(3), Note(4, keep=True), Note(5)):
        assert mailbox.put(note)
    assert delivered(mailbox) == [1, 4, 5]


def test_nothing_is_taken_after_closing_but_what_waits_is_delivered():
    mailbox = Mailbox()
    mailbox.put(Note(1, keep=True))
    mailbox.put(Note(2))
    mailbox.close()
    assert not mailbox.put(Note(3))
    assert not mailbox.put(Note(4, keep=True))
    assert delivered(mailbox) == [1, 2]
    assert mailbox.get() is None


def test_a_full_mailbox_refuses_when_patience_is_spent_and_keeps_what_it_has():
    mailbox = Mailbox(capacity=2, patience_s=0.0)
    assert mailbox.put(Note(1, keep=True))
    assert mailbox.put(Note(2, keep=True))
    assert mailbox.put(Note(3))
    assert not mailbox.put(Note(4, keep=True))
    assert delivered(mailbox) == [1, 2, 3]


def test_a_letter_that_may_be_replaced_does_not_take_the_room_of_one_to_be_kept():
    mailbox = Mailbox(capacity=1, patience_s=0.0)
    assert mailbox.put(Note(1))
    assert mailbox.put(Note(2, keep=True))
    assert delivered(mailbox) == [2]


def test_a_letter_that_need_not_be_kept_never_waits():
    mailbox = Mailbox(capacity=1, patience_s=1e9)
    mailbox.put(Note(1, keep=True))
    for number in range(2, 50):
        assert mailbox.put(Note(number))
    assert delivered(mailbox) == [1, 49]


def test_a_full_mailbox_holds_the_sender_up_until_there_is_room(together, wait_s):
    waiting = threading.Event()

    def clock():
        waiting.set()  # asked when a sender begins to wait
        return 0.0

    mailbox = Mailbox(capacity=1, patience_s=wait_s, clock=clock)
    waiting.clear()
    mailbox.put(Note(1, keep=True))
    assert not waiting.is_set()
    answers = []
    together.start(lambda: answers.append(mailbox.put(Note(2, keep=True))))
    assert waiting.wait(wait_s)
    assert answers == []
    assert mailbox.get().text == 1
    together.join()
    assert answers == [True]
    assert delivered(mailbox) == [2]


def test_closing_lets_a_sender_go_who_waits_for_room(together, wait_s):
    waiting = threading.Event()

    def clock():
        waiting.set()
        return 0.0

    mailbox = Mailbox(capacity=1, patience_s=wait_s, clock=clock)
    waiting.clear()
    mailbox.put(Note(1, keep=True))
    answers = []
    together.start(lambda: answers.append(mailbox.put(Note(2, keep=True))))
    assert waiting.wait(wait_s)
    mailbox.close()
    together.join()
    assert answers == [False]
    assert delivered(mailbox) == [1]


def test_patience_is_spent_over_all_letters_together(together, wait_s):
    """Each wait costs 600 seconds by this clock; the patience is 1000, so the third sender is refused at once."""
    now, waiting = [0.0], threading.Event()

    def clock():
        now[0] += 600.0
        waiting.set()
        return now[0]

    mailbox = Mailbox(capacity=1, patience_s=1000.0, clock=clock)
    assert mailbox.put(Note(0, keep=True))
    for number in (1, 2):
        waiting.clear()
        answers = []
        together.start(lambda number=number, answers=answers: answers.append(mailbox.put(Note(number, keep=True))))
        assert waiting.wait(wait_s)
        assert mailbox.get().text == number - 1
        together.join()
        assert answers == [True]
    answers = []
    together.start(lambda: answers.append(mailbox.put(Note(3, keep=True))))
    together.join()
    assert answers == [False]
    assert mailbox.get().text == 2
    assert mailbox.put(Note(4, keep=True)), "without waiting there is no need of patience"


def test_a_reader_waits_for_a_letter(together):
    mailbox, came = Mailbox(), []
    together.start(lambda: came.append(mailbox.get()))
    mailbox.put(Note(1))
    together.join()
    assert texts(came) == [1]


def test_a_reader_who_waits_is_let_go_by_closing(together):
    mailbox, came = Mailbox(), []
    together.start(lambda: came.append(mailbox.get()))
    mailbox.close()
    together.join()
    assert came == [None]


def test_emptying_gives_back_what_waits_undelivered():
    mailbox = Mailbox()
    mailbox.put(Note(1, keep=True))
    mailbox.put(Note(2))
    assert texts(mailbox.empty()) == [1, 2]
    assert mailbox.empty() == []
    assert delivered(mailbox) == []


@pytest.mark.parametrize("seed", range(3))
def test_many_senders_lose_no_letter_that_is_to_be_kept_nor_its_order(together, wait_s, seed):
    senders, each, capacity = 4, 300, 5
    mailbox = Mailbox(capacity=capacity, patience_s=wait_s)
    begin = threading.Barrier(senders + 1)
    came, longest, refused = [], [0], []

    def send(sender):
        chance = random.Random(seed * 100 + sender)
        begin.wait(wait_s)
        notes = [Note((sender, number), keep=number % 7 == 0 or chance.random() < 0.3) for number in range(each)]
        refused.extend(note for note in notes if not mailbox.put(note))

    def read():
        begin.wait(wait_s)
        while (letter := mailbox.get()) is not None:
            came.append(letter)
            longest[0] = max(longest[0], len(mailbox._waiting))

    threads = [together.start(lambda sender=sender: send(sender)) for sender in range(senders)]
    together.start(read)
    for thread in threads:
        thread.join(wait_s)
    mailbox.close()
    together.join()

    assert refused == []
    expected = {}
    for sender in range(senders):
        chance = random.Random(seed * 100 + sender)
        expected[sender] = [n for n in range(each) if n % 7 == 0 or chance.random() < 0.3]
    for sender in range(senders):
        numbers = [letter.text[1] for letter in came if letter.text[0] == sender]
        assert numbers == sorted(numbers)
        assert [letter.text[1] for letter in came if letter.keep and letter.text[0] == sender] == expected[sender]
    assert longest[0] <= capacity + 1


def test_a_worker_that_a_letter_wakes_lets_its_sender_get_on_and_one_that_is_behind_does_not(together, monkeypatch):
    now = [100.0]
    mailbox = Mailbox(max_delay_s=0.5, clock=lambda: now[0])
    courtesies, got, taken = [], [], threading.Semaphore(0)
    monkeypatch.setattr(mailbox.closed, "wait", courtesies.append)

    def work():
        while (letter := mailbox.get()) is not None:
            got.append(letter.text)
            taken.release()

    together.start(work)
    for number, seconds in ((1, 0.3), (2, 0.2), (3, 9.0)):
        while not mailbox._asleep:
            pass
        now[0] += seconds
        mailbox.put(Note(number, keep=True))
        taken.acquire()
    assert got == [1, 2, 3]
    assert courtesies == pytest.approx([0.15, (0.15 + 0.2) / 2, 0.5])
    with mailbox._changing:  # while nothing can be taken
        mailbox._waiting += [Note(4, keep=True), Note(5, keep=True)]
        mailbox._wake()
    for _ in range(2):
        taken.acquire()
    mailbox.close()
    together.join()
    assert got == [1, 2, 3, 4, 5]
    assert len(courtesies) <= 5  # of letters 4 and 5 one at most, and one of the end


def test_a_worker_that_has_nothing_to_spare_lets_nobody_on(together, monkeypatch):
    now, mailbox = [0.0], Mailbox(max_delay_s=0.5, clock=lambda: now[0])
    courtesies, taken = [], threading.Semaphore(0)
    monkeypatch.setattr(mailbox.closed, "wait", courtesies.append)
    mailbox.give_way()
    assert courtesies == [FIRST_IDLE_S / 2]
    mailbox.put(Note(1, keep=True))
    assert mailbox.get().text == 1  # it waited already

    def work():
        while mailbox.get() is not None:
            taken.release()

    together.start(work)
    while not mailbox._asleep:
        pass
    mailbox.put(Note(2, keep=True))  # at once
    taken.acquire()
    mailbox.close()
    together.join()
    assert courtesies[1] == 0.0


def test_at_the_end_nobody_is_let_on_first():
    mailbox = Mailbox(max_delay_s=1e9)
    mailbox.put(Note(1, keep=True))
    assert delivered(mailbox) == [1]


def test_a_worker_that_lets_others_on_is_told_of_the_end(together):
    now = itertools.count(step=1e7)
    mailbox, got = Mailbox(max_delay_s=1e6, clock=lambda: next(now)), []
    together.start(lambda: got.extend(texts(iter(mailbox.get, None))))
    mailbox.put(Note(1, keep=True))
    mailbox.close()
    together.join()
    assert got == [1]
