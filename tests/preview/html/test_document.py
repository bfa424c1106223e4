"""The page around the viewer: every text stays a text, and only the viewer's script may run."""

import base64
import hashlib
import html.parser
import json
import re

import pytest
from safelight.preview.html.bundle import bundle
from safelight.preview.html.document import document, script_safe_json

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "<img src=x onerror=alert(1)>",
    "&lt;script&gt;",
    "\u2028\u2029\0\x7f",
    '"\\',
    "{script} {0} %s",
    "\ud800",
]


class Reader(html.parser.HTMLParser):
    """A page as a browser parses it: its elements, and the texts of its scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self._in = [], [], None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_run_can_become_markup_or_script(text):
    plain = Reader(document({"format": "x", "text": "plain"}, "go()").html)
    page = document({"format": "x", "text": text, text: [text]}, "go()").html
    read = Reader(page)
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in plain.tags]
    assert json.loads(read.scripts[1]) == {"format": "x", "text": text, text: [text]}
    assert read.scripts[2] == "go()"
    assert script_safe_json(text).isascii()
    assert not set(script_safe_json(text)) & set("<>&\u2028\u2029")


def test_only_the_script_of_the_page_may_run():
    page = document({}, bundle("page"))
    read = Reader(page.html)
    *_, script = read.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [meta["content"] for meta in read.attributes("meta") if "http-equiv" in meta]
    assert policy == page.policy
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives["script-src"] == f"'sha256-{digest}'"
    assert directives["default-src"] == "'none'"
    assert "connect-src" not in directives
    assert [attributes.get("type") for attributes in read.attributes("script")] == [*["application/json"] * 2, "module"]


def test_the_page_loads_no_other_file_and_uses_no_network():
    read = Reader(document({"format": "safelight.run/1"}, bundle("page")).html)
    named = [value for _, attributes in read.tags for key, value in attributes.items() if key in ("src", "href")]
    assert named == ["data:,"]
    urls = set(re.findall(r"https?://[\w./-]+", " ".join(read.scripts)))
    assert urls <= {"http://www.w3.org/2000/svg"}


def test_values_without_a_json_form_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        document({"cfg": float("nan")}, "")
