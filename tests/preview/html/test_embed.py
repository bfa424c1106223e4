"""A page with its pictures inside: as many as fit, counted from the last one."""

import re
from html import unescape

import pytest
from safelight.preview.html.embed import MIN_FRAME_HEIGHT_PX, embedded_page, page_in_frame, pictures_that_fit


def a_run(folder, sizes):
    """A folder with a picture of each size in bytes, and its manifest; a step of size None has no picture."""
    steps = []
    for index, size in enumerate(sizes, 1):
        name = f"step_{index:04d}.jpg"
        if size is not None:
            (folder / name).write_bytes(bytes(size))
        steps.append({"index": index, "files": [] if size is None else [name]})
    return {"steps": steps, "notes": []}


@pytest.mark.parametrize(
    ("sizes", "max_bytes", "read", "every"),
    [
        ([10] * 6, 60, {1, 2, 3, 4, 5, 6}, 1),
        ([10] * 6, 59, {2, 4, 6}, 2),
        ([10] * 6, 20, {3, 6}, 3),
        ([10] * 6, 1, {6}, 6),
        ([10, None, 10, None], 20, {1, 3}, 1),
        ([], 10, set(), 1),
    ],
)
def test_pictures_of_every_nth_step_are_read_and_always_the_last_one(tmp_path, sizes, max_bytes, read, every):
    found = pictures_that_fit(tmp_path, a_run(tmp_path, sizes), max_bytes)
    assert found == ({f"step_{index:04d}.jpg": bytes(10) for index in read}, every)


def test_a_page_loads_only_from_itself(tmp_path):
    page = embedded_page(a_run(tmp_path, [3]), {"step_0001.jpg": b"abc"})
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1])
    assert "default-src 'none'" in policy
    assert "connect-src blob:" in policy
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    assert "YWJj" in page


def test_a_step_without_its_picture_becomes_a_step_without_files(tmp_path):
    manifest = a_run(tmp_path, [3, 3])
    page = embedded_page(manifest, {"step_0002.jpg": b"abc"})
    assert '"files": []' in page
    assert '"files": ["step_0002.jpg"]' in page
    assert manifest["steps"][0]["files"] == ["step_0001.jpg"]


@pytest.mark.parametrize(
    ("shown", "height"), [((640, 640), 694), ((1280, 640), 374), ((640, 6400), 694), ((640, 10), 320)]
)
def test_a_frame_has_the_aspect_ratio_of_the_picture_within_limits(shown, height):
    assert f"height: {height}px" in page_in_frame("<p>", shown, "data:,")
    assert height >= MIN_FRAME_HEIGHT_PX
