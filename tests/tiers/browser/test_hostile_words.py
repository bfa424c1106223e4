"""A workflow whose texts are all markup, on the live node in a real browser: the markup is shown and never runs."""

import json

import pytest

from .conftest import _drive

# Without a slash, because it is also the name of a file.
HOSTILE = (
    """<img src=x onerror="window.hacked=1"><svg onload=window.hacked=2>"'&lt;`${window.hacked=3}` javascript:hacked"""
)
FOLDER = "'&lt;`${window.hacked=3}` onerror=hacked"  # a folder's name cannot hold more: < > : " are refused


@pytest.fixture(scope="module")
def seen(browsed_server, tmp_path_factory):
    """What the node shows of two such runs."""
    name = f"{HOSTILE}.safetensors"
    decoder = browsed_server.models / "vae_approx" / name
    decoder.write_bytes(b"not a decoder")
    shots = tmp_path_factory.mktemp("hostile")
    yield _drive(
        "hostile.mjs",
        url=f"http://127.0.0.1:{browsed_server.port}",
        profile=str(tmp_path_factory.mktemp("profile")),
        shots=str(shots),
        hostile=HOSTILE,
        decoder=name,
        prefix=f"hostile/{FOLDER}",
    )
    decoder.unlink()


def test_the_markup_does_not_run(seen):
    assert (seen["hacked"], seen["dialogs"], seen["requests"]) == (None, [], [])


def test_the_markup_adds_no_element_to_the_viewer(seen):
    assert (seen["scripts"], seen["handlers"], seen["foreign_pictures"], seen["links"]) == (0, 0, 0, 0)


def test_the_markup_is_shown_as_text(seen):
    assert HOSTILE in seen["seen"]["2"]["note"], "the note names the decoder that could not be loaded"
    assert "prompt" in seen["seen"]["compared"]["differences"]
    assert HOSTILE in seen["text"]


def test_the_run_is_saved_under_that_name_and_its_page_contains_no_markup_of_it(seen, browsed_server):
    [*_, folder] = sorted((browsed_server.output / "hostile").iterdir())
    assert folder.name.startswith(FOLDER)
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["state"], len(manifest["steps"])) == ("finished", 6)
    assert any(HOSTILE in note for note in manifest["notes"])
    page = (folder / "index.html").read_text()
    assert 'onerror="window' not in page
    assert "<img src=x" not in page
