"""Tests downloads of published decoders, against a local server."""

import hashlib
import os
import re
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from safelight.decoders.files import download as module
from safelight.decoders.files.download import blob_id, download
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.published_decoders import PUBLISHED_DECODERS, published_decoder
from safelight.errors import AlteredFileError, DownloadError, UnknownDecoderError

CONTENT = bytes(range(256)) * 1000
BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
DECODER = replace(PUBLISHED_DECODERS["taesdxl"], blob=BLOB)
PATH = "/madebyollin/taesd/5cccb12dc72074a4be35680c3b108548a7c69978/taesdxl_decoder.pth"


class Server(ThreadingHTTPServer):
    """A server of one file.

    Attributes:
        content: bytes of the file.
        cuts: number of answers that end after a third of the rest.
        ranges: whether it answers ranges.
        asked: path and range of each request.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.ranges, self.asked = CONTENT, 0, True, []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if not self.path.endswith(PATH):
            self.send_error(404)
            return
        first = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1]) if server.ranges else 0
        if first >= len(server.content):
            self.send_error(416)
            return
        rest = server.content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            self.wfile.write(rest[: len(rest) // 3])
            self.close_connection = True
        else:
            self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def part_of(folder):
    return folder / f".taesdxl_decoder.pth.{BLOB[:12]}.part"


def test_a_file_is_downloaded_beside_its_place_and_renamed(tmp_path, server):
    seen = []
    folder = tmp_path / "new"

    def progress(have, total):
        seen.append((have, total))
        assert names(folder) == [part_of(folder).name]

    path = download(DECODER, folder, server=server.address, progress=progress)
    assert (path, path.read_bytes(), names(folder)) == (folder / "taesdxl_decoder.pth", CONTENT, [path.name])
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert server.asked == [(PATH, None)]


def test_a_broken_connection_is_resumed_where_it_stopped(tmp_path, server):
    server.cuts = 2
    assert download(DECODER, tmp_path, server=server.address).read_bytes() == CONTENT
    first, second = len(CONTENT) // 3, len(CONTENT) // 3 + (len(CONTENT) - len(CONTENT) // 3) // 3
    assert [asked for _, asked in server.asked] == [None, f"bytes={first}-", f"bytes={second}-"]


def test_a_connection_that_breaks_again_and_again_is_an_error_and_the_next_call_goes_on(tmp_path, server):
    server.cuts = module.MAX_ATTEMPTS
    with pytest.raises(
        DownloadError, match=r"the connection broke 4 times: .* bytes arrived; try again, which goes on"
    ):
        download(DECODER, tmp_path, server=server.address)
    assert names(tmp_path) == [part_of(tmp_path).name]
    have = part_of(tmp_path).stat().st_size
    assert download(DECODER, tmp_path, server=server.address).read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={have}-"


def test_a_server_without_ranges_sends_the_whole_file_again(tmp_path, server):
    server.cuts, server.ranges = 1, False
    assert download(DECODER, tmp_path, server=server.address).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more", b"x" * 1000], ids=["whole", "too long", "another"])
def test_what_an_earlier_call_left_is_used_only_if_it_belongs_to_the_file(tmp_path, server, left):
    part_of(tmp_path).write_bytes(left)
    assert download(DECODER, tmp_path, server=server.address).read_bytes() == CONTENT
    assert names(tmp_path) == ["taesdxl_decoder.pth"]


def test_another_content_is_refused_and_removed(tmp_path, server):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(AlteredFileError, match=rf"expected git's id {BLOB}, got [0-9a-f]{{40}} \(256,000 bytes\)"):
        download(DECODER, tmp_path, server=server.address)
    assert names(tmp_path) == []


def test_a_file_that_is_there_is_not_downloaded_again(tmp_path, server):
    path = tmp_path / "taesdxl_decoder.pth"
    path.write_bytes(CONTENT)
    assert download(DECODER, tmp_path, server=server.address) == path
    path.write_bytes(b"mine")
    with pytest.raises(AlteredFileError, match=r"move this taesdxl_decoder\.pth away"):
        download(DECODER, tmp_path, server=server.address)
    assert path.read_bytes() == b"mine"
    assert server.asked == []


def test_the_errors_of_a_server_and_of_a_missing_network_name_the_address(tmp_path, server):
    missing = replace(DECODER, path="nothing_decoder.pth")
    with pytest.raises(
        DownloadError, match=r"nothing_decoder\.pth: the server answered 404 Not Found; try again later"
    ):
        download(missing, tmp_path, server=server.address)
    address = "http://127.0.0.1:9"  # nothing listens there
    with pytest.raises(DownloadError) as caught:
        download(DECODER, tmp_path, server=address)
    assert str(caught.value) == (
        f"{address}{PATH}: cannot be reached: Connection refused; check the network, and https_proxy if there is a "
        f"proxy, or download {address}{PATH} with a browser and put the file into {tmp_path}"
    )


def test_a_proxy_of_the_environment_is_used(tmp_path, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    assert download(DECODER, tmp_path, server="http://raw.invalid").read_bytes() == CONTENT
    assert server.asked == [(f"http://raw.invalid{PATH}", None)]


def test_a_file_that_is_larger_than_any_decoder_is_refused(tmp_path, server, monkeypatch):
    monkeypatch.setattr(module, "MAX_DOWNLOAD_BYTES", 1000)
    with pytest.raises(DownloadError, match="sends more than 1,000 bytes"):
        download(DECODER, tmp_path, server=server.address)


@pytest.mark.parametrize("link", ["symlink", "link"])
def test_a_link_at_the_place_of_the_part_is_never_written_through(tmp_path, server, link):
    if not hasattr(os, link):
        pytest.skip(f"this system has no os.{link}")
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    folder = tmp_path / "decoders"
    folder.mkdir()
    getattr(os, link)(victim, part_of(folder))
    assert download(DECODER, folder, server=server.address).read_bytes() == CONTENT
    assert victim.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "header",
    [
        f"200 OK\r\nContent-Length: {'9' * 5000}",
        "302 Found\r\nLocation: http://a..b/",
        "302 Found\r\nLocation: http://[/x",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5",
    ],
    ids=["length", "no name", "no address", "chunk"],
)
def test_an_answer_that_makes_no_sense_is_an_error_of_the_download(tmp_path, header):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            for _ in range(4):
                with suppress(OSError):
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(1 << 16)
                        connection.sendall(f"HTTP/1.1 {header}\r\n\r\nabc".encode())

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises((DownloadError, AlteredFileError)):
            download(DECODER, tmp_path, server=f"http://127.0.0.1:{listening.getsockname()[1]}")


@pytest.mark.parametrize("server", ["foo", "http://[", "http://a..b", f"http://{'a' * 300}", "http://\ud800"])
def test_an_address_of_a_server_that_is_none_is_an_error_of_the_download(tmp_path, server):
    with pytest.raises(DownloadError, match="check the address of the server"):
        download(DECODER, tmp_path, server=server)


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path, server):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        DownloadError, match=r"cannot be written: .*; free some space, choose another folder, or download"
    ):
        download(DECODER, tmp_path / "file", server=server.address)


# The table


def test_the_id_of_a_file_is_that_of_git(tmp_path):
    (tmp_path / "a").write_bytes(b"what is up, doc?")  # the example of the Pro Git book
    assert blob_id(tmp_path / "a") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


@pytest.mark.parametrize("decoder", PUBLISHED_DECODERS.values(), ids=lambda decoder: decoder.name)
def test_each_published_decoder_is_pinned_and_its_file_name_means_its_space(decoder):
    assert re.fullmatch("[0-9a-f]{40}", decoder.blob)
    assert re.fullmatch(r"madebyollin/\w+/[0-9a-f]{40}/(safetensors/)?\w+\.(pth|safetensors)", decoder.place)
    assert decoder.file_name.startswith(SPACES[decoder.space].files)
    assert re.fullmatch(r"[\d.]+( to [\d.]+)? MB", decoder.size_text)
    assert decoder.licence == "MIT"


def test_no_two_published_decoders_share_a_file():
    assert len({decoder.blob for decoder in PUBLISHED_DECODERS.values()}) == len(PUBLISHED_DECODERS)


def test_an_unknown_name_gets_the_known_ones():
    assert published_decoder(" TAESD ").name == "taesd"
    with pytest.raises(
        UnknownDecoderError, match=r"no published decoder is named 'taexl'; there are: taesd, taesdxl, "
    ):
        published_decoder("taexl")
