"""Which files the page of gradio gives out."""

import gc
import os
import stat
import zipfile

import pytest
from safelight.hosts.gradio.served_files import FILE_ROUTE, ServedFiles

PICTURES = [("step_0001.webp", "step 1"), ("result.png", "finished")]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "steps_00001"
    folder.mkdir(parents=True)
    for name, _ in PICTURES:
        (folder / name).write_text(f"a picture {name}")
    (folder / "step_0001").mkdir()
    (folder / "step_0001" / "frame_0001.png").write_text("a frame")
    for name in ("index.html", ".env", "drawing.svg"):
        (folder / name).write_text("secret")
    return folder


@pytest.fixture
def files():
    return ServedFiles()


def asked(files, path):
    return files.refusal("GET", f"{FILE_ROUTE}{path}")


def test_a_run_s_pictures_and_its_archive_are_given_out(files, run):
    served = files.new_run(run, PICTURES)
    for name, _ in PICTURES:
        copy = served.picture(name)
        assert copy.read_text() == f"a picture {name}"
        assert asked(files, copy) is None
    archive = served.archive()
    assert asked(files, archive) is None
    with zipfile.ZipFile(archive) as packed:
        assert packed.read("steps_00001/index.html") == b"secret"
        assert packed.read("steps_00001/step_0001/frame_0001.png") == b"a frame"
    assert files.refusal("GET", "/assets/index.js") is None


@pytest.mark.parametrize("name", ["index.html", ".env", "drawing.svg", "step_0001.webp", "result.png", "../secret.png"])
def test_nothing_is_given_out_from_the_folder_of_runs(files, run, name):
    assert "only pictures" in asked(files, run / name)


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "notes.txt", "zip", "x.PNG.html", ".env"])
def test_only_pictures_and_archives_are_given_out(files, name):
    (files.folder / name).write_text("secret")
    assert "only pictures" in asked(files, files.folder / name)


@pytest.mark.parametrize("path", ["", "a\0.png", "x" * 5000 + ".png", "http://example.com/a.png", "..", "/etc/passwd"])
def test_other_paths_are_refused(files, path):
    assert asked(files, path) is not None


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_not_followed(files, run, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_text("secret")
    (files.folder / "link.png").symlink_to(secret)
    assert asked(files, files.folder / "link.png") is not None
    (run / "step_0001.webp").unlink()
    (run / "step_0001.webp").symlink_to(secret)
    served = files.new_run(run, PICTURES)
    with pytest.raises(OSError):  # noqa: PT011 - each system has its own words
        served.picture("step_0001.webp")
    with zipfile.ZipFile(served.archive()) as packed:
        assert "steps_00001/step_0001.webp" not in packed.namelist()


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/upload", "/gradio_api/proxy=http://example.com", "/gradio_api/file/x.png", "/gradio_api/runs"),
        *("/gradio_api/deep_link", "/gradio_api/process_recording", "/gradio_api/vibe-code", "/gradio_api/mcp/sse"),
    ],
)
def test_addresses_that_the_page_does_not_need_are_refused(files, path):
    assert "no such address" in files.refusal("POST", path)


def test_a_copy_that_gradio_has_deleted_is_made_again_and_a_new_run_in_the_same_folder_has_its_own(files, run):
    served = files.new_run(run, PICTURES)
    served.picture("result.png").unlink()
    assert served.picture("result.png").exists()
    (run / "result.png").write_text("another picture")
    assert files.new_run(run, PICTURES).picture("result.png").read_text() == "another picture"


@pytest.mark.skipif(os.name == "nt", reason="Windows has other access rights")
def test_other_accounts_cannot_read_the_folder_and_it_is_removed_at_the_end():
    files = ServedFiles()
    folder = files.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    del files
    gc.collect()
    assert not folder.exists()
