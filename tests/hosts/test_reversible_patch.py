"""Swaps a function of a module that other packs swap too."""

from functools import update_wrapper
from types import SimpleNamespace

import pytest
from safelight.hosts.reversible_patch import ReversiblePatch


def comfyui_function(device, latent_format):
    return f"{latent_format} on {device}"


@pytest.fixture
def module():
    return SimpleNamespace(get_previewer=comfyui_function)


@pytest.fixture
def patch(module):
    def instead(before, *args, **kwargs):
        return f"patched: {before(*args, **kwargs)}"

    return ReversiblePatch(module, "get_previewer", instead)


def wrap_with_wrapped(module):
    """Wraps as VideoHelperSuite does, with `__wrapped__`."""
    before = module.get_previewer

    def wrapper(*args, **kwargs):
        return f"open: {wrapper.__wrapped__(*args, **kwargs)}"

    module.get_previewer = update_wrapper(wrapper, before)


def wrap_without_wrapped(module):
    """Wraps as bleh does, without `__wrapped__`."""
    before = module.get_previewer
    module.get_previewer = lambda *args, **kwargs: f"closed: {before(*args, **kwargs)}"


def test_install_swaps_a_function_and_remove_puts_it_back(module, patch):
    patch.install()
    assert module.get_previewer("cpu", latent_format="SD15") == "patched: SD15 on cpu"
    assert module.get_previewer.__wrapped__ is comfyui_function
    assert module.get_previewer.__name__ == "comfyui_function"
    patch.remove()
    assert module.get_previewer is comfyui_function


def test_remove_without_install_changes_nothing(module, patch):
    patch.remove()
    assert module.get_previewer is comfyui_function


def test_a_second_install_changes_nothing(module, patch):
    patch.install()
    patched = module.get_previewer
    patch.install()
    assert module.get_previewer is patched


@pytest.mark.parametrize("wrap", [wrap_with_wrapped, wrap_without_wrapped])
def test_a_function_that_another_pack_had_wrapped_is_put_back(module, patch, wrap):
    wrap(module)
    before = module.get_previewer
    patch.install()
    assert module.get_previewer("cpu", "SD15").startswith("patched: ")
    patch.remove()
    assert module.get_previewer is before


@pytest.mark.parametrize(("wrap", "name"), [(wrap_with_wrapped, "open"), (wrap_without_wrapped, "closed")])
def test_after_remove_a_patch_below_another_pack_only_forwards_calls(module, patch, wrap, name):
    patch.install()
    wrap(module)
    theirs = module.get_previewer
    assert theirs("cpu", "SD15") == f"{name}: patched: SD15 on cpu"
    patch.remove()
    assert module.get_previewer is theirs
    assert theirs("cpu", "SD15") == f"{name}: SD15 on cpu"


def test_install_finds_the_patch_below_a_pack_with_wrapped(module, patch):
    patch.install()
    wrap_with_wrapped(module)
    theirs = module.get_previewer
    patch.install()
    assert module.get_previewer is theirs


def test_install_puts_the_patch_above_a_pack_without_wrapped_and_one_is_active(module, patch):
    patch.install()
    wrap_without_wrapped(module)
    theirs = module.get_previewer
    patch.install()
    assert module.get_previewer("cpu", "SD15") == "patched: closed: SD15 on cpu"
    patch.remove()
    assert module.get_previewer is theirs
    assert theirs("cpu", "SD15") == "closed: SD15 on cpu"


def test_install_works_again_after_another_pack_removed_the_patch(module, patch):
    patch.install()
    module.get_previewer = comfyui_function
    patch.remove()
    assert module.get_previewer is comfyui_function
    patch.install()
    assert module.get_previewer("cpu", "SD15") == "patched: SD15 on cpu"


def test_install_ends_if_functions_wrap_each_other_in_a_cycle(module, patch):
    patch.install()

    def other():
        pass

    def ring():
        pass

    ring.__wrapped__, other.__wrapped__ = other, ring
    module.get_previewer = ring
    patch.install()
    assert module.get_previewer.__wrapped__ is ring


def test_repeated_install_and_remove_add_no_layers(module, patch):
    for _ in range(5):
        patch.install()
        assert module.get_previewer.__wrapped__ is comfyui_function
        patch.remove()
    assert module.get_previewer is comfyui_function
