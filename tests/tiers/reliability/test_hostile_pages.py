"""Untrusted texts stay texts in the pages that show them."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safelight.errors import printable
from safelight.preview.html.bundle import bundle
from safelight.preview.html.document import document
from safelight.preview.html.embed import embedded_page, page_in_frame

HOSTILE = [
    "</script><script>alert(1)</script>",
    "</SCRIPT\t>",
    "<!--<script>",
    "--><img src=x onerror=alert(1)>",
    "\u2028alert(1)\u2029",
    "'; alert(1); '",
    '" onload="alert(1)',
    "{script} {policy} {data} {0}",
    "]]>",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "\0\x08\x1b",
    "\ud800",
    "&lt;script&gt;",
    "\\u003c/script\\u003e",
]
TEXTS = (
    st.sampled_from(HOSTILE)
    | st.text(max_size=40)
    | st.lists(st.sampled_from(["<", "!", "-", "/", "s", "cript", ">", "&", '"']), max_size=12).map("".join)
)
SCRIPT = "start();"


class Elements(HTMLParser):
    """A page as a browser parses it: its elements, their attributes, and the texts of the scripts."""

    def __init__(self, html):
        super().__init__()
        self.found, self.scripts, self.inside = [], [], False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, *(name for name, _ in attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


def manifest(text):
    """The manifest of a run with this text wherever a text may be."""
    step = {
        "index": 1,
        "sigma": 1.0,
        "at": 0.1,
        "show": text,
        "files": [f"{text}.png"],
        "latent": text,
        "decode_ms": 1.0,
    }
    return {
        "format": "safelight.run/1",
        "id": text,
        "state": "finished",
        "started": text,
        "seconds": 1.0,
        "host": {"name": text, "node": text},
        "space": text,
        "decoder": {"name": text, "kind": text, "scale": 1, "source": text},
        "sampler": {
            "steps": 1,
            "sigmas": [1.0, 0.0],
            "seed": text,
            "cfg": text,
            "name": text,
            "scheduler": text,
            text: text,
        },
        "picture": None,
        "steps": [step],
        "sheet": text,
        "animation": text,
        "page": text,
        "notes": [text],
        text: text,
    }


PLAIN = Elements(document(manifest("plain"), SCRIPT).html)


@given(text=TEXTS)
@example(text="".join(HOSTILE))
def test_no_text_becomes_an_element_or_a_script(text):
    page = document(manifest(text), SCRIPT)
    parsed = Elements(page.html)
    assert parsed.found == PLAIN.found
    # The first one has the translations.
    assert json.loads(parsed.scripts[1]) == json.loads(json.dumps(manifest(text)))
    assert parsed.scripts[2] == SCRIPT
    page.html.encode("ascii" if page.html.isascii() else "utf-8")


@given(text=TEXTS)
def test_no_text_changes_the_content_security_policy(text):
    page = document(manifest(text), SCRIPT)
    assert page.policy == document(manifest("plain"), SCRIPT).policy
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert f'content="{page.policy}"' in page.html
    assert "unsafe-inline" not in page.policy.partition("script-src")[2].partition(";")[0]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_name_of_a_served_folder_stays_a_text(text):
    page = Elements(document({"folder": text}, SCRIPT, connect_src="'self'").html)
    assert page.found == PLAIN.found
    assert json.loads(page.scripts[1]) == {"folder": text}


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_add_no_element_to_a_notebook_cell(text):
    whole = embedded_page(manifest(text), {f"{text}.png": b"<script>alert(1)</script>"})
    assert [element[0] for element in Elements(whole).found].count("script") == 3
    cell = Elements(page_in_frame(whole, (8, 8), text, alt=text))
    assert [element[0] for element in cell.found] == ["div", "img", "iframe"]
    assert cell.found[1] == ("img", "alt", "src", "width", "style")


def test_the_viewer_s_modules_never_parse_texts_as_markup():
    for name in ("page", "embedded"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", bundle(name)
        )


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_contains_control_characters_in_a_terminal(text):
    assert printable(text).isprintable()
