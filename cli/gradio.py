"""The `gradio` command."""

import argparse
import threading
from pathlib import Path
from typing import Any

from ..errors import UnknownDecoderError
from ..hosts.gradio.app import LOCAL_ADDRESS, import_gradio, launch, load
from ..preview.options import RunOptions
from ..preview.output_folder import absolute_path
from ..preview.run import FULL
from .decoder_choice import choose_decoder
from .options import add_options

GRADIO_OPTIONS = ("decoder", "show", "every_n_steps", "min_interval_s", "batch", "frames")


def add_command(commands: Any) -> None:
    """Adds `gradio` to the command line."""
    command = commands.add_parser("gradio", help="serve a page for a diffusers pipeline that shows every step")
    command.add_argument("--pipeline", type=Path, required=True, metavar="DIR", help="folder with model_index.json")
    command.add_argument("--out", type=Path, default=Path("runs"), help="folder of runs (%(default)s)")
    command.add_argument("--port", type=int, help="port of the server (default: gradio's, or a free one)")
    command.add_argument(
        "--host",
        default=LOCAL_ADDRESS,
        help="address to listen on (%(default)s: only this machine; 0.0.0.0: all networks)",
    )
    command.add_argument(
        "--share", action="store_true", help="ask gradio's servers for a public address; the page has no password"
    )
    command.add_argument("--device", default=None, help="device of the model (default: the first of cuda, mps, cpu)")
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
    import_gradio()
    pipeline = load(arguments.pipeline, arguments.device, arguments.dtype, offload=arguments.offload)
    page = launch(
        pipeline,
        arguments.out,
        host=arguments.host,
        port=arguments.port,
        share=arguments.share,
        open_browser=arguments.open,
        **options,
    )
    print(f"{type(pipeline).__name__} from {arguments.pipeline}: {page.local_url} (Ctrl-C ends it)")
    print(_who_can_open(page, arguments.host), flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
    finally:
        page.close()
    return 0


def watch_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `watch` among the arguments, checked before the pipeline is loaded.

    Raises:
        UnknownDecoderError: no decoder has this name, and no decoder file.
        OptionError: a value is not allowed.
    """
    options = {name: getattr(arguments, name) for name in GRADIO_OPTIONS}
    catalogue, decoder = choose_decoder(arguments.decoder)
    if decoder not in (FULL, *catalogue.names()):
        raise UnknownDecoderError(
            f"decoder {decoder!r}: expected a name that `safelight decoders` lists, a kind, full, or a file that exists"
        )
    options["decoder"] = decoder
    RunOptions.of(options)
    path = absolute_path(arguments.decoder)
    return options | ({"decoder_folder": path.parent} if path.is_file() else {})


def _who_can_open(page: Any, host: str) -> str:
    """A sentence about the machines that can open the page, and how another one can."""
    if page.share_url:
        return f"Anyone who knows this address can use the page, without a password: {page.share_url}"
    if host not in (LOCAL_ADDRESS, "localhost"):
        return "Every machine that can reach this one can use the page, without a password."
    port = page.server_port
    return (
        f"Only this machine can open it. If it is a remote one, run `ssh -L {port}:{LOCAL_ADDRESS}:{port} MACHINE` on "
        "yours and open the same address there; or use --host or --share."
    )
