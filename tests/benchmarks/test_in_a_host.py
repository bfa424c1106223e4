"""The benchmark of a real ComfyUI: its options, its client, and a run if a ComfyUI is available."""

import json
import os
import socket
import struct

import pytest
from safelight.benchmarks import comfyui_server
from safelight.benchmarks.__main__ import main

HOST = ("SAFELIGHT_COMFYUI", "SAFELIGHT_COMFYUI_PYTHON")


@pytest.mark.parametrize("options", [["--comfyui", "x"], ["--comfyui-python", "x"], ["--only", "host"]])
def test_the_options_of_a_host_are_needed_together(options, capsys):
    with pytest.raises(SystemExit):
        main(options)
    assert "--comfyui" in capsys.readouterr().err


def test_a_node_gets_its_default_inputs():
    fields = {
        "model": ["MODEL"],
        "vae": ["VAE", {"tooltip": "no default"}],
        "old": [["a", "b"]],
        "new": ["COMBO", {"options": ["c", "d"], "default": "d"}],
        "number": ["INT", {"default": 0}],
    }
    info = {"input": {"required": fields, "optional": {"more": ["BOOLEAN", {"default": False}]}}}
    assert comfyui_server._default_inputs(info) == {"old": "a", "new": "d", "number": 0, "more": False}


@pytest.mark.parametrize("size", [5, 125, 126, 70_000])
def test_messages_of_every_length_are_read(size):
    long = b"" if size < 126 else struct.pack(">H", size) if size < 1 << 16 else struct.pack(">Q", size)
    length = size if size < 126 else 126 if size < 1 << 16 else 127
    response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    picture, text = bytes([0x82, 3]) + b"jpg", bytes([0x81, length]) + long + b"x" * size
    client, server = socket.socketpair()
    with client:
        with server:
            server.sendall(response)
            server.settimeout(60)
            messages = comfyui_server.messages(client)
            for part in (picture, text[:1], text[1:]):
                server.sendall(part)
            assert next(messages) == b"x" * size
        assert next(messages, None) is None


@pytest.mark.skipif(not all(os.environ.get(name) for name in HOST), reason=f"no ComfyUI: set {' and '.join(HOST)}")
@pytest.mark.timeout(400)
def test_a_real_comfyui_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(comfyui_server, "SAMPLER_STEPS", 3)
    monkeypatch.setattr(comfyui_server, "CALLBACK_ROUNDS", 1)
    checkout, python = (os.environ[name] for name in HOST)
    assert main(["--json", "--only", "host", "--comfyui", checkout, "--comfyui-python", python]) == 0
    rows = json.loads(capsys.readouterr().out)["host"]
    assert [row["case"] for row in rows] == [
        case for case in comfyui_server.SAMPLED for _ in range(len(comfyui_server.HOST_PREVIEWS) - 1)
    ]
    assert all(row["p50 us"] > 0 for row in rows)
