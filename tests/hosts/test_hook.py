"""A hook replaces a method of one object and nothing else."""

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


def hook(owner, calls, name="step"):
    def wrapper(step, *args, **kwargs):
        calls.append((args, kwargs))
        return step(*args, **kwargs)

    return Hook(owner, name, wrapper)


def test_calls_are_observed_and_have_their_effect(owner):
    calls = []
    step_hook = hook(owner, calls)
    assert (owner.step(2), owner.step(by=3)) == (2, 5)
    assert calls == [((2,), {}), ((), {"by": 3})]
    assert inspect.signature(owner.step) == inspect.signature(Owner().step)
    step_hook.end()
    assert vars(owner) == {"count": 5}
    assert owner.step() == 6
    assert len(calls) == 2


def test_another_object_of_the_class_is_not_observed(owner):
    calls = []
    hook(owner, calls)
    Owner().step()
    assert calls == []


def test_an_earlier_replacement_is_restored(owner):
    def mine(by=1):
        return "mine"

    owner.step = mine
    hook(owner, []).end()
    assert vars(owner)["step"] is mine


@pytest.mark.parametrize("first", [0, 1])
def test_either_of_two_hooks_may_end_first(owner, first):
    calls = [], []
    hooks = [hook(owner, calls[0]), hook(owner, calls[1])]
    owner.step()
    hooks[first].end()
    owner.step()
    hooks[1 - first].end()
    owner.step()
    assert owner.count == 3
    assert [len(of_hook) for of_hook in calls] == ([1, 2] if first == 0 else [2, 1])
    assert vars(owner) == {"count": 3}


def test_a_copy_has_the_original_method_and_is_not_observed(owner):
    calls = []
    hook(owner, calls)
    copied = copy.deepcopy(owner)
    assert copied.step(5) == 5
    assert (owner.count, calls) == (0, [])


def test_a_hook_can_end_twice(owner):
    first = hook(owner, [])
    first.end()
    second = hook(owner, calls := [])
    first.end()
    owner.step()
    assert len(calls) == 1
    second.end()
    assert vars(owner) == {"count": 1}
