"""`safelight report`: prints what a bug report needs, without prompts and without names of the user's files."""

import argparse
import getpass
import importlib.metadata
import os
import platform
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..decoders.catalogue import AUTO, FAST, FINE, Catalogue
from ..decoders.files.shipped import shipped_cards
from ..decoders.files.user_folder import user_folder
from ..decoders.latents.space_table import SPACES
from ..decoders.nets.registry import KINDS
from ..errors import DecoderFileError, ManifestError
from ..hosts.comfyui.prompt_text import saved_prompt
from ..preview.images.metadata import picture_texts
from ..preview.manifest import picture_files, read_manifest
from ..preview.run_library import find_runs
from ..preview.run_summary import started_s
from ..version import safelight_version
from .pair_input import positive
from .private_text import PrivateText
from .surroundings import Surroundings, find_surroundings
from .table import print_lines

NEEDED = ("torch", "numpy", "pillow", "safetensors")
OPTIONAL = ("aiohttp", "av", "diffusers", "transformers", "accelerate", "gradio", "ipywidgets", "fsspec")
VARIABLES = ("SAFELIGHT_DECODERS", "SAFELIGHT_DECODER_SERVER", "SAFELIGHT_TERMINAL", "SAFELIGHT_STEPS")
VERSION = re.compile(r"\d+(\.\d+){0,3}([ab.+-]?(rc|dev|post)?\d{0,4})")
HOST_NAMES = {"comfyui", "invokeai", "diffusers", "headless", "trainer"}
# Parts of paths that say nothing of the user, and that occur in messages.
PLAIN_PARTS = {
    *("home", "users", "root", "work", "main", "tmp", "temp", "var", "usr", "opt", "mnt", "data", "documents"),
    *("comfyui", "invokeai", "custom_nodes", "nodes", "models", "output", "outputs", "runs", "safelight"),
}
MAX_SEARCHED_RUNS = 2000
DEFAULT_RUNS = 5


def add_command(commands: Any) -> None:
    """Adds `report` to the command line."""
    report = commands.add_parser("report", help="print what a bug report needs: no prompts, no names of your files")
    report.add_argument(
        "folders", type=Path, nargs="*", metavar="DIR", help="folder with runs (default: of the host, or runs)"
    )
    report.add_argument(
        "--runs", type=positive, default=DEFAULT_RUNS, help="number of newest runs to describe (%(default)s)"
    )
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    around = find_surroundings()
    folders = arguments.folders or around.runs
    runs = newest_runs(folders, arguments.runs)
    decoders = [folder for folder in (around.decoders or user_folder(),) if folder]
    catalogue = Catalogue(decoders)
    prompts = [prompt for _, _, prompt in runs if prompt]
    places = [*folders, *decoders, Path.cwd(), *(folder for folder, _, _ in runs)]
    private = PrivateText(_secrets(places, catalogue), prompts)
    print_lines(
        *_versions(around),
        *_settings(around.settings),
        *_decoders(catalogue),
        *(line for _, manifest, _ in runs for line in _describe(manifest, private)),
    )
    return 0


def newest_runs(folders: "list[Path] | tuple[Path, ...]", count: int) -> list[tuple[Path, dict[str, Any], str | None]]:
    """The newest runs in some folders: folder, manifest and prompt of each, newest first. Damaged ones are left out."""
    found = [(run, manifest) for folder in folders for run, manifest in _readable_runs(folder)]
    found.sort(key=lambda pair: started_s(pair[1]) or 0.0, reverse=True)
    return [(run, manifest, _prompt(run, manifest)) for run, manifest in found[:count]]


