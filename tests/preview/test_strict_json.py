"""Whatever a host or a sampler gives as a fact, the result is strict JSON, and what is lost is noted."""

import json
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safelight.preview.strict_json import MAX_LEVELS, strict_json

UNCHANGED = {
    "text": "step",
    "empty": {},
    "number": 3,
    "seed": 2**64 - 1,
    "fraction": 0.25,
    "flag": True,
    "nothing": None,
    "list": [1, [2.5, None]],
    "object": {"a": {"b": "c"}},
}


class Hostile(dict):
    """A dictionary of another package that cannot be read."""

    def items(self):
        raise RuntimeError("no items")


def cycle():
    value = {}
    value["again"] = [value] * 10
    return value


def laughs():
    value = ["ha"] * 10
    for _ in range(MAX_LEVELS - 2):
        value = [value] * 10
    return value


def strict(value):
    notes = []
    copied = strict_json(value, notes.append, "facts")
    json.dumps(copied, allow_nan=False).encode()
    return copied, notes


@pytest.mark.parametrize("name", UNCHANGED)
def test_what_json_can_express_is_unchanged(name):
    copied, notes = strict({"key": UNCHANGED[name]})
    assert (copied, notes) == ({"key": UNCHANGED[name]}, [])
    assert type(copied["key"]) is type(UNCHANGED[name])


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (torch.tensor(3), 3),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(True), True),
        (np.int64(4), 4),
        (np.float32(0.25), 0.25),
        (np.float64(0.25), 0.25),
        (np.bool_(False), False),
        (np.array(7), 7),
    ],
)
def test_numbers_of_other_packages_become_numbers_of_python(number, expected):
    copied, notes = strict({"key": number})
    assert (copied, notes) == ({"key": expected}, [])
    assert type(copied["key"]) is type(expected)


def test_tuples_and_mappings_become_lists_and_objects():
    assert strict({"key": (1, MappingProxyType({"a": 2}))}) == ({"key": [1, {"a": 2}]}, [])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "NaN or infinity"),
        (torch.tensor(float("inf")), "NaN or infinity|type Tensor"),
        (np.float32("nan"), "NaN or infinity|type float32"),
        (10**400, "more than 64 bits"),
        (b"\x00", "type bytes"),
        (1j, "type complex"),
        ({1, 2}, "type set"),
        (torch.zeros(2), "type Tensor"),
        (torch.zeros((), device="meta"), "raises"),
        (np.zeros(2), "type ndarray"),
        (np.longdouble(1), "type longdouble|type float128"),
        (object(), "type object"),
        (Hostile(a=1), "a Hostile that raises RuntimeError"),
        ({1: "a"}, "a key of type int"),
        (cycle(), "contains itself"),
        (laughs(), "values"),
        ([[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]], "levels"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_express_is_left_out_with_one_note(value, reason):
    copied, notes = strict({"key": value, "other": 1})
    assert copied["other"] == 1
    assert notes
    assert all(note.startswith("facts.key is incomplete: ") for note in notes)
    assert any(part in notes[0] for part in reason.split("|")), notes[0]


def test_one_bad_number_in_a_list_leaves_the_others():
    assert strict({"sigmas": [1.0, float("inf"), 0.0]})[0] == {"sigmas": [1.0, None, 0.0]}
