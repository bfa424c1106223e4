"""Replacing a function of a module that others replace as well."""

from functools import update_wrapper
from types import SimpleNamespace

import pytest
from safelight.hosts.comfyui.reversible_patch import ReversiblePatch


def hosts_own(device, latent_format):
    return f"{latent_format} on {device}"


@pytest.fixture
def module():
    return SimpleNamespace(get_previewer=hosts_own)


@pytest.fixture
def replacement(module):
    def instead(before, *args, **kwargs):
        return f"ours, not {before(*args, **kwargs)}"

    return ReversiblePatch(module, "get_previewer", instead)


def wrap_politely(module):
    """As VideoHelperSuite does."""
    before = module.get_previewer

    def polite(*args, **kwargs):
        return f"polite: {polite.__wrapped__(*args, **kwargs)}"

    module.get_previewer = update_wrapper(polite, before)


def wrap_rudely(module):
    """As bleh does: what it replaced is nobody else's business."""
    before = module.get_previewer
    module.get_previewer = lambda *args, **kwargs: f"rude: {before(*args, **kwargs)}"


def test_it_replaces_a_function_and_gives_back_exactly_what_was_there(module, replacement):
    replacement.install()
    assert module.get_previewer("cpu", latent_format="SD15") == "ours, not SD15 on cpu"
    assert module.get_previewer.__wrapped__ is hosts_own
    assert module.get_previewer.__name__ == "hosts_own"
    replacement.remove()
    assert module.get_previewer is hosts_own


def test_what_was_never_installed_is_removed_without_a_trace(module, replacement):
    replacement.remove()
    assert module.get_previewer is hosts_own


def test_installing_it_again_changes_nothing(module, replacement):
    replacement.install()
    ours = module.get_previewer
    replacement.install()
    assert module.get_previewer is ours


@pytest.mark.parametrize("wrap", [wrap_politely, wrap_rudely])
def test_what_was_there_before_ours_is_given_back(module, replacement, wrap):
    wrap(module)
    before = module.get_previewer
    replacement.install()
    assert module.get_previewer("cpu", "SD15").startswith("ours, not ")
    replacement.remove()
    assert module.get_previewer is before


@pytest.mark.parametrize(("wrap", "name"), [(wrap_politely, "polite"), (wrap_rudely, "rude")])
def test_beneath_somebody_elses_it_is_as_if_it_was_not_there_once_removed(module, replacement, wrap, name):
    replacement.install()
    wrap(module)
    theirs = module.get_previewer
    assert theirs("cpu", "SD15") == f"{name}: ours, not SD15 on cpu"
    replacement.remove()
    assert module.get_previewer is theirs
    assert theirs("cpu", "SD15") == f"{name}: SD15 on cpu"


def test_beneath_somebody_who_says_so_it_stays_where_it_is(module, replacement):
    replacement.install()
    wrap_politely(module)
    theirs = module.get_previewer
    replacement.install()
    assert module.get_previewer is theirs


def test_beneath_somebody_who_does_not_say_so_it_comes_out_on_top_and_works_once(module, replacement):
    replacement.install()
    wrap_rudely(module)
    theirs = module.get_previewer
    replacement.install()
    assert module.get_previewer("cpu", "SD15") == "ours, not rude: SD15 on cpu"
    replacement.remove()
    assert module.get_previewer is theirs
    assert theirs("cpu", "SD15") == "rude: SD15 on cpu"


def test_whoever_puts_the_hosts_own_back_has_put_ours_out(module, replacement):
    replacement.install()
    module.get_previewer = hosts_own
    replacement.remove()
    assert module.get_previewer is hosts_own
    replacement.install()
    assert module.get_previewer("cpu", "SD15") == "ours, not SD15 on cpu"


def test_functions_that_wrap_each_other_in_a_ring_are_no_trouble(module, replacement):
    replacement.install()

    def other():
        pass

    def ring():
        pass

    ring.__wrapped__, other.__wrapped__ = other, ring
    module.get_previewer = ring
    replacement.install()
    assert module.get_previewer.__wrapped__ is ring


def test_on_and_off_again_and_again_leaves_no_layers_behind(module, replacement):
    for _ in range(5):
        replacement.install()
        assert module.get_previewer.__wrapped__ is hosts_own
        replacement.remove()
    assert module.get_previewer is hosts_own
