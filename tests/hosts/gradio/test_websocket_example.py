"""The example that sends every step over a websocket."""

import importlib.util
import io
import warnings
from pathlib import Path

import pytest
import safelight
from PIL import Image
from safelight.hosts.local_server import AccessRules

SCRIPT = Path(safelight.__file__).parent / "example_scripts" / "serve_steps_over_a_websocket.py"
pytest.importorskip("fastapi", reason="fastapi is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette names the package that its test client prefers
    testclient = pytest.importorskip("fastapi.testclient", reason="the test client of fastapi is not installed")
WebSocketDisconnect = importlib.import_module("fastapi").WebSocketDisconnect


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("safelight_websocket_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def calls(example, monkeypatch):
    """Replaces `previews`: it yields four pictures, and stores its arguments and whether it was closed."""
    calls = []

    def previews(pipe, prompt, **arguments):
        calls.append([pipe, prompt, arguments, "running"])
        try:
            for level in (40, 80, 120, 160):
                yield Image.new("RGB", (16, 8), (level,) * 3)
        finally:
            calls[-1][3] = "ended"

    monkeypatch.setattr(example, "previews", previews)
    return calls


RULES = AccessRules()


def client_of(example, base_url="http://127.0.0.1:8000"):
    """A browser that has opened the address with the key."""
    client = testclient.TestClient(example.create_app("a pipeline", RULES, 7), base_url)
    assert client.get(RULES.with_key("/")).status_code == 200
    return client


def connected(client, origin="http://127.0.0.1:8000"):
    address = str(client.base_url).replace("http", "ws", 1)
    return client.websocket_connect(f"{address}/steps", headers={"origin": origin})


def test_every_step_and_the_final_image_are_sent_as_jpeg(example, calls):
    with connected(client_of(example)) as socket:
        socket.send_text("a lighthouse")
        images = [Image.open(io.BytesIO(socket.receive_bytes())) for _ in range(4)]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_bytes()
    assert [image.format for image in images] == ["JPEG"] * 4
    assert [round(image.getpixel((0, 0))[0], -1) for image in images] == [40, 80, 120, 160]
    assert calls == [["a pipeline", "a lighthouse", {"num_inference_steps": 7}, "ended"]]


def test_a_browser_that_leaves_before_its_prompt_starts_no_run(example, calls):
    with connected(client_of(example)):
        pass
    assert calls == []


def test_pages_of_other_sites_and_browsers_without_the_key_are_refused(example, calls):
    client = client_of(example)
    stranger = testclient.TestClient(client.app, "http://127.0.0.1:8000")
    assert stranger.get("/").status_code == 403
    rebound = testclient.TestClient(client.app, "http://evil.example", cookies=client.cookies)
    for caller, origin in (
        (client, "http://evil.example"),
        (stranger, "http://127.0.0.1:8000"),
        (rebound, "http://evil.example"),
    ):
        with pytest.raises(WebSocketDisconnect), connected(caller, origin):
            pass
    assert calls == []


def test_the_page_connects_to_the_websocket(example):
    page = client_of(example).get("/")
    assert "/steps" in page.text