def _readable_runs(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for run in islice(find_runs(folder, newest_first=True), MAX_SEARCHED_RUNS):
        try:
            yield run, read_manifest(run, folder)
        except ManifestError:
            continue


def _prompt(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """The prompt of a run, from the run or its newest picture."""
    prompt = manifest["sampler"].get("prompt")
    if isinstance(prompt, str):
        return prompt
    pictures = [name for step in manifest["steps"] for name in picture_files(step)]
    return saved_prompt(picture_texts(folder, Path(pictures[-1])), None) if pictures else None


def _secrets(folders: list[Path], catalogue: Catalogue) -> set[str]:
    """Names that say who the user is or what he works on: account, machine, folders, his decoders."""
    shipped = _shipped_names()
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - it raises nothing if there is none
    parts = {part for folder in (home, *folders) for part in folder.absolute().parts[1:]}
    own = {card.name for card in catalogue.all()} - shipped
    return {*(part for part in parts if part.lower() not in PLAIN_PARTS), *own, _account(), platform.node()}


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no variable, and no such account on this machine
        return ""


def _versions(around: Surroundings) -> Iterator[str]:
    yield f"Safelight {safelight_version()}"
    yield f"host: {around.host or 'none around this copy'}"
    yield f"Python {platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    yield ", ".join(f"{name} {_version(name) or 'is missing'}" for name in NEEDED)
    if optional := [f"{name} {version}" for name in OPTIONAL if (version := _version(name))]:
        yield ", ".join(optional)
    yield f"devices: {', '.join(_devices())}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[str]:
    yield f"CPU with {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            yield f"{facts.name} with {facts.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "MPS"


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        yield f"setting {name}: {_setting(value)}"
    for name in VARIABLES:
        if name in os.environ:
            yield f"variable {name} is set"


def _setting(value: Any) -> str:
    """A setting as text; a text only if it is one of our words, because it may be the name of a file."""
    if isinstance(value, bool | int | float):
        return str(value).lower()
    known = {AUTO, FAST, FINE, *KINDS, *_shipped_names()}
    return value if isinstance(value, str) and value in known else "a value of yours"


def _decoders(catalogue: Catalogue) -> Iterator[str]:
    altered: list[DecoderFileError] = []
    shipped = {card.name for card in shipped_cards(refused=altered.append)}
    yield f"decoders: {len(shipped)} shipped, {len(altered)} of them damaged or missing"
    own = Counter(
        f"{_known(card.kind, KINDS)} of {_known(card.space, SPACES)}"
        + (", taken by auto" if auto or auto_accelerated else "")
        for card, auto, auto_accelerated, _ in catalogue.choices()
        if card.name not in shipped
    )
    for what, count in own.items():
        yield f"  yours: {count} {what}"
    if unusable := [file for file in catalogue.unusable() if not file.is_encoder]:
        yield f"  yours: {len(unusable)} that cannot be used; `safelight decoders` says why"


def _describe(manifest: Mapping[str, Any], private: PrivateText) -> Iterator[str]:
    """Describes a run in one line, then its notes."""
    host, picture, decoder = manifest["host"], manifest["picture"] or {}, manifest["decoder"] or {}
    size = f"{_number(picture.get('shown_width'))}x{_number(picture.get('shown_height'))}"
    facts = (
        f"{_known(host.get('name'), HOST_NAMES)} {_version_of(host)}".rstrip(),
        f"latents {_known(manifest['space'], SPACES)}",
        f"decoder {_known(decoder.get('name'), _shipped_names())} ({_known(decoder.get('kind'), KINDS)})",
        f"{len(manifest['steps'])} of {_number(manifest['sampler'].get('steps'))} steps, {size}",
        f"{_number(picture.get('items'))} items, {_number(picture.get('frames'))} frames",
    )
    yield f"run {manifest['state']}: {'; '.join(facts)}"
    for note in manifest["notes"]:
        yield f"  note: {private.hide(note)}"


def _known(value: Any, names: Any) -> str:
    """A name from a file, which may contain anything: only if it is one of ours."""
    return value if isinstance(value, str) and value in names else "other" if value else "none"


def _version_of(host: Mapping[str, Any]) -> str:
    version = host.get("version")
    return version if isinstance(version, str) and VERSION.fullmatch(version) else ""


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int | float) else "?"


def _shipped_names() -> set[str]:
    return {card.name for card in shipped_cards(refused=lambda _: None)}
