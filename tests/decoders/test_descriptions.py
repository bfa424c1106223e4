"""The words that describe a decoder where a user chooses one."""

import json

import pytest
from safelight.decoders.catalogue import FAST, FINE, Catalogue
from safelight.decoders.descriptions import KIND_WORDS, decoder_labels, describe_decoders
from safelight.decoders.files import shipped
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.registry import KINDS, KINDS_WITHOUT_WEIGHTS

UNDER_THE_TABLE = ("sd1-cubic", "sd1-mlp", "sd1-quadratic")


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_a_list_has_all_decoders_of_the_space_and_no_other(space):
    described = describe_decoders(Catalogue(), space)
    assert {name for name, _ in described} == {card.name for card in Catalogue().all() if card.space == space.name}
    assert len({words for _, words in described}) == len(described), "two would look the same"


@pytest.mark.parametrize("name", ["sd1", "flux2", "sana", "wan21"])
def test_those_that_the_words_mean_come_first_and_say_so(name):
    catalogue, space = Catalogue(), SPACES[name]
    described = describe_decoders(catalogue, space)
    meant = {word: catalogue.candidates(space, word)[0].name for word in (FAST, FINE)}
    assert {name for name, _ in described[: len(set(meant.values()))]} == set(meant.values())
    for word, decoder in meant.items():
        assert [name for name, words in described if word in words.split(" · ")[-1].split(" and ")] == [decoder]


def test_the_words_are_the_short_name_and_the_kind():
    described = dict(describe_decoders(Catalogue(), SPACES["flux2"]))
    assert described["flux2-conv-small"] == "conv small · net · fast"
    assert described["flux2-affine-comfyui"] == "affine comfyui · published table"
    assert described["flux2-affine-7x7"] == "affine 7x7 · closed form"
    assert set(KIND_WORDS) == set(KINDS) - set(KINDS_WITHOUT_WEIGHTS)


def test_a_decoder_that_a_published_table_beats_on_real_latents_says_so_wherever_one_chooses():
    described = dict(describe_decoders(Catalogue(), SPACES["sd1"]))
    labels = decoder_labels(["auto", *described])
    reasons = {choice.card.name: choice.why for choice in Catalogue().choices()}
    for name, words in described.items():
        for text in (words, labels[name], reasons[name]):
            assert ("under the table affine sdcpp" in text) == (name in UNDER_THE_TABLE), text
    assert labels["auto"] == "auto"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"sd1": []}', b'{"sd1": {"remarks": 3}}', b"\xff"])
def test_a_damaged_list_of_defaults_has_no_remarks(tmp_path, content):
    (tmp_path / shipped.DEFAULTS_FILE).write_bytes(content)
    assert shipped.remark_on("sd1-cubic", tmp_path) is None


def test_each_remark_is_on_a_decoder_that_ships():
    rows = json.loads((shipped.WEIGHTS / shipped.DEFAULTS_FILE).read_text("utf-8")).values()
    names = {name for row in rows for name in row.get("remarks", {})}
    assert names <= {card.name for card in shipped.shipped_cards()}
