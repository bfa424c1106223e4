"""Finds out whether a pipeline's loop ends when it is asked to: whether it reads its attribute for that."""

import dis
import inspect
from functools import cache
from types import FunctionType
from typing import Any

INTERRUPT = "_interrupt"  # attribute that the loops of most pipelines read before each step
NAMES = {INTERRUPT, "interrupt"}  # the attribute, and the property that returns it


def reads_interrupt(pipeline: Any) -> bool:
    """Returns whether a method of `pipeline` reads its attribute `_interrupt`.

    Some pipelines only set it: the loops of ControlNet-XS, OmniGen and Helios Pyramid in diffusers 0.42.1, for example.
    """
    return hasattr(pipeline, INTERRUPT) and _reads(type(pipeline))


@cache
def _reads(kind: type) -> bool:
    methods = (value for base in kind.__mro__ for value in vars(base).values() if callable(value))
    return any(_loads(inspect.unwrap(method)) for method in methods)


def _loads(function: Any) -> bool:
    """Whether a function reads an attribute with one of the names; writing it does not count."""
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    if NAMES.isdisjoint(code.co_names):  # fast, and true of nearly all
        return False
    return any(step.opname.startswith("LOAD_ATTR") and step.argval in NAMES for step in dis.get_instructions(code))
