"""Adds the options of a web server to a command."""

import argparse
import socket
from urllib.parse import urlsplit

from ..errors import PageError, printable
from ..hosts.local_server import ALL_NETWORKS, LOOPBACK, AccessRules, in_url, usable_port

LAST_PORT = 65_535


def add_server_options(command: argparse.ArgumentParser, port_help: str) -> None:
    """Adds `--host` and `--port` to a command.

    Args:
        command: parser of the command.
        port_help: help of `--port`.
    """
    command.add_argument(
        "--host",
        type=_host,
        default=LOOPBACK,
        help=f"address to listen on (%(default)s: only this machine; {ALL_NETWORKS[0]}: all networks)",
    )
    command.add_argument("--port", type=_port, help=port_help)


def port_error(port: int, error: OSError) -> PageError:
    """The error for a port that cannot be used."""
    return PageError(f"port {port} cannot be used ({error.strerror}); choose another, or 0 for a free one")


def who_can_open(host: str, address: str) -> str:
    """A sentence about the machines that can open a page.

    Args:
        host: address or name on which the server listens.
        address: address of the page for this machine, with its key.
    """
    url = urlsplit(address)
    if AccessRules(host).is_local:
        return (
            f"Only this machine can open it. If it is a remote one, run `ssh -L {url.port}:{LOOPBACK}:{url.port} "
            "MACHINE` on yours and open the same address there; or use --host."
        )
    name = socket.gethostname() if host in ALL_NETWORKS else in_url(host)
    return f"Other machines can open it at http://{name}:{url.port}/?{url.query}"


def _host(text: str) -> str:
    try:
        usable_port(text, 0)
    except (OSError, UnicodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "not a name"
        raise argparse.ArgumentTypeError(
            f"expected an address or a name of this machine, got {printable(text)!r} ({reason})"
        ) from None
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or (port := int(text)) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to {LAST_PORT}, got {text!r}")
    return port
