"""A method of one object is heard of for a while, and nothing else is."""

import copy
import inspect

import pytest
from safelight.hosts.hook import Hook


class Owner:
    def __init__(self):
        self.count = 0

    def step(self, by: int = 1) -> int:
        self.count += by
        return self.count


@pytest.fixture
def owner():
    return Owner()


def hook(owner, heard, name="step"):
    def around(step, *args, **kwargs):
        heard.append((args, kwargs))
        return step(*args, **kwargs)

    return Hook(owner, name, around)


def test_what_is_called_is_heard_and_done(owner):
    heard = []
    one = hook(owner, heard)
    assert (owner.step(2), owner.step(by=3)) == (2, 5)
    assert heard == [((2,), {}), ((), {"by": 3})]
    assert inspect.signature(owner.step) == inspect.signature(Owner().step)
    one.end()
    assert vars(owner) == {"count": 5}
    assert owner.step() == 6
    assert len(heard) == 2


def test_another_object_of_the_class_is_not_heard(owner):
    heard = []
    hook(owner, heard)
    Owner().step()
    assert heard == []


def test_what_stood_in_before_is_put_back(owner):
    def mine(by=1):
        return "mine"

    owner.step = mine
    hook(owner, []).end()
    assert vars(owner)["step"] is mine


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_each_may_end_first(owner, first):
    heard = [], []
    hooks = [hook(owner, heard[0]), hook(owner, heard[1])]
    owner.step()
    hooks[first].end()
    owner.step()
    hooks[1 - first].end()
    owner.step()
    assert owner.count == 3
    assert [len(one) for one in heard] == ([1, 2] if first == 0 else [2, 1])
    assert vars(owner) == {"count": 3}


def test_a_copy_has_its_own_method_and_is_not_heard(owner):
    heard = []
    hook(owner, heard)
    copied = copy.deepcopy(owner)
    assert copied.step(5) == 5
    assert (owner.count, heard) == (0, [])


def test_ending_twice_does_no_harm(owner):
    one = hook(owner, [])
    one.end()
    another = hook(owner, heard := [])
    one.end()
    owner.step()
    assert len(heard) == 1
    another.end()
    assert vars(owner) == {"count": 1}
