"""Preview Steps sends ComfyUI's own preview messages on request: to whom, how many, and what is in them."""

import http.client
import io
import json
import struct

import pytest
from PIL import Image

from .conftest import FOLDER, JPEG_PREVIEW, KEY, PREVIEW_WITH_METADATA, SAMPLER, serving

SENT = {"send_previews": True}
BINARY = (f"binary{JPEG_PREVIEW}", f"binary{PREVIEW_WITH_METADATA}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server without previews of its own: ComfyUI 0.3.64 does not let a prompt choose."""
    with serving(tmp_path_factory.mktemp("comfyui"), FOLDER, "--preview-method", "none") as server:
        yield server


def metadata_of(event):
    (length,) = struct.unpack(">I", event.data[4:8])
    return json.loads(event.data[8 : 8 + length])


def distance(a, b):
    """The mean difference of two pictures in the size of the smaller one, 0 to 255."""
    size = min(a.size, b.size)
    pixels = [image.convert("RGB").resize(size, Image.Resampling.BOX).tobytes() for image in (a, b)]
    return sum(abs(x - y) for x, y in zip(*pixels, strict=True)) / len(pixels[0])


@pytest.mark.parametrize("metadata", [True, False], ids=["metadata", "plain"])
def test_a_client_gets_the_pictures_as_comfyuis_own_previews(server, wire, metadata):
    graph = wire(steps=6, step_ms=250.0, preview=SENT)
    played = server.play(graph, metadata_previews=metadata)
    kind = BINARY[1] if metadata else BINARY[0]
    assert {event.name for event in played.events if event.name in BINARY} == {kind}
    assert 2 <= len(played.previews) <= 6
    shown = [Image.open(io.BytesIO(content)) for content in played.previews]
    assert {(image.format, max(image.size)) for image in shown} == {("JPEG", 512)}
    run = played.named("safelight.run")[0].data["run"]
    steps = server.get(f"/safelight/runs/{run}").json()["steps"]
    first, last = (
        Image.open(io.BytesIO(server.get(f"/safelight/runs/{run}/{step['files'][0]}").body))
        for step in (steps[0], steps[-1])
    )
    assert distance(shown[0], first) < distance(shown[0], last), "the first one is that of the first step"
    assert distance(shown[-1], last) < distance(shown[-1], first), "the last one is that of the last step"
    if metadata:
        ids = [metadata_of(event) for event in played.named(kind)]
        assert {(each["node_id"], each["display_node_id"]) for each in ids} == {(SAMPLER, SAMPLER)}
        assert {(each["prompt_id"], each["image_type"]) for each in ids} == {(played.prompt_ids[0], "image/jpeg")}


def test_they_are_off_by_default(server, wire):
    assert server.play(wire(preview={})).previews == []


def test_no_other_client_gets_them(server, wire):
    played = server.play(wire(steps=4, step_ms=250.0, preview=SENT))
    assert played.previews
    assert [event for event in played.overheard if event.name in BINARY] == []


def test_fast_steps_send_few_of_them(server, wire):
    played = server.play(wire(steps=60, step_ms=10.0, preview=SENT))
    run = played.named("safelight.run")[0].data["run"]
    seconds = server.get(f"/safelight/runs/{run}").json()["seconds"]
    assert 1 <= len(played.previews) <= seconds / 0.2 + 2, "five a second, and the last"


def test_the_result_is_the_same_with_and_without_them(server, wire):
    graph = wire(preview=SENT)
    sent = server.play(graph)
    assert sent.digest == server.play(wire.without_preview(graph)).digest


def test_a_video_moves_in_the_stream_for_browsers(server, wire):
    played = server.play(wire("Wan21", frames=3, flow=True, preview={"frames": "animated"}))
    assert played.ends == ["execution_success"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", "/safelight/live.webp", headers={"Safelight-Key": KEY})
        answer = connection.getresponse()
        head = [answer.readline()]
        while head[-1] != b"\r\n":
            head.append(answer.readline())
        (length,) = [int(line.split(b":")[1]) for line in head if line.startswith(b"Content-Length")]
        content = answer.read(length)
    finally:
        connection.close()
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.n_frames > 1) == ("WEBP", True)
