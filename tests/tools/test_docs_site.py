"""The site of the documentation: its links, and its page of options."""

from pathlib import Path

import pytest
import safelight
from safelight.tools.docs_site import PLACES, with_site_links
from safelight.tools.options_page import COMMAND, page

ROOT = Path(safelight.__file__).parent
REPOSITORY = "https://example.org/repository"


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("README.md", "docs/comfyui.md#the-nodes", "comfyui.md#the-nodes"),
        ("README.md", "docs/viewer.webp", "viewer.webp"),
        ("docs/comfyui.md", "../README.md#install", "index.md#install"),
        ("docs/comfyui.md", "library.md", "library.md"),
        ("docs/comfyui.md", "../web/docs/SafelightPreview.md#inputs", "nodes/SafelightPreview.md#inputs"),
        ("web/docs/SafelightPreview.md", "SafelightPreview.jpg", "SafelightPreview.jpg"),
        ("web/docs/SafelightPreview.md", "../../docs/run.md", "../run.md"),
        ("weights/README.md", "../docs/decoders-and-fitting.md#videos", "decoders-and-fitting.md#videos"),
        ("docs/comfyui.md", "../example_workflows", f"{REPOSITORY}/blob/main/example_workflows"),
        ("docs/cost.md", "../preview/cadence.py", f"{REPOSITORY}/blob/main/preview/cadence.py"),
    ],
)
def test_a_link_leads_to_a_page_of_the_site_or_to_a_file_of_the_repository(source, target, expected):
    assert with_site_links(f"See [`it`]({target}).", source, REPOSITORY) == f"See [`it`]({expected})."


@pytest.mark.parametrize(
    "text",
    [
        "[elsewhere](https://example.com/a.md)",
        "[mail](mailto:someone@example.com)",
        "[here](#a-heading)",
        "```text\n[x](../README.md)\n```",
    ],
)
def test_other_links_and_code_stay_as_they_are(text):
    assert with_site_links(text, "docs/comfyui.md", REPOSITORY) == text


def test_only_files_get_a_place_on_the_site():
    """The help pages of other languages are in folders beside the English ones."""
    assert any(path.is_dir() for path in (ROOT / "web/docs").iterdir())
    assert [source for source in PLACES if not (ROOT / source).is_file()] == []


def test_each_page_has_its_place_in_the_menu():
    """MkDocs says the same, but only where it is installed."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    pages += [place for place in PLACES.values() if place.endswith(".md")]
    assert [place for place in pages if f": {place}\n" not in menu] == []


def test_the_page_of_options_is_the_one_that_the_code_writes():
    written = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert written == page(), f"run .venv/bin/{COMMAND}"
