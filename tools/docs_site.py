"""A hook of MkDocs: it adds the pages that lie outside `docs`, and makes all links lead to the right place.

On GitHub each page links to files of the repository. On the site, a link to another page leads to that page, and a link
to any other file leads to the repository.
"""

import posixpath
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "README.md": "index.md",
    "weights/README.md": "weights.md",
    **{f"{name}.md": f"{name.lower()}.md" for name in ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "SECURITY")},
    # The site is in English. The help pages of other languages are in a folder for each node.
    **{f"web/docs/{path.name}": f"nodes/{path.name}" for path in sorted((ROOT / "web" / "docs").glob("*.*"))},
}
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def on_startup(**_: object) -> None:
    """Gives the package its name: mkdocstrings looks for a folder called so, and the repository's may have any name."""
    folder = mkdtemp()
    Path(folder, "safelight").symlink_to(ROOT, target_is_directory=True)
    sys.path.insert(0, folder)


def on_shutdown() -> None:
    """Removes what `on_startup` created."""
    rmtree(sys.path.pop(0))


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Sets the address of the repository, which `pyproject.toml` has."""
    import tomllib  # Python 3.11; the tests of the links also run with 3.10

    with (ROOT / "pyproject.toml").open("rb") as file:
        config.repo_url = tomllib.load(file)["project"]["urls"]["Repository"].removesuffix("/")
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Adds the pages and pictures that lie outside `docs`."""
    from mkdocs.structure.files import File

    for source, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", **_: object) -> str:
    """Returns the text of a page with the links of the site."""
    place = page.file.src_uri
    source = next((source for source, other in PLACES.items() if other == place), f"docs/{place}")
    return with_site_links(markdown, source, str(config.repo_url))


def with_site_links(markdown: str, source: str, repository: str, outside: Mapping[str, str] = PLACES) -> str:
    """Returns the text of a page with links that lead to pages of the site, or to files of the repository.

    Args:
        markdown: text of the page.
        source: path of the page in the repository.
        repository: address of the repository.
        outside: place on the site of each file that is not in `docs`.
    """

    def replaced(link: re.Match[str]) -> str:
        return f"{link[1]}{_site_link(source, link[2], repository, outside)}{link[3] or ''})"

    return "".join(part if FENCE.fullmatch(part) else LINK.sub(replaced, part) for part in FENCE.split(markdown))


def _site_link(source: str, target: str, repository: str, outside: Mapping[str, str]) -> str:
    place = outside.get(source, source.removeprefix("docs/"))
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in outside or path.startswith("docs/"):
        return posixpath.relpath(outside.get(path, path.removeprefix("docs/")), posixpath.dirname(place) or ".")
    return f"{repository}/blob/main/{path}"
