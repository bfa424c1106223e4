"""A choice among pictures: who may make it, how long it is waited for, and that the first answer counts."""

import threading

import pytest
from safelight.preview.choice import PendingChoice, PendingChoices


class CancelledError(Exception):
    pass


@pytest.fixture
def choice(clock):
    return PendingChoice([b"a", b"b", b"c"], "me", {"workflow": "w", "node": "4"}, 60, clock)


def test_the_first_answer_counts_in_the_order_of_the_items(choice):
    assert choice.answer([2, 0, 2])
    assert not choice.answer([1])
    assert choice.wait(lambda: None) == [0, 2]


def test_no_item_is_an_answer(choice):
    assert choice.answer([])
    assert choice.wait(lambda: None) == []


def test_an_answer_of_another_thread_ends_the_wait(choice):
    threads = []

    def check():
        if not threads:
            threads.append(threading.Thread(target=choice.answer, args=[[1]]))
            threads[0].start()

    assert choice.wait(check) == [1]
    threads[0].join()


def test_without_an_answer_the_wait_ends_at_the_limit(choice, clock):
    looks = []

    def check():
        looks.append(choice.remaining_s)
        clock.now += 25

    assert choice.wait(check) is None
    assert looks == [60, 35, 10]


def test_the_hosts_cancel_ends_the_wait(choice):
    def check():
        raise CancelledError

    with pytest.raises(CancelledError):
        choice.wait(check)
    assert choice.answer([1])  # the lock is free


def test_a_choice_is_found_by_its_owner_at_its_place(choice, clock):
    choices = PendingChoices()
    choices.add(choice)
    assert choices.of("me", workflow="w", node="4") == [choice]
    assert choices.of("you", workflow="w", node="4") == []
    assert choices.of("me", workflow="w", node="5") == []
    assert choices.get(choice.address) is choice
    clock.now = 12.34
    assert choice.facts() == {"choice": choice.address, "count": 3, "remaining_s": 47.7}
    choices.remove(choice)
    assert choices.get(choice.address) is None


def test_addresses_cannot_be_guessed(choice, clock):
    other = PendingChoice([], "me", {}, 60, clock)
    assert len({choice.address, other.address}) == 2
    assert len(choice.address) == 36
