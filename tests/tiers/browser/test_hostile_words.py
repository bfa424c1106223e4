"""A workflow whose every word is markup, on the live node in a real browser: it is read, and does nothing."""

import json

import pytest

from .conftest import _drive

# No slash: it is also the name of a file and of a folder.
HOSTILE = (
    """<img src=x onerror="window.hacked=1"><svg onload=window.hacked=2>"'&lt;`${window.hacked=3}` javascript:hacked"""
)


@pytest.fixture(scope="module")
def seen(browsed_server, tmp_path_factory):
    """What a browser saw of two such runs."""
    name = f"{HOSTILE}.safetensors"
    (browsed_server.models / "vae_approx" / name).write_bytes(b"this is no decoder")
    shots = tmp_path_factory.mktemp("hostile")
    return _drive(
        "hostile.mjs",
        url=f"http://127.0.0.1:{browsed_server.port}",
        profile=str(tmp_path_factory.mktemp("profile")),
        shots=str(shots),
        hostile=HOSTILE,
        decoder=name,
        prefix=f"hostile/{HOSTILE}",
    )


def test_nothing_of_it_runs(seen):
    assert (seen["hacked"], seen["dialogs"], seen["strange"]) == (None, [], [])


def test_nothing_of_it_becomes_an_element_of_the_viewer(seen):
    assert (seen["scripts"], seen["handlers"], seen["strangers"], seen["links"]) == (0, 0, 0, 0)


def test_it_is_shown_as_it_is(seen):
    assert HOSTILE in seen["seen"]["2"]["note"], "the note says which decoder could not be had"
    assert "prompt" in seen["seen"]["compared"]["differences"]
    assert HOSTILE in seen["text"]


def test_the_run_was_kept_under_that_name_and_its_page_holds_none_of_it_as_markup(seen, browsed_server):
    [*_, folder] = sorted((browsed_server.output / "hostile").iterdir())
    assert folder.name.startswith("<img src=x")
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["state"], len(manifest["steps"])) == ("finished", 6)
    assert any(HOSTILE in note for note in manifest["notes"])
    page = (folder / "index.html").read_text()
    assert 'onerror="window' not in page
    assert "<img src=x" not in page
