"""A hook replaces a method of one object and nothing else."""

import copy
import gc
import inspect
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

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
    for copied in (copy.deepcopy(owner), copy.copy(owner), pickle.loads(pickle.dumps(owner))):
        assert vars(copied) == {"count": 0}
        assert copied.step(5) == 5
    assert (owner.count, calls) == (0, [])


def test_a_copy_can_have_another_method_while_the_hook_lasts(owner):
    step_hook = Hook(owner, "step", lambda step: step(), lambda: "of copy")
    assert (copy.copy(owner).step, copy.deepcopy(owner).step) == ("of copy", "of copy")
    assert vars(pickle.loads(pickle.dumps(owner))) == {"count": 0}
    inner = hook(owner, [])
    assert copy.copy(owner).step == "of copy"
    inner.end()
    step_hook.end()
    assert vars(copy.copy(owner)) == vars(owner) == {"count": 0}


def test_a_copy_has_the_state_that_its_class_chooses():
    class Chooser(Owner):
        def __getstate__(self):
            return {"count": self.count + 1}

    owner = Chooser()
    hook(owner, [])
    assert vars(copy.copy(owner)) == {"count": 1}


def test_a_copy_has_its_slots():
    class Slotted(Owner):
        __slots__ = ("size",)

    owner = Slotted()
    owner.size = 3
    hook(owner, [])
    copied = copy.copy(owner)
    assert (vars(copied), copied.size) == ({"count": 0}, 3)


def test_a_copy_does_not_hold_the_owner():
    owner = Owner()
    step_hook = hook(owner, [])
    copied, gone = copy.copy(owner), weakref.ref(owner)
    step_hook.end()
    del owner, step_hook
    gc.collect()
    assert gone() is None
    assert copied.step() == 1


def test_a_hook_can_end_twice(owner):
    first = hook(owner, [])
    first.end()
    second = hook(owner, calls := [])
    first.end()
    owner.step()
    assert len(calls) == 1
    second.end()
    assert vars(owner) == {"count": 1}


def test_hooks_of_several_threads_leave_the_owner_as_it_was(owner):
    """Each thread hooks and copies the same object, as two users with copies of one pipeline do."""

    def use():
        for _ in range(300):
            step_hook = hook(owner, [])
            assert "step" not in vars(copy.copy(owner))
            owner.step(0)
            step_hook.end()

    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(use) for _ in range(4)]:
            future.result()
    assert vars(owner) == {"count": 0}
