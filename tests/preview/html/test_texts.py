"""The translations that pages contain: one blob for each language, which the browser's script unpacks."""

import base64
import gzip
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from safelight.preview.html import texts

NODE = shutil.which("node")
SCRIPT = """
import { t } from "%(web)s/language.mjs";
import { sentText } from "%(web)s/sent-texts.mjs";
import { useBrowserLanguage } from "%(web)s/page-language.mjs";
const packed = await new Promise((resolve) => process.stdin.once("data", (data) => resolve(String(data))));
const navigator = { languages: ["xx-YY"] };
const getElementById = () => ({ textContent: packed });
const document = { documentElement: {}, getElementById, defaultView: { navigator } };
await useBrowserLanguage(document);
const shown = [t("Step {step}", { step: 3 }), t("new"), sentText("the node failed: it")];
console.log(JSON.stringify([document.documentElement, ...shown]));
"""


@pytest.fixture
def locales(tmp_path, monkeypatch):
    """Two languages with a few texts."""
    monkeypatch.setattr(texts, "LOCALES", tmp_path)
    for function in (texts.texts_of, texts.packed_texts):
        function.cache_clear()

    def write(language, viewer, notes):
        (tmp_path / language).mkdir()
        (tmp_path / language / "viewer.json").write_text(json.dumps(viewer), "utf-8")
        (tmp_path / language / "notes.json").write_text(json.dumps(notes), "utf-8")

    write("en", {"a": {"Step {step}": ""}, "b": {"new": ""}}, {"notes": {"the node failed: {error}": ""}})
    write(
        "xx", {"a": {"Step {step}": "Schritt {step}"}, "b": {}}, {"notes": {"the node failed: {error}": "aus: {error}"}}
    )
    yield tmp_path
    for function in (texts.texts_of, texts.packed_texts):
        function.cache_clear()


def unpacked(blob):
    return json.loads(gzip.decompress(base64.b64decode(blob)))


def test_a_language_is_a_folder_with_texts_of_the_viewer(locales):
    (locales / "yy").mkdir()
    assert texts.languages() == ["xx"]


def test_a_page_has_the_keys_and_the_translations_in_their_order(locales):
    packed = json.loads(texts.packed_texts())
    assert unpacked(packed["keys"]) == {"texts": ["Step {step}", "new"], "patterns": ["the node failed: {error}"]}
    assert unpacked(packed["languages"]["xx"]) == {"texts": ["Schritt {step}", None], "patterns": ["aus: {error}"]}


def test_a_file_that_cannot_be_read_counts_as_empty(locales):
    (locales / "xx" / "viewer.json").write_text("{", "utf-8")
    assert texts.texts_of("xx") == {
        "language": "xx",
        "texts": {},
        "patterns": {"the node failed: {error}": "aus: {error}"},
    }


@pytest.mark.skipif(NODE is None, reason="no Node on the path")
def test_the_script_of_a_page_unpacks_the_language_of_the_browser(locales):
    script = SCRIPT % {"web": (Path(texts.__file__).parents[2] / "web").as_uri()}
    ran = subprocess.run(
        [NODE, "--input-type=module", "-e", script],
        check=True,
        input=texts.packed_texts(),
        capture_output=True,
        text=True,
    )
    assert json.loads(ran.stdout) == [{"lang": "xx", "dir": "ltr"}, "Schritt 3", "new", "aus: it"]
