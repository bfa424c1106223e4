"""Texts that come from files, prompts and errors are shown as they are, never as markup."""

import html
import re

import pytest
from safelight.errors import printable
from safelight.hosts.gradio.page import literal

TEXTS = [
    "x<img src=//example.com/x onerror=alert(1)>",
    "[a link](https://example.com) ![a picture](https://example.com/x.png)",
    "step 3 / 20 · σ 0.5 · my_decoder_name *v2* `code` $$x$$ # | ~~no~~",
    "<script>alert(1)</script> &lt;b&gt; &amp;",
    "two\nlines\tand a tab",
    "    four spaces, \x1b[2J and exe.\u202egnp",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_shown_letter_by_letter(text):
    assert html.unescape(literal(text)) == printable(text)


@pytest.mark.parametrize("text", TEXTS)
def test_no_character_of_markup_is_left(text):
    without_entities = re.sub(r"&#\d+;", "", literal(text))
    assert not re.search(r"[\W_]", without_entities)
