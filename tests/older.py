"""What a host or library lacks: an older version skips the test; in a newer one, the name in the test is wrong."""

import re

import pytest

# The first versions that have everything that the tests name.
COMPLETE_SINCE = {"ComfyUI": (0, 33), "InvokeAI": (6, 14), "diffusers": (0, 42)}


def diffusers_has(name: str) -> bool:
    """Whether the installed diffusers has a class."""
    import diffusers

    try:
        return hasattr(diffusers, name)
    except RuntimeError:  # a module that it needs cannot be imported
        return False


def expect(is_there: bool, package: str, version: str, what: str, since: tuple[int, ...] = ()) -> None:
    """Skips the test if `what` is missing because the package is older; fails if it is missing for another reason.

    A wrong name in a test must not skip it.

    Args:
        is_there: whether the package has it.
        package: a key of `COMPLETE_SINCE`.
        version: version of the package.
        what: what the test needs, for the message.
        since: first version that has it; empty for that in `COMPLETE_SINCE`.
    """
    if is_there:
        return
    since = since or COMPLETE_SINCE[package]
    missing = f"{package} {version} has no {what}"
    if tuple(map(int, re.findall(r"\d+", version)[: len(since)])) < since:
        pytest.skip(missing)
    pytest.fail(f"{missing}: the name is wrong, or a newer version has removed it")
