"""ComfyUI's live page, events and stream of pictures: what they show, to whom, and how many there are."""

import asyncio
import io
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.hosts.comfyui import live_page
from safelight.hosts.comfyui.owners import KEY_HEADER, Owners
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.sinks.live_runs import LiveRuns
from safelight.preview.step import StepInfo

KEY, OTHER = "the key of a browser", "the key of another one"


def picture(index):
    return DecodedPicture(
        step=StepInfo(index=index, total=2, sigma=1.0, show="denoised", at_s=0.5 * index),
        pixels=None,
        shown=(8, 8),
        card=Card(name="d", space="sd1", kind="test", source="a test"),
        decode_ms=1.0,
    )


class Served:
    """Live runs and the routes of the live page."""

    def __init__(self, root):
        self.runs, self.owners, self._root = LiveRuns(), Owners(), root

    def begin(self, key=KEY):
        live = self.runs.new(Run(host={"workflow_id": "w", "node": "4"}), self._root, self.owners.of(key))
        live.folder.open()
        self.step(live, 1)
        return live

    @staticmethod
    def step(live, index, content=None):
        name = f"step_{index:04d}.{'jpg' if content is None else 'webp'}"
        live.folder.write(name, f"picture {index}".encode() if content is None else content)
        live.folder.record(picture(index), name)

    def use(self, scenario):
        """Runs `await scenario(client)` on a server."""

        async def serve():
            table = web.RouteTableDef()
            live_page.register_live(table, self.runs, self.owners)
            live_page.register_live(table, self.runs, self.owners)  # a second copy of the pack adds nothing
            app = web.Application()
            app.add_routes(table)
            async with TestClient(TestServer(app)) as client:
                return await asyncio.wait_for(scenario(client), 30)

        return asyncio.run(serve())


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setattr(live_page, "LOOK_S", 0.01)
    return Served(tmp_path / "live")


async def until(stream, text, times=1):
    """What a stream sends until it has sent a text so many times."""
    content = b""
    while content.count(text.encode()) < times:
        part = await stream.content.readany()
        assert part, content
        content += part
    return content.decode(errors="replace")


def test_the_page_has_no_run_in_it_and_may_only_ask_its_own_server(served):
    live = served.begin()

    async def scenario(client):
        async with client.get(live_page.BASE) as answer:
            return answer.status, answer.headers, await answer.text()

    status, headers, html = served.use(scenario)
    assert (status, headers["Cache-Control"], headers["Referrer-Policy"]) == (200, "no-store", "no-referrer")
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Content-Security-Policy"].endswith("; frame-ancestors 'self'"), "no other site shows it in a frame"
    assert live.address not in html
    assert "Safelight.LiveKey" in html


@pytest.mark.parametrize("path", ["/events", ".mjpg", ".webp"])
@pytest.mark.parametrize("key", [None, "short"])
def test_a_stream_needs_a_key(served, path, key):
    served.begin()

    async def scenario(client):
        async with client.get(live_page.BASE + path, headers={KEY_HEADER: key} if key else {}) as answer:
            return answer.status, (await answer.json())["error"]

    status, error = served.use(scenario)
    assert status == 403
    assert "send a key" in error


def test_events_are_the_runs_of_the_key_and_their_changes(served):
    foreign, live = served.begin(OTHER), served.begin()

    async def scenario(client):
        async with client.get(live_page.BASE + "/events", headers={KEY_HEADER: KEY}) as stream:
            assert stream.headers["Content-Type"] == "text/event-stream"
            begun = await until(stream, live.address)
            served.step(live, 2)
            stepped = await until(stream, "step_0002.jpg")
            live.folder.close("finished")
            ended = await until(stream, '"finished"')
            return begun, stepped, ended

    begun, stepped, ended = served.use(scenario)
    assert foreign.address not in begun + stepped + ended
    data = json.loads(ended.split("data: ")[-1].split("\n")[0])
    assert (data["id"], data["state"], data["steps"]) == (live.address, "finished", 2)


