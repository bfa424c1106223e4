"""A gradio page for a diffusers pipeline: the newest step while it samples, then all steps on a slider.

previews(pipe, ...)         a generator, for an app of your own
launch(pipe, out="runs")    this page; `safelight gradio --pipeline DIR` on the command line
"""

import importlib
import inspect
import os
import warnings
import webbrowser
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from ...errors import PageError, describe
from ...preview.output_folder import absolute_path
from ...preview.remote.address import is_address
from ..access_gate import AccessGate
from ..local_server import LOOPBACK, AccessRules, in_url, usable_port
from .background_call import previews
from .page import AppPage
from .served_files import ServedFiles
from .session import FormField, Session, fields_of

__all__ = ["launch", "previews"]

CACHE_S = 3600  # lifetime of gradio's copies of pictures
CSS = """
.safelight-status { min-height: 1.8em; font-variant-numeric: tabular-nums; color: var(--body-text-color-subdued); }
footer { display: none !important; }
"""
# The page loads nothing from other addresses, and is in no frame of another page. gradio's page has scripts in it. With
# --share it gets its scripts from a server of gradio.
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
FRAME_POLICY = "frame-ancestors 'none'"
# What gradio asks its own server while it starts, and what browsers ask for without cookies. The answers hold nothing
# that is ours.
KEYLESS = (("GET", "/gradio_api/startup-events"), ("HEAD", "/"), ("GET", "/manifest.json"))
# Servers that gradio would start beside ours, without its rules, if variables of the environment say so.
NO_OTHER_SERVERS = {"ssr_mode": False, "num_workers": 0, "mcp_server": False, "run_history": False}
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # no fonts from the network


def launch(
    pipeline: Any,
    out: str | Path = "runs",
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
    **options: Any,
) -> Any:
    """Serves the page from a background thread. Returns the `gradio.Blocks`, with a `local_url` and a `share_url`.

    These addresses contain a key, without which nothing is answered. Anyone who has it can run the pipeline.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        out: folder of runs. The page gives out only pictures and archives of the runs that it made.
        host: address to listen on; by default only this machine can open the page. `0.0.0.0`: all of its networks.
        share: whether gradio's servers give the page a public address for some days.
        port: port of the server; None for gradio's default, or a free one.
        open_browser: whether to open a browser.
        options: options of `safelight.watch`.

    Raises:
        PageError: gradio is not installed, or `out` is the address of a store.
    """
    if isinstance(out, str) and is_address(out):
        raise PageError("out: expected a folder of this machine, whose pictures the page shows; got an address")
    gradio = import_gradio()
    files, rules = served_files(), AccessRules(host)
    page = _page(gradio, Session(pipeline, absolute_path(out).resolve(), options), fields_of(pipeline), files)
    settings = {
        "server_name": in_url(host),
        "server_port": None if port is None else usable_port(host, port),
        "share": share,
        "inline": False,  # a notebook's frame would ask without the key
        "prevent_thread_lock": True,
        "quiet": True,
        "show_error": True,
        "allowed_paths": [str(files.folder)],
        "css": CSS,
        "theme": gradio.themes.Default(primary_hue="orange", **FONTS),
        "footer_links": [],
        "app_kwargs": {"middleware": [_gate(rules, files, share=share)]},
        **NO_OTHER_SERVERS,
    }
    known = inspect.signature(page.launch).parameters
    page.launch(**{name: value for name, value in settings.items() if name in known or name not in NO_OTHER_SERVERS})
    page.local_url = rules.with_key(page.local_url)
    if page.share_url:
        rules.answer_to(urlsplit(page.share_url).hostname or "")
        page.share_url = rules.with_key(f"{page.share_url}/")
    if open_browser:
        webbrowser.open(page.share_url or page.local_url)
    return page


@cache
def served_files() -> ServedFiles:
    """Makes gradio store its files in a folder of this process; other accounts can read the one that it chooses."""
    files = ServedFiles()
    os.environ["GRADIO_TEMP_DIR"] = str(files.folder)
    return files


def _page(gradio: Any, session: Session, fields: list[FormField], files: ServedFiles) -> Any:
    """Returns the page as a `gradio.Blocks`."""
    with gradio.Blocks(title="Safelight", analytics_enabled=False, delete_cache=(CACHE_S, CACHE_S)) as page:
        AppPage(gradio, session, fields, files).lay_out(page)
    return page


def _gate(rules: AccessRules, files: ServedFiles, *, share: bool) -> Any:
    """Returns the middleware in front of gradio."""
    middleware = importlib.import_module("starlette.middleware").Middleware
    policy = FRAME_POLICY if share else f"{PAGE_POLICY}; {FRAME_POLICY}"
    return middleware(AccessGate, rules=rules, page_policy=policy, keyless=KEYLESS, refusal=files.refusal)


def import_gradio() -> Any:
    """Returns the module gradio.

    Raises:
        PageError: gradio is not installed.
    """
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise PageError(f"gradio is needed, but cannot be imported ({error}): pip install gradio") from None


def load(folder: Path, device: str | None, dtype: str | None, *, offload: bool) -> Any:
    """Opens the pipeline in a folder. Nothing is downloaded.

    Args:
        folder: folder with a `model_index.json`.
        device: device of the pipeline; None for cuda, mps or cpu, the first that exists.
        dtype: name of the dtype of torch; None for bfloat16 on cuda, else float32.
        offload: whether only the model that is in use is on the device.

    Raises:
        PageError: diffusers is not installed, or it cannot open the folder.
    """
    if not (folder / "model_index.json").is_file():
        raise PageError(
            f"{folder}: expected a folder of a pipeline with a model_index.json; pipe.save_pretrained(DIR) writes one"
        )
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise PageError(
            f"diffusers is needed, but cannot be imported ({error}): pip install diffusers transformers"
        ) from None
    device = device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    torch_dtype = getattr(torch, dtype or ("bfloat16" if device.startswith("cuda") else "float32"))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch_dtype`")  # diffusers before 0.42 knows only this name
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                str(folder), torch_dtype=torch_dtype, local_files_only=True
            )
    except (OSError, LookupError, ValueError, ImportError, AttributeError, TypeError, RuntimeError) as error:
        raise PageError(f"{folder}: diffusers cannot open it: {describe(error)}") from error
    if offload:
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)
