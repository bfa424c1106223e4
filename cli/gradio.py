"""The `gradio` command."""

import argparse
import threading
from pathlib import Path
from typing import Any

import torch

from ..errors import describe
from ..hosts.gradio.app import import_gradio, launch, load
from ..hosts.local_server import usable_port
from ..preview.options import RunOptions
from ..preview.output_folder import absolute_path, expect_no_file
from ..preview.remote.address import is_address
from ..preview.run import FULL
from .decoder_choice import choose_decoder, expect_decoder
from .options import add_options
from .server_options import add_server_options, port_error, who_can_open
from .table import print_lines

GRADIO_OPTIONS = ("decoder", "show", "every_n_steps", "min_interval_s", "batch", "frames")


def add_command(commands: Any) -> None:
    """Adds `gradio` to the command line."""
    command = commands.add_parser("gradio", help="serve a page for a diffusers pipeline that shows every step")
    command.add_argument("--pipeline", type=Path, required=True, metavar="DIR", help="folder with model_index.json")
    command.add_argument("--out", type=folder_of, default=Path("runs"), help="folder of runs (%(default)s)")
    add_server_options(command, "port of the server; 0 for any free one (default: gradio's, or a free one)")
    command.add_argument("--share", action="store_true", help="ask gradio's servers for a public address")
    command.add_argument("--device", type=_device, help="device of the model (default: the first of cuda, mps, cpu)")
    command.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="dtype of the model (default: bfloat16 on cuda, else float32)",
    )
    command.add_argument("--offload", action="store_true", help="have only the model that is in use on the device")
    command.add_argument("--open", action=argparse.BooleanOptionalAction, default=False, help="open a browser")
    add_options(command, GRADIO_OPTIONS, {})
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    options = watch_options(arguments)
    expect_no_file(absolute_path(arguments.out), "--out")
    port = None if arguments.port is None else _expect_port(arguments.host, arguments.port)
    import_gradio()
    pipeline = load(arguments.pipeline, arguments.device, arguments.dtype, offload=arguments.offload)
    page = launch(
        pipeline,
        arguments.out,
        host=arguments.host,
        port=port,
        share=arguments.share,
        open_browser=arguments.open,
        **options,
    )
    try:
        print_lines(
            f"{type(pipeline).__name__} from {arguments.pipeline}: {page.local_url} (Ctrl-C ends it)",
            _who_can_open(page, arguments.host),
        )
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
    finally:
        page.close()
    return 0


def folder_of(text: str) -> Path:
    """The folder of runs that a user typed.

    Raises:
        ArgumentTypeError: it is the address of a store.
    """
    if is_address(text):
        raise argparse.ArgumentTypeError("expected a folder of this machine, whose pictures the page shows")
    return Path(text)


def watch_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `watch` among the arguments, checked before the pipeline is loaded.

    Raises:
        UnknownDecoderError: no decoder has this name, and no decoder file.
        OptionError: a value is not allowed.
    """
    options = {name: getattr(arguments, name) for name in GRADIO_OPTIONS}
    catalogue, options["decoder"] = choose_decoder(arguments.decoder)
    expect_decoder(catalogue, options["decoder"], others=[FULL])
    RunOptions.of(options)
    path = absolute_path(arguments.decoder)
    return options | ({"decoder_folder": path.parent} if path.is_file() else {})


def _who_can_open(page: Any, host: str) -> str:
    """A sentence about who can open the page."""
    if page.share_url:
        return f"Anyone who knows this address can use the page: {page.share_url}"
    return who_can_open(host, page.local_url)


def _expect_port(host: str, port: int) -> int:
    try:
        return usable_port(host, port)
    except OSError as error:
        raise port_error(port, error) from None


def _device(text: str) -> str:
    try:
        torch.empty(0, device=text)
    except Exception as error:  # PyTorch has an error class for each kind of device
        raise argparse.ArgumentTypeError(
            f"expected a device of this machine, such as cuda or cpu: {describe(error)}"
        ) from None
    return text