@pytest.mark.parametrize("ending", ["mjpg", "webp"])
def test_the_stream_of_pictures_has_each_new_picture_in_order(served, ending):
    live = served.begin()

    async def scenario(client):
        async with client.get(f"{live_page.BASE}.{ending}?key={KEY}") as stream:
            first = await until(stream, "picture 1")
            served.step(live, 2)
            second = await until(stream, "picture 2")
            return stream.headers["Content-Type"], first + second

    kind, content = served.use(scenario)
    assert kind == f"multipart/x-mixed-replace; boundary={live_page.BOUNDARY}"
    head = f"--{live_page.BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n"
    parts = [part.strip() for part in content.split(head)[1:]]
    assert list(dict.fromkeys(parts)) == ["picture 1", "picture 2"]
    assert max(parts.count(part) for part in parts) <= live_page.SENDINGS


def test_a_picture_after_which_none_comes_is_sent_a_second_time_so_that_a_browser_shows_it(served):
    live = served.begin()

    async def scenario(client):
        async with client.get(f"{live_page.BASE}.webp?key={KEY}") as stream:
            content = await until(stream, "picture 1", times=2)
            served.step(live, 2)
            return content + await until(stream, "picture 2")

    assert served.use(scenario).count("picture 1") == 2


@pytest.fixture
def video():
    """An animated WebP of four frames, from black to white."""
    frames = [Image.new("RGB", (12, 8), (level,) * 3) for level in (0, 80, 160, 255)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    return file.getvalue()


async def part_of(stream):
    """The content type and the content of the first part of a stream."""
    assert await stream.content.readuntil(b"\r\n") == f"--{live_page.BOUNDARY}\r\n".encode()
    kind, length = [(await stream.content.readuntil(b"\r\n")).decode().split(": ")[1] for _ in range(2)]
    assert await stream.content.readuntil(b"\r\n") == b"\r\n"
    return kind.strip(), await stream.content.readexactly(int(length))


@pytest.mark.parametrize(("ending", "kind", "frames"), [("webp", "image/webp", 4), ("mjpg", "image/jpeg", 1)])
def test_a_video_moves_in_the_stream_for_browsers_and_is_a_jpeg_for_recording_programs(
    served, video, ending, kind, frames
):
    live = served.begin()
    served.step(live, 2, video)

    async def scenario(client):
        async with client.get(f"{live_page.BASE}.{ending}?key={KEY}") as stream:
            return await part_of(stream)

    found, content = served.use(scenario)
    with Image.open(io.BytesIO(content)) as image:
        assert (found, image.format, getattr(image, "n_frames", 1), image.size) == (
            kind,
            kind.removeprefix("image/").upper(),
            frames,
            (12, 8),
        )
        assert max(image.convert("RGB").getpixel((6, 4))) < 10, "its first frame is black"


@pytest.mark.parametrize("ending", ["mjpg", "webp"])
def test_the_stream_shows_nothing_of_another_browser(served, ending):
    served.begin(OTHER)

    async def scenario(client):
        async with client.get(f"{live_page.BASE}.{ending}?key={KEY}") as stream:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.content.readany(), 0.1)

    served.use(scenario)


def test_the_number_of_streams_is_limited_and_a_closed_one_is_free_again(served, monkeypatch):
    monkeypatch.setattr(live_page, "MAX_STREAMS", 1)
    served.begin()

    async def scenario(client):
        path, headers = live_page.BASE + "/events", {KEY_HEADER: KEY}
        async with client.get(path, headers=headers) as stream:
            await until(stream, "event: run")
            async with client.get(path, headers=headers) as refused:
                assert refused.status == 503
        served.begin()  # the next write notices that the client has left
        for _ in range(200):
            async with client.get(path, headers=headers) as again:
                if again.status == 200:
                    return True
            await asyncio.sleep(0.01)
        return False

    assert served.use(scenario)
