"""A run belongs to the browser whose key was queued with its prompt, and no published text gives the key away."""

from types import SimpleNamespace

import pytest
from safelight.hosts.comfyui.owners import KEY, OWNER, Owners, register

SECRET = "a key of this browser"


def test_the_key_is_replaced_by_a_text_that_does_not_open_the_list():
    owners = Owners()
    prompt = owners.mark({"prompt": {"1": {}}, "client_id": "c", "extra_data": {KEY: SECRET, "extra_pnginfo": {}}})
    owner = prompt["extra_data"].pop(OWNER)
    assert prompt == {"prompt": {"1": {}}, "client_id": "c", "extra_data": {"extra_pnginfo": {}}}
    assert SECRET not in owner
    assert owners.of(SECRET) == owner
    assert owners.of(owner) != owner, "what ComfyUI's queue and history show must be no key"


def test_a_prompt_cannot_claim_another_owner():
    owners = Owners()
    theirs = owners.of(SECRET)
    assert owners.mark({"extra_data": {OWNER: theirs}})["extra_data"] == {}
    mine = owners.mark({"extra_data": {OWNER: theirs, KEY: "my own key, of enough characters"}})["extra_data"]
    assert mine[OWNER] not in (theirs, None)


@pytest.mark.parametrize("key", [None, "", "short", "x" * 15, "x" * 257, 7, ["x" * 20], {"a": 1}, True])
def test_what_is_no_key_has_no_owner(key):
    owners = Owners()
    assert owners.of(key) is None
    assert owners.mark({"extra_data": {KEY: key}}) == {"extra_data": {}}


@pytest.mark.parametrize("prompt", [{}, {"extra_data": None}, {"extra_data": [1]}, {"extra_data": "text"}, [1], None])
def test_a_prompt_of_any_form_stays_as_it_is(prompt):
    assert Owners().mark(prompt) == prompt


def test_another_process_derives_another_owner():
    assert Owners().of(SECRET) != Owners().of(SECRET)


def test_two_copies_of_the_pack_share_the_owners_of_a_server():
    handlers = []
    server = SimpleNamespace(add_on_prompt_handler=handlers.append)
    owners = register(server)
    assert register(server) is owners
    assert handlers == [owners.mark]
