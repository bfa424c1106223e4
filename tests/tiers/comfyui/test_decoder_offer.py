"""A published decoder that the viewer offers on a real server: once, and downloaded on request only."""

import hashlib
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from safelight.decoders.files.download import SERVER_VARIABLE
from safelight.decoders.published_decoders import PUBLISHED_DECODERS

from .conftest import FOLDER, KEY, serving

TAEF1 = PUBLISHED_DECODERS["taef1"]
CONTENT = b"not the published file"


@pytest.fixture(scope="module")
def raw_files():
    """A server of raw files with another content at every address; it records the requests."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def offering(tmp_path_factory, raw_files):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SERVER_VARIABLE, raw_files[0])
        with serving(tmp_path_factory.mktemp("offer"), FOLDER) as server:
            yield server


def live_run(server, wire, latent_format="Flux"):
    """The address and the manifest of a finished run."""
    played = server.play(wire(latent_format, preview={}))
    assert played.ends == ["execution_success"]
    run = played.named("safelight.step")[-1].data["run"]
    return run, server.get(f"/safelight/runs/{run}").json()


def test_the_first_run_of_a_space_offers_a_decoder_and_its_file_is_checked(offering, wire, raw_files):
    run, manifest = live_run(offering, wire)
    (text,) = manifest["notes"]
    assert text.startswith("a better decoder for FLUX.1 is published: taef1, 4.9 MB, license MIT. ")
    assert "safelight get taef1" in text
    assert manifest["offers"] == {text: "taef1"}
    assert raw_files[1] == []

    reply = offering.post(f"/safelight/runs/{run}/decoders/taef1", {}, KEY)
    assert reply.status == HTTPStatus.BAD_GATEWAY
    found = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    assert f"expected git's id {TAEF1.blob}, got {found}" in reply.json()["error"]
    assert raw_files[1] == [f"/{TAEF1.place}"]
    assert [path.name for path in (offering.models / "safelight").iterdir()] == ["trials.json"]

    assert offering.post(f"/safelight/runs/{run}/decoders/taef1", {}).status == HTTPStatus.FORBIDDEN
    assert offering.post(f"/safelight/runs/{run}/decoders/taesd", {}, KEY).status == HTTPStatus.NOT_FOUND
    assert offering.post("/safelight/runs/nowhere/decoders/taef1", {}, KEY).status == HTTPStatus.NOT_FOUND


def test_the_next_run_of_the_space_offers_nothing_and_another_space_has_its_own_offer(offering, wire):
    _, manifest = live_run(offering, wire)
    assert (manifest["notes"], "offers" in manifest) == ([], False)
    _, manifest = live_run(offering, wire, "SDXL")
    assert list(manifest["offers"].values()) == ["taesdxl"]
